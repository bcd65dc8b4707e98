"""A script in a container: it runs as ever, ends as ever, and nothing of it is left.

Images are made by hand here; the supervisor, the engines and all that is killed are real.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from rechain.compute.local import LocalTarget
from rechain.record import host, jsonl
from rechain.record.journal import RunState, fold_attempt
from rechain.record.requests import ask_to_stop
from rechain.supervisor.engine import INIT, command
from rechain.testing import make_run, processes_of, wait_for, wait_for_end
from rechain.testing.engines import DockerEngine, ThrowAwayEngine
from rechain.testing.runs import payload
from rechain.workspace.reconcile import reconcile

TARGET = LocalTarget()
PATIENCE = 120  # seconds; an engine on a busy machine takes its time


class Contained:
    """A script in a container under way."""

    def __init__(
        self, engine: ThrowAwayEngine, folder: Path, script: str, *arguments: str, **settings: Any
    ) -> None:
        self.engine = engine
        self.cache = folder / "cache"
        workspace = folder / "with ',\" and \u96ea"
        workspace.mkdir(parents=True, exist_ok=True)
        image = engine.python_image(sys.executable)
        reference = engine.run("image", "inspect", "--format", "{{.Id}}", image).strip()
        options = {"shm_size": "32m", "arguments": list(arguments), "mounts": []}
        options.update(settings.pop("options", {}))
        asked = {"reference": reference, "asked": image, "built": False, "pull": False}
        image_spec = {**asked, "digest": "0" * 64, **settings.pop("image", {})}
        settings = {"python": "python", "grace_seconds": 1, "variables": {}, **settings}
        self.run, self.job = make_run(
            workspace, script, container=options, environment={"image": image_spec}, **settings
        )
        self.attempt = self.run.attempt(1)
        submission = TARGET.plan(self.run, self.job)
        TARGET.start(submission, self.run, payload(self.job, str(self.cache)))

    def text(self, path: str) -> str:
        return Path(path).read_text() if os.path.exists(path) else ""

    def comes_up(self) -> Contained:
        """Wait until the script has said so."""
        wait_for(lambda: "up" in self.text_of(0), "the script is up", PATIENCE)
        wait_for(lambda: fold_attempt(self.attempt).ranks, "its pid is known", PATIENCE)
        return self

    def text_of(self, rank: int) -> str:
        return self.text(self.attempt.stdout(rank))

    def ends(self, cause: str) -> RunState:
        """Wait for the end, and see that nothing is left: no process, container or FIFO."""
        state = wait_for_end(self.run, PATIENCE)
        assert state.end is not None
        assert state.end["cause"] == cause, (state.end, self.text(self.attempt.container_log))
        wait_for(lambda: not processes_of(self.run), "its processes are gone", PATIENCE)
        wait_for(
            lambda: not self.engine.run("ps", "--all", "--quiet"),
            "its container is gone",
            PATIENCE,
        )
        assert not os.path.exists(self.attempt.container_in)
        assert not os.path.exists(self.attempt.container_out)
        return state

    def pid(self, who: str) -> int:
        started = fold_attempt(self.attempt).attempt
        assert started is not None
        return int(started[who]["pid"])


WRITES = """
import sys
for place in sys.argv[1:]:
    try:
        with open(place + "/new", "w"):
            print("written")
    except OSError as error:
        print(error.strerror)
"""


@pytest.mark.engines
def test_a_mounted_dataset_is_read_only(engine: ThrowAwayEngine, tmp_path: Path) -> None:
    """As in v1; and what v1 mounts by a reference can be written to, as there."""
    inputs = []
    for kind in ("dataset", "reference"):
        folder = tmp_path / kind / "pictures"
        folder.mkdir(parents=True)
        (folder / "a").write_text("x")
        store = {"name": kind, "type": "Local", "url": str(folder.parent)}
        source = {"store": store, "path": "pictures"}
        inputs.append(
            {"name": kind, "kind": kind, "mode": "mount", "variable": kind, "text": f"@{kind}",
             "path_on_compute": None, "overwrite": False, "sources": [source], "dataset": None,
             "required": True}
        )  # fmt: skip
    run = Contained(engine, tmp_path, WRITES, arguments=("@dataset", "@reference"), inputs=inputs)
    state = run.ends("completed")
    assert run.text_of(0) == "Read-only file system\nwritten\n"
    assert "the input reference was written to while the run went on: 1 new (new)" in [
        note for attempt in state.attempts for note in attempt.notes
    ]


EVERYTHING = """
import json, os, shutil, sys
from azureml.core import Run
run = Run.get_context()
run.log("loss", 0.5)
with open("made", "w") as file:
    file.write("x")
