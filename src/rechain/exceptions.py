"""The errors that users see, with the class names that v1 scripts catch.

Apart from `NotBuiltError` they are siblings, as in v1: code that catches one of them does not
catch another.
"""

from __future__ import annotations

# What is raised inside of a job too is defined there.
from rechain.guest.rechain_guest.exceptions import (
    AzureMLException,
    RunEnvironmentException,
    UserErrorException,
)

__all__ = [
    "ActivityFailedException",
    "AuthenticationException",
    "AzureMLException",
    "ComputeTargetException",
    "ExperimentExecutionException",
    "ModelNotFoundException",
    "ModelPathNotFoundException",
    "NotBuiltError",
    "ProjectSystemException",
    "RunConfigurationException",
    "RunEnvironmentException",
    "ServiceException",
    "SnapshotException",
    "TrainingException",
    "UserErrorException",
    "WebserviceException",
    "WorkspaceException",
]


class ActivityFailedException(AzureMLException):
    """A run that was waited for has failed."""


class AuthenticationException(AzureMLException):
    """Somebody could not log in; Rechain has no login and never raises it."""


class ComputeTargetException(AzureMLException):
    """A compute target does not exist or cannot be used."""


class ExperimentExecutionException(AzureMLException):
    """A run could not be started or followed."""


class ModelNotFoundException(AzureMLException):
    """There is no such model."""


class ModelPathNotFoundException(AzureMLException):
    """A run has no such file to make a model of."""


class ProjectSystemException(AzureMLException):
    """A project's folder or its configuration cannot be used."""


class RunConfigurationException(AzureMLException):
    """A description of a run does not make sense."""


class ServiceException(AzureMLException):
    """v1's service did not answer; Rechain has none and never raises it."""


class SnapshotException(AzureMLException):
    """A source folder cannot be stored, or a stored one cannot be restored."""


class TrainingException(AzureMLException):
    """An estimator's parameters do not fit together, or its run cannot be submitted."""


class WebserviceException(AzureMLException):
    """A service for a model cannot be made or used, or a model's name is none."""


class WorkspaceException(AzureMLException):
    """A workspace cannot be used."""


class NotBuiltError(UserErrorException):
    """A part of v1 was asked for that Rechain does not have yet."""
