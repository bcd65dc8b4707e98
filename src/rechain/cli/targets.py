"""`rechain targets`: where runs can go."""

from __future__ import annotations

import click

from rechain.cli.shared import colored, fit, printable, width, workspace

__all__ = ["command"]


@click.command("targets", short_help="List the compute targets.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(as_json: bool) -> None:
    """List the compute targets of the workspace."""
    from rechain.workspace.compute_target import ComputeTarget

    found = [target.serialize() for target in ComputeTarget.list(workspace())]
    if as_json:
        import json

        click.echo(json.dumps(found))
        return
    cells = [("target", "kind", ""), ("local", "this machine", "as it is")]
    cells += [(target["name"], _kind(target), _summary(target)) for target in found]
    widths = [max(map(width, column)) for column in zip(*cells, strict=True)]
    for number, line in enumerate(cells):
        text = "  ".join(
            fit(printable(cell), columns) for cell, columns in zip(line, widths, strict=True)
        )
        click.echo(text.rstrip() if number else colored(text.rstrip(), "dim"))


def _kind(target: dict[str, object]) -> str:
    return "Slurm" if target["type"] == "Slurm" else "nodes of this machine"


def _summary(target: dict[str, object]) -> str:
    if target["type"] == "Slurm":
        return f"partition {target['partition']}" if target["partition"] else "default partition"
    size = f" of {target['vm_size']}" if target["vm_size"] else ""
    return f"up to {target['max_nodes']}{size}, {target['vm_priority']}"
