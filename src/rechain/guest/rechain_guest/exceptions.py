"""The exceptions that scripts written for the Azure ML SDK v1 catch."""

__all__ = ["AzureMLException", "RunEnvironmentException", "UserErrorException"]


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