try:
    open(sys.modules["rechain_guest"].__file__, "a")
    guest = "writable"
except OSError:
    guest = "read-only"
found = {
    "id": run.id, "user": [os.getuid(), os.getgid()], "folder": os.getcwd(), "guest": guest,
    "shm": shutil.disk_usage("/dev/shm").total, "argv": sys.argv, "secret": os.environ["TOKEN"],
    "home": os.access(os.environ["HOME"], os.W_OK), "outside": os.environ.get("SHELL"),
    "processes": sorted(name for name in os.listdir("/proc") if name.isdigit())[0],
}
print(json.dumps(found))
print("to stderr", file=sys.stderr)
"""


@pytest.mark.engines
def test_a_script_finds_what_it_would_find_without_a_container(engine, tmp_path) -> None:
    secret = "two\nlines of \u96ea" + "x" * 100_000
    made = Contained(
        engine, tmp_path, EVERYTHING, arguments=("--a", "b c"), variables={"TOKEN": secret}
    )
    state = made.ends("completed")
    found = json.loads(made.text_of(0))
    assert found == {
        "id": made.run.run_id, "user": [os.getuid(), os.getgid()], "folder": made.run.work,
        "guest": "read-only" if os.getuid() else found["guest"], "shm": 32 << 20,
        "argv": ["script.py", "--a", "b c"], "secret": secret, "home": True, "outside": None,
        "processes": "1",
    }  # fmt: skip
    assert made.text(made.attempt.stderr(0)) == "to stderr\n"
    assert state.end["leftover"] == 0
    metrics = "".join(path.read_text() for path in Path(made.run.metrics).iterdir())
    assert '"loss"' in metrics
    assert os.stat(f"{made.run.work}/made").st_uid == os.getuid()
    lock = jsonl.read(made.run.lock)
    assert lock["image"]["id"].startswith("sha256:")
    written = [made.attempt.container, made.attempt.journal, made.attempt.container_log]
    assert not any("two\\nlines" in made.text(path) for path in written)


@pytest.mark.engines
def test_a_secret_is_in_no_command_line_and_not_in_what_the_engine_knows(engine, tmp_path) -> None:
    script = "import time\nprint('up', flush=True)\ntime.sleep(600)"
    made = Contained(engine, tmp_path, script, variables={"TOKEN": "s3cr3t-v4lue"}).comes_up()
    name = jsonl.read(made.attempt.container)["name"]
    assert "s3cr3t-v4lue" not in engine.run("inspect", name)
    lines = b""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            lines += Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
    assert name.encode() in lines
    assert b"s3cr3t-v4lue" not in lines
    ask_to_stop(made.run)
    made.ends("canceled")


@pytest.mark.matrix
@pytest.mark.parametrize(
    ("script", "cause", "message"),
    [
        ("\nraise ValueError('x')", "user_error", "exit 1, ValueError at script.py:2"),
        ("raise SystemExit(37)", "user_error", "exit 37"),
        ("import os\nos.kill(os.getpid(), 11)", "user_error", "signal 11, SIGSEGV"),
        ("import os\nos.kill(os.getpid(), 9)", "killed", "signal 9, SIGKILL"),
    ],
    ids=["exception", "exit", "signal", "kill"],
)
def test_an_end_has_the_cause_that_it_has_without_a_container(
    engine, tmp_path, script, cause, message
) -> None:
    made = Contained(engine, tmp_path, script)
    assert made.ends(cause).end["message"] == message
    stack = "Fatal Python error: Segmentation fault" in made.text(made.attempt.stderr(0))
    assert stack == (message == "signal 11, SIGSEGV")


@pytest.mark.engines
def test_too_much_memory_is_the_cause(engine, tmp_path) -> None:
    script = "x = [b'x' * (1 << 20) for _ in range(600)]\nprint(sum(map(len, x)))"
    limits = ("--memory=128m", "--memory-swap=128m", "--cpus=1.5")
    state = Contained(engine, tmp_path, script, *limits).ends("out_of_memory")
    assert state.end["signal"] == signal.SIGKILL


GENTLE = """
import signal, sys, time
def stop(*_):
    print("asked", flush=True)
    sys.exit(3)
