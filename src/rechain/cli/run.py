"""`rechain run`: start a run, show its output, end with its exit code."""

from __future__ import annotations

import os
import sys

import click

from rechain.cli.shared import colored, duration, packages, printable, workspace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rechain.estimator import Mpi
    from rechain.workspace import Run

__all__ = ["command", "pairs"]


def _seconds(ctx: click.Context, parameter: click.Parameter, value: str | None) -> float | None:
    """Read a span of time: `90`, `90s`, `15m`, `2h`, `1h30m`, `2d`."""
    if value is None:
        return None
    units = {"d": 86400, "h": 3600, "m": 60, "s": 1}
    total, number = 0.0, ""
    try:
        for letter in value.strip().lower().replace(" ", "") + "s":
            if letter in units:
                total, number = total + float(number or 0) * units[letter], ""
            else:
                number += letter
    except ValueError:
        total = 0
    if not 0 < total < float("inf"):
        raise click.BadParameter(f"{value!r} is not a time above zero, such as 90, 15m or 1h30m")
    return total


def pairs(values: tuple[str, ...], option: str) -> dict[str, str]:
    """Read `NAME=VALUE`; of `--env NAME` the value is that of our own variable.

    Raises:
        click.BadParameter: one is neither.
    """
    found = {}
    for value in values:
        name, equals, text = value.partition("=")
        if not name:
            raise click.BadParameter(f"{value!r} is not NAME=VALUE", param_hint=option)
        if not equals:
            if option != "--env" or name not in os.environ:
                raise click.BadParameter(
                    f"{value!r} has no value (use {name}=VALUE)", param_hint=option
                )
            text = os.environ[name]
        found[name] = text
    return found


def _references(inputs: tuple[str, ...]) -> list[Any] | None:
    if not inputs:
        return None
    from rechain.data import Datastore
    from rechain.data.names import checked

    found = []
    for text in inputs:
        name, mark, place = text.partition("=")
        if not mark:
            raise click.BadParameter(f"--input {text!r} is not NAME=STORE[/PATH]")
        store, _, path = place.partition("/")
        reference = Datastore(workspace(), store).path(path or None, checked("input", name))
        mounted = reference.as_mount()
        mounted._required = True
        found.append(mounted)
    return found


@click.command(
    "run",
    context_settings={"allow_interspersed_args": False},
    short_help="Run a training script.",
)
@click.option(
    "-e", "--experiment", metavar="NAME", help="Experiment; the folder's name by default."
)
@click.option(
    "--framework-version",
    metavar="VERSION",
    help="Chainer's version, such as 7.0.0. [default: 5.1.0, as v1]",
)
@packages
@click.option("--requirements", metavar="FILE", help="pip requirements file in the source folder.")
@click.option(
    "--conda-file",
    metavar="FILE",
    help="environment.yml in the source folder; it says all that is installed.",
)
@click.option("--python", metavar="PYTHON", help="Interpreter: a version (3.8), a name or a path.")
@click.option(
    "--as-of", metavar="DATE", help="Packages as they were on this day, such as 2018-12-31."
)
@click.option(
    "--lock", metavar="FILE", help="Environment: a lock, as `rechain env lock` writes it."
)
@click.option(
    "--env", "env", multiple=True, metavar="NAME[=VALUE]", help="Variable for the script."
)
@click.option(
    "--user-managed", is_flag=True, help="Use the python on PATH as it is; install nothing."
)
@click.option("--docker/--no-docker", default=None, help="Run in a container (podman or docker).")
@click.option("--image", metavar="NAME", help="The container's image; implies --docker.")
@click.option("--pull", is_flag=True, help="Fetch the image anew: its tag may have moved.")
@click.option("--shm-size", metavar="SIZE", help="/dev/shm of the container. [default: 2g]")
@click.option(
    "-n",
    "--process-count-per-node",
    "processes",
    type=click.IntRange(1),
    metavar="N",
    help="Run the script as N ranks under MPI (on each node).",
)
@click.option(
    "--node-count",
    type=click.IntRange(1),
    default=1,
    metavar="N",
    help="Number of nodes; needs --target or --vm-size.",
)
@click.option(
    "--mpi",
    metavar="MPI",
    help="auto, system, openmpi, mpich, impi-rt, or an mpiexec. [default: auto]",
)
@click.option(
    "--gpu",
    type=click.Choice(["required", "optional"]),
    help="Use the machine's GPU; optional: go without one where there is none.",
)
@click.option(
    "--resume",
    metavar="RUN|PATH",
    help="Go on from a run's newest snapshot, or from a snapshot file or folder.",
)
@click.option(
    "--input",
    "inputs",
    multiple=True,
    metavar="NAME=STORE[/PATH]",
    help="Data of a datastore; '$AZUREML_DATAREFERENCE_NAME' says where it is.",
)
@click.option("--target", metavar="NAME", help="Compute target. [default: local]")
@click.option("--vm-size", metavar="SIZE", help="Make nodes of this size for the run alone.")
@click.option(
    "--vm-priority",
    type=click.Choice(["dedicated", "lowpriority"]),
    help="Priority among runs on the same nodes; lowpriority yields to dedicated.",
)
@click.option(
    "--time-limit", callback=_seconds, metavar="TIME", help="End the script after 90, 15m, 1h30m."
)
@click.option("--grace", callback=_seconds, default="10s", metavar="TIME", show_default=True,
              help="Time between SIGTERM and SIGKILL.")  # fmt: skip
