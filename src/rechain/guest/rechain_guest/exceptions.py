"""The exceptions that scripts written for the Azure ML SDK v1 catch."""

__all__ = [
    "AzureMLException",
    "ModelPathNotFoundException",
    "RunEnvironmentException",
    "UserErrorException",
    "WebserviceException",
]


class AzureMLException(Exception):
    """Base of all errors raised here.

    Attributes:
        message: what went wrong.
        inner_exception: the exception behind it, or None.
    """

    def __init__(
        self,
        exception_message: str = "",
        inner_exception: "BaseException | None" = None,
        **kwargs: object,
    ) -> None:
        super(AzureMLException, self).__init__(exception_message)
        self.message = exception_message
        self.inner_exception = inner_exception

    def __str__(self) -> str:
        return str(self.message)


class UserErrorException(AzureMLException):
    """The caller asked for something that cannot be done."""


class RunEnvironmentException(AzureMLException):
    """There is no run around this process."""


class ModelPathNotFoundException(AzureMLException):
    """A run has no such file to make a model of."""


class WebserviceException(AzureMLException):
    """A service for a model cannot be made or used, or there is no such model.

    Attributes:
        status_code: v1's HTTP status, or None.
    """

    def __init__(
        self,
        exception_message: str = "",
        inner_exception: "BaseException | int | None" = None,
        status_code: "int | None" = None,
        logger: object = None,
        **kwargs: object,
    ) -> None:
        if isinstance(inner_exception, int):  # v1's second argument is the status
            inner_exception, status_code = None, inner_exception
        super(WebserviceException, self).__init__(exception_message, inner_exception)
        self.status_code = status_code
