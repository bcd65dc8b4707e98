"""The record's JSON, read without `json`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import rechain

pytestmark = pytest.mark.fast


@pytest.mark.parametrize("text", ["{", '{"a": 1', '{"a"', "[1", '"a', "[" * 100_000, "", "nul"])
def test_what_is_no_json_is_an_error_where_nobody_has_imported_json(text: str) -> None:
    # As the supervisor is started; pytest itself has imported json.
    code = (
        f"import sys; sys.path.insert(0, {str(Path(rechain.__file__).parents[1])!r})\n"
        "from rechain.record import jsonl\n"
        "print('json' in sys.modules)\n"
        "try: jsonl.loads(sys.stdin.read())\n"
        "except ValueError: print('ValueError')"
    )
    command = [sys.executable, "-I", "-S", "-c", code]
    said = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    assert (said.stdout, said.stderr) == ("False\nValueError\n", "")
