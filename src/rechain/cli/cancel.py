"""`rechain cancel`: end runs."""

from __future__ import annotations

import click

from rechain.cli.shared import Look, find_run

__all__ = ["command"]


@click.command("cancel", short_help="End runs.")
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
@click.option("--kill", is_flag=True, help="Without the grace period.")
@click.option(
    "--wait/--no-wait", default=True, show_default=True, help="Wait until they have ended."
)
def command(runs: tuple[str, ...], kill: bool, wait: bool) -> None:
    """End each RUN: SIGTERM, a grace period, SIGKILL, to every process of it."""
    from rechain.record.causes import TERMINAL
    from rechain.record.follow import follow
    from rechain.record.journal import fold
    from rechain.record.requests import ask_to_stop

    trying = "still trying; Ctrl-C leaves it" if wait else "it is asked to end"
    looks = [Look(find_run(run), trying) for run in runs]
    ended = set()
    for look in looks:
        look()  # it may have ended without a word
        run = look.run
        if fold(run._paths).status in TERMINAL:
            ended.add(run.id)
        else:
            ask_to_stop(run._paths, at_once=kill)
            look()  # which takes it out of a queue, if it waits in one
    for look in looks:
        run = look.run
        if wait:
            for _ in follow(run._paths, look, output=False):
                pass
        already = " (had ended already)" if run.id in ended else ""
        click.echo(f"{run.id}  {run.cause or run.get_status()}{already}")
