"""What an environment asks for beyond what an estimator has parameters for."""

from __future__ import annotations

__all__ = ["Asked"]


class Asked:
    """What an environment asks for beyond what an estimator has parameters for.

    Attributes:
        python: the interpreter: a version, a command or a path.
        as_of: the day whose packages it has, such as `2018-12-31`.
        lock: the file or exported folder of a lock, which says it all.
        channels: those of conda, the first choice first.
    """

    __slots__ = ("as_of", "channels", "lock", "python")

    def __init__(
        self,
        python: str | None = None,
        as_of: str | None = None,
        lock: str | None = None,
        channels: tuple[str, ...] = (),
    ) -> None:
        self.python = python
        self.as_of = as_of
        self.lock = lock
        self.channels = channels
