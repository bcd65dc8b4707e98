"""v1's documented table against what there is; docs/documented.md is written from it.

`RECHAIN_GOLDEN=write pytest -m fast tests/environment/test_documented.py` writes it anew.
"""

import os
from pathlib import Path

import pytest

from rechain.environment import documented
from rechain.exceptions import UserErrorException

pytestmark = pytest.mark.fast

PAGE = Path(__file__).parents[2] / "docs" / "documented.md"
HEAD = """# What v1's images had, and what is here

`rechain env show 5.1.0` prints this for your machine, and `rechain env show RUN` for the environment that a run had.
"""  # noqa: E501
FOOT = """
This page is generated: `RECHAIN_GOLDEN=write pytest -m fast tests/environment/test_documented.py`.
"""
STATES = {"same", "newer", "older", "provided by Rechain", "absent"}
LOCK = {
    "interpreter": {"version": "3.6.2"},
    "packages": [
        {"name": "chainer", "version": "5.1.0"},
        {"name": "cupy-cuda90", "version": "5.2.0"},
    ],
}


def page():
    parts = [HEAD]
    for version in documented.versions():
        lines = [f"\n## Chainer {version}\n", "| | documented | here | | why |"]
        lines.append("| --- | --- | --- | --- | --- |")
        rows = documented.of_version(version)
        lines += [f"| {' | '.join(row)} |".replace("|  |", "| |") for row in rows]
        parts.append("\n".join(lines) + "\n")
    return "".join([*parts, FOOT])


def test_the_page_is_what_the_command_says():
    made = page()
    if os.environ.get("RECHAIN_GOLDEN") == "write":
        PAGE.write_text(made)
    assert PAGE.read_text() == made


def test_each_documented_row_has_a_state_and_a_reason():
    for version in documented.versions():
        for machine in (None, documented.on_this_machine()):
            rows = documented.of_version(version, machine)
            assert len(rows) == 12
            assert {row.state for row in rows} <= STATES
            assert all(row.why for row in rows)


def states(lock, machine=None):
    return {row.name: (row.here, row.state) for row in documented.of_lock(lock, machine)}


def test_an_environment_shows_what_it_has():
    found = states(LOCK, {"git": "2.7.4", "system": "Ubuntu 16.04"})
    assert found["Python"] == ("3.6.2", "same")
    assert found["chainer"] == ("5.1.0", "same")
    assert found["cupy-cuda90"] == ("cupy-cuda90 5.2.0", "same")
    assert found["git"] == ("2.7.4", "same")
    assert found["Ubuntu"] == ("Ubuntu 16.04", "same")
    assert found["IntelMpi"] == ("", "absent")
    newer = {
        "interpreter": {"version": "3.11.7"},
        "packages": [
            {"name": "chainer", "version": "7.0.0"},
            {"name": "horovod", "version": "0.1"},
        ],
        "mpi": {"family": "impi", "version": "2021.18.1", "wanted": "impi-rt"},
    }
    found = states(newer, {"git": "", "system": "Debian GNU/Linux 12"})
    assert found["Python"] == ("3.11.7", "newer")
    assert found["cupy-cuda90"] == ("", "absent")
    assert found["horovod"] == ("0.1", "older")
    assert found["IntelMpi"] == ("2021.18.1", "newer")
    assert found["git"] == ("", "absent")
    assert found["Ubuntu"] == ("Debian GNU/Linux 12", "absent")
    newer["mpi"] = {"family": "openmpi", "version": "4.1.4", "wanted": "auto"}
    assert states(newer)["IntelMpi"] == ("Open MPI 4.1.4", "provided by Rechain")


def test_a_run_in_a_container_shows_its_image_and_not_the_machine():
    machine = {"git": "2.7.4", "system": "Ubuntu 16.04"}
    cuda = "docker.io/nvidia/cuda:12.6.3-runtime-ubuntu24.04"
    for reference, here, state in (
        ("docker.io/library/ubuntu:24.04", "Ubuntu 24.04", "newer"),
        (cuda, "Ubuntu 24.04", "newer"),
        ("localhost/lab:1", "localhost/lab:1", "absent"),
    ):
        rows = documented.of_lock(LOCK, machine, {"base": {"reference": reference}})
        found = {row.name: row for row in rows}
        assert (found["Ubuntu"].here, found["Ubuntu"].state) == (here, state)
        assert reference in found["Ubuntu"].why
        assert found["git"].here == ""
        assert {row.state for row in rows} <= STATES


def test_what_the_documentation_has_no_table_for_is_said():
    other = {**LOCK, "packages": [{"name": "chainer", "version": "7.8.1"}]}
    with pytest.raises(UserErrorException, match="no table for Chainer 7"):
        documented.of_lock(other)
    with pytest.raises(UserErrorException, match="an environment without Chainer"):
        documented.of_lock({**LOCK, "packages": []})
