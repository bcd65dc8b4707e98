"""Files that hold the same, and where those differ that do not."""

from __future__ import annotations

import json
import random
import struct
import zipfile
from pathlib import Path

import pytest

from rechain.compare import compare_files
from tests.supervisor.test_resume import npy

pytestmark = pytest.mark.fast


def pair(folder: Path, first: bytes, second: bytes) -> list[str]:
    (folder / "first").write_bytes(first)
    (folder / "second").write_bytes(second)
    return compare_files(str(folder / "first"), str(folder / "second"))


def npz(path: Path, compression: int = zipfile.ZIP_STORED, **members: bytes) -> bytes:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(f"{name.replace('__', '/')}.npy", data)
    return path.read_bytes()


def floats(*values: float, shape: str = "", kind: str = "<f4") -> bytes:
    code = {"<f4": "<f", ">f4": ">f", "<f2": "<e", "<f8": "<d", "<c8": "<f"}[kind]
    data = b"".join(struct.pack(code, value) for value in values)
    return npy(kind, shape or f"({len(values)},)", data)


def texts(*values: str) -> bytes:
    size = max(map(len, values))
    data = b"".join(value.ljust(size, "\0").encode("utf-32-le") for value in values)
    return npy(f"<U{size}", f"({len(values)},)", data)


def test_arrays_count_not_how_they_are_packed(tmp_path: Path) -> None:
    a, b = floats(1, 2), floats(3)
    first = npz(tmp_path / "a", a=a, b=b)
    second = npz(tmp_path / "b", zipfile.ZIP_DEFLATED, b=b, a=a)
    assert first != second
    assert pair(tmp_path, first, second) == []


def test_arrays_come_in_the_order_of_their_names_whatever_the_files_say(tmp_path: Path) -> None:
    first = npz(tmp_path / "a", b=floats(1), c=floats(1), a=floats(1))
    second = npz(tmp_path / "b", c=floats(2), d=floats(2), b=floats(2), a=floats(2))
    found = [text.partition(":")[0] for text in pair(tmp_path, first, second)]
    assert found == ["a", "b", "c", "d"]


@pytest.mark.parametrize("kind", ["<f4", ">f4", "<f2", "<f8"])
def test_how_many_values_differ_where_and_by_how_much(tmp_path: Path, kind: str) -> None:
    first = npz(tmp_path / "a", l1__W=floats(0, 1, 2, 3, 4, 5, shape="(2, 3)", kind=kind))
    second = npz(tmp_path / "b", l1__W=floats(0, 1, 2.5, 3, 4, 6, shape="(2, 3)", kind=kind))
    assert pair(tmp_path, first, second) == [
        "l1/W: 2 of 6 values differ, by 1 at most at [1, 2]: 5 and 6"
    ]


def test_a_scalar_a_complex_value_and_nan(tmp_path: Path) -> None:
    nan = float("nan")
    first = npz(tmp_path / "a", s=npy("<i8", "()", bytes(8)),
                c=floats(1, 2, 3, 4, shape="(2,)", kind="<c8"), n=floats(nan, nan))  # fmt: skip
    second = npz(tmp_path / "b", s=npy("<i8", "()", b"\x05" + bytes(7)),
                 c=floats(1, 2, 3, 5, shape="(2,)", kind="<c8"),
                 n=npy("<f4", "(2,)", struct.pack("<f", nan) + struct.pack("<f", 1)))  # fmt: skip
    assert pair(tmp_path, first, second) == [
        "c: 1 of 2 values differ, by 1 at [1]: 4 and 5",
        "n: 1 of 2 values differ, by inf at [1]: nan and 1",
        "s: differs, by 5: 0 and 5",
    ]


