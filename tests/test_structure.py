"""The project's own shape: who imports whom, what is loaded when, what no committed text holds."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rechain.testing import make_run, wait_for, wait_for_end
from rechain.testing.runs import payload

pytestmark = pytest.mark.fast

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "rechain"

# Each package, and the packages of ours that it may import. An import inside of a function counts
# as any other. What only type checkers see does not.
ALLOWED: dict[str, set[str]] = {
    "exceptions": {"guest"},
    "planned": {"exceptions"},
    "record": set(),
    "guest": set(),
    "recipes": {"exceptions"},
    "job": {"exceptions", "record"},
    "runconfig": {"exceptions", "record", "recipes"},
    "compare": set(),
    "data": {"environment", "exceptions", "job", "planned", "record", "runconfig"},
    "estimator": {
        "exceptions", "guest", "record", "job", "recipes", "environment", "runconfig", "data",
    },
    "environment": {"exceptions", "record", "job", "recipes"},
    "supervisor": {"record", "environment", "guest"},
    "compute": {"exceptions", "record", "job", "recipes", "environment", "supervisor"},
    "workspace": {
        "exceptions", "record", "job", "guest", "runconfig", "data", "estimator",
        "environment", "planned", "supervisor", "compute", "compare",
    },
    "cli": {"exceptions", "record", "recipes", "environment", "estimator", "data", "workspace"},
    "testing": {"record", "job", "compute", "supervisor", "workspace", "exceptions"},
    "__main__": {"cli"},
    "__init__": {"runconfig", "data", "estimator", "workspace"},
}  # fmt: skip
ROOT_NAMES = {"__version__"}  # `from rechain import __version__` is nobody's dependency

# All that the supervisor has loaded when a script has ended, beside what `python -I -S` has.
SUPERVISOR = {
    "__future__", "_ctypes", "_json", "_signal", "select",
    "rechain", "rechain.environment", "rechain.environment.errors", "rechain.environment.store",
    "rechain.record", "rechain.record.causes", "rechain.record.events", "rechain.record.host",
    "rechain.record.journal", "rechain.record.jsonl", "rechain.record.libc",
    "rechain.record.paths",
    "rechain.supervisor", "rechain.supervisor.guard", "rechain.supervisor.linux",
    "rechain.supervisor.outcome", "rechain.supervisor.script", "rechain.supervisor.stage",
    "rechain.supervisor.supervise", "rechain.supervisor.tree", "rechain.supervisor.variables",
}  # fmt: skip
# And what it has loaded more for a run on a pool.
ON_A_POOL = {
    "fcntl", "rechain.environment.gpu", "rechain.supervisor.nodes", "rechain.supervisor.pool",
    "rechain.supervisor.turns",
}  # fmt: skip
SMALL = {
    "name": "p", "vm_size": "S", "max_nodes": 1, "priority": "dedicated", "cpus": 1,
    "memory_gib": 1, "gpus": 0,
}  # fmt: skip


def files(*suffixes: str) -> list[Path]:
    names = subprocess.check_output(["git", "ls-files", "-z"], cwd=ROOT, text=True).split("\0")
    found = [ROOT / name for name in names if name.endswith(suffixes or "")]
    return [path for path in found if path.is_file()]


def modules() -> list[Path]:
    return sorted(SOURCE.rglob("*.py"))


def package_of(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imports(tree: ast.AST) -> Iterator[str]:
    """Yield the absolute imports below a node, except those for type checkers only."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            for other in node.orelse:
                yield from imports(ast.Module([other], []))
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        else:
            yield from imports(node)


def ours(path: Path) -> set[str]:
    names = [name.split(".") for name in imports(ast.parse(path.read_bytes()))]
    return {
        name[1]
        for name in names
        if name[0] == "rechain" and len(name) > 1 and name[1] not in ROOT_NAMES
    }


@pytest.mark.parametrize("package", sorted({package_of(path) for path in modules()}))
def test_imports_point_one_way(package) -> None:
    paths = [path for path in modules() if package_of(path) == package]
    found = {name for path in paths for name in ours(path)} - {package}
    assert found <= ALLOWED[package]


def test_the_allowed_imports_have_no_circle() -> None:
    order: list[str] = []
    waiting = dict(ALLOWED)
    while waiting:
        ready = [name for name, needs in waiting.items() if needs <= set(order)]
        assert ready, f"a circle among {sorted(waiting)}"
        order += ready
        for name in ready:
            del waiting[name]


def test_the_record_needs_the_standard_library_only() -> None:
    for path in (SOURCE / "record").glob("*.py"):
        others = {name.split(".")[0] for name in imports(ast.parse(path.read_bytes()))}
        assert others <= sys.stdlib_module_names | {"rechain", "__future__"}, path


def test_the_guest_needs_the_standard_library_only() -> None:
    """And, where the job has them, what it helps with."""
    helped = {"numpy", "matplotlib", "PIL", "chainer", "papermill"}
    old = {"imp", "asyncore"}
    for path in (SOURCE / "guest").rglob("*.py"):
        others = {name.split(".")[0] for name in imports(ast.parse(path.read_bytes()))}
        allowed = sys.stdlib_module_names | helped | old | {"rechain_guest", "azureml"}
        assert others <= allowed, path


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(SOURCE)))
def test_a_module_is_short(path) -> None:
    assert len(path.read_text().splitlines()) <= 450


