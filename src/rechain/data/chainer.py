"""Chainer's own cache of datasets, written from the files as they were published.

`chainer.datasets.get_mnist()` and its kin look below `$CHAINER_DATASET_ROOT` before they download:
for `pfnet/chainer/<dataset>/<part>.npz` (chainer/datasets/*.py of Chainer 4 to 7). What is here
stands in for their conversion, without NumPy.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import pickle
import struct
import tarfile
import zipfile
import zlib

from rechain.exceptions import UserErrorException

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import IO, Any

    # An array as NumPy stores it: the type's name, the shape, the bytes
    Array = tuple[str, tuple[int, ...], bytes]

__all__ = ["DATASETS", "write"]

# MD5 of the files, where they are published: MNIST by its mirrors, Fashion-MNIST at
# https://github.com/zalandoresearch/fashion-mnist, CIFAR at
# https://www.cs.toronto.edu/~kriz/cifar.html
_MD5 = {
    "mnist": {
        "train-images": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "train-labels": "d53e105ee54ea40749a09fcbcd1e9432",
        "t10k-images": "9fb629c4189551a2d022fa330f9573f3",
        "t10k-labels": "ec29112dd5afa0611ce80d1b7f02629c",
    },
    "fashion-mnist": {
        "train-images": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "train-labels": "25c81989df183df01b3e8a0aad5dffbe",
        "t10k-images": "bef4ecab320f06d8554ea6380940ec79",
        "t10k-labels": "bb300cfdad3c16e7a12a480ee83cd310",
    },
    "cifar10": {"cifar-10-python": "c58f30108f718f92721af3b95e74349a"},
    "cifar100": {"cifar-100-python": "eb9058c3a382ffc7106e4002c42a8d85"},
}
_IDX = "train-images", "train-labels", "t10k-images", "t10k-labels"
DATASETS: dict[str, tuple[str, ...]] = {
    "mnist": _IDX,
    "fashion-mnist": _IDX,
    "cifar10": ("cifar-10-python",),
    "cifar100": ("cifar-100-python",),
    "ptb": ("ptb.train", "ptb.valid", "ptb.test"),
}
_IMAGES, _LABELS = 2051, 2049  # what IDX files of 28 x 28 images and of labels begin with
_BROKEN = (OSError, EOFError, ValueError, KeyError, zlib.error, struct.error, tarfile.TarError,
           pickle.UnpicklingError, AttributeError, IndexError, TypeError)  # fmt: skip


def write(
    name: str, files: Iterable[str], target: str, say: Callable[[str], None] = lambda line: None
) -> list[str]:
    """Write a dataset as Chainer's cache has it.

    Args:
        name: one of `DATASETS`.
        files: where the files are; further ones are passed over.
        target: the folder that is to be `$CHAINER_DATASET_ROOT`.
        say: takes lines for people.

    Returns:
        The paths below `target` that were written.

    Raises:
        UserErrorException: a file is missing, or is not what it should be.
        OSError: it cannot be written.
    """
    known = _find(name, list(files))
    for stem, digest in _MD5.get(name, {}).items():
        if (found := _md5(known[stem])) != digest:
            say(
                f"note: {os.path.basename(known[stem])} is not the published file: its MD5 is "
                f"{found}, the published one's is {digest}"
            )
    made: dict[str, Any]
    if name in ("mnist", "fashion-mnist"):
        made = {f"{name}/{part}.npz": _digits(known, stem)
                for part, stem in (("train", "train"), ("test", "t10k"))}  # fmt: skip
    elif name == "ptb":
        made = _words(known)
    else:
        made = {f"cifar/cifar-{name[5:]}.npz": _cifar(name, known[DATASETS[name][0]])}
    paths = []
    for path, content in made.items():
        whole = f"pfnet/chainer/{path}"
        place = os.path.join(target, whole)
        os.makedirs(os.path.dirname(place), exist_ok=True)
        beside = f"{place}.{os.urandom(4).hex()}~"
        if isinstance(content, str):
            with open(beside, "w", encoding="utf-8") as file:
                file.write(content)
        else:
            _npz(beside, content)
        os.replace(beside, place)
        paths.append(whole)
    return paths


def _find(name: str, files: list[str]) -> dict[str, str]:
    """Return the file of each stem; published names differ in one dot and in `.gz`."""
    found = {}
    for stem in DATASETS[name]:
        named = [one for one in files if os.path.basename(one).startswith(stem)]
        if not named:
            raise UserErrorException(
                f"{name} needs {', '.join(DATASETS[name])} (...), and there is no {stem}... among "
                f"the {len(files)} files."
            )
        found[stem] = min(named, key=len)
    return found


def _md5(path: str) -> str:
    found = hashlib.md5(usedforsecurity=False)
    with _opened(path) as file:
        while data := file.read(1 << 20):
            found.update(data)
    return found.hexdigest()


def _opened(path: str) -> IO[bytes]:
    try:
        return open(path, "rb")
    except OSError as error:
        raise UserErrorException(f"{path} cannot be read: {error.strerror}.", error) from error


def _bad(path: str, why: object) -> UserErrorException:
    return UserErrorException(f"{path} is not what it should be: {why}.")


def _digits(known: dict[str, str], stem: str) -> dict[str, Array]:
    count, images = _idx(known[f"{stem}-images"], _IMAGES)
    labels_count, labels = _idx(known[f"{stem}-labels"], _LABELS)
    if count != labels_count:
        raise _bad(known[f"{stem}-labels"], f"it has {labels_count} labels for {count} images")
    if labels and max(labels) > 9:
        raise _bad(known[f"{stem}-labels"], f"there is a label {max(labels)}")
    return {"x": ("|u1", (count, 784), images), "y": ("|u1", (count,), labels)}


def _idx(path: str, magic: int) -> tuple[int, bytes]:
    try:
        with _opened(path) as file:
            packed = file.read(2) == b"\x1f\x8b"
        with gzip.open(path) if packed else _opened(path) as file:
            data = file.read()
        found, count = struct.unpack(">ii", data[:8])
        size, head = (1, 8) if magic == _LABELS else (784, 16)
        if found != magic:
            raise ValueError(f"it begins with {found} in place of {magic}")
        if magic == _IMAGES and struct.unpack(">ii", data[8:16]) != (28, 28):
            raise ValueError("its images are not 28 x 28")
        if len(data) != head + count * size:
            raise ValueError(f"it has {len(data)} bytes, and {count} entries")
    except UserErrorException:
        raise
    except _BROKEN as error:
        raise _bad(path, error) from error
    return count, data[head:]


class _Raw:
    """What a pickled NumPy array is here."""

    data = b""
    shape: tuple[int, ...] = ()

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        if len(state) == 5 and isinstance(state[4], (bytes, str)):  # else it is a type
            raw = state[4]
            self.data = raw.encode("latin-1") if isinstance(raw, str) else raw
            self.shape = tuple(state[1])


class _Unpickler(pickle.Unpickler):
    """Reads arrays, and refuses all else that a pickle could run."""

    def find_class(self, module: str, name: str) -> Any:
        if module.startswith("numpy") and name in ("_reconstruct", "ndarray", "dtype"):
            return _Raw
        if (module, name) == ("_codecs", "encode"):
            return lambda text, _: text.encode("latin-1")
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")


def _batch(archive: tarfile.TarFile, name: str, key: str) -> tuple[bytes, bytes]:
    file = archive.extractfile(name)
    if file is None:
        raise ValueError(f"{name} is no file")
    content = _Unpickler(file, encoding="latin-1").load()
    images, labels = content["data"], bytes(content[key])
    if images.shape != (len(labels), 3072) or len(images.data) != len(labels) * 3072:
        raise ValueError(f"{name} has {len(labels)} labels, and images {images.shape}")
    return images.data, labels


def _cifar(name: str, path: str) -> dict[str, Array]:
    if name == "cifar10":
        parts = ["test_batch", *(f"data_batch_{number}" for number in range(1, 6))]
        names, key = [f"cifar-10-batches-py/{part}" for part in parts], "labels"
    else:
        names, key = ["cifar-100-python/test", "cifar-100-python/train"], "fine_labels"
    try:
        with tarfile.open(path, "r:*") as archive:
            found = [_batch(archive, one, key) for one in names]
    except _BROKEN as error:
        raise _bad(path, error) from error
    train, test = found[1:], found[0]
    labels = b"".join(batch[1] for batch in train)
    return {
        "train_x": ("|u1", (len(labels), 3072), b"".join(batch[0] for batch in train)),
        "train_y": ("|u1", (len(labels),), labels),
        "test_x": ("|u1", (len(test[1]), 3072), test[0]),
        "test_y": ("|u1", (len(test[1]),), test[1]),
    }


def _words(known: dict[str, str]) -> dict[str, Any]:
    numbers: dict[str, int] = {}
    made: dict[str, Any] = {}
    for part in ("train", "valid", "test"):
        path = known[f"ptb.{part}"]
        try:
            with open(path, encoding="utf-8") as file:
                words = [word for line in file for word in (*line.split(), "<eos>")]
        except UnicodeDecodeError as error:
            raise _bad(path, "it is no text") from error
        except OSError as error:
            raise UserErrorException(f"{path} cannot be read: {error.strerror}.", error) from error
        if not words:
            raise _bad(path, "it is empty")
        if part == "train":
            for word in words:
                numbers.setdefault(word, len(numbers))
        unknown = next((word for word in words if word not in numbers), None)
        if unknown is not None:
            raise _bad(path, f"its word {unknown!r} is not in {known['ptb.train']}")
        data = struct.pack(f"<{len(words)}i", *(numbers[word] for word in words))
        made[f"ptb/{part}.npz"] = {"x": ("<i4", (len(words),), data)}
    made["ptb/vocab.txt"] = "".join(f"{word}\n" for word in numbers)
    return made


def _npz(path: str, arrays: dict[str, Array]) -> None:
    """Write arrays in NumPy's format 1.0 (numpy.org, `numpy.lib.format`)."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, (kind, shape, data) in arrays.items():
            head = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}"
            head += " " * (-(len(head) + 11) % 64) + "\n"
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                file.write(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head.encode())
                file.write(data)
