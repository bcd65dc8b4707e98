"""Who drives a throw-away Slurm or engine from elsewhere needs no pytest."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.fast

CODE = """
import sys
sys.modules["pytest"] = None
from rechain.testing import engines, make_run, slurm, web
try:
    from rechain.testing import TargetConformance
except ImportError as error:
    print(error.name)
"""


def test_only_the_conformance_suite_needs_pytest() -> None:
    said = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert said.stdout == "pytest\n"
