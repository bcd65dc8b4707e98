"""Files of the web, and a run's inputs, as a script in a job gets them by the names of v1."""

import os

from . import lines
from .exceptions import AzureMLException, UserErrorException

__all__ = [
    "MNIST",
    "Dataset",
    "FileDataset",
    "FileDatasetFactory",
    "InputDataset",
    "inputs",
    "outputs",
]

_PATIENCE = 60.0  # seconds without a byte
_CHUNK = 1 << 20

# Where Azure publishes the files: https://learn.microsoft.com/azure/open-datasets/dataset-mnist
_MNIST = "https://azureopendatastorage.blob.core.windows.net/mnist/{}"
_MNIST_FILES = {
    "train": ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"),
    "test": ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"),
}


class FileDataset(object):
    """Files at addresses of the web.

    Args:
        addresses: their addresses.
    """

    def __init__(self, addresses):
        self._addresses = list(addresses)

    def to_path(self):
        """Return the path that each file has in the folder it is downloaded to."""
        return [_place(address) for address in self._addresses]

    def download(self, target_path=None, overwrite=False, ignore_not_found=False):
        """Download the files.

        Args:
            target_path: the folder to put them in; a temporary one if left out.
            overwrite: whether to replace files that are there.
            ignore_not_found: whether to go on where a file does not exist.

        Returns:
            The path of each file.

        Raises:
            UserErrorException: a file is there already.
            AzureMLException: a file cannot be had.
        """
        if target_path is None:
            import tempfile

            target_path = tempfile.mkdtemp()
        folder = os.path.abspath(str(target_path))
        paths = []
        for address in self._addresses:
            path = os.path.join(folder, _place(address))
            if os.path.exists(path) and not overwrite:
                raise UserErrorException(
                    "{} is there already; say overwrite=True to replace it".format(path)
                )
            if _fetch(address, path, ignore_not_found):
                paths.append(path)
        return paths

    def __repr__(self):
        return "FileDataset({!r})".format(self._addresses)


class InputDataset(object):
    """A dataset that is an input of the run in direct mode; it lies on this machine.

    Attributes:
        id: its id.
        name: the name it is registered under, or None.
        version: its version, or None.
    """

    def __init__(self, entry):
        known = entry.get("dataset") or {}
        self.id = entry["value"]
        self.name = known.get("name")
        self.version = known.get("version")
        self._place = entry["place"]

    def to_path(self):
        """Return its files, each as `/` and its path in the dataset."""
        return ["/" + name for _, name in self._files()]

    def download(self, target_path=None, overwrite=False, ignore_not_found=False):
        """Copy its files to a folder.

        Args:
            target_path: the folder; a temporary one if left out.
            overwrite: whether to replace files that are there.
            ignore_not_found: without effect: the files are there.

        Returns:
            The path of each file.

        Raises:
            UserErrorException: a file is there already.
        """
        import shutil

        if target_path is None:
            import tempfile

            target_path = tempfile.mkdtemp()
        copies = []
        for path, name in self._files():
            copy = os.path.join(os.path.abspath(str(target_path)), name)
            if os.path.exists(copy) and not overwrite:
                raise UserErrorException(
                    "{} is there already; say overwrite=True to replace it".format(copy)
                )
            os.makedirs(os.path.dirname(copy), exist_ok=True)
            shutil.copyfile(path, copy)
            copies.append(copy)
        return copies

    def mount(self, mount_point=None, **kwargs):
        """Return what says where it is, as `mount_point`; it is there already.

        Args:
            mount_point: where it should be.
            **kwargs: accepted, without effect.

        Raises:
            UserErrorException: something is there.
        """
        if mount_point is None:
            return _Mounted(self._place)
        try:
            os.symlink(self._place, mount_point)
        except OSError as error:
            raise UserErrorException("{}: {}".format(mount_point, error.strerror)) from error
        return _Mounted(mount_point)

    def _files(self):
        if os.path.isfile(self._place):
            return [(self._place, os.path.basename(self._place))]
        paths = [
            os.path.join(folder, name)
            for folder, _, names in os.walk(self._place, followlinks=True)
            for name in names
        ]
        return [(path, os.path.relpath(path, self._place)) for path in sorted(paths)]

    def __repr__(self):
        return "FileDataset({!r})".format(self._place)


