"""The run of a script that is started by hand: it prints what it is told and keeps no record."""

import os
import sys
import time

from . import artifacts, children, lines
from .exceptions import AzureMLException, UserErrorException
from .experiment import Experiment, Workspace
from .run import Run

__all__ = ["_OfflineRun"]

_STATUS = {"completed": "Completed", "user_error": "Failed", "canceled": "Canceled"}


class _OfflineRun(Run):
    """A run without a run folder; every member of `Run` works.

    Args:
        parent: the offline run it is a child of.
        name: what people call it.
        run_id: its id.
        tags: its tags.
    """

    def __init__(self, parent=None, name=None, run_id=None, tags=None):
        self.id = run_id or "OfflineRun_" + _uuid()
        self.experiment = Experiment(Workspace.current(), "offline")
        self._parent = parent
        self._name = name
        self._description = None
        self._said = [(0, {"k": "tag", "n": k, "v": v}) for k, v in (tags or {}).items()]
        self._files = {}
        self._children = []
        self._status = "Running"
        self._job_document = {
            "kind": "offline",
            "command": list(getattr(sys, "argv", [])),
            "submitted": {"time": time.time()},
        }

    name = property(lambda self: self._name or self.id, doc="The run's name, or its id.")
    number = property(lambda self: 1, doc="Always 1: nothing is counted offline.")
    input_datasets = property(lambda self: {}, doc="None: nothing brings any.")
    output_datasets = property(lambda self: {}, doc="None, likewise.")
    type = property(lambda self: "azureml.offline", doc="The kind of run.")
    parent = property(lambda self: self._parent, doc="The run this one is a child of, or None.")

    @property
    def description(self):
        """The run's description, or None. May be set."""
        return self._description

    @description.setter
    def description(self, text):
        self._description = str(text)

    @property
    def display_name(self):
        """See `name`; may be set."""
        return self.name

    @display_name.setter
    def display_name(self, name):
        self._name = str(name)

    def get_status(self):
        """Return `Running`, until the run was ended."""
        return self._status

    def get_tags(self):
        """Return the run's tags."""
        return lines.labels({}, self._said)

    def get_properties(self):
        """Return the run's properties."""
        return lines.labels({}, self._said, kind="property")

    def get_metrics(self, name=None, recursive=False, run_type=None, populate=False):
        """Return what was logged to this object; see `Run.get_metrics`."""
        if recursive:
            runs = [self] + list(self.get_children(recursive=True))
            return {run.id: run.get_metrics(name) for run in runs}
        metrics = lines.fold_metrics(self._said)
        return metrics if name is None else {k: v for k, v in metrics.items() if k == name}

    def get_children(
        self, recursive=False, tags=None, properties=None, type=None, status=None, **kwargs
    ):
        """Yield the child runs, newest first; see `Run.get_children`."""
        runs = list(reversed(self._children))
        return children.choose(runs, recursive, tags, properties, status)

    def get_file_names(self):
        """Return the names under which files were uploaded."""
        return sorted(self._files)

    def register_model(self, model_name, model_path=None, *args, **kwargs):
        """Say that it was asked for: there is no workspace to keep a model in."""
        print("Attempted to register model {} of {}".format(model_name, model_path or model_name))

    def get_portal_url(self):
        """Return nothing: there is no record."""
        return ""

    def wait_for_completion(self, show_output=False, wait_post_processing=False, **kwargs):
        """Return at once: an offline run is never under way elsewhere."""
        return self.get_details()

    def fail(self, error_details=None, error_code=None, _set_status=True):
        """End the run as failed; see `Run.fail`."""
        message = children.error_text(error_details)
        self._end("user_error")
        print("Attempted to fail the run{}".format(": " + message if message else ""))

    def __enter__(self):
        print("[START] Run {} context".format(self.id))
        return self

    def __exit__(self, kind, error, trace):
        super(_OfflineRun, self).__exit__(kind, error, trace)
        print("[END] Run {} context".format(self.id))

    def _child(self, name, run_id, tags, outputs=None):
        child = _OfflineRun(self, name, run_id or "{}.{}".format(self.id, name or _uuid()), tags)
        self._children.append(child)
        return child

    def _end(self, cause, message=""):
        if self._status not in children.TERMINAL:
            self._status = _STATUS[cause]
        return True

    def _say(self, kind, name, value=None, step=None, description=None):
        row = {"k": kind, "n": name, "v": value}
        if step is not None:
            row["s"] = step
        self._said.append((0, row))
        if kind == "tag":
            print("Attempted to add tag {} with value {}".format(name, value))
        elif kind == "untag":
            print("Attempted to remove tag {}".format(name))
        elif kind == "property":
            print("Attempted to add property {} with value {}".format(name, value))
        else:
            at = "" if step is None else " at step {}".format(step)
            print("Attempted to log {} metric {}{}:\n{}".format(kind, name, at, value))

    def _say_artifact(self, kind, name, artifact, source, description):
        self._files[artifact] = source
        self._say(kind, name, artifact)

    def _rows(self):
        return self._said

    def _store(self, name, source):
        if name in self._files:
            raise AzureMLException(
                "this run already has an artifact {} (Resource Conflict: ArtifactId)".format(name)
            )
        if hasattr(source, "read"):
            data = source.read()
            source = data.encode("utf-8") if isinstance(data, str) else data
            print("Attempted to track file {} ({} bytes)".format(name, len(source)))
        else:
            print("Attempted to track file {} at {}".format(name, os.fspath(source)))
        self._files[name] = source

    def _find(self, name):
        try:
            return self._files[artifacts.artifact_name(name)]
        except KeyError:
            raise UserErrorException(
                "Cannot find the artifact '{}' in run {}".format(name, self.id)
            ) from None


def _uuid():
    # As uuid.uuid4(), whose module brings in subprocess on the older Pythons.
    text = os.urandom(16).hex()
    return "-".join([text[:8], text[8:12], "4" + text[13:16], "a" + text[17:20], text[20:]])