signal.signal(signal.SIGTERM, stop)
print("up", flush=True)
time.sleep(600)
"""
DEAF = GENTLE.replace("stop)", "signal.SIG_IGN)")
FAMILY = """
import os, sys, time
if not os.fork():
    os.setsid()
    if not os.fork():
        os.environ.clear()
        os.execve(sys.executable, [sys.executable, "-c", "import time; time.sleep(600)"], {})
    os._exit(0)
os.wait()
print("up", flush=True)
time.sleep(float(sys.argv[1]))
"""


@pytest.mark.engines
def test_a_script_is_asked_to_end_and_has_its_time_for_that(engine, tmp_path) -> None:
    made = Contained(engine, tmp_path, GENTLE, grace_seconds=PATIENCE).comes_up()
    ask_to_stop(made.run)
    state = made.ends("canceled")
    assert "asked" in made.text_of(0)
    assert state.end["exit_code"] == 3


@pytest.mark.matrix
def test_a_script_that_does_not_listen_is_ended_at_its_time_limit(engine, tmp_path) -> None:
    made = Contained(engine, tmp_path, DEAF, seconds=4)
    made.ends("time_limit")


@pytest.mark.matrix
def test_a_script_that_stalls_says_where_and_is_ended(engine, tmp_path) -> None:
    script = "import time\ndef work():\n    time.sleep(600)\nprint('up', flush=True)\nwork()"
    made = Contained(engine, tmp_path, script, stall_seconds=5)
    state = made.ends("stalled")
    assert state.end["message"] == "no sign of life for 5 s"
    assert 'script.py", line 3 in work' in made.text(made.attempt.stderr(0))


SHARED_MEMORY = """
import mmap, os
file = os.open("/dev/shm/x", os.O_RDWR | os.O_CREAT)
os.ftruncate(file, 8 << 20)
if os.fstatvfs(file).f_blocks * os.fstatvfs(file).f_frsize < 8 << 20:
    print("small", flush=True)
