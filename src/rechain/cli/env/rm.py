"""`rechain env rm`: remove environments."""

from __future__ import annotations

import click

from rechain.cli.env.shared import find_stored

__all__ = ["command"]


@click.command("rm", short_help="Remove environments that are built.")
@click.argument("environments", nargs=-1, required=True, metavar="ENVIRONMENT...")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
def command(environments: tuple[str, ...], yes: bool) -> None:
    """Remove environments; a run that asks for one again has it built again, the same.

    One that a run is using is refused.
    """
    from rechain.environment import locks, store, stored
    from rechain.exceptions import UserErrorException
    from rechain.record.journal import fold
    from rechain.record.paths import RunPaths

    found = {one.name: one for one in map(find_stored, environments)}
    for one in found.values():
        if one.shells:
            raise UserErrorException(
                f"{one.name[:12]} is used by a shell: process {one.shells[0]}"
            )
        for root in one.runs:
            if fold(RunPaths(root)).end is None:
                raise UserErrorException(
                    f"{one.name[:12]} is used by a run that has not ended: {root}"
                )
    if not yes:
        lines = [f"{one.name[:12]}  {locks.shown(one.lock)}" for one in found.values()]
        click.confirm("Remove?\n  " + "\n  ".join(lines) + "\n", abort=True)
    for one in found.values():
        stored.remove(store.cache_root(), one)
        click.echo(f"removed {one.name[:12]}")
