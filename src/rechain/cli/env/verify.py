"""`rechain env verify`: whether an environment is what was installed."""

from __future__ import annotations

import click

from rechain.cli.env.shared import find_stored
from rechain.cli.shared import colored, printable

__all__ = ["command"]


@click.command("verify", short_help="Compare an environment's files with what was installed.")
@click.argument("environment")
def command(environment: str) -> int:
    """Compare each file of an environment with what was installed, and its packages with the lock.

    The exit code is 1 if something differs.
    """
    from rechain.environment import stored

    found = find_stored(environment)
    wrong = stored.verify(found)
    for line in wrong[:20]:
        click.echo(f"{colored('FAIL', 'red')}  {printable(line)}")
    if len(wrong) > 20:
        click.echo(f"and {len(wrong) - 20} more")
    if wrong:
        click.echo(f"remove it with: rechain env rm {found.name[:12]}", err=True)
        return 1
    click.echo(f"{found.name[:12]}: {len(found.lock['packages'])} packages are as installed")
    return 0
