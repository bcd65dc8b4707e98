"""The two sides that are compared: a process with the real SDK, and one with the drop-in."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from tests.conformance.calls import FILES
from tests.conformance.side import Side


@pytest.fixture(scope="session")
def sides(v1: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Side, Side]]:
    """v1's side and Rechain's, in a project with the files of `calls.FILES`."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "sub").mkdir()
    for name, text in FILES.items():
        (folder / name).write_text(text)
        if name.startswith(("req", "comm", "env")):
            (folder / "sub" / name).write_text(text) if name != "env.yml" else None
    both = Side(v1, "v1", folder), Side(sys.executable, "dropin", folder)
    yield both
    for side in both:
        side.end()
