"""Chainer's cache of datasets: written from what was published, read by real Chainer."""

from __future__ import annotations

import gzip
import io
import json
import os
import pickle
import struct
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from rechain.data import chainer as cache
from rechain.exceptions import UserErrorException

RECHAIN = Path(sys.executable).with_name("rechain")


def idx(folder: Path, stem: str, count: int, *, labels: bytes | None = None) -> None:
    labels = bytes(n % 10 for n in range(count)) if labels is None else labels
    images = bytes(n % 251 for n in range(count * 784))
    head = struct.pack(">iiii", 2051, count, 28, 28)
    (folder / f"{stem}-images-idx3-ubyte.gz").write_bytes(gzip.compress(head + images, 1))
    head = struct.pack(">ii", 2049, len(labels))
    (folder / f"{stem}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(head + labels, 1))


@pytest.fixture
def digits(tmp_path: Path) -> Path:
    folder = tmp_path / "digits"
    folder.mkdir()
    idx(folder, "train", 200)
    idx(folder, "t10k", 50)
    return folder


def below(folder: Path) -> list[str]:
    return [str(path) for path in sorted(folder.iterdir())]


class Array:
    """Pickles as a NumPy array of bytes does, without NumPy."""

    def __init__(self, shape: tuple[int, int], data: bytes) -> None:
        self.state = (1, shape, Dtype(), False, data)

    def __reduce__(self):
        return Reconstruct(), (Ndarray(), (0,), b"b"), self.state


class Named:
    module = "numpy.core.multiarray"
    name = "_reconstruct"


class Reconstruct(Named):
    def __call__(self, *_: object) -> None: ...


class Ndarray(Named):
    module, name = "numpy", "ndarray"


class Dtype(Named):
    module, name = "numpy", "dtype"


class Pickler(pickle._Pickler):  # the one in Python can be told how to save a name
    def save(self, thing, save_persistent_id=True):
        if isinstance(thing, Named):
            self.write(b"c" + f"{thing.module}\n{thing.name}\n".encode())
            return None
        return super().save(thing, save_persistent_id)


def pickled(thing: object) -> bytes:
    file = io.BytesIO()
    Pickler(file, 2).dump(thing)
    return file.getvalue()


def cifar(folder: Path, evil: object = None) -> None:
    def batch(count: int) -> bytes:
        labels = [n % 10 for n in range(count)]
        content = {"data": Array((count, 3072), bytes(count * 3072)), "labels": labels}
        return pickled(content if evil is None else {**content, "more": evil})

    with tarfile.open(folder / "cifar-10-python.tar.gz", "w:gz") as archive:
        for name in ("test_batch", *(f"data_batch_{n}" for n in range(1, 6))):
            data = batch(20)
            member = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))


@pytest.mark.fast
def test_other_files_than_the_published_are_named(digits, tmp_path) -> None:
    said: list[str] = []
    made = cache.write("mnist", below(digits), str(tmp_path / "root"), said.append)
    assert made == ["pfnet/chainer/mnist/train.npz", "pfnet/chainer/mnist/test.npz"]
    assert len(said) == 4
    assert "train-images-idx3-ubyte.gz is not the published file: its MD5 is " in said[0]
    assert said[0].endswith("the published one's is f68b3c2dcbeaaa9fbdd348bbdeb94873")


@pytest.mark.fast
def test_bad_files_are_refused_with_one_line(digits, tmp_path) -> None:
    target = tmp_path / "root"
    images, labels = (digits / f"train-{name}.gz" for name in
                      ("images-idx3-ubyte", "labels-idx1-ubyte"))  # fmt: skip
    whole, right = images.read_bytes(), labels.read_bytes()
    for path, data, words in (
        (images, b"<html>gone</html>", "it begins with"),
        (images, whole[:100], "is not what it should be"),
        (images, gzip.compress(gzip.decompress(whole)[:-1]), "bytes, and 200 entries"),
        (images, right, "2049 in place of 2051"),
        (images, gzip.compress(struct.pack(">iiii", 2051, 1, 27, 29)), "not 28 x 28"),
        (images, b"", "is not what it should be"),
        (labels, gzip.compress(struct.pack(">ii", 2049, 2) + b"\0\1"), "2 labels for 200"),
        (labels, gzip.compress(struct.pack(">ii", 2049, 200) + bytes([77] * 200)), "a label 77"),
    ):
        path.write_bytes(data)
        with pytest.raises(UserErrorException, match=words) as caught:
            cache.write("mnist", below(digits), str(target))
        assert "\n" not in str(caught.value.message)
        images.write_bytes(whole)
        labels.write_bytes(right)
    labels.unlink()
    with pytest.raises(UserErrorException, match=r"there is no train-labels\.\.\. among the 3"):
        cache.write("mnist", below(digits), str(target))
    assert not target.exists()


