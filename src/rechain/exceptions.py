"""The errors that users see, with the class names that v1 scripts catch.

Their bases are v1's: most are siblings, so that code which catches one of them does not catch
another.
"""

from __future__ import annotations

# What is raised inside of a job too is defined there.
from rechain.guest.rechain_guest.exceptions import (
    AzureMLException,
    ModelPathNotFoundException,
    RunEnvironmentException,
    UserErrorException,
    WebserviceException,
)

__all__ = [
    "ActivityFailedException",
    "AuthenticationException",
    "AzureMLAggregatedException",
    "AzureMLException",
    "ComputeTargetException",
    "DatasetTimestampMissingError",
    "DiscoveryUrlNotFoundException",
    "ExperimentExecutionException",
    "HyperDriveConfigException",
    "HyperDriveException",
    "HyperDriveNotImplementedException",
    "HyperDriveRehydrateException",
    "HyperDriveScenarioNotSupportedException",
    "HyperDriveServiceException",
    "ModelNotFoundException",
    "ModelPathNotFoundException",
    "NotBuiltError",
    "ParallelRunException",
    "ProjectSystemException",
    "RunConfigurationException",
    "RunEnvironmentException",
    "ServiceException",
    "SnapshotException",
    "TrainingException",
    "UserErrorException",
    "WebserviceException",
    "WorkspaceException",
    "WorkspacePrivateEndpointException",
]


class ActivityFailedException(AzureMLException):
    """A run that was waited for has failed."""


class AuthenticationException(UserErrorException):
    """Somebody could not log in; Rechain has no login and never raises it."""


class ComputeTargetException(AzureMLException):
    """A compute target does not exist or cannot be used."""


class ExperimentExecutionException(AzureMLException):
    """A run could not be started or followed."""


class ModelNotFoundException(AzureMLException):
    """There is no such model."""


class ProjectSystemException(AzureMLException):
    """A project's folder or its configuration cannot be used."""


class RunConfigurationException(AzureMLException):
    """A description of a run does not make sense."""


class ServiceException(Exception):
    """v1's service did not answer; Rechain has none and never raises it.

    As in v1 it is no AzureMLException; v1's bases of it are those of its HTTP client.
    """


class SnapshotException(AzureMLException):
    """A source folder cannot be stored, or a stored one cannot be restored."""


class TrainingException(AzureMLException):
    """An estimator's parameters do not fit together, or its run cannot be submitted."""


class WorkspaceException(AzureMLException):
    """A workspace cannot be used.

    Attributes:
        found_multiple: whether there are several of its name.
    """

    def __init__(
        self,
        exception_message: str = "",
        found_multiple: bool = False,
        inner_exception: BaseException | None = None,
        **kwargs: object,
    ) -> None:
        super().__init__(exception_message, inner_exception)
        self.found_multiple = found_multiple


class WorkspacePrivateEndpointException(AzureMLException):
    """v1's private endpoints; Rechain has none and never raises it."""


class AzureMLAggregatedException(AzureMLException):
    """Several errors in one.

    Args:
        exceptions_list: their texts.
    """

    def __init__(self, exceptions_list: list[str], **kwargs: object) -> None:
        super().__init__("\n".join(map(str, exceptions_list)))


class DatasetTimestampMissingError(AzureMLException):
    """v1's datasets with times; Rechain has none and never raises it."""


class DiscoveryUrlNotFoundException(AzureMLException):
    """v1's services cannot be found; Rechain has none and never raises it."""


class ParallelRunException(AzureMLException):
    """v1's parallel steps; Rechain has none yet and never raises it.

    Attributes:
        code: the kind of error, or None.
        delay_seconds: how long to wait before the next try.
    """

    def __init__(
        self,
        exception_message: str = "",
        code: str | None = None,
        delay_seconds: float = 0,
        **kwargs: object,
    ) -> None:
        super().__init__(exception_message)
        self.code = code
        self.delay_seconds = delay_seconds


class HyperDriveException(AzureMLException):
    """A search for hyperparameters cannot be made or run; none is built yet."""


class HyperDriveConfigException(HyperDriveException):
    """A search is described wrongly."""


class HyperDriveScenarioNotSupportedException(HyperDriveConfigException):
    """A search cannot run there."""


class HyperDriveNotImplementedException(HyperDriveScenarioNotSupportedException):
    """A search cannot do that."""


class HyperDriveRehydrateException(HyperDriveException):
    """A search of before cannot be read again."""


class HyperDriveServiceException(HyperDriveException):
    """v1's service for searches did not answer; Rechain has none and never raises it."""


class NotBuiltError(UserErrorException):
    """A part of v1 was asked for that Rechain does not have yet."""