@click.option(
    "--stall-after",
    "stall",
    callback=_seconds,
    metavar="TIME",
    help="End the script if it shows no sign of progress for so long.",
)
@click.option("--tag", "tags", multiple=True, metavar="NAME=VALUE", help="Label for the run.")
@click.option("-d", "--detach", is_flag=True, help="Return at once; the run goes on.")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing but the script's own output.")
@click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object at the end, on stdout."
)
@click.option("--dry-run", is_flag=True, help="Print what would be started; start nothing.")
@click.argument("source", metavar="SCRIPT | FOLDER SCRIPT")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[ARGUMENTS]...")
def command(
    experiment: str | None,
    framework_version: str | None,
    pip: tuple[str, ...],
    conda: tuple[str, ...],
    channel: tuple[str, ...],
    requirements: str | None,
    conda_file: str | None,
    python: str | None,
    as_of: str | None,
    lock: str | None,
    env: tuple[str, ...],
    user_managed: bool,
    docker: bool | None,
    image: str | None,
    pull: bool,
    shm_size: str | None,
    processes: int | None,
    node_count: int,
    mpi: str | None,
    gpu: str | None,
    resume: str | None,
    inputs: tuple[str, ...],
    target: str | None,
    vm_size: str | None,
    vm_priority: str | None,
    time_limit: float | None,
    grace: float,
    stall: float | None,
    tags: tuple[str, ...],
    detach: bool,
    quiet: bool,
    as_json: bool,
    dry_run: bool,
    source: str,
    arguments: tuple[str, ...],
) -> None:
    """Run a training script; its output and exit code are this command's.

    SCRIPT runs with a private copy of its folder as current folder; with FOLDER, of that folder.
    Options stand before SCRIPT, what follows SCRIPT is the script's own.

    \b
    rechain run --framework-version 7.0.0 --pip scikit-learn train.py --epoch 5
    rechain run --user-managed -n 2 --time-limit 2h code train.py
    rechain run --detach --target lab --gpu required train.py

    \b
    Exit codes: the script's own; 2 wrong usage; 124 time limit or stalled;
    125 it could not be started: a value that does not fit here, environment,
    input or Rechain itself; 128+n it died of signal n.

    \b
    Ctrl-C cancels the run (130) and SIGTERM too (143); a second one kills it.
    It goes on when the terminal closes, or nobody reads its output any more.
    """  # noqa: D301
    from rechain.cli.attend import Attendant
    from rechain.estimator import Chainer
    from rechain.workspace.experiment import Experiment
    from rechain.workspace.submit import prepare

    if image is not None and not image.strip():
        raise click.UsageError(
            "--image is empty: name an image, or use --docker for Rechain's own"
        )
    if image is not None and docker is False:
        raise click.UsageError(
            "--image runs in a container, and --no-docker in none: leave one out"
        )
    if pull and not docker and image is None:
        raise click.UsageError("--pull fetches the image of a container: add --docker or --image")
    for option, given in (("--lock", lock), ("--conda-file", conda_file)):
        if given and framework_version:
            raise click.UsageError(
                f"--framework-version means nothing with {option}, which has its own"
            )
    if channel and not conda:
        raise click.UsageError("--channel is where packages of conda come from: add --conda")
    if user_managed and framework_version:
        raise click.UsageError(
            "--framework-version means nothing with --user-managed, which takes the Chainer that "
            "is installed there"
        )
    folder, script, rest = _locate(source, arguments)
    estimator = Chainer._of(
        folder,
        compute_target=target or (None if vm_size else "local"),
        vm_size=vm_size,
        vm_priority=vm_priority,
        entry_script=script,
        node_count=node_count,
        distributed_training=_mpi(processes, node_count, mpi),
        framework_version=framework_version,
        pip_packages=list(pip) or None,
        pip_requirements_file=requirements,
        conda_packages=list(conda) or None,
        conda_dependencies_file=conda_file,
        environment_variables=pairs(env, "--env") or None,
        user_managed=user_managed,
        use_gpu=gpu is not None,
        use_docker=bool(docker) or image is not None,
        custom_docker_image=image,
        shm_size=shm_size,
        resume_from=resume,
        inputs=_references(inputs),
        max_run_duration_seconds=time_limit,
    )
    name = experiment or _experiment_name(folder)
    submission = prepare(
        Experiment(workspace(), name),
        estimator,
        tags=pairs(tags, "--tag"),
        arguments=list(rest),
        python=python,
        grace_seconds=grace,
        stall_seconds=stall,
        mpi=mpi,
        gpu=gpu,
        as_of=as_of,
        lock=lock,
        channels=channel,
        pull=pull,
    )
    if dry_run:
        _show_plan(submission.plan(), as_json)
        return
    with Attendant(as_json, quiet) as attendant:
        run = attendant.run = submission.start()
        if detach:
            _say_detached(run, as_json, quiet)
            return
        if not as_json:
            attendant.say(colored(f"{run.id} · {submission.summary}", "dim", err=True))
        attendant.follow()
        sys.exit(attendant.conclude())