mmap.mmap(file, 8 << 20)[:] = b"x" * (8 << 20)
"""


@pytest.mark.matrix
@pytest.mark.parametrize(("size", "cause"), [("1m", "user_error"), ("16m", "completed")])
def test_too_little_shared_memory_is_said(engine, tmp_path, size, cause) -> None:
    made = Contained(engine, tmp_path, SHARED_MEMORY, options={"shm_size": size})
    state = made.ends(cause)
    assert made.text_of(0) == ("small\n" if size == "1m" else "")
    if size == "1m":
        assert state.end["signal"] == signal.SIGBUS
        assert "/dev/shm of the container has 1m" in state.end["hint"]
        assert "--shm-size" in state.end["hint"]


@pytest.mark.matrix
def test_what_a_script_leaves_behind_is_ended_and_counted(engine, tmp_path) -> None:
    state = Contained(engine, tmp_path, FAMILY, arguments=("0",)).ends("completed")
    assert state.end["leftover"] == 1


@pytest.mark.engines
def test_an_interpreter_that_the_image_lacks_is_said(engine, tmp_path) -> None:
    state = Contained(engine, tmp_path, "", python="/opt/none/python").ends("environment")
    assert state.end["message"].endswith("has no `/opt/none/python` that runs")
    assert "--python" in state.end["hint"]


@pytest.mark.engines
def test_an_image_without_a_python_is_said(engine, tmp_path) -> None:
    name = engine.base_image()
    reference = engine.run("image", "inspect", "--format", "{{.Id}}", name).strip()
    image = {"reference": reference, "asked": name}
    state = Contained(engine, tmp_path, "", image=image).ends("environment")
    message = f"the image {name} has no `python` and no `python3` that runs"
    assert state.end["message"] == message
    assert state.end["hint"].startswith("Name one with --python")


@pytest.mark.matrix
def test_an_option_that_the_engine_does_not_know_is_said(engine, tmp_path) -> None:
    state = Contained(engine, tmp_path, "", "--no-such-option").ends("environment")
    assert "no-such-option" in state.end["message"]


@pytest.mark.matrix
def test_an_image_that_is_gone_is_said(engine, tmp_path) -> None:
    image = {"reference": f"sha256:{'0' * 64}", "asked": "gone"}
    made = Contained(engine, tmp_path, "", image=image)
    state = wait_for_end(made.run, PATIENCE)
    assert state.end["cause"] == "environment"


# Who ends whom.


def host_pid_of_init(made: Contained) -> int:
    name = jsonl.read(made.attempt.container)["name"]
    return int(made.engine.run("inspect", "--format", "{{.State.Pid}}", name))


@pytest.mark.engines
@pytest.mark.parametrize("victim", ["supervisor", "guard", "both"])
def test_whoever_of_the_pair_is_killed_no_container_stays(engine, tmp_path, victim) -> None:
    made = Contained(engine, tmp_path, FAMILY, arguments=("600",)).comes_up()
    inside = host.process(host_pid_of_init(made))
    pids = [made.pid(who) for who in ("guard", "supervisor") if victim in (who, "both")]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    if victim == "both":
        # The kernel and the first process of the container see to it; then a reader says so.
        wait_for(lambda: not host.is_alive(inside), "the container has ended", PATIENCE)
        wait_for(lambda: reconcile(made.run, made.job) is None, "a reader sees it", PATIENCE)
    made.ends("supervisor_lost")
    assert not host.is_alive(inside)


@pytest.mark.matrix
def test_a_client_that_is_killed_takes_its_container_along(engine, tmp_path) -> None:
    made = Contained(engine, tmp_path, FAMILY, arguments=("600",)).comes_up()
    inside = host.process(host_pid_of_init(made))
    (client,) = [
        pid
        for pid in processes_of(made.run)
        if Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[1:2] == [b"run"]
    ]
    os.kill(client, signal.SIGKILL)
    state = made.ends("killed")
    assert state.end["message"] == f"{engine.name}, which held the container, got signal 9"
    assert not host.is_alive(inside)


@pytest.mark.matrix
def test_a_container_that_somebody_ends_is_said(engine, tmp_path) -> None:
    made = Contained(engine, tmp_path, FAMILY, arguments=("600",)).comes_up()
    engine.run("kill", "--signal=KILL", jsonl.read(made.attempt.container)["name"])
    state = made.ends("killed")
    assert "not by Rechain" in state.end["message"]


@pytest.mark.matrix
@pytest.mark.parametrize("how", ["kill", "stop"])
def test_a_daemon_that_goes_leaves_no_container_and_starts_without_it(tmp_path, how) -> None:
    with DockerEngine() as engine, pytest.MonkeyPatch.context() as patch:
        for name, value in engine.environment.items():
            patch.setenv(name, value)
        made = Contained(engine, tmp_path, FAMILY, arguments=("600",)).comes_up()
        inside = host.process(host_pid_of_init(made))
        getattr(engine, how)()
        state = wait_for_end(made.run, PATIENCE)
        assert state.end["cause"] == "killed", (state.end, made.text(made.attempt.container_log))
        assert not host.is_alive(inside)
        engine.start()
        made.ends("killed")


# What an engine is told.

PODMAN = {
    "name": "podman",
    "program": "/usr/bin/podman",
    "version": "5.2.1",
    "rootless": False,
    "variables": {},
}
DOCKER = {**PODMAN, "name": "docker", "program": "/usr/bin/docker"}
ROOTLESS = {"rootless": True}
AROUND = {
    "python": "/opt/rechain/environment/bin/python",
    "line": ("/w/in", "/w/out"),
    "mounts": [("/w", True), ("/data, a", True), ("/guest", False)],
    "options": {"shm_size": "2g", "arguments": ["--ulimit=nofile=4096"], "mounts": []},
    "user": (1000, 100),
    "groups": (100, 27),
}
COMMON = [
    "--network=host", "--workdir=/", "--security-opt=label=disable", "--log-driver=none",
]  # fmt: skip
SHARED = [
    '--mount="type=bind","src=/w","dst=/w"',
    '--mount="type=bind","src=/data, a","dst=/data, a"',
    '--mount="type=bind","src=/guest","dst=/guest","readonly"',
    "--shm-size=2g",
]
LAST = [
    "--entrypoint=/opt/rechain/environment/bin/python", "sha256:1", "-I", "-S", INIT, "/w/in",
    "/w/out",
]  # fmt: skip


@pytest.mark.fast
@pytest.mark.parametrize(
    ("engine", "user"),
    [
        (PODMAN, ["--group-add=27", "--user=1000:100"]),
        (DOCKER, ["--group-add=27", "--user=1000:100"]),
        (PODMAN | ROOTLESS, ["--userns=keep-id", "--user=1000:100"]),
        (DOCKER | ROOTLESS, ["--user=0:0"]),
    ],
    ids=["podman", "docker", "rootless podman", "rootless docker"],
)
def test_golden_command_line(engine, user) -> None:
    said = command(engine, "sha256:1", "rechain-x-1", **AROUND)
    first = [engine["program"], "run", "--rm", "--pull=never", "--name=rechain-x-1"]
    assert said == [*first, *COMMON, *user, *SHARED, "--ulimit=nofile=4096", *LAST]


@pytest.mark.fast
@pytest.mark.parametrize(
    ("engine", "told"), [(PODMAN, "--device=nvidia.com/gpu=all"), (DOCKER, "--gpus=all")]
)
def test_golden_command_line_with_a_fake_gpu_and_limits(engine, told) -> None:
    said = command(
        engine, "sha256:1", "rechain-x-1", **AROUND, gpus=True, cores=[0, 2], memory=1 << 30
    )
    limits = ["--cpuset-cpus=0,2", "--memory=1073741824", "--memory-swap=1073741824", told]
    place = said.index("--shm-size=2g") + 1
    assert said[place : place + 4] == limits


@pytest.mark.fast
@pytest.mark.parametrize(("engine", "told"), [(PODMAN, []), (DOCKER, ["--cap-add=SYS_PTRACE"])])
def test_golden_command_line_with_ranks(engine, told) -> None:
    said = command(engine, "sha256:1", "rechain-x-1", **AROUND, ranks=True)
    alone = command(engine, "sha256:1", "rechain-x-1", **AROUND)
    assert [option for option in said if option not in alone] == told


@pytest.mark.fast
def test_the_first_process_ends_nothing_where_it_is_not_the_first(tmp_path) -> None:
    """It would end all processes of the user."""
    for name in ("in", "out"):
        os.mkfifo(tmp_path / name)
    inward = os.open(tmp_path / "in", os.O_RDWR | os.O_NONBLOCK)
    outward = os.open(tmp_path / "out", os.O_RDWR | os.O_NONBLOCK)
    os.write(inward, b"2\n{}")
    argv = [sys.executable, "-I", "-S", INIT, str(tmp_path / "in"), str(tmp_path / "out")]
    status = os.waitstatus_to_exitcode(os.waitpid(os.posix_spawn(argv[0], argv, {}), 0)[1])
    said = json.loads(os.read(outward, 4096))
    os.close(inward)
    os.close(outward)
    assert status == 127
    assert said["event"] == "refused"
    assert "another first process" in said["why"]


@pytest.mark.fast
def test_the_first_process_does_not_wait_for_a_supervisor_that_is_gone(tmp_path) -> None:
    for name in ("in", "out"):
        os.mkfifo(tmp_path / name)
    argv = [sys.executable, "-I", "-S", INIT, str(tmp_path / "in"), str(tmp_path / "out")]
    assert os.waitstatus_to_exitcode(os.waitpid(os.posix_spawn(argv[0], argv, {}), 0)[1]) == 137
