"""The experiment and the workspace around a run, as a script sees them."""

import os

__all__ = ["Experiment", "Workspace"]


class Workspace(object):
    """A workspace.

    Attributes:
        name: its name.
        subscription_id: what v1 scripts read; Rechain has no subscriptions.
        resource_group: likewise.
        location: likewise.
        folder: where it is on disk, or None offline.
    """

    def __init__(self, name, subscription_id=None, resource_group=None, folder=None):
        self.name = name
        self.subscription_id = subscription_id
        self.resource_group = resource_group
        self.location = "local"
        self.folder = folder

    @classmethod
    def current(cls):
        """Return the workspace around this process."""
        return cls(
            os.environ.get("AZUREML_ARM_WORKSPACE_NAME", "offline"),
            os.environ.get("AZUREML_ARM_SUBSCRIPTION"),
            os.environ.get("AZUREML_ARM_RESOURCEGROUP"),
            os.environ.get("RECHAIN_WORKSPACE"),
        )

    @classmethod
    def from_config(cls, *args, **kwargs):
        """Return the workspace around this process; inside a job there is no other."""
        return cls.current()

    def __repr__(self):
        return "Workspace(name={!r})".format(self.name)


class Experiment(object):
    """An experiment.

    Attributes:
        name: its name.
        workspace: the workspace it is in.
    """

    def __init__(self, workspace, name, _folder=None):
        self.name = name
        self.workspace = workspace
        if _folder is None and workspace is not None and workspace.folder:
            _folder = os.path.join(workspace.folder, "experiments", name)
        self._folder = _folder

    @property
    def id(self):
        """The experiment's id: its name."""
        return self.name

    def __repr__(self):
        return "Experiment(Name: {}, Workspace: {})".format(
            self.name, getattr(self.workspace, "name", None)
        )
