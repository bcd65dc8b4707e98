"""`rechain target add | show | rm | check`: the compute targets of the workspace."""

from __future__ import annotations

import click

from rechain.cli.shared import Verbs, colored, printable, workspace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["command"]


@click.group("target", cls=Verbs, short_help="Add, show, remove or check a compute target.")
def command() -> None:
    """Add, show, remove or check a compute target; `rechain targets` lists them."""


@command.command("add", short_help="Make a cluster known by a name.")
@click.argument("name")
@click.option("--slurm", is_flag=True, required=True, help="It is a Slurm cluster.")
@click.option("--partition", metavar="NAME", help="Partition; the cluster's default by default.")
@click.option("--qos", metavar="NAME", help="QOS.")
@click.option("--account", metavar="NAME", help="Account that jobs are charged to.")
@click.option("--lowpriority-partition", metavar="NAME",
              help="Partition of runs with --vm-priority lowpriority.")  # fmt: skip
@click.option("--lowpriority-qos", metavar="NAME", help="QOS of such runs.")
@click.option(
    "--vm-size", "vm_sizes", multiple=True, metavar="NAME[=KEY:VALUE,...]",
    help="What a size means here, by the keys cpus, memory (GiB), gres, constraint and partition; "
    "repeatable. A NAME alone is the size of runs that name none.",
)  # fmt: skip
@click.option("--prologue", metavar="FILE",
              help="Shell file that every job sources first, as for `module load`.")  # fmt: skip
@click.option("--store", metavar="DIR",
              help="Folder of environments that the nodes see. [default: the cache]")  # fmt: skip
@click.option("--node-store", metavar="DIR",
              help="Folder on each node's own disk, to which environments are unpacked, such as "
              "/local/scratch or '$TMPDIR'. [default: they are read from the store]")  # fmt: skip
@click.option("--prepare", type=click.Choice(["job", "here"]), default="job", show_default=True,
              help="Build environments on the node, or here before submitting.")  # fmt: skip
@click.option("--mpi", type=click.Choice(["auto", "srun:pmix", "srun:pmi2", "mpirun"]),
              default="auto", show_default=True, help="What starts ranks.")  # fmt: skip
@click.option("--secrets", metavar="FILE",
              help="File of NAME=VALUE lines, mode 600, for secret variables.")  # fmt: skip
@click.option("--python", metavar="PATH",
              help="Python of the nodes that runs Rechain. [default: this one]")  # fmt: skip
@click.option("--sbatch-option", "options", multiple=True, metavar="OPTION",
              help="Further option of sbatch, such as --sbatch-option=--exclusive.")  # fmt: skip
@click.option("--default", is_flag=True,
              help="An AmlCompute made from now on is a share of this cluster.")  # fmt: skip
def add(name: str, slurm: bool, vm_sizes: tuple[str, ...], **settings: Any) -> None:
    """Make a cluster known as NAME, or change what is known of it.

    Nothing is asked of the cluster; `rechain target check NAME` does that.
    """
    from rechain.workspace.compute_target import ComputeTarget
    from rechain.workspace.slurm_compute import SlurmCompute, size_from_text

    alone = [text for text in vm_sizes if "=" not in text]
    sizes = dict(size_from_text(text) for text in vm_sizes if "=" in text)
    if len(alone) > 1:
        raise click.UsageError(f"--vm-size {alone[1]}: one size can be the default, not two")
    configuration = SlurmCompute.attach_configuration(
        vm_size=alone[0] if alone else None, vm_sizes=sizes, **settings
    )
    here = workspace()
    ComputeTarget.attach(here, name, configuration)
    click.echo(f"{name}: `rechain run --target {name} SCRIPT` runs there")
    for note in configuration.notes():
        click.echo(f"note: {printable(note)}", err=True)


@command.command("check", short_help="Try a cluster out.")
@click.argument("name")
@click.option("--wait", "seconds", type=click.FloatRange(1), default=300, show_default=True,
              metavar="SECONDS", help="How long its job may wait in the queue.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def check(name: str, seconds: float, as_json: bool) -> int:
    """Try the target NAME out with a small job: files, Python, packages, limits, time to start.

    The exit code is 1 if something is so that runs will fail.
    """
    from rechain.workspace.compute_target import ComputeTarget
    from rechain.workspace.slurm_compute import SlurmCompute

    target = ComputeTarget(workspace(), name)
    if not isinstance(target, SlurmCompute):
        click.echo(f"{name} is a pool of this machine: there is nothing to check")
        return 0
    found = []
    for finding in target.check(seconds):
        found.append(finding)
        if not as_json:
            mark, color = _MARKS[finding.good]
            line = f"{colored(mark, color)}  {finding.what.ljust(10)}  {printable(finding.words)}"
            click.echo(line)
    if as_json:
        import json

        click.echo(json.dumps([vars(finding) for finding in found]))
    return int(any(finding.good is False for finding in found))


def _words(value: Any) -> str:
    if not isinstance(value, dict):
        return str(value)
    return ", ".join(f"{key} {it:g}" if isinstance(it, float) else f"{key} {it}"
                     for key, it in value.items())  # fmt: skip


@command.command("show", short_help="Show a target.")
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show(name: str, as_json: bool) -> None:
    """Show what is known of the target NAME."""
    from rechain.workspace.compute_target import ComputeTarget

    here = workspace()
    found = ComputeTarget(here, name).serialize()
    if as_json:
        import json

        click.echo(json.dumps(found))
        return
    rows = [("target", name), ("kind", found["type"])]
    for key, value in found.items():
        if key in ("name", "type", "schema", "created") or value in (None, False, "", [], {}):
            continue
        shown = key.replace("_", " ")
        if isinstance(value, dict):
            rows += [
                (key.replace("_", " "), f"{part}: {_words(it)}") for part, it in value.items()
            ]
        elif isinstance(value, list):
            rows += [(shown, str(it)) for it in value]
        else:
            rows.append((shown, str(value)))
    rows.append(("file", here._paths.compute_target(name)))
    columns = max(len(key) for key, _ in rows)
    for key, text in rows:
        click.echo(f"{colored(key.ljust(columns), 'dim')}  {printable(text)}")


@command.command("rm", short_help="Forget a target.")
@click.argument("name")
def rm(name: str) -> None:
    """Forget the target NAME. Runs that are there go on."""
    from rechain.workspace.compute_target import ComputeTarget

    ComputeTarget(workspace(), name).delete()
    click.echo(f"{name} is forgotten; its runs go on")


_MARKS: dict[bool | None, tuple[str, str]] = {
    True: ("ok  ", "green"),
    None: ("note", "dim"),
    False: ("FAIL", "red"),
}
