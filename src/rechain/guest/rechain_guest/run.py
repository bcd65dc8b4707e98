"""`Run`: what a script says to, and asks of, the run it is in."""

import os
import time

from . import artifacts, children, datasets, lines, place, writer
from .exceptions import RunEnvironmentException, UserErrorException
from .experiment import Experiment, Workspace
from .files import Files
from .logs import Logs
from .outside import Outside

__all__ = ["Run", "get_run"]


class Run(Logs, Files, Outside):
    """A run, through its run folder.

    Args:
        experiment: the experiment it is in.
        run_id: its id.
        outputs: accepted; everything a run makes is kept.

    Raises:
        UserErrorException: the experiment has no such run.

    Attributes:
        id: the run's id.
        experiment: the experiment it is in.
    """

    def __init__(self, experiment, run_id, outputs=None, _folder=None, **kwargs):
        folder = _folder or os.path.join(getattr(experiment, "_folder", None) or "", run_id)
        if not os.path.isdir(folder):
            raise UserErrorException("there is no run {} in {!r}".format(run_id, experiment))
        self.id = run_id
        self.experiment = experiment
        self._folder = os.path.realpath(folder)
        submitted = place.run_folder()
        if submitted and os.path.realpath(submitted) == self._folder:
            attempt = place.attempt()
        else:
            attempt = children.last_attempt(self._folder) or 1
        self._write = writer.writer_for(self._folder, attempt, place.rank()).write

    @classmethod
    def get_context(cls, allow_offline=True, used_for_context_manager=False, **kwargs):
        """Return the run around this process.

        Args:
            allow_offline: outside of a job, return a run that keeps no record.
            used_for_context_manager: accepted, without effect.
            **kwargs: likewise.

        Raises:
            RunEnvironmentException: there is no run, and `allow_offline` is false.
        """
        from . import context

        run = context.submitted()
        if run is None and not allow_offline:
            raise RunEnvironmentException(
                "This process is not part of a submitted run: start the script with Rechain, or "
                "allow an offline run."
            )
        return run or context.offline()

    @classmethod
    def get_submitted_run(cls, **kwargs):
        """Return the run around this process, never an offline one; see `get_context`."""
        return cls.get_context(allow_offline=False)

    @staticmethod
    def get(workspace, run_id):
        """Return a run of this workspace by its id.

        Raises:
            UserErrorException: there is none.
        """
        return Run(Experiment(workspace, run_id.rsplit("_", 2)[0]), run_id)

    @property
    def name(self):
        """What people call the run: its id unless it was given a name."""
        return lines.read_display_name(self._folder) or self.id

    @property
    def display_name(self):
        """See `name`; may be set."""
        return self.name

    @display_name.setter
    def display_name(self, name):
        self._write("name", "display_name", str(name))

    @property
    def description(self):
        """The run's description, or None. May be set."""
        return lines.read_description(self._folder)

    @description.setter
    def description(self, text):
        self._write("name", "description", str(text))

    @property
    def number(self):
        """The run's place in its experiment, from 1, in the order of submission."""
        names = os.listdir(os.path.dirname(self._folder))
        return sorted(names, key=lambda name: name.rsplit("_", 2)[1:]).index(self.id) + 1

    @property
    def input_datasets(self):
        """The run's named inputs: their paths, or datasets of those that are given directly."""
        return datasets.inputs(self._folder)

    @property
    def output_datasets(self):
        """The paths of the run's named outputs."""
        return datasets.outputs(self._folder)

    @property
    def type(self):
        """The kind of run, in v1's words."""
        return "azureml.scriptrun" if self._job().get("kind") == "script" else None

    @property
    def parent(self):
        """The run this one is a child of, or None."""
        parent = self._job().get("parent")
        return self._sibling(parent) if parent else None

    @property
    def status(self):
        """The run's status."""
        return self.get_status()

    def get_status(self):
        """Return the run's status, one of v1's names."""
        return children.status(self._folder)

    def get_details(self):
        """Return what is known of the run, in the form of v1."""
        job = self._job()
        begun = job.get("submitted", {}).get("time")
        return {
            "runId": self.id,
            "target": job.get("target"),
            "status": self.get_status(),
            "startTimeUtc": _utc(begun) if begun else None,
            "properties": self.get_properties(),
            "tags": self.get_tags(),
            "inputDatasets": [],
            "outputDatasets": [],
            "runDefinition": {
                "script": (job.get("command") or [None])[0],
                "arguments": (job.get("command") or [])[1:],
                "target": job.get("target"),
            },
            "logFiles": {},
        }

    def get_tags(self):
        """Return the run's tags."""
        return lines.read_tags(self._folder)

    def get_properties(self):
        """Return the run's properties."""
        return lines.read_properties(self._folder)

    def get_metrics(self, name=None, recursive=False, run_type=None, populate=False):
        """Return what was logged, and the series of Chainer's LogReport.

        Args:
            name: only this metric.
            recursive: of the children too: `{run id: metrics}`.
            run_type: accepted, without effect.
            populate: likewise.

        Returns:
            `{name: value}`: a value logged once is that value, several are a list.
        """
        if recursive:
            runs = [self] + list(self.get_children(recursive=True))
            return {run.id: run.get_metrics(name) for run in runs}
        metrics = lines.read_metrics(self._folder)
        return metrics if name is None else {k: v for k, v in metrics.items() if k == name}

    def child_run(self, name=None, run_id=None, outputs=None):
        """Start a child run; end it with `complete()`, `fail()`, `cancel()` or `with`.

        Args:
            name: what people call it.
            run_id: its id; a new one by default.
            outputs: a folder whose files are kept when it ends.

        Raises:
            UserErrorException: `run_id` is not a run id of this experiment.
        """
        return self._child(name, run_id, {}, outputs)

    def create_children(self, count=None, tag_key=None, tag_values=None):
        """Start several child runs: `count`, or one for each of `tag_values`.

        Returns:
            The child runs.

        Raises:
            UserErrorException: the arguments do not say how many, contradict each other, or ask
                for more than 100.
        """
        return [
            self._child(None, None, tags) for tags in children.tags_of(count, tag_key, tag_values)
        ]

    def get_children(
        self, recursive=False, tags=None, properties=None, type=None, status=None, **kwargs
    ):
        """Yield the child runs, newest first.

        Args:
            recursive: their children too.
            tags: only those with this tag, or with these tags and values.
            properties: likewise.
            type: accepted; children inside a job have one type.
            status: only those with this status.
            **kwargs: accepted, without effect.
        """
        try:
            names = os.listdir(os.path.join(self._folder, "children"))
        except FileNotFoundError:
            return
        runs = []
        for child in names:
            try:
                runs.append(self._sibling(child))
            except UserErrorException:  # its folder was deleted
                continue
        runs.sort(key=lambda run: (run._job().get("submitted", {}).get("time", 0), run.id))
        for found in children.choose(reversed(runs), recursive, tags, properties, status):
            yield found

    def complete(self, _set_status=True):
        """End a child run well; the submitted run ends with its script."""
        self._end("completed")

    def fail(self, error_details=None, error_code=None, _set_status=True):
        """End a child run as failed; the submitted run only notes the error.

        Args:
            error_details: a text or an exception.
            error_code: a name for the kind of error.

        Raises:
            TypeError: `error_details` is neither.
        """
        message = children.error_text(error_details)
        if message or error_code:
            self._write("error", str(error_code or "UserError"), message)
        self._end("user_error", message)

    def cancel(self):
        """End a child run as canceled; the submitted run is not canceled from inside."""
        if not self._end("canceled"):
            import warnings

            warnings.warn("a run cannot cancel itself: leave the script instead", stacklevel=2)

    def wait_for_completion(self, show_output=False, wait_post_processing=False, **kwargs):
        """Wait for the end of a child run.

        Raises:
            UserErrorException: it is the run around this process.
        """
        if self._job().get("kind") == "script":
            raise UserErrorException("a run cannot wait for its own end")
        pause = 0.05
        while self.get_status() not in children.TERMINAL:
            time.sleep(pause)
            pause = min(2.0, pause * 1.5)
        return self.get_details()

    def get_file_names(self):
        """Return the names of the run's artifacts."""
        return artifacts.names(self._folder)

    def get_secret(self, name):
        """Return a secret of the run, or None: Rechain passes secrets as variables."""
        return os.environ.get(name)

    def get_secrets(self, secrets):
        """Return several secrets by name."""
        return {name: self.get_secret(name) for name in secrets}

    def get_portal_url(self):
        """Return where the record is."""
        return "file://" + self._folder

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        if error is None or (isinstance(error, SystemExit) and error.code in (None, 0)):
            self.complete()
        else:
            self.fail(error)

    def __repr__(self):
        return "Run(Experiment: {}, Id: {}, Type: {}, Status: {})".format(
            self.experiment.name, self.id, self.type, self.get_status()
        )

    def _job(self):
        if not hasattr(self, "_job_document"):
            self._job_document = lines.read_document(os.path.join(self._folder, "job.json"))
        return self._job_document

    def _sibling(self, run_id):
        folder = os.path.join(os.path.dirname(self._folder), run_id)
        return Run(self.experiment, run_id, _folder=folder)

    def _child(self, name, run_id, tags, outputs=None):
        folder = children.make(
            os.path.dirname(self._folder),
            self.experiment.name,
            run_id,
            name,
            tags,
            outputs,
            parent=self.id,
        )
        run = Run(self.experiment, os.path.basename(folder), _folder=folder)
        self._write("child", run.id)
        return run

    def _end(self, cause, message=""):
        led = self._job().get("kind") != "script"
        if led:
            children.end(self._folder, cause, message)
        return led

    def _say(self, kind, name, value=None, step=None, description=None):
        self._write(kind, name, value, step, description)

    def _say_artifact(self, kind, name, artifact, source, description):
        artifact = artifacts.artifact_name(artifact)
        stem, extension = os.path.splitext(artifact)
        number = 1
        while os.path.exists(os.path.join(self._folder, "uploads", artifact)):
            number += 1  # the same plot, drawn anew after each epoch
            artifact = "{}_{}{}".format(stem, number, extension)
        try:
            artifacts.put(self._folder, artifact, source)
        except OSError as error:  # a full disk must not end the training
            import warnings

            warnings.warn("the image {} is lost: {}".format(artifact, error), stacklevel=4)
            return
        self._write(kind, name, artifact, None, description)

    def _rows(self):
        return lines.read_rows(self._folder)

    def _store(self, name, source):
        artifacts.put(self._folder, name, source)

    def _find(self, name):
        return artifacts.find(self._folder, name)


def get_run(experiment, run_id, rehydrate=True, clean_up=True):
    """Return a run of an experiment by its id.

    Raises:
        UserErrorException: there is none.
    """
    return Run(experiment, run_id)


class _SubmittedRun(Run):
    """The run around this process. Scripts written for v1 ask for this class by name."""

    def __init__(self, folder):
        home = os.path.dirname(folder)
        name = os.environ.get("RECHAIN_EXPERIMENT") or os.path.basename(home)
        experiment = Experiment(Workspace.current(), name, home)
        super(_SubmittedRun, self).__init__(
            experiment, os.environ["RECHAIN_RUN_ID"], _folder=folder
        )


def _utc(seconds):
    import datetime

    moment = datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
