"""Run uv, and put its errors into words."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from rechain.environment.errors import EnvironmentFailure

__all__ = ["Done", "explain", "newest_python", "run", "variables"]

# Of uv's own variables only those pass that say where packages come from and how to reach them;
# the others (UV_PYTHON, UV_CONSTRAINT, UV_RESOLUTION, ...) would change what is built.
_PASSED = re.compile(
    r"UV_(INDEX.*|DEFAULT_INDEX|EXTRA_INDEX_URL|FIND_LINKS|NO_INDEX|KEYRING_PROVIDER|INSECURE_HOST"
    r"|HTTP_.*|REQUEST_TIMEOUT|CONCURRENT_.*|NATIVE_TLS|SYSTEM_CERTS|OFFLINE|CACHE_DIR|LINK_MODE"
    r"|CONFIG_FILE|NO_CONFIG|PYTHON_DOWNLOADS|PYTHON_INSTALL_MIRROR|PYTHON_DOWNLOADS_JSON_URL)"
)
_STRIPPED = re.compile(r"UV_.*|PIP_.*|PYTHON.*|__PYVENV_LAUNCHER__|VIRTUAL_ENV.*|_?CONDA_.*")
_REQUIREMENT = r"[\w.\[\]-]+[=<>!~]+[^\s,]+(?:, ?[=<>!~]+[^\s,]+)*"
# The newest Python that all releases of a NumPy, or its last ones, have wheels for on PyPI.
_WHEELS_OF_NUMPY = {
    "1.13": "3.6", "1.14": "3.6", "1.15": "3.7", "1.16": "3.7", "1.17": "3.7", "1.18": "3.8",
    "1.19": "3.8", "1.20": "3.9", "1.21": "3.9", "1.22": "3.10", "1.23": "3.10",
    "1.24": "3.11", "1.25": "3.11", "1.26": "3.12",
}  # fmt: skip


class Done(NamedTuple):
    """What came of one run of uv: its exit code, and what it said on stderr."""

    code: int
    errors: str


def variables(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment to run uv in: nothing in it changes what is built.

    Index settings pass here, not in the arguments: these are for all to see.

    Args:
        environ: the caller's environment; the process's own by default.
    """
    from rechain.environment.pipconf import for_uv

    given = os.environ if environ is None else environ
    kept = {
        name: value
        for name, value in given.items()
        if _PASSED.fullmatch(name) or not _STRIPPED.fullmatch(name)
    }
    return {**for_uv(given), **kept, "NO_COLOR": "1", "UV_NO_PROGRESS": "1", "UV_NO_WRAP": "1"}


