"""The container engines that people have: podman and docker, by their command lines.

An engine is asked what it is, never guessed: `docker` may be podman's own shim, and a client may
have no daemon. What a command line says is for all to see (`ps`), so a secret goes to an engine by
its stdin, and to a container by neither: see `supervisor/container.py`.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from rechain.environment.errors import EnvironmentFailure
from rechain.exceptions import UserErrorException

__all__ = ["CHOICE", "NAMES", "VARIABLES", "Engine", "Finding", "check_choice", "find", "look"]

NAMES = ("podman", "docker")
"""In the order in which they are taken: podman needs no daemon and no right to one."""

CHOICE = "RECHAIN_ENGINE"
"""The variable that names the engine to use: `podman`, `docker`, or the path of either."""

VARIABLES = (
    "DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CONFIG", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH",
    "CONTAINER_HOST", "CONTAINER_CONNECTION", "CONTAINERS_CONF", "CONTAINERS_STORAGE_CONF",
    "CONTAINERS_REGISTRIES_CONF", "REGISTRY_AUTH_FILE", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME",
    "XDG_DATA_HOME", "HOME", "PATH", "TMPDIR",
)  # fmt: skip
"""The environment variables that decide which engine a command line talks to; none is a secret."""

_PATIENCE = 60.0  # seconds for an engine to say what it is; a cold podman makes its storage first

_HINT = "Install podman or docker, or run without use_docker and a custom image."


class Engine(NamedTuple):
    """An engine that works.

    Attributes:
        name: `podman` or `docker`: whose command line it understands.
        program: the client's absolute path.
        version: the engine's (not the client's).
        rootless: whether its containers' root is the user who calls it.
        variables: those of `VARIABLES` that are set: who calls it later must set the same.
    """

    name: str
    program: str
    version: str
    rootless: bool
    variables: dict[str, str]

    @property
    def title(self) -> str:
        """A name for people: `podman 4.3.1 (rootless)`."""
        return f"{self.name} {self.version}{' (rootless)' if self.rootless else ''}"

    def call(
        self,
        *arguments: str,
        stdin: str | bytes | None = None,
        on_line: Callable[[str], None] | None = None,
        extra: Mapping[str, str] | None = None,
        seconds: float | None = None,
    ) -> Said:
        """Run the engine's client to its end.

        Args:
            *arguments: what follows `podman` or `docker`; never a secret.
            stdin: what it reads; the place of a secret.
            on_line: takes each line of what it says on stdout and stderr as it comes.
            extra: variables to add to this process's own, such as `DOCKER_BUILDKIT`.
            seconds: how long it may take.

        Raises:
            EnvironmentFailure: the client cannot be started, or takes longer.
        """
        environ = {**os.environ, **self.variables, **(extra or {})}
        return _run([self.program, *arguments], environ, stdin, on_line, seconds)

    def check(self, *arguments: str, doing: str, hint: str = "", **settings: Any) -> str:
        """Run the client as `call` does, and return what it said on stdout.

        Args:
            *arguments: see `call`.
            doing: what is tried, for the error's message: `building the image`.
            hint: what to do when it fails.
            **settings: see `call`.

        Raises:
            EnvironmentFailure: it failed; the detail is all that it said.
        """
        said = self.call(*arguments, **settings)
        if said.code:
            raise EnvironmentFailure(
                f"{doing} failed: {self.name}: {said.reason}", hint, said.errors.strip()
            )
        return said.text

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data, for records and for other processes."""
        return self._asdict()


class Said(NamedTuple):
    """What came of one run of a client: its exit code, stdout and stderr."""

    code: int
    text: str
    errors: str

    @property
    def reason(self) -> str:
        """The line of its stderr that says why it failed."""
        lines = [line.strip() for line in (self.errors or self.text).splitlines() if line.strip()]
        found = [line for line in lines if line.lower().startswith(("error", "cannot", "docker:"))]
        line = (found or lines or [f"exit code {self.code}"])[-1]
        return line.removeprefix("docker: ").removeprefix("Error: ").removesuffix(".")