@pytest.mark.parametrize(
    "path",
    [path for path in modules() if not any(p.startswith("_") for p in path.parts)],
    ids=lambda path: str(path.relative_to(SOURCE)),
)
def test_a_public_module_says_what_is_public(path) -> None:
    if not path.read_text().strip():
        return
    assert re.search(r"^__all__\b", path.read_text(), re.MULTILINE)


# What is loaded when.

PRINT_MODULES = "\nimport sys; print(' '.join(sorted(sys.modules)))"


def loaded(code: str, *options: str, cwd: Path | None = None) -> set[str]:
    command = [sys.executable, *options, "-c", code + PRINT_MODULES]
    said = subprocess.check_output(command, text=True, cwd=cwd, stderr=subprocess.DEVNULL)
    return set(said.splitlines()[-1].split())


EXPENSIVE = {
    "click", "rich", "packaging", "pathspec", "uv", "findpython", "asyncio", "importlib.metadata",
}  # fmt: skip


def test_importing_rechain_loads_nothing() -> None:
    new = loaded("import rechain") - loaded("import importlib")
    assert new <= {"rechain", "__future__"}


def test_an_estimator_is_light() -> None:
    code = (
        "from rechain import Chainer\n"
        "Chainer('.', entry_script='x.py', compute_target='local', user_managed=True)"
    )
    assert not loaded(code) & EXPENSIVE


def test_a_submission_of_a_user_managed_script_is_light(home) -> None:
    (home / "train.py").touch()
    code = (
        "from rechain import Chainer, Experiment, Workspace\n"
        "e = Chainer('.', entry_script='train.py', compute_target='local', user_managed=True)\n"
        "Experiment(Workspace.local(), 'x').submit(e).wait_for_completion()"
    )
    assert not loaded(code) & EXPENSIVE


def test_rechain_run_of_a_user_managed_script_loads_click_and_nothing_else_heavy(home) -> None:
    (home / "train.py").touch()
    code = (
        "import os, sys\n"
        "os._exit = sys.exit\n"
        "sys.argv = ['rechain', 'run', '--user-managed', 'train.py']\n"
        "from rechain.cli import main\n"
        "try:\n    main()\n"
        "except SystemExit as end:\n    assert not end.code"
    )
    new = loaded(code)
    assert "click" in new
    assert not new & (EXPENSIVE - {"click"})


@pytest.mark.parametrize("pool", [None, SMALL])
def test_the_supervisor_has_loaded_what_is_listed_and_nothing_else(
    tmp_path, monkeypatch, pool
) -> None:
    """Its own program, with a hook that writes down `sys.modules` when it leaves."""
    monkeypatch.setenv("RECHAIN_POOL_DIR", str(tmp_path / "queue"))
    run, job = make_run(tmp_path, "raise ValueError('x')", pool=pool)
    hook = f"""
import os, sys
before = set(sys.modules)
sys.argv = ["supervisor", {run.root!r}]
sys.path.insert(0, {str(ROOT / "src")!r})
leave = os._exit
def leaving(code):
    with open({str(tmp_path)!r} + "/modules", "a") as file:
        file.write(" ".join(set(sys.modules) - before) + "\\n")
    leave(code)
os._exit = leaving
from rechain.supervisor.guard import launch
launch({run.root!r})
"""
    text = json.dumps(payload(job)())
    command = [sys.executable, "-I", "-S", "-c", hook]
    said = subprocess.run(command, input=text, capture_output=True, text=True, timeout=60)
    assert said.stdout == "ok", said.stderr
    assert wait_for_end(run).end["message"] == "exit 1, ValueError at script.py:1"
    # The launcher, the supervisor and the guard write a line each.
    path = tmp_path / "modules"
    wait_for(lambda: path.read_text().count("\n") == 3, "guard and supervisor are gone")
    found = set(path.read_text().split())
    listed = SUPERVISOR if pool is None else SUPERVISOR | ON_A_POOL
    assert {name.removeprefix("rechain.") for name in found - listed} == set()
    assert "_json" in found


# What no committed text holds.


def test_no_committed_text_names_a_package_registry() -> None:
    """An index is the user's choice."""
    host = re.compile(rb"[a-z0-9.-]*(?:pypi\.org|pythonhosted\.org|anaconda\.(?:org|com))")
    found = {
        f"{path.relative_to(ROOT)}: {match[0].decode()}"
        for path in files()
        if path != Path(__file__)
        for match in host.finditer(path.read_bytes())
    }
    assert found == set()


def test_no_committed_text_names_this_machine() -> None:
    """Its paths, its name, its user's home."""
    names = [str(ROOT).encode() + b"/", os.uname().nodename.replace("localhost", "").encode()]
    home = os.path.expanduser("~").encode()
    if home not in (b"/", b"/root", b"/home"):
        names.append(home)
    found = {
        f"{path.relative_to(ROOT)}: {name.decode()}"
        for path in files()
        for name in names
        if len(name) > 6 and re.search(rb"(?<![\w-])" + re.escape(name), path.read_bytes())
    }
    assert found == set()