def test_shapes_types_and_arrays_that_only_one_has(tmp_path: Path) -> None:
    first = npz(tmp_path / "a", a=floats(1, 2), b=floats(1), c=floats(1))
    second = npz(
        tmp_path / "b", a=floats(1, 2, shape="(2, 1)"), b=floats(1, kind="<f8"), d=floats(1)
    )
    assert pair(tmp_path, first, second) == [
        "a: shape (2,) and (2, 1)", "b: type <f4 and <f8",
        "c: only in the first", "d: only in the second",
    ]  # fmt: skip


def test_what_chainers_snapshot_says_of_time_does_not_count(tmp_path: Path) -> None:
    def snapshot(seconds: float, loss: float) -> bytes:
        log = json.dumps([{"iteration": 1, "main/loss": loss, "elapsed_time": seconds}])
        return npz(tmp_path / "x", _snapshot_elapsed_time=floats(seconds, shape="()"),
                   extensions__LogReport___log=texts(log))  # fmt: skip

    assert pair(tmp_path, snapshot(1.5, 0.5), snapshot(2.5, 0.5)) == []
    (said,) = pair(tmp_path, snapshot(1.5, 0.5), snapshot(2.25, 0.25))
    assert said == "extensions/LogReport/_log: [0].main/loss: 0.5 and 0.25, by 0.25"


def test_a_pickled_array_is_never_loaded(tmp_path: Path) -> None:
    evil = b"cos\nsystem\n(S'touch evil'\ntR."
    first, second = npy("|O", "()", evil), npy("|O", "()", evil + b"x")
    assert pair(tmp_path, npz(tmp_path / "a", o=first), npz(tmp_path / "b", o=second)) == [
        "o: other bytes"
    ]
    assert not Path("evil").exists()


def test_logs_and_json_by_value_without_their_times(tmp_path: Path) -> None:
    rows = [{"epoch": 1, "main/loss": 0.5, "elapsed_time": 3.0}] * 6
    other = [{"elapsed_time": 4.0, "main/loss": 0.5, "epoch": 1}] * 6
    assert pair(tmp_path, json.dumps(rows, indent=4).encode(), json.dumps(other).encode()) == []
    other = [{**row, "main/loss": 0.75} for row in other]
    said = pair(tmp_path, json.dumps(rows).encode(), json.dumps(other[:5]).encode())
    assert said[0] == "the list: 6 and 5 elements"
    assert said[1] == "[0].main/loss: 0.5 and 0.75, by 0.25"
    assert said[-1] == "... 6 values differ in all"


def test_a_graph_of_chainers_whose_nodes_have_other_addresses(tmp_path: Path) -> None:
    graph = b"digraph graphname{140234567 -> 140234999; 140234999 [label=x];}"
    other = b"digraph graphname{150000001 -> 150000002; 150000002 [label=x];}"
    assert pair(tmp_path, graph, other) == []
    crossed = b"digraph graphname{150000001 -> 150000002; 150000001 [label=x];}"
    assert len(pair(tmp_path, graph, crossed)) == 1


def graph_of(numbers: random.Random, nodes: list[str], edges: list[tuple[int, int]]) -> bytes:
    """Write a graph as Chainer 7 does: numbers and order are another each time."""
    at = numbers.sample(range(140_000_000_000, 150_000_000_000), len(nodes))
    rows = [f'{at[one]} [label="{said}",shape="octagon"];' for one, said in enumerate(nodes)]
    arrows = [f"{at[tail]} -> {at[head]};" for tail, head in edges]
    numbers.shuffle(rows)
    numbers.shuffle(arrows)
    return ("digraph graphname{rankdir=TB;" + "".join(rows + arrows) + "}").encode()


