"""What stands around the script: its environment, its data, its standard streams."""

from __future__ import annotations

import os
import sys

from rechain.environment import store
from rechain.environment.errors import EnvironmentFailure
from rechain.record import jsonl
from rechain.record.paths import AttemptPaths, RunPaths
from rechain.supervisor.script import redirect
from rechain.supervisor.variables import (
    PROGRAM,
    SOURCE,
    contain,
    of_data,
    of_run,
    programs,
    site_of,
    surround,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rechain.record.journal import Journal

__all__ = ["Stage"]


class Stage:
    """Everything the script needs before it can start.

    Args:
        run: the run.
        attempt: the attempt.
        job: the job's document.
        payload: what travelled by pipe: `script` and `prepare`, the two environments.

    Attributes:
        notes: what the user should be told once.
        unpacked: the environment's folder on the nodes' own disks; empty if it is not there.
        container: `{"engine", "image"}` if it runs in one, as the preparing process found them.
    """

    def __init__(
        self, run: RunPaths, attempt: AttemptPaths, job: dict[str, Any], payload: dict[str, Any]
    ) -> None:
        self._run = run
        self._attempt = attempt
        self._job = job
        self._script_environment: dict[str, str] = payload["script"]
        self._prepare_environment: dict[str, str] = payload["prepare"]
        self._cache: str = payload["cache"]
        self._password: str | None = payload.get("password")
        self._found: dict[str, Any] | None = None
        self._arguments: list[str] = job["command"][1:]
        self._gpus: list[dict[str, str]] | None = None  # None: nobody has looked
        self._data: list[dict[str, Any]] = []
        self._prepared: dict[str, Any] | None = None
        self._stored = ""  # its folder on this machine
        self.notes: list[str] = []
        self.unpacked = ""
        self.container: dict[str, Any] | None = None

    @property
    def ready(self) -> bool:
        """Whether the environment is there."""
        return self._found is not None

    def find(self) -> None:
        """Look for the environment.

        Raises:
            EnvironmentFailure: it is the user's own, and is not there; or there is no GPU.
        """
        wanted = self._job["environment"]
        if "gpu" in wanted and self._gpus is None:
            self._look_for_gpus(wanted["gpu"]["wanted"])
        if "image" in wanted:
            if self._prepared is None:
                return  # only its engine knows whether the image is there
            self.container = self._prepared["container"]
        if self.container is not None and wanted["kind"] == "user-managed":
            self._found = self._in_image()
        elif wanted["kind"] == "user-managed":
            self._found = self._user_managed(wanted["python"])
        else:
            if self._gpus is not None:
                from rechain.environment import gpu

                wanted = gpu.settled(wanted, self._gpus)
            self._found = store.find(self._cache, wanted["digest"])
            self._stored = self._found["prefix"] if self._found is not None else ""
            if self.container is not None and self._found is not None:
                self._found = {**self._found, **self._inside(self.container["image"])}

    def _inside(self, image: dict[str, Any]) -> dict[str, Any]:
        """Return where things of an environment are in the image that was built of it."""
        folder = os.path.dirname(image["python"])
        places = {"bin": folder, "prefix": os.path.dirname(folder)}
        return {"python": image["python"], "mpi": image["mpi"], **places}

    def _in_image(self) -> dict[str, Any]:
        assert self.container is not None
        image = self.container["image"]
        python = image["interpreter"]["path"]
        facts = {"realpath": None, "from": "image", **image["interpreter"]}
        lock = {"schema": 1, "kind": "user-managed", "interpreter": facts}
        if mpi := image["mpi"]:
            lock["mpi"] = mpi
        return {"python": python, "bin": None, "prefix": None, "lock": lock, "mpi": mpi}

    def _look_for_gpus(self, wanted: str) -> None:
        from rechain.environment import gpu

        self._gpus, why = gpu.look(self._script_environment)
        if self._gpus:
            ranks, count = self._job["distribution"]["processes_per_node"], len(self._gpus)
            if ranks > count:
                self.notes.append(
                    f"{ranks} ranks and {count} GPU{'s' * (count > 1)}: a rank that takes the GPU "
                    "of its number (intra_rank) may find none"
                )
            return
        if wanted == "required":
            raise EnvironmentFailure(why, cause="no_gpu")
        self.notes.append(f"no GPU is used: {why}; the script runs without one (gpu = optional)")

    def _user_managed(self, python: str) -> dict[str, Any] | None:
        path = _which(python, self._script_environment.get("PATH", os.defpath), self._run.work)
        if path is None:
            raise EnvironmentFailure(
                f"there is no interpreter {python!r} on PATH",
                "Name one with --python, or leave out --user-managed to have one provided.",
            )
        facts = store.interpreter_facts(self._cache, path)
        lock = {"schema": 1, "kind": "user-managed", "interpreter": facts}
        found: dict[str, Any] = {"python": path, "lock": lock}
        found |= {"bin": None, "prefix": None, "mpi": None, "activation": {}}
        if "mpi" in self._job["environment"]:
            lock["mpi"] = found["mpi"] = store.mpi_facts(self._cache, self._mpiexec())
            if found["mpi"] is None:
                return None  # nobody has asked it yet which MPI it is: that is for preparing
        return found

    def _mpiexec(self) -> str:
        """Return the path of the user's own mpiexec."""
        named = self._job["environment"]["mpi"]["mpiexec"]
        names = ("mpiexec", "mpirun") if named is None else (named,)
        path = self._script_environment.get("PATH", os.defpath)
        for name in names:
            if found := _which(name, path, self._run.work):
                return found
        raise EnvironmentFailure(
            f"there is no {names[0]} on PATH",
            "Install an MPI (openmpi-bin, mpich), load its module, or name its mpiexec with --mpi"
            ".",
        )

    def start_preparing(self) -> None:
        """Become the process that makes the environment; called in a fresh child."""
        from rechain.supervisor import preparing

        wanted, more = self._job["environment"], list[str]()
        if wanted["kind"] == "user-managed" and "image" not in wanted:
            more = [self._mpiexec()]
        elif self._gpus is not None:
            more = ["", jsonl.dumps(self._gpus)]
        attempt = self._attempt
        preparing.become(
            self._run.job, attempt.prepare_result, attempt.prepare_log, *self.to_prepare, *more
        )

    @property
    def to_prepare(self) -> tuple[str | None, dict[str, str]]:
        """The registry's password and the variables of what makes the environment ready."""
        return self._password, self._prepare_environment | {"RECHAIN_CACHE": self._cache}

    def read_result(self, status: int) -> None:
        """Take over what the preparing process left.

        Raises:
            EnvironmentFailure: it failed.
        """
        from rechain.supervisor import preparing

        attempt = self._attempt
        result = preparing.result_of(attempt.prepare_result, attempt.prepare_log, status)
        self._prepared = result
        self.find()
        if not self.ready:
            raise EnvironmentFailure("it was built, and is not there any more")

    @property
    def has_data(self) -> bool:
        """Whether the script has inputs or outputs, or itself comes from a datastore."""
        through = "copy" in (self._job.get("source") or {})
        return through or bool(self._job.get("inputs") or self._job.get("outputs"))

    def start_with_data(self, what: str, *more: str) -> None:
        """Become the process that brings inputs, or takes outputs; called in a fresh child.

        Args:
            what: as `rechain.data.__main__` has it.
            *more: what it needs to know beside.
        """
        attempt = self._attempt
        results = {"bring": attempt.fetch_result, "lend": attempt.lent}
        result = results.get(what, attempt.send_result)
        redirect("/dev/null", os.O_RDONLY, 0)
        redirect(self._attempt.prepare_log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 1)
        os.dup2(1, 2)
        code = f"import sys; sys.path.insert(0, {SOURCE!r}); import rechain.data.__main__"
        argv = [sys.executable, "-I", "-c", code, what, self._run.root, result, *more]
        os.execve(argv[0], argv, self._prepare_environment | {"RECHAIN_CACHE": self._cache})

    def read_inputs(self, status: int) -> None:
        """Take over the places of inputs and outputs, if there are any.

        Raises:
            EnvironmentFailure: an input cannot be had.
        """
        if not self.has_data:
            return
        try:
            result = jsonl.read(self._attempt.fetch_result)
            if result["ok"]:
                known = jsonl.read(self._run.inputs)
                self._data = known["inputs"] + known["outputs"]
                return
            said = (result["message"], result["hint"], result["detail"])
        except (OSError, ValueError):
            log = f"What it said is in {self._attempt.prepare_log}."
            said = ("the process that fetches it died", log, f"wait status {status}")
        raise EnvironmentFailure(*said, cause="input")

    @property
    def read_only(self) -> list[str]:
        """What a script in a container cannot write to: datasets, as in v1, and cached copies."""
        written = {os.path.realpath(one["place"]) for one in self._data if "store" in one}
        found = [
            os.path.realpath(one["place"])
            for one in self._data
            if one["mode"] == "mount" and "store" not in one
            and (one["kind"] == "dataset" or not one.get("base"))
        ]  # fmt: skip
        return [place for place in found if place not in written]

    def changed_inputs(self) -> list[str]:
        """Return what to say of mounted inputs that are not what they were at the start."""
        if not any(one.get("base") for one in self._data):
            return []
        from rechain.supervisor.inputs import changes

        return [text for one in self._data if (text := changes(one))]

    @property
    def sends(self) -> bool:
        """Whether outputs are to be copied, or registered when the run has completed."""
        return any(one.get("sent") or one.get("registration") for one in self._data)

    def read_sent(self, status: int | None) -> tuple[str, list[str]]:
        """Return why outputs are not in their datastores, empty if they are; and what to tell."""
        try:
            result = jsonl.read(self._attempt.send_result)
        except (OSError, ValueError):
            why = "there was no time left"
            if status is not None and os.WIFEXITED(status):
                why = f"the process that sends it died (wait status {status})"
            return why, [f"outputs were not sent: {why}"]
        if not result["ok"]:
            return str(result["message"]), [f"outputs were not sent: {result['message']}"]
        return "", [
            f"the output {one['name']} is the dataset {one['dataset']}, version {one['version']}"
            for one in result.get("datasets", ())
        ]

    def write_lock(self) -> list[str]:
        """Record what the environment resolved to; return what to tell of it."""
        assert self._found is not None
        lock = self._found["lock"]
        notes = list((self._prepared or {}).get("notes", ()))
        if self.container is not None:
            lock = {**lock, "image": self.container["image"]}
        if "compat" in lock:
            name, _, version = lock["recipe"].partition("-")
            there = {one["name"]: one.get("version") for one in lock["packages"]}
            version, python = there.get(name) or version, lock["interpreter"]["version"]
            notes.append(
                f"{name} {version} is older than Python {python}: it runs with patches of "
                f"{', '.join(lock['compat'])}, which put back what is gone"
            )
        if self._gpus is not None:
            wanted = self._job["environment"]["gpu"]["wanted"]
            lock = {**lock, "gpu": {"wanted": wanted, "found": self._gpus}}
        jsonl.write_atomic(self._run.lock, lock)
        if self._stored:
            store.use(self._cache, self._stored, self._run.root)
            on_disks = (self._job.get("slurm") or {}).get("node_store")
            if on_disks and self.container is None and not self.unpacks:
                notes.append(
                    "the environment is read from the shared file system, not from the nodes' "
                    "disks: one of conda's cannot be moved"
                )
        return notes

    @property
    def unpacks(self) -> bool:
        """Whether the environment is to be read from each node's own disk."""
        assert self._found is not None
        folder = (self._job.get("slurm") or {}).get("node_store")
        moves = self._found["prefix"] and not self._found["activation"]  # conda's do not
        return bool(folder and moves and self.container is None)

    def start_unpacking(self) -> None:
        """Become the process that brings it there; called in a fresh child."""
        from rechain.supervisor.unpack import on_all_nodes

        assert self._found is not None
        redirect("/dev/null", os.O_RDONLY, 0)
        redirect(self._attempt.prepare_log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 1)
        os.dup2(1, 2)
        on_all_nodes(
            self._cache, self._found["prefix"], self._job["slurm"]["node_store"],
            self._job["distribution"]["nodes"], self._attempt.unpacked,
        )  # fmt: skip

    def use_unpacked(self) -> str:
        """Take over what that process found; return what to tell of it."""
        assert self._found is not None
        try:
            said: dict[str, Any] = jsonl.read(self._attempt.unpacked)
        except (OSError, ValueError):
            log = self._attempt.prepare_log
            return f"the environment is read from the shared file system: see {log}"
        if said["prefix"]:
            from rechain.environment import packed

            self.unpacked = prefix = said["prefix"]
            packed.hold(prefix)
            places = {"python": f"{prefix}/bin/python", "bin": f"{prefix}/bin", "prefix": prefix}
            self._found = {**self._found, **places}
        return str(said["text"])

    def start_resuming(self) -> None:
        """Become the process that finds out how the script goes on; called in a fresh child."""
        redirect("/dev/null", os.O_RDONLY, 0)
        argv = [sys.executable, "-I", "-S", PROGRAM, "--resume", self._run.root]
        os.execv(argv[0], [*argv, str(self._attempt.number)])

    def say_how_it_goes_on(self, journal: Journal) -> None:
        """Take over what that process found, and record it."""
        try:
            found: dict[str, Any] = jsonl.read(self._attempt.resume)
        except (OSError, ValueError):
            text = "nobody could look for snapshots; see supervisor.log"
            journal.write("note", text=f"attempt {self._attempt.number}: {text}")
            return
        self._arguments = found["arguments"]
        fields = {key: found[key] for key in ("snapshot", "iteration", "how", "passed_over")}
        journal.write("resume", **fields)
        journal.write("note", text=f"attempt {self._attempt.number}: {found['text']}")

    def command(self) -> tuple[list[str], dict[str, str]]:
        """Return the script's command line and its variables."""
        assert self._found is not None
        script = self._job["command"][0]
        runner = ["-m", "rechain_guest.notebook"] if script.lower().endswith(".ipynb") else []
        places = {one["text"]: one["value"] for one in self._data}
        arguments = [places.get(argument, argument) for argument in self._arguments]
        return [self._found["python"], *runner, script, *arguments], self._variables()

    @property
    def places(self) -> list[str]:
        """The absolute paths of inputs and outputs, and what they are links to."""
        found = [one["place"] for one in self._data if os.path.isabs(one["place"] or "")]
        return [*found, *map(os.path.realpath, found)]

    @property
    def seen(self) -> dict[str, Any]:
        """What a node must have at the same paths: see `apart.Apart`."""
        assert self._found is not None
        python, prefix, cache = self._found["python"], self._found["prefix"], f"{self._cache}/"
        facts = self._found["mpi"] or {"mpiexec": "", "variables": {}}
        paths = [os.path.realpath(python), facts["mpiexec"], *facts["variables"].values()]
        # <cache>/<kind>/<name>/...
        parts = [path[len(cache) :].split("/") for path in paths if path.startswith(cache)]
        folders = {f"{cache}{'/'.join(part[:2])}" for part in parts if len(part) > 1}
        packages = site_of(f"{self._run.work}/.packages", self._found) if prefix else ""
        return {
            "cache": self._cache, "python": python, "packages": packages,
            "folders": [prefix] * bool(prefix and not self.unpacked) + sorted(folders - {prefix}),
            "places": {one["name"]: one["place"] for one in self._data},
        }  # fmt: skip

    @property
    def with_gpu(self) -> bool:
        """Whether the script uses GPUs of this machine."""
        return bool(self._gpus)

    @property
    def _packages(self) -> str:
        return f"{self._run.work}/.packages"

    @property
    def programs(self) -> str:
        """What goes in front of whatever PATH there is for the script."""
        assert self._found is not None
        return programs(self._found, self._packages)

    @property
    def mpi(self) -> dict[str, Any]:
        """The MPI that starts the ranks: `family`, `version`, `mpiexec`, `variables`."""
        assert self._found is not None
        facts: dict[str, Any] = self._found["mpi"]
        return facts

    def _variables(self) -> dict[str, str]:
        assert self._found is not None
        variables = dict(self._script_environment)
        stall = self._job["limits"].get("stall_seconds")
        ranks = self._job["distribution"]["communicator"] != "None"
        own = {*self._job["variables"], *self._job["secrets"]}
        if self.container is not None:
            contain(variables, own, self._gpus if self._job.get("slurm") else None)
        surround(variables, self._found, self._packages, own, hooked=bool(stall or ranks))
        if stall:
            variables["RECHAIN_STALL"] = str(stall)
        variables.setdefault("PYTHONUNBUFFERED", "1")
        return variables | of_data(self._data) | of_run(self._job, self._run, self._attempt)


def _which(name: str, path: str, work: str) -> str | None:
    """Return the absolute path of a command, as a shell in the folder `work` would find it."""
    candidates = [os.path.join(work, folder, name) for folder in path.split(":") if folder]
    if "/" in name:
        candidates = [os.path.join(work, name)]
    for candidate in candidates:
        if os.access(candidate, os.X_OK) and not os.path.isdir(candidate):
            return candidate
    return None
