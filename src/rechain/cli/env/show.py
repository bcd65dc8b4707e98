"""`rechain env show`: what v1's documentation lists, against what is here."""

from __future__ import annotations

import os
import re

import click

from rechain.cli.env.shared import find_lock
from rechain.cli.shared import colored, fit, printable
from rechain.exceptions import UserErrorException

__all__ = ["command"]

_COLORS = {"same": "green", "newer": "green", "provided by Rechain": "cyan", "older": "yellow"}


@click.command("show", short_help="Compare an environment with v1's documentation.")
@click.argument("environment", metavar="VERSION | ENVIRONMENT", default="latest")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(environment: str, as_json: bool) -> None:
    """Compare what v1's documentation lists for its images with what is here.

    VERSION is one of Chainer that it has a table for, 5.1.0 or 7.0.0: what an environment for it
    would have. An ENVIRONMENT or a run, `latest` by default, shows what that one has.
    """
    from rechain.environment import documented

    machine = documented.on_this_machine()
    if environment in documented.versions():
        rows = documented.of_version(environment, machine)
    elif re.fullmatch(r"\d+(\.\d+)+", environment) and not os.path.exists(environment):
        raise UserErrorException(
            f"v1 documents no image of Chainer {environment}, only of "
            f"{' and '.join(documented.versions())}; name one of these, an environment or a run."
        )
    else:
        lock = find_lock(environment)
        rows = documented.of_lock(lock, machine, lock.image)
    if as_json:
        import json

        click.echo(json.dumps([row._asdict() for row in rows]))
        return
    head = ("", "v1 documents", "here", "")
    widths = [max(len(row[at]) for row in (head, *rows)) for at in range(4)]
    click.echo(colored("  ".join(map(fit, head, widths)).rstrip(), "dim"))
    for row in rows:
        name, there, here, state = (fit(row[at], widths[at]) for at in range(4))
        state = colored(state, _COLORS.get(row.state, "dim"))
        click.echo(f"{name}  {there}  {printable(here)}  {state}  {colored(row.why, 'dim')}")
