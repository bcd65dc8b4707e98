"""Why an environment cannot be made ready."""

from __future__ import annotations

__all__ = ["EnvironmentFailure"]


class EnvironmentFailure(Exception):
    """An environment cannot be made ready.

    Attributes:
        message: one line: what is wrong.
        hint: one line: what to do about it; may be empty.
        detail: the whole story, such as the resolver's explanation; may be empty.
        cause: a code of the causes table.
    """

    def __init__(
        self, message: str, hint: str = "", detail: str = "", cause: str = "environment"
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.detail = detail
        self.cause = cause
