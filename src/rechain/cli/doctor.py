"""`rechain doctor`: what works on this machine, and what to install or fix."""

from __future__ import annotations

import os
import sys

import click

from rechain.cli.shared import colored, printable

__all__ = ["command"]

_COLORS = {"works": "green", "missing": "dim", "broken": "yellow", "needed": "red"}


@click.command("doctor", short_help="Say what works here, and what to fix.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(as_json: bool) -> None:
    """Probe this machine: Pythons, package index, container engines, GPUs, MPI, Slurm.

    What is missing may not be needed; what is broken does not work as it is. The exit code is 1
    if nothing can run at all.
    """
    from rechain.environment import store
    from rechain.environment.doctor import examine

    checks = examine(os.environ, store.cache_root())
    if as_json:
        import json

        click.echo(json.dumps([check._asdict() for check in checks]))
    else:
        widest = max(len(check.name) for check in checks)
        for check in checks:
            state = colored(check.state.ljust(8), _COLORS[check.state])
            click.echo(f"{check.name.ljust(widest)}  {state} {printable(check.says)}")
            if check.hint:
                click.echo(f"{' ' * (widest + 11)}{colored(printable(check.hint), 'dim')}")
    sys.exit(any(check.state == "needed" for check in checks))
