"""The environments that are already built.

The supervisor asks here before every run, so this module imports next to nothing. What makes an
environment is in `prepare`. The cache is laid out so that a killed build cannot be mistaken for a
finished one:

    resolved/<digest of the spec>.json   what the spec resolved to and where it is; written last
    resolved/<digest of the spec>.lock   held (flock) by the one process that prepares it
    envs/<folder>/                       a finished environment with its lock.json and its seal;
                                         renamed here
    envs/.building.<...>/                one being built, named after its owner
    images/<digests>-<engine>.json       an image that an engine has, and what is where in it
    images/<digests>-<engine>.tar        the image itself, for other nodes to load
    packs/<folder>.tar                   one of them as a single file, see `packed`
    uses/<folder>/<run id>               a link to the folder of a run that uses it; or to the
                                         /proc/<pid> of an open shell
    uses/<digest of the spec>/<run id>   the same for one that was submitted and will use it
    uses/<digests of an image>/<run id>  the same for its image
    checked/<folder>                     the seal of when its files were last compared by hash
    interpreters.json                    what the Pythons of this machine said about themselves
    mpis.json                            what the MPI launchers of this machine said
    mpi/<package>-<version>/             an MPI of the package index, sealed; renamed here
    mpi4py/<key>/                        an mpi4py built for one Python and kind of MPI, sealed
    mpi/links-.../                       one library of MPI under the name mpi4py looks for
    pythons/                             Pythons that uv downloaded, sealed when complete
    conda/pkgs/, conda/repodata/         packages of conda, unpacked, and what channels have
"""

from __future__ import annotations

import os

from rechain.record import jsonl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = [
    "cache_root",
    "carried",
    "checked",
    "contents",
    "engine",
    "environments",
    "find",
    "find_image",
    "forget_users",
    "foundations",
    "holds",
    "image",
    "interpreter_facts",
    "interpreters",
    "mpi_facts",
    "mpis",
    "pythons",
    "read_known",
    "resolved",
    "seal_of",
    "use",
    "users",
    "want",
]


def cache_root() -> str:
    """Return where environments are kept.

    `$RECHAIN_CACHE`, else `$XDG_CACHE_HOME/rechain`, else `~/.cache/rechain`; absolute.
    """
    own = os.environ.get("RECHAIN_CACHE")
    if own:
        return os.path.abspath(own)
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return os.path.join(os.path.abspath(base), "rechain")


def environments(cache: str) -> str:
    """Return the folder of the built environments."""
    return f"{cache}/envs"


def interpreters(cache: str) -> str:
    """Return the file of what interpreters said about themselves."""
    return f"{cache}/interpreters.json"


def pythons(cache: str) -> str:
    """Return the folder of the Pythons that were downloaded."""
    return f"{cache}/pythons"


def mpis(cache: str) -> str:
    """Return the file of what MPI launchers said about themselves."""
    return f"{cache}/mpis.json"


def engine(cache: str, mark: str) -> str:
    """Return the file that says since which boot an engine is known to start containers."""
    return f"{cache}/engines/{mark}.json"


def resolved(cache: str, digest: str) -> str:
    """Return the file that says what a spec resolved to."""
    return f"{cache}/resolved/{digest}.json"


def checked(cache: str, name: str) -> str:
    """Return the file that remembers which files of an environment were right."""
    return f"{cache}/checked/{name}"


def read_known(path: str) -> dict[str, Any] | None:
    """Return one of the cache's documents; None if it is missing, damaged or of another schema.

    A cache may lose or garble a file without harm: what is not there is made again.
    """
    try:
        document = jsonl.read(path)
    except (OSError, ValueError):
        return None
    return document if isinstance(document, dict) and document.get("schema") == 1 else None


def want(cache: str, environment: dict[str, Any], root: str) -> None:
    """Note that a run was submitted that will use an environment, built or not.

    Args:
        cache: what `cache_root` returned.
        environment: that of the job.
        root: the run's folder, absolute.
    """
    for one in (environment, environment.get("gpu", {})):
        if "digest" in one:
            use(cache, one["digest"], root)
        if "image" in environment:
            use(cache, _image({**one, "image": environment["image"]}), root)


