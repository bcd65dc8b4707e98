"""What v1's `Run` has that a script seldom asks of the run it is in."""

import os

from .exceptions import UserErrorException

__all__ = ["Outside"]


def _not_inside(name):
    def refuse(*args, **kwargs):
        raise UserErrorException(
            "Run.{} is not there inside of a job: ask for it where the run was submitted, with "
            "Run.get(workspace, run_id).".format(name)
        )

    refuse.__name__ = name
    refuse.__doc__ = "Refuse: it is to be asked for where the run was submitted."
    return refuse


class Outside(object):
    """The part of `Run` that is mostly for those outside of it."""

    get_all_logs = _not_inside("get_all_logs")
    get_details_with_logs = _not_inside("get_details_with_logs")
    get_environment = _not_inside("get_environment")
    list = _not_inside("list")
    list_by_compute = _not_inside("list_by_compute")
    restore_snapshot = _not_inside("restore_snapshot")
    submit_child = _not_inside("submit_child")
    take_snapshot = _not_inside("take_snapshot")

    @property
    def identity(self):
        """v1's name for what a log line is about: the run's id."""
        return self.id

    @property
    def portal_url(self):
        """Where the record is."""
        return self.get_portal_url()

    @classmethod
    def get_docs_url(cls):
        """Return None: the documentation is `help(Run)`."""
        return

    def get_detailed_status(self):
        """Return the status; there are no details from inside."""
        return {"status": self.get_status(), "details": None}

    def get_snapshot_id(self):
        """Return the digest of the source folder's snapshot; None if there is none."""
        return (self._job().get("source") or {}).get("snapshot")

    def start(self):
        """Do nothing: a run is started when it is made."""

    def clean(self):
        """Return the files that were deleted: none."""
        return []

    def register_model(
        self,
        model_name,
        model_path=None,
        tags=None,
        properties=None,
        model_framework=None,
        model_framework_version=None,
        description=None,
        datasets=None,
        sample_input_dataset=None,
        sample_output_dataset=None,
        resource_configuration=None,
        **kwargs,
    ):
        """Keep files that the run has made so far as the next version of a model.

        Args:
            model_name: the model's name.
            model_path: a file of the run, or a folder of them; named like the model if left out.
            tags: the model's labels.
            properties: labels that stay as they are.
            model_framework: the framework it is of.
            model_framework_version: that framework's version.
            description: what to say of it.
            datasets: accepted, without effect, like all that follows.
            sample_input_dataset: see `datasets`.
            sample_output_dataset: see `datasets`.
            resource_configuration: see `datasets`.
            **kwargs: see `datasets`.

        Raises:
            ModelPathNotFoundException: the run has no such file or folder.
            WebserviceException: the name cannot be one.
        """
        from . import artifacts, models

        names = artifacts.names(self._folder)
        there = {name: artifacts.find(self._folder, name) for name in names}
        # The run folder is `<workspace>/experiments/<experiment>/<run id>`.
        workspace = os.path.dirname(os.path.dirname(os.path.dirname(self._folder)))
        document = models.keep(
            os.path.join(workspace, "models"),
            model_name,
            models.choose(there, str(model_path or model_name), self.id),
            tags,
            properties,
            description=description,
            framework=model_framework,
            framework_version=model_framework_version,
            run_id=self.id,
            experiment=self.experiment.name,
        )
        return models.Model(document)