class _Mounted(object):
    def __init__(self, mount_point):
        self.mount_point = mount_point

    def start(self):
        pass

    def stop(self):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


def inputs(folder):
    """Return a run's named inputs: paths, or datasets of those in direct mode."""
    return {
        entry["name"]: InputDataset(entry) if entry["mode"] == "direct" else entry["place"]
        for entry in _entries(folder, "inputs")
    }


def outputs(folder):
    """Return the paths of a run's named outputs."""
    return {entry["name"]: entry["place"] for entry in _entries(folder, "outputs")}


def _entries(folder, key):
    known = lines.read_document(os.path.join(folder, "inputs.json")) or {}
    return [entry for entry in known.get(key, ()) if entry.get("kind") == "dataset"]


class FileDatasetFactory(object):
    """What `Dataset.File` is."""

    @staticmethod
    def from_files(path, validate=True, partition_format=None, is_file=False):
        """Return the dataset of an address, or of several.

        Args:
            path: what starts with `http://` or `https://`, or a list of such.
            validate: without effect: an address is tried when it is downloaded.
            partition_format: without effect.
            is_file: without effect.

        Raises:
            UserErrorException: it is something else.
        """
        addresses = [path] if isinstance(path, str) else list(path)
        for address in addresses:
            if not str(address).startswith(("http://", "https://")):
                raise UserErrorException(
                    "path is {!r}; inside a job it must start with http:// or https://: other "
                    "data comes as an input of the run, whose place is an argument of the "
                    "script".format(address)
                )
        return FileDataset(addresses)


class Dataset(object):
    """v1's `Dataset`, as far as it means something inside a job."""

    File = FileDatasetFactory

    @staticmethod
    def get_by_name(workspace, name, version="latest"):
        """Refuse: inside a job there is no workspace to look into."""
        raise UserErrorException(
            "Dataset.get_by_name(..., {!r}): inside a job datasets are not looked up; give it to "
            "the run as an input, whose place is an argument of the script".format(name)
        )


class MNIST(object):
    """v1's `azureml.opendatasets.MNIST`: handwritten digits, 28 x 28."""

    @staticmethod
    def get_file_dataset(dataset_filter=None, enable_telemetry=True):
        """Return the files as they were published.

        Args:
            dataset_filter: `train` or `test`; all if left out, or `all`.
            enable_telemetry: without effect: nothing is sent.

        Raises:
            UserErrorException: there is no such part.
        """
        parts = _MNIST_FILES
        if dataset_filter not in (None, "all"):
            if dataset_filter not in parts:
                raise UserErrorException(
                    "dataset_filter is {!r}; it can be 'all', 'train' or 'test'".format(
                        dataset_filter
                    )
                )
            parts = {dataset_filter: parts[dataset_filter]}
        return FileDataset(_MNIST.format(name) for names in parts.values() for name in names)


def _place(address):
    from urllib.parse import unquote, urlsplit

    parts = urlsplit(address)
    below = [part for part in unquote(parts.path).split("/") if part not in ("", ".", "..")]
    return os.path.join(parts.netloc.rpartition("@")[2] or "files", *below)


def _fetch(address, path, ignore_not_found):
    """Put a file of the web at a path; return whether it exists."""
    import urllib.request  # what few scripts use, and costs as much as a bare interpreter

    os.makedirs(os.path.dirname(path), exist_ok=True)
    part = path + ".part"
    try:
        with urllib.request.urlopen(address, timeout=_PATIENCE) as answer:
            with open(part, "wb") as file:
                data = answer.read(_CHUNK)
                while data:
                    file.write(data)
                    data = answer.read(_CHUNK)
            if answer.length:
                raise OSError("it ended {} bytes too early".format(answer.length))
        os.replace(part, path)
    except (OSError, ValueError) as error:
        if os.path.exists(part):
            os.remove(part)
        if ignore_not_found and getattr(error, "code", None) == 404:
            return False
        why = getattr(error, "reason", None) or error
        raise AzureMLException("{} cannot be had: {}".format(address, why), error) from error
    return True
