"""What an MPI in a container takes for ssh: it brings what is wanted to its node's guard."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from rechain.record import events
from rechain.supervisor.engine import GUEST
from rechain.supervisor.seat import Desk, Occupant, desk_of
from tests.conftest import interpreter

pytestmark = pytest.mark.fast

PROGRAM = f"{GUEST}/agents/rechain-agent"


def started(name: str, *arguments: str, python: str = sys.executable) -> subprocess.Popen[str]:
    variables = {"RECHAIN_DESK": name, "RECHAIN_AGENT_PYTHON": python, "PATH": os.defpath}
    return subprocess.Popen(
        [PROGRAM, *arguments], env=variables, text=True, stderr=subprocess.PIPE
    )


def taken(desk: Desk) -> Occupant:
    assert events.wait([desk.fileno()], 60)
    agent = desk.take()
    assert agent is not None
    return agent


@pytest.mark.parametrize("minor", ["3.6", "3.13"])
def test_an_agent_says_what_is_wanted_and_ends_as_that_did(minor: str) -> None:
    attempt_id = f"test_{uuid.uuid4().hex[:8]}/1"
    desk = Desk(attempt_id)
    # As Hydra calls it, and as Open MPI does.
    command = ('"/usr/bin/hydra_pmi_proxy"', "--port", "n1:1")  # quoted for a shell
    for given in (("-x", "n2", *command), ("n2", " ".join(command))):
        process = started(desk_of(attempt_id), *given, python=interpreter(minor))
        agent = taken(desk)
        assert agent.launch == {"node": "n2", "command": " ".join(command)}
        agent.answer(7)
        agent.leave()
        _, said = process.communicate(timeout=60)
        assert (process.returncode, said) == (7, "")


def test_an_agent_that_is_given_up_ends_like_a_killed_command() -> None:
    attempt_id = f"test_{uuid.uuid4().hex[:8]}/1"
    desk = Desk(attempt_id)
    process = started(desk_of(attempt_id), "n2", "true")
    taken(desk).leave()
    assert process.wait(60) == 137


def test_an_agent_without_a_guard_or_without_a_command_says_so() -> None:
    process = started("rechain-none", "n2", "true")
    _, said = process.communicate(timeout=60)
    assert process.returncode == 125
    assert said.startswith("rechain: no guard on this node: ")
    process = started("rechain-none", "-x", "n2")
    _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (125, "rechain: an agent needs a node and a command\n")


def test_the_agent_can_be_run_as_it_is() -> None:
    assert os.access(PROGRAM, os.X_OK)
    assert Path(PROGRAM).read_text().startswith("#!/bin/sh\n")