class Finding(NamedTuple):
    """What became of the look for one engine.

    Attributes:
        name: `podman` or `docker`, or what `RECHAIN_ENGINE` says.
        engine: the engine, if it works.
        problem: one line: why not.
        hint: what to do about it.
        installed: whether its client is there.
        settings: what it says of itself that decides how it starts containers.
        limits: one line: why limits of memory and CPUs do not hold in its containers, if that
            was tried.
    """

    name: str
    engine: Engine | None
    problem: str = ""
    hint: str = ""
    installed: bool = True
    settings: dict[str, Any] | None = None
    limits: str = ""


def check_choice(environ: Mapping[str, str], *, elsewhere: bool = False) -> None:
    """Refuse a `RECHAIN_ENGINE` that is neither an engine's name nor an engine.

    Args:
        environ: the caller's variables.
        elsewhere: whether another machine runs the engine: what is there is not known here.

    Raises:
        UserErrorException: it is neither.
    """
    named = environ.get(CHOICE)
    if not named or named in NAMES or (elsewhere and os.path.isabs(named)):
        return
    program = shutil.which(named, path=environ.get("PATH", os.defpath))
    wrong = "no program here"
    if program:
        wrong = f"neither podman nor docker ({program})"
        try:
            said = _run([program, "--version"], environ, seconds=_PATIENCE)
        except EnvironmentFailure:
            said = Said(1, "", "")
        if _kind(said):
            return
    raise UserErrorException(
        f"{CHOICE} is {named!r}, which is {wrong}; it can be podman, docker, or the path of either"
    )


def look(environ: Mapping[str, str] | None = None) -> list[Finding]:
    """Look for engines, and ask each whether it works.

    Args:
        environ: the caller's variables; this process's own by default.

    Returns:
        One finding for each, in the order in which they are taken. With `RECHAIN_ENGINE` it is
        that one alone.
    """
    environ = os.environ if environ is None else environ
    return [_ask(name, environ) for name in _names(environ)]


def find(
    environ: Mapping[str, str] | None = None, check: Callable[[Finding], Finding] | None = None
) -> tuple[Engine, list[str]]:
    """Return the first engine that works, and what to tell of those before it.

    Args:
        environ: see `look`.
        check: looks closer at an engine that answers, as `trial.tried` does.

    Raises:
        EnvironmentFailure: there is none; the message says what was found instead.
    """
    environ = os.environ if environ is None else environ
    broken: list[Finding] = []
    names = _names(environ)
    for name in names:
        finding = _ask(name, environ)
        if finding.engine is not None and check is not None:
            finding = check(finding)
        if finding.engine is not None:
            title = finding.engine.title
            return finding.engine, [f"{one.problem}: {title} is used" for one in broken]
        if finding.installed:
            broken.append(finding)
    other = f" Without {CHOICE} another engine may be taken." if environ.get(CHOICE) else ""
    if not broken:
        there = " or ".join(names)
        raise EnvironmentFailure(f"there is no container engine here ({there})", _HINT + other)
    problems = "; ".join(one.problem for one in broken)
    if not other:
        problems = f"no container engine works: {problems}"
    raise EnvironmentFailure(problems, broken[0].hint + other)


def _names(environ: Mapping[str, str]) -> tuple[str, ...]:
    named = environ.get(CHOICE)
    return (named,) if named else NAMES


def _ask(name: str, environ: Mapping[str, str]) -> Finding:
    program = shutil.which(name, path=environ.get("PATH", os.defpath))
    if program is None:
        return Finding(name, None, f"there is no {name} on PATH", _HINT, installed=False)
    program = os.path.abspath(program)
    try:
        kind = _run([program, "--version"], environ, seconds=_PATIENCE)
        if kind.code:
            raise EnvironmentFailure(f"{name} --version failed: {kind.reason}")
        engine = _kind(kind)
        if not engine:
            hint = f"Name podman or docker in {CHOICE}, or leave it out."
            return Finding(name, None, f"{program} is neither podman nor docker", hint)
        podman = engine == "podman"
        info = _run([program, "info", "--format", "{{json .}}"], environ, seconds=_PATIENCE)
        said = _read(info.text)
        facts = _podman(said) if podman else _docker(said)
        if info.code or facts is None:
            return Finding(name, None, *_why(name, info, podman))
    except EnvironmentFailure as failure:
        return Finding(name, None, failure.message, failure.hint)
    variables = {key: environ[key] for key in VARIABLES if key in environ}
    found = Engine(engine, program, *facts, variables)
    return Finding(name, found, settings=_settings(said))


