"""What git says is recorded, without credentials, and without waiting for ever."""

from __future__ import annotations

import contextlib
import os
import subprocess
from pathlib import Path

import pytest

from rechain.job import git

pytestmark = pytest.mark.fast


def call(folder: Path, *arguments: str) -> str:
    environment = {
        **os.environ,
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@example.org",
        "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@example.org",
    }  # fmt: skip
    done = subprocess.run(
        ["git", "-C", str(folder), *arguments],
        capture_output=True, text=True, check=True, env=environment,
    )  # fmt: skip
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "repository"
    (folder / "deep" / "er").mkdir(parents=True)
    call(folder, "init", "-q", "-b", "trunk")
    (folder / "train.py").write_text("one\n")
    call(folder, "add", ".")
    call(folder, "commit", "-q", "-m", "first")
    call(folder, "remote", "add", "origin", "https://me:hunter2@example.org/a/b.git")
    return folder


def test_outside_a_repository(tmp_path: Path) -> None:
    assert git.start(str(tmp_path)) is None


def test_clean(repository: Path) -> None:
    facts = git.start(str(repository / "deep" / "er"))
    assert facts is not None
    properties, patch = facts.result()
    commit = call(repository, "rev-parse", "HEAD")
    assert properties == {
        "azureml.git.repository_uri": "https://example.org/a/b.git",
        "mlflow.source.git.repoURL": "https://example.org/a/b.git",
        "azureml.git.branch": "trunk",
        "mlflow.source.git.branch": "trunk",
        "azureml.git.commit": commit,
        "mlflow.source.git.commit": commit,
        "azureml.git.dirty": "False",
    }
    assert patch is None
    assert facts.notes == []


def test_dirty_and_the_patch_applies(repository: Path, tmp_path: Path) -> None:
    (repository / "train.py").write_text("two\n")
    (repository / "blob").write_bytes(bytes(range(256)))
    call(repository, "add", "blob")
    facts = git.start(str(repository))
    assert facts is not None
    properties, patch = facts.result()
    assert properties["azureml.git.dirty"] == "True"
    assert patch is not None
    (tmp_path / "patch").write_bytes(patch)
    call(tmp_path, "clone", "-q", str(repository), "clone")
    call(tmp_path / "clone", "apply", str(tmp_path / "patch"))
    assert (tmp_path / "clone" / "train.py").read_text() == "two\n"
    assert (tmp_path / "clone" / "blob").read_bytes() == bytes(range(256))


def test_a_new_file_makes_it_dirty(repository: Path) -> None:
    (repository / "new.py").touch()
    facts = git.start(str(repository))
    assert facts is not None
    assert facts.result()[0]["azureml.git.dirty"] == "True"


def test_no_commit_yet_no_branch_no_remote(tmp_path: Path, repository: Path) -> None:
    call(tmp_path, "init", "-q", "-b", "trunk", "fresh")
    facts = git.start(str(tmp_path / "fresh"))
    assert facts is not None
    properties, patch = facts.result()
    assert properties["azureml.git.branch"] == "trunk"
    assert "azureml.git.commit" not in properties
    assert "azureml.git.repository_uri" not in properties
    assert patch is None
    call(repository, "checkout", "-q", "--detach")
    facts = git.start(str(repository))
    assert facts is not None
    assert "azureml.git.branch" not in facts.result()[0]


def test_a_worktree(repository: Path, tmp_path: Path) -> None:
    call(repository, "worktree", "add", "-q", "-b", "side", str(tmp_path / "side"))
    facts = git.start(str(tmp_path / "side"))
    assert facts is not None
    assert facts.result()[0]["azureml.git.branch"] == "side"


def test_something_that_only_looks_like_a_repository(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    facts = git.start(str(tmp_path))
    assert facts is not None
    assert facts.result() == ({}, None)


def pipes() -> set[str]:
    """Return the pipes that are open here; what earlier tests left may be closed at any time."""
    found = set()
    for descriptor in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # the folder's own, or closed meanwhile
            found.add(os.readlink(f"/proc/self/fd/{descriptor}"))
    return {name for name in found if name.startswith("pipe:")}


def test_no_git_on_this_machine(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    before = pipes()
    assert git.start(str(repository)) is None
    assert pipes() <= before


def test_other_repositories_in_the_environment_are_not_asked(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    call(tmp_path, "init", "-q", "other")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "other" / ".git"))
    facts = git.start(str(repository))
    assert facts is not None
    assert facts.result()[0]["azureml.git.branch"] == "trunk"


@pytest.fixture
def slow_git(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert repository.is_dir()  # made by the real git
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "git").write_text("#!/bin/sh\nexec sleep 60\n")
    (folder / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


def children() -> set[str]:
    """Return the pids of this process's children, ended ones that nobody waited for included."""
    tasks = Path("/proc/self/task").glob("*/children")
    return {pid for task in tasks for pid in task.read_text().split()}


@pytest.mark.usefixtures("slow_git")
def test_a_git_that_hangs(repository: Path) -> None:
    others = children()
    before = pipes()
    facts = git.start(str(repository))
    assert facts is not None
    assert facts.result(timeout=0.2) == ({}, None)
    assert "status is not recorded: git took too long" in facts.notes[0]
    assert pipes() <= before
    facts = git.start(str(repository))
    assert facts is not None
    facts.close()
    assert pipes() <= before
    assert children() <= others


def test_too_large_a_patch(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(git, "_MOST", 1 << 20)
    (repository / "train.py").write_bytes(os.urandom(3 << 20))
    facts = git.start(str(repository))
    assert facts is not None
    properties, patch = facts.result()
    assert properties["azureml.git.dirty"] == "True"
    assert patch is None
    assert "patch is not recorded: it is larger than 1 MiB" in facts.notes[0]


def test_diff_programs_of_the_repository_do_not_run(repository: Path, tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    trap.write_text(f"#!/bin/sh\ntouch {tmp_path}/sprung\n")
    trap.chmod(0o755)
    call(repository, "config", "diff.external", str(trap))
    call(repository, "config", "core.fsmonitor", str(trap))
    (repository / "train.py").write_text("two\n")
    facts = git.start(str(repository))
    assert facts is not None
    assert facts.result()[1] is not None
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("https://user:pass@host/x", "https://host/x"),
        ("https://token@host:8443/x@y", "https://host:8443/x@y"),
        ("ssh://git@host/x", "ssh://git@host/x"),
        ("ssh://git:pw@host/x", "ssh://git@host/x"),
        (
            "a @ git+https://t@host/x@v1 -i https://u:p@host/y",
            "a @ git+https://host/x@v1 -i https://host/y",
        ),
        ("git@host:a/b.git", "git@host:a/b.git"),
        ("/srv/git/a", "/srv/git/a"),
        ("file:///srv/git/a", "file:///srv/git/a"),
    ],
)
def test_without_credentials(url: str, kept: str) -> None:
    assert git.without_credentials(url) == kept
