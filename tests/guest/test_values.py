import enum
import subprocess
import sys

import pytest

from rechain.guest.rechain_guest import values
from rechain.guest.rechain_guest.exceptions import AzureMLException, UserErrorException

pytestmark = pytest.mark.fast


class Scalar:
    """What a CuPy or PyTorch scalar looks like."""

    shape = ()

    def __init__(self, value):
        self.value = value

    def item(self):
        if isinstance(self.value, Exception):
            raise self.value
        return self.value

    def __repr__(self):
        return "scalar"


class Variable:
    """What a Chainer variable looks like."""

    __module__ = "chainer.variable"

    def __init__(self, array):
        self.array = array


class Color(enum.Enum):
    red = 1


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Scalar(1.5), 1.5),
        (Variable(Scalar(2)), 2),
        (Scalar(RuntimeError("device lost")), "scalar"),
        (Color.red, "<Color.red: 1>"),
        ((1, 2), "(1, 2)"),
        (b"x", "b'x'"),
    ],
)
def test_plain(value, expected):
    assert values.plain(value) == expected


def test_a_column_is_copied_from_the_device_at_once():
    class Array:
        shape = (2,)

        def tolist(self):
            return [1, 2.5]

    assert values.column(Array(), "x") == [1, 2.5]
    assert values.column(Variable(Array()), "x") == [1, 2.5]
    with pytest.raises(AzureMLException, match="one value belongs"):
        values.column([Array()], "x")
    with pytest.raises(UserErrorException, match="not a string"):
        values.column("text", "x")


def test_axes_are_drawn_through_their_figure():
    class Figure:
        def savefig(self, target, format):
            target.write(b"png")

    class Axes:
        figure = Figure()

    assert values.figure_png(Axes()) == b"png"


@pytest.mark.parametrize("head", [b"\xff\xd8\xff", b"GIF89a", b"RIFF....WEBP", b"P6\n1", b"<svg "])
def test_images(head):
    assert values.is_image(head)


@pytest.mark.parametrize("head", [b"", b"P", b"text", b"Python"])
def test_no_images(head):
    assert not values.is_image(head)


def test_the_import_is_light(job):
    heavy = {"logging", "uuid", "tempfile", "shutil", "subprocess", "inspect", "threading"}
    script = "import sys; before = set(sys.modules); import azureml.core.run; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-S", "-c", script],
        env=job.variables(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert not heavy & set(done.stdout.split())
