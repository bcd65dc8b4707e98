"""A run's output as it comes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from rechain.record.follow import follow
from rechain.record.journal import Journal
from rechain.record.paths import AttemptPaths
from rechain.testing import make_run

pytestmark = pytest.mark.fast


def begin(attempt: AttemptPaths, said: str) -> Journal:
    os.mkdir(attempt.root)
    Path(attempt.stdout(0)).write_text(said)
    Path(attempt.stderr(0)).write_text(said)
    journal = Journal(attempt.journal)
    journal.write("state", state="Running")
    return journal


def test_the_last_words_of_an_attempt_are_not_lost_when_the_next_begins(tmp_path: Path) -> None:
    run, _ = make_run(tmp_path, "")
    first = begin(run.attempt(1), "first\n")
    coming = follow(run, lambda: None)
    assert [next(coming), next(coming)] == [("out", b"first\n"), ("err", b"first\n")]
    with open(run.attempt(1).stdout(0), "a") as file:
        file.write("saved\n")
    first.write("end", cause="preempted", message="", requeue=True)
    begin(run.attempt(2), "second\n").write("end", cause="completed", message="")
    assert list(coming) == [("out", b"saved\n"), ("out", b"second\n"), ("err", b"second\n")]
