"""`rechain rm`: delete runs."""

from __future__ import annotations

import os

import click

from rechain.cli.shared import Look, find_run

__all__ = ["command"]


@click.command("rm", short_help="Delete runs.")
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.option("--force", is_flag=True, help="Give up a run whose cluster does not answer.")
def command(runs: tuple[str, ...], yes: bool, force: bool) -> None:
    """Delete each RUN: its folder with all it made, and its line in the index."""
    from rechain.exceptions import UserErrorException
    from rechain.record.causes import TERMINAL

    found = list({run.id: run for run in map(find_run, runs)}.values())
    given_up = []
    for run in found:
        with Look(run, "").told_if_slow():
            ended = run.get_status() in TERMINAL
            silence = "" if ended else run._look()[1]
        if ended:
            continue
        if silence and force:
            given_up.append(run)
            continue
        way = (
            f"and {silence}: to give it up: rechain rm --force {run.id}" if silence
            else f"first end it with: rechain cancel {run.id}"
        )  # fmt: skip
        raise UserErrorException(f"{run.id} has not ended{',' if silence else ':'} {way}")
    if not yes:
        names = "\n  ".join(run.id for run in found)
        click.confirm(f"Delete for good?\n  {names}\n", abort=True)
    for run in given_up:
        job = run.submission().get("handle", {}).get("job")
        run._give_up()
        click.echo(f"note: {f'job {job}' if job else 'its job'} may still run on the cluster, "
                   f"under the name {run.id}", err=True)  # fmt: skip
    for run in found:
        if os.path.exists(run.folder):  # else it went with its parent
            run.delete()
        click.echo(f"deleted {run.id}")