def _kind(said: Said) -> str:
    """Return which engine a program is by its `--version`: podman-docker's `docker` is podman."""
    text = said.text.lower() if not said.code else ""
    return next((name for name in NAMES if name in text), "")


def _settings(info: dict[str, Any]) -> dict[str, Any]:
    """Return of what an engine says what stays the same as long as nobody changes its settings."""
    of_host, of_store = info.get("host") or {}, info.get("store") or {}
    runtime = of_host.get("ociRuntime") or {}
    return {
        "version": [info.get("version"), info.get("ServerVersion"), info.get("ID")],
        "runtime": [runtime.get("path"), runtime.get("version"), info.get("DefaultRuntime")],
        "cgroups": [of_host.get("cgroupManager"), of_host.get("cgroupVersion")],
        "cgroups of docker": [info.get("CgroupDriver"), info.get("CgroupVersion")],
        "security": [of_host.get("security"), info.get("SecurityOptions")],
        "store": [of_store.get("graphRoot"), of_store.get("graphDriverName")],
        "store of docker": [info.get("DockerRootDir"), info.get("Driver")],
    }


def _podman(info: dict[str, Any]) -> tuple[str, bool] | None:
    try:
        return info["version"]["Version"], bool(info["host"]["security"]["rootless"])
    except (KeyError, TypeError):
        return None


def _docker(info: dict[str, Any]) -> tuple[str, bool] | None:
    version = info.get("ServerVersion")
    if not version:
        return None
    options = info.get("SecurityOptions") or []
    return version, any("name=rootless" in option for option in options)


def _why(name: str, info: Said, podman: bool) -> tuple[str, str]:
    problem = f"{name} does not work: {info.reason}"
    if podman:
        return problem, f"Run `{name} info` to see what it lacks."
    errors = _read(info.text).get("ServerErrors") or [info.reason]
    problem = f"{name} does not work: {errors[0].removesuffix('.')}"
    if "permission denied" in errors[0].lower():
        return problem, "Let yourself use it (the group docker), or install podman."
    return problem, "Start its daemon (systemctl start docker), or install podman."


def _read(text: str) -> dict[str, Any]:
    try:
        said = json.loads(text)
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


def _run(
    command: list[str],
    environ: Mapping[str, str],
    stdin: str | bytes | None = None,
    on_line: Callable[[str], None] | None = None,
    seconds: float | None = None,
) -> Said:
    data = stdin.encode() if isinstance(stdin, str) else stdin
    try:
        if on_line is None:
            done = subprocess.run(
                command,
                input=data if data is not None else b"",
                capture_output=True,
                env=dict(environ),
                check=False,
                timeout=seconds,
            )
            return Said(done.returncode, _text(done.stdout), _text(done.stderr))
        return _follow(command, environ, data, on_line)
    except subprocess.TimeoutExpired:
        raise EnvironmentFailure(
            f"{os.path.basename(command[0])} did not answer within {seconds:g} s",
            f"Try `{' '.join(command[:2])}` yourself.",
        ) from None
    except OSError as error:
        raise EnvironmentFailure(f"{command[0]} cannot be run: {error.strerror}") from error


def _follow(
    command: list[str],
    environ: Mapping[str, str],
    data: bytes | None,
    on_line: Callable[[str], None],
) -> Said:
    """Run a command whose output is told line by line; stderr is in it."""
    with subprocess.Popen(
        command,
        env=dict(environ),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(data or b"")
            process.stdin.close()
        except BrokenPipeError:
            pass  # it says why
        lines = []
        for line in process.stdout:
            lines.append(_text(line))
            on_line(lines[-1].rstrip("\r\n"))
    text = "".join(lines)
    return Said(process.returncode, text, text)


def _text(data: bytes) -> str:
    return data.decode(errors="replace")
