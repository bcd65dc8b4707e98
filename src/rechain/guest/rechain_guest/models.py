"""Models: files that a workspace keeps by name and version.

`models/<name>/<version>/` holds `model.json` and `files/`. A version is made beside its place and
renamed into it, so that it is there as a whole or not at all.
"""

import errno
import json
import os
import re
import time

from .exceptions import ModelPathNotFoundException, WebserviceException

__all__ = ["NAME", "Model", "choose", "keep", "versions"]

NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9\-._]{0,254}")


class Model(object):
    """A model, as a job that registers it gets it back.

    Attributes:
        name: its name.
        version: its version, from 1.
        id: `name:version`.
        description: what is said of it, or None.
        tags: its tags.
        properties: its properties.
        model_framework: the framework it is of, or None.
        model_framework_version: that framework's version, or None.
        run_id: the run that made it.
        experiment_name: that run's experiment.
    """

    def __init__(self, document):
        self.name = document["name"]
        self.version = document["version"]
        self.id = "{}:{}".format(self.name, self.version)
        self.description = document["description"]
        self.tags = document["tags"]
        self.properties = document["properties"]
        self.model_framework = document["framework"]
        self.model_framework_version = document["framework_version"]
        self.run_id = document["run_id"]
        self.experiment_name = document["experiment"]

    @staticmethod
    def get_model_path(model_name, version=None, _workspace=None):
        """Return where the file or folder of a model of the workspace lies.

        Args:
            model_name: its name, or `name:version`.
            version: its version; the newest by default.
            _workspace: accepted; in a job there is the one around it.

        Raises:
            WebserviceException: there is no such model.
        """
        root = os.path.join(os.environ.get("RECHAIN_WORKSPACE") or "", "models")
        return content(root, model_name, version)

    def __repr__(self):
        return "Model(name={!r}, id={!r})".format(self.name, self.id)


def choose(files, wanted, run_id):
    """Return the files of a run that make a model: path by path in the model.

    Args:
        files: the run's files: path by name.
        wanted: the name of a file, or of a folder of them.
        run_id: the run.

    Raises:
        ModelPathNotFoundException: there is neither.
    """
    wanted = wanted.rstrip("/")
    base = os.path.basename(wanted)
    if wanted in files:
        return {base: files[wanted]}
    chosen = {
        "{}/{}".format(base, name[len(wanted) + 1 :]): path
        for name, path in files.items()
        if name.startswith(wanted + "/")
    }
    if not chosen:
        raise ModelPathNotFoundException(
            "model_path is {!r}, and the run {} has no such file or folder. It has: {}.".format(
                wanted, run_id, ", ".join(sorted(files)) or "none"
            )
        )
    return chosen


def versions(root, name):
    """Return the versions of a model, oldest first.

    Args:
        root: the workspace's folder of models.
        name: the model's name.
    """
    if not is_name(name):
        return []
    try:
        found = os.listdir(os.path.join(root, name))
    except OSError:
        return []
    return sorted(int(version) for version in found if version.isdigit())


def content(root, name, version=None):
    """Return the path of what a version of a model holds: one file, or one folder.

    Args:
        root: the workspace's folder of models.
        name: the model's name, or `name:version`.
        version: its version; the newest by default.

    Raises:
        WebserviceException: there is no such version.
    """
    plain, _, number = str(name).partition(":")
    wanted = str(version or number)
    for found in reversed(versions(root, plain)):
        files = os.path.join(root, plain, str(found), "files")
        if wanted in ("", str(found)) and os.path.isdir(files):
            return os.path.join(files, *os.listdir(files)[:1])
    raise WebserviceException(
        "ModelNotFound: there is no model {!r}{} in the workspace; of this name there are the "
        "versions {}.".format(
            name,
            " of version {}".format(version) if version else "",
            ", ".join(map(str, versions(root, plain))) or "none",
        )
    )


def is_name(name):
    """Return whether a model can be called so."""
    return isinstance(name, str) and NAME.fullmatch(name) is not None


def keep(root, name, files, tags=None, properties=None, **fields):
    """Keep files as the next version of a model, and return its description.

    Args:
        root: the workspace's folder of models.
        name: the model's name.
        files: their paths on this machine by their paths in the model.
        tags: labels.
        properties: labels that stay as they are.
        **fields: more of the description.

    Raises:
        WebserviceException: the name cannot be one, or the files cannot be copied.
    """
    if not is_name(name):
        raise WebserviceException(
            "model_name is {!r}; it is made of letters, digits, '-', '.' and '_', begins with a "
            "letter or digit, and has 255 characters at most.".format(name)
        )
    import shutil

    home = os.path.join(root, name)
    staged = os.path.join(home, "." + os.urandom(4).hex())
    document = {"schema": 1, "name": name, "created": time.time()}
    for field in ("description", "framework", "framework_version", "run_id", "experiment"):
        document[field] = fields.get(field)
    for field, labels in (("tags", tags), ("properties", properties)):
        document[field] = {str(k): str(v) for k, v in (labels or {}).items()}
    if not files:
        raise WebserviceException(
            "the model {!r} would have no files: there is none in the folder.".format(name)
        )
    try:
        for inside, path in files.items():
            target = os.path.join(staged, "files", inside)
            os.makedirs(os.path.dirname(target), exist_ok=True)
            shutil.copyfile(path, target)
        while True:
            document["version"] = max(versions(root, name) or [0]) + 1
            with open(os.path.join(staged, "model.json"), "w", encoding="utf-8") as file:
                file.write(json.dumps(document) + "\n")
            try:
                os.rename(staged, os.path.join(home, str(document["version"])))
                return document
            except OSError as error:
                if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                    raise
                # Somebody else has taken this number meanwhile.
    except OSError as error:
        shutil.rmtree(staged, ignore_errors=True)
        raise WebserviceException(
            "the model {!r} cannot be kept: {}".format(name, error), error
        ) from error
