"""`rechain replay`: a run once more."""

from __future__ import annotations

import sys

import click

from rechain.cli.run import pairs
from rechain.cli.shared import RUN, colored, find_run

__all__ = ["command"]


@click.command("replay", short_help="Run a recorded run once more.")
@RUN
@click.option("--verify", is_flag=True, help="Compare what comes out, and say what differs.")
@click.option(
    "--env", "env", multiple=True, metavar="NAME[=VALUE]",
    help="Variable with another value than it had.",
)  # fmt: skip
@click.option("--target", metavar="NAME", help="Compute target; the run's own if left out.")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing but the script's own output.")
@click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object at the end, on stdout."
)
def command(
    run: str, verify: bool, env: tuple[str, ...], target: str | None, quiet: bool, as_json: bool
) -> None:
    """Run RUN, the newest by default, once more as a new run.

    It has the same snapshot, lock, arguments and variables.

    An environment that is gone is built again from its lock. Secret variables are recorded
    nowhere: set them before. Exit codes are those of `rechain run`; with --verify it is 1 if the
    script succeeded and what came out is not the same.
    """
    from rechain.cli.attend import Attendant
    from rechain.cli.diff import in_words
    from rechain.workspace.differences import check_ended
    from rechain.workspace.replay import prepare_replay

    first = find_run(run)
    if verify:
        check_ended(first)
    prepared = prepare_replay(first, pairs(env, "--env"), target)
    with Attendant(as_json, quiet) as attendant:
        second = attendant.run = prepared.start()
        if not as_json:
            text = f"{second.id} · replay of {first.id} · {prepared.summary}"
            attendant.say(colored(text, "dim", err=True))
        attendant.follow()
        found = first.differences(second) if verify else None
        code = attendant.conclude({"replayed": first.id, "differences": found})
        if found is not None:
            for line in [] if as_json else in_words(found, first, second):
                attendant.say(line)
            code = code or int(not found["same"])
        sys.exit(code)