def run(
    arguments: list[str],
    folder: str | None = None,
    on_line: Callable[[str], None] | None = None,
    extra: Mapping[str, str] | None = None,
) -> Done:
    """Run uv to its end.

    Args:
        arguments: what follows `uv`.
        folder: its current folder, whose `uv.toml` it reads.
        on_line: takes each line of stderr as it comes.
        extra: variables to add.

    Raises:
        EnvironmentFailure: uv is not installed.
    """
    from uv import find_uv_bin

    try:
        command = [find_uv_bin(), *arguments]
    except FileNotFoundError as error:
        raise EnvironmentFailure(
            "uv is not installed beside Rechain", "Install Rechain again with its dependencies."
        ) from error
    lines = []
    with subprocess.Popen(
        command,
        cwd=folder,
        env={**variables(), **(extra or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            lines.append(line)
            if on_line is not None:
                on_line(line)
    return Done(process.returncode, _without_passwords("".join(lines)))


def _without_passwords(text: str) -> str:
    return re.sub(r"://[^/@\s]+@", "://***@", text)


def explain(errors: str, doing: str, held: Iterable[str] = ()) -> EnvironmentFailure:
    """Put what uv said into one line and a hint.

    Args:
        errors: its stderr.
        doing: what was tried, such as `resolving chainer 7.0.0`.
        held: requirements that are not the user's but the recipe's.

    Returns:
        The failure to raise; its detail is all that uv said.
    """
    # uv's frames and labels differ between its versions; its sentences hardly do.
    plain = re.sub(r"(?m)^[ \t]*(?:[×├│╰─▶]+[ \t]*)*(?:(?:error|cause|hint): )?", "", errors)
    message, hint = _reason(plain, errors)
    held = list(held)
    recipes = [text for text in held if text in message]
    message = _whose(message, {text.replace(" ", "") for text in held})
    if recipes:
        hint = (
            f"{' and '.join(recipes)} is the recipe's; to replace it, require an exact version "
            "yourself (name==version)."
        )
    return EnvironmentFailure(f"{doing} failed: {message}", hint, errors.strip())


def _whose(message: str, held: set[str]) -> str:
    """Say `the recipe requires` where uv, which knows nothing of recipes, says `you require`."""

    def said(found: re.Match[str]) -> str:
        parts = found[1].split(" and ")
        theirs = [text for text in parts if text.replace(" ", "") in held]
        own = [text for text in parts if text not in theirs]
        if own and theirs:
            return f"you require {' and '.join(own)}, and the recipe {' and '.join(theirs)}"
        return f"{'you require' if own else 'the recipe requires'} {found[1]}"

    return re.sub(rf"you require ({_REQUIREMENT}(?: and {_REQUIREMENT})*)", said, message)


def _reason(plain: str, errors: str) -> tuple[str, str]:
    if re.search(r"No space left on device|os error 28|Disk quota exceeded|os error 122", plain):
        return "the disk is full", "Make room, or put the cache elsewhere with RECHAIN_CACHE."
    built = re.search(r"Failed to (?:download and )?build `([^`]+)`", plain)
    if built and "Hash mismatch" not in plain:
        return _unbuilt(built[1], errors)
    if "Hash mismatch" in plain or "hash mismatch" in plain:
        return (
            "a package is not the file that was recorded (its hash differs)",
            "Do not use this index until you know why.",
        )
    status = re.search(r"(?:HTTP status [a-z ]*error|credentials) \((\d+)[^)]*\)", plain)
    if status:
        return (
            f"the package index answered with HTTP {status[1]}",
            "Check the index settings and credentials (uv.toml, UV_INDEX, pip.conf, ~/.netrc).",
        )
    if re.search(r"Failed to fetch|error sending request|dns error|tcp connect", plain):
        return (
            "the package index could not be reached",
            "Check the network, proxy and index settings (uv.toml, UV_INDEX, pip.conf).",
        )
    if "network was disabled" in plain or "connectivity is disabled" in plain:
        return (
            "a package is not in uv's cache, and uv is told to stay offline",
            "Unset UV_OFFLINE, or fill the cache where there is a network.",
        )
    because = re.search(r"Because (.+?), we can conclude|Because (.+)", plain, re.DOTALL)
    if because:
        return _unsatisfiable(" ".join((because[1] or because[2]).split()), plain)
    said = [line.strip() for line in plain.splitlines() if line.strip()]
    return (said[-1] if said else "uv gave no reason"), ""


def newest_python(requirement: str) -> str | None:
    """Return the newest Python that an exact NumPy has wheels for; None if that is not known.

    Without a wheel such a NumPy cannot be had: none of them builds on a newer Python.
    """
    old = re.fullmatch(r"numpy==(1\.\d+)[\w.]*", requirement)
    return _WHEELS_OF_NUMPY.get(old[1]) if old else None


def _unbuilt(package: str, errors: str) -> tuple[str, str]:
    raised = re.findall(r"(?m)^\s*((?:[\w.]*(?:Error|Exception|Exit)|error): .+)$", errors)
    why = f": {raised[-1]}" if raised and "Failed to" not in raised[-1] else ""
    python = newest_python(package)
    instead = (
        f"Choose Python {python}, which it has a wheel for (--python {python}, "
        f"set_python_version('{python}')), name"
        if python
        else "Choose an older Python (--python, set_python_version), name"
    )
    return (
        f"{package} has no wheel for this Python and could not be built{why}",
        f"{instead} a version that has a wheel, or install what its build needs (compiler, "
        "headers).",
    )


def _unsatisfiable(first: str, plain: str) -> tuple[str, str]:
    asked = re.findall(r"you require ([^\n]+?)(?:, we can conclude|$)", plain)
    reason = first
    if asked and "you require" not in first:
        reason = f"you require {asked[-1]}, but {first}"
    if "not found in the package registry" in first:
        return reason, "Check the name; a private package needs its index in uv.toml or UV_INDEX."
    return (
        reason,
        "Change the requirement, or choose another Python with python=...",
    )