def use(cache: str, prefix: str, root: str) -> None:
    """Note that a run uses an environment, which is then kept as long as the run's folder is.

    Args:
        cache: what `cache_root` returned.
        prefix: the environment's folder.
        root: the run's folder, absolute; or of another user, one that is there as long.
    """
    folder = f"{cache}/uses/{os.path.basename(prefix)}"
    try:
        os.makedirs(folder, exist_ok=True)
        os.symlink(root, f"{folder}/{os.path.basename(root)}")
    except OSError:
        pass  # it is noted already, or the cache can only be read: then nobody removes from it


def users(cache: str, name: str) -> list[str]:
    """Return the folders of those that use an environment, or will, and are still there.

    Args:
        cache: what `cache_root` returned.
        name: the environment's folder name, or the digest of a spec.
    """
    folder = f"{cache}/uses/{name}"
    try:
        links = [f"{folder}/{one}" for one in sorted(os.listdir(folder))]
    except OSError:
        return []
    return [os.readlink(one) for one in links if os.path.exists(one)]


def forget_users(cache: str, name: str) -> None:
    """Forget who used an environment, which is gone."""
    folder = f"{cache}/uses/{name}"
    for one in os.listdir(folder) if os.path.isdir(folder) else ():
        os.unlink(f"{folder}/{one}")


def find(cache: str, digest: str) -> dict[str, Any] | None:
    """Return the built environment of a spec.

    Args:
        cache: what `cache_root` returned.
        digest: the spec's `digest`.

    Returns:
        `{"python", "bin", "prefix", "lock", "mpi", "activation"}`: three absolute paths, the lock
        document, what `mpi_facts` returns if the spec has an MPI, else None, and the variables
        that activating it sets, if conda made it. None if it is not built, if it was changed
        since, or if its base interpreter or its MPI is gone, or was replaced or changed.
    """
    known = read_known(resolved(cache, digest))
    if known is None:
        return None
    prefix = f"{environments(cache)}/{known['environment']}"
    python = f"{prefix}/bin/python"
    try:
        base = os.stat(python)  # a link to the base interpreter: one look tells of both
    except OSError:
        return None
    if [base.st_mtime_ns, base.st_size] != known["base"]:
        return None
    lock = known["lock"]
    mpi = None
    if "mpi" in lock:
        mpi = mpi_facts(cache, lock["mpi"]["mpiexec"])
        if mpi is None or {**lock["mpi"], **mpi} != lock["mpi"]:
            return None
    if not all(map(holds, (prefix, *foundations(cache, lock)))):
        return None
    found = {"python": python, "bin": f"{prefix}/bin", "prefix": prefix, "lock": lock, "mpi": mpi}
    return {**found, "activation": known.get("activation", {})}


def image(cache: str, environment: dict[str, Any], engine: str) -> str:
    """Return the file that says which image an environment became.

    Args:
        cache: what `cache_root` returned.
        environment: the `environment` of a job, settled, with an `image`.
        engine: the name of what keeps the image.
    """
    return f"{cache}/images/{_image(environment)}-{engine}.json"


def _image(environment: dict[str, Any]) -> str:
    parts = [environment.get("digest", "")[:32], environment["image"]["digest"][:32]]
    return "-".join(part for part in parts if part)


def carried(cache: str) -> list[tuple[str, str]]:
    """Return the archives of images that other nodes load, each with its name in `users`."""
    folder = f"{cache}/images"
    names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
    found = [name for name in names if name.endswith(".tar")]
    return [(f"{folder}/{name}", name.rpartition("-")[0]) for name in found]


def find_image(cache: str, environment: dict[str, Any], engine: str) -> dict[str, Any] | None:
    """Return the image of an environment, as far as is known without asking its engine.

    Args:
        cache: what `cache_root` returned.
        environment: the `environment` of a job, settled, with an `image`.
        engine: the name of what keeps the image.

    Returns:
        `{"id", "reference", "base", "engine", "mpi"}`, and `asked` if the user named it: its id,
        its name, what it is built on (`{"reference", "id", "digest"}`), the engine's title, and
        what `mpi_facts` returns of the MPI in it, else None. If an environment was built in it
        also `{"python", "bin", "variables"}`, absolute paths inside and the variables that make
        use of them. None if it is not known; the engine may still have lost it.
    """
    return read_known(image(cache, environment, engine))


