"""Ignore files mean what they mean to git, of the root's alone."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rechain.exceptions import SnapshotException
from rechain.job.snapshot import manifest, take

pytestmark = pytest.mark.fast


def held(folder: Path) -> set[str]:
    """Return the files in a folder's snapshot."""
    store = f"{folder}/.rechain/store"
    entries = manifest(store, take(str(folder), store).digest)
    return {path for path, kind, _, _ in entries if kind != "folder"}


def plant(folder: Path, *paths: str) -> None:
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).touch()


def test_defaults(tmp_path: Path) -> None:
    plant(
        tmp_path, "a.py", "lib/a.py", ".git/HEAD", "__pycache__/a.pyc", "lib/__pycache__/a.pyc",
        ".ipynb_checkpoints/a", ".venv/bin/python", "env/pyvenv.cfg", "env/lib/x.py",
        "mini/conda-meta/history", ".mypy_cache/x", "outputs/model", ".hidden",
    )  # fmt: skip
    assert held(tmp_path) == {"a.py", "lib/a.py", "outputs/model", ".hidden"}


def test_with_an_ignore_file_only_it_counts(tmp_path: Path) -> None:
    plant(tmp_path, "a.py", ".git/HEAD", "sub/.git/HEAD", "__pycache__/a.pyc", "b/.gitignore")
    (tmp_path / ".gitignore").write_text("*.log\n!.git\n")
    assert held(tmp_path) == {"a.py", "__pycache__/a.pyc", ".gitignore", "b/.gitignore"}
    (tmp_path / ".amlignore").write_text("a.*\n")
    assert held(tmp_path) == {"__pycache__/a.pyc", ".gitignore", ".amlignore", "b/.gitignore"} - {
        "__pycache__/a.pyc"
    }


def test_nested_files_are_not_read(tmp_path: Path) -> None:
    plant(tmp_path, "sub/a.py", "sub/b.py")
    (tmp_path / "sub" / ".gitignore").write_text("a.py")
    assert held(tmp_path) == {"sub/a.py", "sub/b.py", "sub/.gitignore"}


def test_negation_and_windows_line_ends(tmp_path: Path) -> None:
    plant(tmp_path, "a.bin", "keep.bin", "data/x", "data/keep/y")
    (tmp_path / ".amlignore").write_bytes(
        b"\xef\xbb\xbf*.bin\r\n!keep.bin\r\n/data/*\r\n!/data/keep\r\n"
    )
    assert held(tmp_path) == {".amlignore", "keep.bin", "data/keep/y"}


def test_a_folder_whose_content_is_ignored_is_kept_empty(tmp_path: Path) -> None:
    plant(tmp_path, "result/old.log")
    (tmp_path / ".gitignore").write_text("result/*\n")
    store = f"{tmp_path}/.rechain/store"
    assert ("result", "folder", "", 0) in manifest(store, take(str(tmp_path), store).digest)


def test_ignored_folders_are_not_entered(tmp_path: Path) -> None:
    plant(tmp_path, "a.py")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "away").symlink_to("/")  # would be refused
    (tmp_path / ".amlignore").write_text("data/\n")
    assert held(tmp_path) == {"a.py", ".amlignore"}


def test_a_bad_pattern_is_told(tmp_path: Path) -> None:
    (tmp_path / ".gitignore").write_text("!\n")
    with pytest.raises(SnapshotException, match=r"\.gitignore has a bad pattern"):
        held(tmp_path)


FILES = ["a", "b.py", "ab.txt", "d/a", "d/b.py", "d/e/a", "d/e/b.py", "x/d/a", "x/ab.txt"]
piece = st.sampled_from(
    ["a", "b.py", "d", "e", "x", "*", "**", "*.py", "a*", "?", "[ab]*", "[!a]"]
)
patterns = st.builds(
    lambda negate, root, pieces, folder: (
        ("!" if negate else "")
        + ("/" if root else "")
        + "/".join(pieces)
        + ("/" if folder else "")
    ),
    st.booleans(),
    st.booleans(),
    st.lists(piece, min_size=1, max_size=3),
    st.booleans(),
).filter(lambda pattern: not pattern.endswith("**/"))  # where pathspec errs: taken for the folder


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("repository")
    subprocess.run(["git", "init", "-q", str(folder)], check=True)
    plant(folder, *FILES)
    return folder


@given(lines=st.lists(patterns, min_size=1, max_size=4))
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
def test_as_git_would(repository: Path, lines: list[str]) -> None:
    (repository / ".gitignore").write_text("\n".join(lines) + "\n")
    said = subprocess.run(
        ["git", "-C", str(repository), "ls-files", "-z", "--others", "--exclude-from=.gitignore"],
        capture_output=True, check=True, env={**os.environ, "GIT_CONFIG_GLOBAL": "/dev/null"},
    )  # fmt: skip
    expected = {path for path in said.stdout.decode().split("\0") if path}
    assert held(repository) == {p for p in expected if not p.startswith(".rechain/")}
