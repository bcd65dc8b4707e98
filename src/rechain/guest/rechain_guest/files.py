"""The half of a run that stores and fetches files."""

import os

from . import artifacts
from .exceptions import UserErrorException

__all__ = ["Files", "copies"]


def copies(names, folder, output_directory, output_paths, append_prefix):
    """Return which file is copied where, as v1's `download_files` does: `(name, path)`.

    Args:
        names: the files' names.
        folder: what they begin with, up to the slash.
        output_directory: where to; None for the current folder.
        output_paths: the copies' names, or None.
        append_prefix: whether the folder's name stays.
    """
    if output_paths is not None:
        if len(output_paths) == len(names) == len(set(output_paths)):
            return [
                (name, os.path.join(output_directory or "", path))
                for name, path in zip(names, output_paths)
            ]
        import warnings

        warnings.warn(
            "output_paths has {} different names for {} files; their own are taken".format(
                len(set(output_paths)), len(names)
            ),
            stacklevel=3,
        )
    cut = 0 if append_prefix or not output_directory else len(folder)
    return [(name, os.path.join(output_directory or "", name[cut:])) for name in names]


class Files(object):
    """Uploads and downloads, with the SDK v1's signatures.

    A subclass says how a file is stored (`_store`), found (`_find`) and listed (`get_file_names`).
    """

    def upload_file(self, name, path_or_stream, datastore_name=None):
        """Store a file under a name.

        Args:
            name: the artifact's name, such as `outputs/model.npz`.
            path_or_stream: a path, or an object with `read()`.
            datastore_name: accepted; the run folder is the only store.

        Raises:
            AzureMLException: the run has an upload of this name.
            UserErrorException: there is no such file, or the name leads out of the run.
        """
        self._store(artifacts.artifact_name(name), path_or_stream)

    def upload_files(
        self, names, paths, return_artifacts=False, timeout_seconds=None, datastore_name=None
    ):
        """Store several files.

        Raises:
            TypeError: there are more names than paths, or fewer.
        """
        names, paths = list(names), list(paths)
        if len(names) != len(paths):
            raise TypeError("{} names for {} paths".format(len(names), len(paths)))
        for name, path in zip(names, paths):
            self.upload_file(name, path)
        return {name: name for name in names} if return_artifacts else None

    def upload_folder(self, name, path, datastore_name=None):
        """Store all files of a folder, below a name.

        Raises:
            UserErrorException: `path` is not a folder.
        """
        root = os.fspath(path)
        if not os.path.isdir(root):
            raise UserErrorException("there is no folder {}".format(os.path.abspath(root)))
        for folder, folders, files in os.walk(root):
            folders.sort()
            for file in sorted(files):
                source = os.path.join(folder, file)
                self.upload_file(os.path.join(name, os.path.relpath(source, root)), source)

    def download_file(self, name, output_file_path=None, _validate_checksum=False):
        """Copy an artifact.

        Args:
            name: the artifact's name.
            output_file_path: a file, or a folder that exists; the current folder by default.

        Raises:
            UserErrorException: the run has no such artifact.
        """
        artifacts.copy_out(self._find(name), name, output_file_path)

    def download_files(
        self,
        prefix=None,
        output_directory=None,
        output_paths=None,
        batch_size=100,
        append_prefix=True,
        timeout_seconds=None,
    ):
        """Copy all artifacts below a folder.

        Args:
            prefix: the folder.
            output_directory: where to; the current folder by default.
            output_paths: the copies' names. Of a list that does not fit the artifacts none
                counts; a warning says so.
            batch_size: accepted, without effect.
            append_prefix: keep the folder's name; False means nothing without
                `output_directory`.
            timeout_seconds: accepted, without effect.
        """
        folder = artifacts.artifact_name(prefix) + "/" if prefix else ""
        names = [name for name in self.get_file_names() if name.startswith(folder)]
        for name, target in copies(names, folder, output_directory, output_paths, append_prefix):
            artifacts.copy_out(self._find(name), name, target)

    def get_file_names(self):
        """Return the names of the run's artifacts."""
        raise NotImplementedError

    def _store(self, name, source):
        raise NotImplementedError

    def _find(self, name):
        raise NotImplementedError