def _mpi(processes: int | None, node_count: int, mpi: str | None) -> Mpi | None:
    if processes is None and node_count == 1 and mpi is None:
        return None
    from rechain.estimator import Mpi

    return Mpi._of(process_count_per_node=processes or 1)  # type: ignore[no-any-return]


def _locate(source: str, arguments: tuple[str, ...]) -> tuple[str, str, tuple[str, ...]]:
    if os.path.isdir(source):
        if not arguments:
            raise click.UsageError(f"{source} is a folder: name the script in it as well")
        return source, arguments[0], arguments[1:]
    return os.path.dirname(source) or ".", os.path.basename(source), arguments


def _experiment_name(folder: str) -> str:
    name = os.path.basename(os.path.abspath(folder))
    kept = "".join(letter if letter.isalnum() or letter in "_-" else "-" for letter in name)
    kept = kept.lstrip("_-")[:100]
    while len(kept.encode()) > 100:
        kept = kept[:-1]
    return kept or "default"


def _show_plan(plan: dict[str, Any], as_json: bool) -> None:
    if as_json:
        import json

        click.echo(json.dumps(plan, indent=2))
        return
    import shlex

    from rechain.workspace.details import ranks_in_words
    from rechain.workspace.resuming import in_words

    submission = plan["submission"]
    contained = "image" in plan["environment"] and plan["pool"] is None
    rows = [
        ("target", submission["target"]),
        ("source", plan["source"]),
        ("command", shlex.join(submission["command"])),
        *(("resumes", in_words(facts)) for facts in [plan["resumed"]] if facts),
        ("environment", _environment(plan["environment"])),
        *(("image", text) for text in _image_words(plan["environment"])),
        *(("ranks", text) for text in ranks_in_words(plan["distribution"], contained)),
        *(("nodes", text) for text in _pool_words(plan["pool"])),
        *(("mpi", text) for text in _mpi_words(plan["environment"])),
        *(("gpu", text) for text in _gpu_words(plan["environment"])),
        *(("package", text) for text in plan["environment"].get("pip", ())),
        *(("conda", text) for text in _conda_words(plan["environment"])),
        *(("variable", f"{name}={text}") for name, text in submission["environment"].items()),
        *(("variable", f"{name} (not shown)") for name in plan["secrets"]),
        ("time limit", _limit(plan["limits"])),
        ("supervisor", shlex.join(submission["argv"])),
        *(("note", text) for text in plan["notes"]),
    ]
    for name, text in rows:
        click.echo(f"{colored(name.ljust(12), 'dim')} {printable(text)}")
    if submission["script"]:
        click.echo(f"\n{submission['script']}")
    if plan["environment"].get("image", {}).get("built"):
        from rechain.environment.image import context

        click.echo(f"\n{context.planned(plan['environment'])}", nl=False)


