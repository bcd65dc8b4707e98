"""`rechain import`: runs out of a file that `rechain export` wrote."""

from __future__ import annotations

import click

from rechain.cli.shared import workspace

__all__ = ["command"]


@click.command("import", short_help="Take in runs that were exported.")
@click.argument("file", metavar="FILE")
def command(file: str) -> None:
    """Take the runs of FILE into the workspace; print their ids.

    A run that is there already is left as it is.
    """
    from rechain.workspace.archive import import_runs

    new, there = import_runs(workspace(), file)
    for run in new:
        click.echo(run)
    for run in there:
        click.echo(f"{run} is there already and was left as it is", err=True)
