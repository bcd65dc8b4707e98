"""`rechain rm`: delete runs."""

from __future__ import annotations

import os

import click

from rechain.cli.shared import find_run

__all__ = ["command"]


@click.command("rm", short_help="Delete runs.")
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
def command(runs: tuple[str, ...], yes: bool) -> None:
    """Delete each RUN: its folder with all it made, and its line in the index."""
    from rechain.exceptions import UserErrorException
    from rechain.record.causes import TERMINAL

    found = list({run.id: run for run in map(find_run, runs)}.values())
    for run in found:
        if run.get_status() not in TERMINAL:
            raise UserErrorException(
                f"{run.id} has not ended: first end it with: rechain cancel {run.id}"
            )
    if not yes:
        names = "\n  ".join(run.id for run in found)
        click.confirm(f"Delete for good?\n  {names}\n", abort=True)
    for run in found:
        if os.path.exists(run.folder):  # else it went with its parent
            run.delete()
        click.echo(f"deleted {run.id}")
