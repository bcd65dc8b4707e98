"""What tests of containers on nodes share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rechain.testing.engines import DockerEngine, PodmanEngine, ThrowAwayEngine


@pytest.fixture(scope="module", params=["podman"])
def nodes_engines(
    engines: Any, request: pytest.FixtureRequest
) -> Iterator[dict[str, ThrowAwayEngine]]:
    """An engine for each node."""
    engines(request.param)  # or a word about what this machine lacks
    kind = {"podman": PodmanEngine, "docker": DockerEngine}[request.param]
    with kind() as first, kind() as second:
        yield {"n1": first, "n2": second}


@pytest.fixture(scope="module")
def nodes_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that the nodes share."""
    return tmp_path_factory.mktemp("cache")