@pytest.mark.fast
def test_a_pickle_runs_nothing(tmp_path) -> None:
    class Evil(Named):
        module, name = "os", "system"

    cifar(tmp_path, Evil())
    with pytest.raises(UserErrorException, match=r"it asks for os\.system"):
        cache.write("cifar10", below(tmp_path), str(tmp_path / "root"))


@pytest.mark.fast
def test_bad_texts_are_refused(tmp_path) -> None:
    for part, text in (("train", "a b c\n"), ("valid", "a c\n"), ("test", "a d\n")):
        (tmp_path / f"ptb.{part}.txt").write_text(text)
    with pytest.raises(UserErrorException, match="its word 'd' is not in"):
        cache.write("ptb", below(tmp_path), str(tmp_path / "root"))
    (tmp_path / "ptb.train.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserErrorException, match="it is no text"):
        cache.write("ptb", below(tmp_path), str(tmp_path / "root"))


SCRIPT = """
import json
import chainer
from chainer import datasets
from azureml.core import Run
train, test = datasets.get_mnist()
Run.get_context().log("digits", len(train))
fashion, _ = datasets.get_fashion_mnist(ndim=3)
images, _ = datasets.get_cifar10()
words = datasets.get_ptb_words()
vocabulary = datasets.get_ptb_words_vocabulary()
print(json.dumps({
    "mnist": [len(train), len(test), round(float(train[1][0][5]) * 255), int(train[13][1])],
    "fashion": list(fashion[0][0].shape),
    "cifar": [len(images), list(images[0][0].shape), int(images[7][1])],
    "ptb": [list(map(int, part)) for part in words], "vocabulary": vocabulary,
}))
model = chainer.links.Classifier(chainer.links.Linear(784, 10))
optimizer = chainer.optimizers.Adam()
optimizer.setup(model)
iterator = chainer.iterators.SerialIterator(train, 50)
updater = chainer.training.StandardUpdater(iterator, optimizer)
chainer.training.Trainer(updater, (2, "epoch")).run()
"""


@pytest.mark.engines
@pytest.mark.parametrize("version", ["5.1.0", "7.0.0"])
def test_chainer_takes_its_datasets_from_there(home, environments, digits, version) -> None:
    """An unmodified script, by the command line alone; nothing is downloaded."""
    for part, text in (("train", "a b\nc a\n"), ("valid", "c\n"), ("test", "b\n")):
        (digits / f"ptb.{part}.txt").write_text(text)
    cifar(digits)

    def rechain(*arguments: str) -> str:
        done = subprocess.run(
            [RECHAIN, *arguments], capture_output=True, text=True, timeout=600, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    rechain("data", "upload", str(digits), "workspaceblobstore/raw")
    for name in ("mnist", "fashion-mnist", "cifar10"):
        rechain("data", "chainer", name, "--from", str(digits))
    rechain("data", "chainer", "ptb", "--from", "workspaceblobstore/raw")
    (home / "code").mkdir()
    (home / "code" / "train.py").write_text(SCRIPT)
    said = rechain(
        "run", "--framework-version", version, "--python", "3.8",
        "--input", "CHAINER_DATASET_ROOT=workspaceblobstore/chainer", "code/train.py",
    )  # fmt: skip
    found = json.loads(next(line for line in said.splitlines() if line.startswith('{"mnist"')))
    assert found == {
        "mnist": [200, 50, (784 + 5) % 251, 3],
        "fashion": [1, 28, 28],
        "cifar": [100, [3, 32, 32], 7],
        "ptb": [[0, 1, 2, 3, 0, 2], [3, 2], [1, 2]],
        "vocabulary": {"a": 0, "b": 1, "<eos>": 2, "c": 3},
    }
    shown = rechain("show")
    assert "CHAINER_DATASET_ROOT: workspaceblobstore/chainer, mount, 9 files" in shown
    assert not os.path.exists(os.path.expanduser("~/.chainer"))
