"""The half of a run that stores and fetches files."""

import os

from . import artifacts
from .exceptions import UserErrorException

__all__ = ["Files"]


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
        """Copy all artifacts below a folder; `append_prefix=False` drops the folder's name.

        Raises:
            UserErrorException: `output_paths` does not fit the artifacts there are.
        """
        folder = artifacts.artifact_name(prefix) + "/" if prefix else ""
        names = [name for name in self.get_file_names() if name.startswith(folder)]
        if output_paths is not None and len(output_paths) != len(names):
            raise UserErrorException(
                "{} output paths for {} artifacts".format(len(output_paths), len(names))
            )
        for index, name in enumerate(names):
            if output_paths is not None:
                target = output_paths[index]
            else:
                target = name if append_prefix else name[len(folder) :]
            artifacts.copy_out(
                self._find(name), name, os.path.join(output_directory or "", target)
            )

    def get_file_names(self):
        """Return the names of the run's artifacts."""
        raise NotImplementedError

    def _store(self, name, source):
        raise NotImplementedError

    def _find(self, name):
        raise NotImplementedError
