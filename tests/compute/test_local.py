"""This machine as a compute target."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest

from rechain.compute import local
from rechain.compute.local import LocalTarget
from rechain.testing import TargetConformance, make_run, wait_for_end
from rechain.testing.runs import payload

pytestmark = pytest.mark.fast


class TestLocalTarget(TargetConformance):
    @pytest.fixture
    def target(self) -> LocalTarget:
        return LocalTarget()


def test_with_a_fake_systemd_run_the_attempt_starts_in_a_scope_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = tmp_path / "said"
    fake = tmp_path / "bin" / "systemd-run"
    fake.parent.mkdir()
    fake.write_text(
        f'#!/bin/sh\necho "$@" > {said}\nwhile [ "${{1#-}}" != "$1" ]; do shift; done\nexec "$@"\n'
    )
    fake.chmod(0o755)
    monkeypatch.setattr(local, "_SYSTEMD", str(tmp_path))
    monkeypatch.setattr(local, "_LINGER", str(tmp_path))
    (tmp_path / pwd.getpwuid(os.getuid()).pw_name).touch()
    monkeypatch.setenv("PATH", f"{fake.parent}:{os.environ['PATH']}")
    run, job = make_run(tmp_path / "workspace", "print(1)")
    target = LocalTarget()
    handle = target.start(target.plan(run, job), run, payload(job))
    assert wait_for_end(run).status == "Completed"
    assert handle == {"scope": run.run_id, "note": ""}
    manager = "" if os.getuid() == 0 else "--user "
    expected = f"{manager}--scope --quiet --collect --unit={run.run_id} "
    assert said.read_text().startswith(expected)


def test_where_nothing_can_keep_a_run_beyond_the_logout_it_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "_SYSTEMD", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    command, note = local._scope("x_1_01234567")
    assert command == []
    assert "enable-linger" in note
