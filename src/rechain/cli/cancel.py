"""`rechain cancel`: end runs."""

from __future__ import annotations

import click

from rechain.cli.shared import find_run, printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rechain.workspace import Run

__all__ = ["command"]


@click.command("cancel", short_help="End runs.")
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
@click.option("--kill", is_flag=True, help="Without the grace period.")
@click.option("--wait/--no-wait", default=True, show_default=True, help="Until they have ended.")
def command(runs: tuple[str, ...], kill: bool, wait: bool) -> None:
    """End each RUN: SIGTERM, a grace period, SIGKILL, to every process of it."""
    from functools import partial

    from rechain.record.causes import TERMINAL
    from rechain.record.follow import follow
    from rechain.record.requests import ask_to_stop

    told = set()

    def look(run: Run) -> str:
        waits, silence = run._look()  # which takes it out of a queue, if it waits in one
        if silence and run.id not in told:
            told.add(run.id)
            trying = "still trying; Ctrl-C leaves it" if wait else "it is asked to end"
            click.echo(printable(f"{run.id}  {silence}; {trying}"), err=True)
        return waits

    found = [find_run(run) for run in runs]
    ended = set()
    for run in found:
        if run.get_status() in TERMINAL:
            ended.add(run.id)
        else:
            ask_to_stop(run._paths, at_once=kill)
            look(run)
    for run in found:
        if wait:
            for _ in follow(run._paths, partial(look, run), output=False):
                pass
        already = " (had ended already)" if run.id in ended else ""
        click.echo(f"{run.id}  {run.cause or run.get_status()}{already}")
