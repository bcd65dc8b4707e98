"""Which files of a source folder are left out of its snapshot.

One file at the root decides: `.amlignore`, or else `.gitignore`. With neither, what no training
needs is left out: version control, caches, virtual environments. `.git` and `.rechain` never
belong to a snapshot, whatever the file says.
"""

from __future__ import annotations

from rechain.exceptions import SnapshotException

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathspec.pattern import RegexPattern

__all__ = ["FILES", "Rules"]

FILES = (".amlignore", ".gitignore")

_NEVER = frozenset({".git", ".rechain"})
_DEFAULT = frozenset(
    {
        "__pycache__", ".ipynb_checkpoints", ".venv",
        ".hg", ".svn", ".bzr",
        ".mypy_cache", ".pytest_cache", ".ruff_cache", ".hypothesis", ".tox", ".nox", ".eggs",
        "node_modules", ".DS_Store",
    }
)  # fmt: skip


class Rules:
    """The rule that holds for one source folder.

    Args:
        source: the source folder.
        whole: whether no ignore file counts, and only what never belongs to a snapshot is left
            out.

    Attributes:
        file: the name of the ignore file that decides, or None.

    Raises:
        SnapshotException: the ignore file cannot be read or understood.
    """

    def __init__(self, source: str, whole: bool = False) -> None:
        self.file: str | None = None
        self._patterns: list[RegexPattern] | None = None  # the deciding ones, the last first
        if whole:
            self._patterns = []
            return
        for name in FILES:
            try:
                with open(f"{source}/{name}", encoding="utf-8-sig", errors="surrogateescape") as f:
                    lines = f.read().split("\n")
            except (FileNotFoundError, IsADirectoryError):
                continue
            except OSError as error:
                raise SnapshotException(
                    f"The ignore file {source}/{name} cannot be read: {error.strerror}.", error
                ) from error
            self.file = name
            self._patterns = _parse(
                f"{source}/{name}", [line.removesuffix("\r") for line in lines]
            )
            return

    def excludes(self, path: str, name: str, folder: bool) -> bool:
        """Say whether an entry is left out.

        Args:
            path: its path, relative to the source folder.
            name: the last part of that path.
            folder: whether it is a folder; what is in an excluded one is never asked about.
        """
        if name in _NEVER:
            return True
        if self._patterns is None:
            return name in _DEFAULT
        for pattern in self._patterns:
            if _is_meant(pattern, path, folder):
                return bool(pattern.include)
        return False

    def is_environment(self, names: set[str]) -> bool:
        """Say whether a folder with these entries is left out as a Python environment."""
        return self._patterns is None and ("pyvenv.cfg" in names or "conda-meta" in names)


def _parse(path: str, lines: list[str]) -> list[RegexPattern]:
    from pathspec import GitIgnoreSpec  # as slow to import as a whole snapshot is to take

    try:
        spec = GitIgnoreSpec.from_lines(lines)
    except ValueError as error:
        raise SnapshotException(
            f"The ignore file {path} has a bad pattern: {error}", error
        ) from error
    patterns: list[RegexPattern] = [p for p in spec.patterns if p.include is not None]
    patterns.reverse()
    return patterns


def _is_meant(pattern: RegexPattern, path: str, folder: bool) -> bool:
    """Say whether a pattern matches an entry itself.

    For pathspec a pattern also matches all that is below what it means, so that `!/src` would
    bring back every ignored file in `src`; for git it does not. The slash after what is meant is
    the group `ps_d`.
    """
    regex = pattern.regex
    assert regex is not None  # comments and blank lines were dropped
    found = regex.search(path)
    if found is not None and found.groupdict().get("ps_d") is None:
        return True
    # A pattern such as "data/" means folders only, and is known by the slash at the very end.
    return folder and any(
        found.groupdict().get("ps_d") and found.end("ps_d") == len(path) + 1
        for found in regex.finditer(f"{path}/")
    )