def test_a_graph_of_chainers_whose_nodes_come_in_another_order(tmp_path: Path) -> None:
    numbers = random.Random(1)
    # Two branches that differ only in their last layer's weights, and meet.
    branch = ["W: (3, 3), float32", "LinearFunction", "(8, 3), float32", "ReLU", "a[0]; b"]
    nodes = ["(8, 3), float32", *branch, *branch, "W: (4, 3), float32", "_ + _", "loss"]
    edges = [(start, start + 1) for start in (1, 2, 3, 4, 6, 7, 8, 9)]
    edges += [(0, 2), (0, 7), (5, 12), (10, 12), (11, 7), (12, 13)]
    graph = graph_of(numbers, nodes, edges)
    for _ in range(20):
        assert pair(tmp_path, graph, graph_of(numbers, nodes, edges)) == []
    for at, changed in ((5, (5, 13)), (12, (11, 3)), (0, (2, 1))):
        other = [changed if one == at else edge for one, edge in enumerate(edges)]
        assert len(pair(tmp_path, graph, graph_of(numbers, nodes, other))) == 1
    assert len(pair(tmp_path, graph, graph_of(numbers, nodes, edges[1:]))) == 1
    for at in range(len(nodes)):
        renamed = [f"{said}!" if one == at else said for one, said in enumerate(nodes)]
        assert len(pair(tmp_path, graph, graph_of(numbers, renamed, edges))) == 1
    turned = graph_of(numbers, nodes, edges).replace(b"=TB;", b"=LR;")
    assert len(pair(tmp_path, graph, turned)) == 1
    circle = [*edges, (13, 0)]
    assert len(pair(tmp_path, *(graph_of(numbers, nodes, circle) for _ in "ab"))) == 1


def test_images_by_pixel(tmp_path: Path) -> None:
    from PIL import Image, PngImagePlugin

    image = Image.new("RGB", (4, 3), "white")
    about = PngImagePlugin.PngInfo()
    about.add_text("Software", "another version")
    image.save(tmp_path / "a.png")
    image.save(tmp_path / "b.png", pnginfo=about)
    first, second = (tmp_path / "a.png").read_bytes(), (tmp_path / "b.png").read_bytes()
    assert first != second
    assert pair(tmp_path, first, second) == []
    image.putpixel((2, 1), (255, 250, 255))
    image.save(tmp_path / "b.png")
    said = pair(tmp_path, first, (tmp_path / "b.png").read_bytes())
    assert said == ["1 of 12 pixels differ, by 5 of 255 at most (at x 2, y 1)"]
    Image.new("RGB", (3, 4)).save(tmp_path / "b.png")
    assert pair(tmp_path, first, (tmp_path / "b.png").read_bytes()) == ["4 x 3 and 3 x 4 pixels"]
    (said,) = pair(tmp_path, first, first[:40])
    assert "sha256" in said


def test_texts_by_line_without_moments(tmp_path: Path) -> None:
    first = b"2026-11-26 08:00:01,250 INFO begins\n08:00:02 loss 0.25\nend\n"
    second = b"2027-01-02T09:10:11 INFO begins\n09:10:12.5 loss 0.25\nend\n"
    assert pair(tmp_path, first, second) == []
    found = pair(tmp_path, first, second.replace(b"0.25", b"0.5") + b"more\n")
    assert found == [
        r"line 2: '08:00:02 loss 0.25\n' and '09:10:12.5 loss 0.5\n'",
        r"line 4: no line and 'more\n'",
    ]
    assert pair(tmp_path, b"a\r\n", b"a\n") == [r"line 1: 'a\r\n' and 'a\n'"]
    (*_, said) = pair(tmp_path, b"1\n" * 9, b"2\n" * 9)
    assert said == "... 9 lines differ in all"
    assert pair(tmp_path, b"[1, 2", b"[1, 3") == ["line 1: '[1, 2' and '[1, 3'"]


@pytest.mark.parametrize(
    "data", [b"\0", b"PK\x03\x04 cut off", b"\x89PNG", b"\xff\xfe", b"\0text"]
)
def test_whatever_else_by_its_bytes(tmp_path: Path, data: bytes) -> None:
    assert pair(tmp_path, data, data) == []
    (said,) = pair(tmp_path, data, data + b"!")
    assert f"from byte {len(data)} on" in said
    assert said.startswith(f"{len(data)} and {len(data) + 1} bytes, sha256 ")