def _environment(wanted: dict[str, Any]) -> str:
    if wanted["kind"] == "user-managed":
        return f"{wanted['python']} as it is"
    from rechain.environment.spec import shown

    python = f", Python {wanted['python']}" if wanted.get("python") else ""
    as_of = f", as of {wanted['as_of']}" if "as_of" in wanted else ""
    locked = f", locked as {wanted['lock']['digest'][:12]}" if "lock" in wanted else ""
    return f"{shown(wanted)}{python}{as_of}{locked}"


def _image_words(wanted: dict[str, Any]) -> list[str]:
    image = wanted.get("image")
    if image is None:
        return []
    how = "with the environment in it" if image["built"] else "as it is"
    return [f"{image.get('asked') or image['reference'] or 'of the recipe'}, {how}"]


def _mpi_words(wanted: dict[str, Any]) -> list[str]:
    mpi = wanted.get("mpi")
    if not mpi:
        return []
    return [f"{mpi['wanted']}: {mpi['mpiexec'] or 'from the package index'}"]


def _conda_words(wanted: dict[str, Any]) -> list[str]:
    conda = wanted.get("conda", {"packages": (), "channels": ()})
    return [*conda["packages"], *(f"from {channel}" for channel in conda["channels"])]


def _gpu_words(wanted: dict[str, Any]) -> list[str]:
    return [wanted["gpu"]["wanted"]] if "gpu" in wanted else []


def _pool_words(pool: dict[str, Any] | None) -> list[str]:
    if pool is None:
        return []
    size = pool["vm_size"]
    each = f"{pool['cpus']} CPUs, {pool['memory_gib']:g} GiB, {pool['gpus']} GPUs" if size else ""
    known = f"{size} ({each})" if size else "no limits"
    return [f"{pool['max_nodes']} in all, {pool['priority']}, {known}"]


def _limit(limits: dict[str, Any]) -> str:
    grace = f"then {duration(limits['grace_seconds'])} to end by itself"
    return f"{duration(limits['seconds'])}, {grace}" if limits["seconds"] else "none"


def _say_detached(run: Run, as_json: bool, quiet: bool) -> None:
    if as_json:
        import json

        click.echo(
            json.dumps({"run_id": run.id, "status": run.get_status(), "folder": run.folder})
        )
    elif quiet:
        click.echo(run.id)
    else:
        click.echo(run.id)
        click.echo(f"  follow it with:  rechain logs -f {run.id}", err=True)
        click.echo(f"  end it with:     rechain cancel {run.id}", err=True)
        if note := run.submission().get("handle", {}).get("note"):
            click.echo(f"  note: {note}", err=True)