def foundations(cache: str, lock: dict[str, Any]) -> list[str]:
    """Return the folders of the cache that a lock's environment stands on: its Python, its MPI."""
    python = lock.get("interpreter", {}).get("path", "")  # conda's is within the environment
    python = os.path.realpath(python) if os.path.isabs(python) else ""
    found = []
    mpiexec = lock.get("mpi", {}).get("mpiexec", "")
    for path, kind in ((python, pythons(cache)), (mpiexec, f"{cache}/mpi")):
        for root in {kind, os.path.realpath(kind)}:
            if path.startswith(f"{root}/"):
                found.append(f"{root}/{path[len(root) + 1 :].partition('/')[0]}")
    return found


def holds(prefix: str) -> bool:
    """Return whether a sealed folder is as it was built."""
    return contents(prefix) == seal_of(prefix)


def seal_of(prefix: str) -> str:
    """Return what `contents` said when the folder was sealed; empty if nobody wrote it."""
    try:
        with open(f"{prefix}/seal", encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except OSError:
        return ""


def contents(
    prefix: str, visit: Callable[[str, os.stat_result], object] = lambda path, status: None
) -> str:
    """Return a line for each file of a sealed folder: its path, size and modification time (ns).

    Modes do not hold root back, and others can change them: so each run looks. That is one lstat
    per file, 7 ms for Chainer and NumPy. Not looked at is the bytecode that Python writes itself.
    Neither inodes nor change times count: they differ in a copy, or when uv links a file again.

    Args:
        prefix: the folder.
        visit: is called with each file's path and status.
    """
    lines = []
    folders = [prefix]
    begin = len(prefix) + 1
    while folders:
        with os.scandir(folders.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    if entry.name != "__pycache__":
                        folders.append(entry.path)
                    continue
                status = entry.stat(follow_symlinks=False)
                visit(entry.path, status)
                lines.append(f"{entry.path[begin:]}\0{status.st_size} {status.st_mtime_ns}\n")
    lines.sort()
    return "".join(line for line in lines if not line.startswith("seal\0"))


def interpreter_facts(cache: str, path: str) -> dict[str, Any]:
    """Return what can be told about an interpreter without running it.

    Args:
        cache: what `cache_root` returned.
        path: the interpreter; need not be real.

    Returns:
        `{"path", "realpath", "version", "from"}`. `version` comes from the `pyvenv.cfg` of a
        virtual environment, else from what the interpreter said when it was last searched for
        (if it has not changed since), else it is None; `from` says which.
    """
    real = os.path.realpath(path)
    facts: dict[str, Any] = {"path": path, "realpath": real, "version": None, "from": None}
    version = _pyvenv_version(path)
    if version:
        facts.update({"version": version, "from": "pyvenv.cfg"})
        return facts
    known = (read_known(interpreters(cache)) or {"probes": {}})["probes"].get(real)
    try:
        status = os.stat(real)
    except OSError:
        return facts
    if known and known["stat"] == [status.st_mtime_ns, status.st_size] and known["facts"]:
        facts.update({"version": known["facts"]["version"], "from": "search"})
    return facts


def mpi_facts(cache: str, mpiexec: str) -> dict[str, Any] | None:
    """Return what is known of an MPI without running it.

    Args:
        cache: what `cache_root` returned.
        mpiexec: absolute path of its launcher.

    Returns:
        `{"family", "version", "mpiexec", "variables"}`; None if nobody has asked it yet, or if it
        has changed since.
    """
    known = (read_known(mpis(cache)) or {"probes": {}})["probes"].get(mpiexec)
    try:
        status = os.stat(mpiexec)
    except OSError:
        return None
    if not known or known["stat"] != [status.st_mtime_ns, status.st_size]:
        return None
    facts: dict[str, Any] = known["facts"]
    return facts


def _pyvenv_version(path: str) -> str | None:
    folder = os.path.dirname(os.path.abspath(path))
    try:
        with open(f"{os.path.dirname(folder)}/pyvenv.cfg", encoding="utf-8") as file:
            lines = file.read().splitlines()
    except (OSError, ValueError):
        return None
    for line in lines:
        key, _, value = line.partition("=")
        if key.strip() in ("version", "version_info"):  # venv's word, uv's and virtualenv's word
            return ".".join(value.strip().split(".")[:3])
    return None
