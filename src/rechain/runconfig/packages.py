"""What the lines of requirements mean: which package, or which option."""

from __future__ import annotations

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["base_name", "identity", "is_option", "is_python", "merge", "option"]


def base_name(requirement: str) -> str:
    """Return the canonical name of the package that a requirement is for.

    A URL, a path or anything else without a package name is its own name.
    """
    text = requirement.strip()
    found = re.match(r"([A-Za-z0-9][A-Za-z0-9._-]*)\s*(?:$|[\[<>=!~;@ (#])", text)
    return re.sub(r"[-_.]+", "-", found[1]).lower() if found else text


def identity(requirement: str) -> tuple[str, str]:
    """Return what a requirement is the only one for: its package and its marker."""
    return base_name(requirement), "".join(requirement.partition(";")[2].split())


def is_option(item: str) -> bool:
    """Return whether a line is an option for pip, such as `--pre`."""
    return item.lstrip().startswith("-")


def option(text: str) -> str:
    """Return the name of an option for pip: `-i` of `-i https://...`."""
    return re.split(r"[\s=]", text.strip(), maxsplit=1)[0]


def is_python(item: object) -> bool:
    """Return whether an element of a specification is a conda requirement for Python."""
    return isinstance(item, str) and base_name(item.rpartition("::")[2]) == "python"


def merge(requirements: Iterable[str]) -> list[str]:
    """Return pip requirements with those for one package in one: `b>1`, `b<2` is `b>1,<2`."""
    kept: dict[str, tuple[str, list[str], str]] = {}
    for text in requirements:
        line = re.sub(r"(^|\s+)#.*$", "", text).strip()
        if not line:
            continue
        found = re.fullmatch(
            r"([A-Za-z0-9][A-Za-z0-9._-]*\s*(?:\[[^\]]*\])?)\s*\(?([<>=!~][^;]*?)?\)?\s*(;.*)?",
            line,
        )
        if not found:
            kept.setdefault(line, (line, [], ""))
            continue
        marker = found[3] or ""
        _, constraints, _ = kept.setdefault(
            base_name(line) + marker, (found[1].strip(), [], marker)
        )
        for constraint in (found[2] or "").split(","):
            if constraint.strip() and constraint.strip() not in constraints:
                constraints.append(constraint.strip())
    return [name + ",".join(more) + marker for name, more, marker in kept.values()]
