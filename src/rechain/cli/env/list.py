"""`rechain env list`: the environments that are built."""

from __future__ import annotations

import time

import click

from rechain.cli.shared import age, printable

__all__ = ["command"]


@click.command("list", short_help="List the environments that are built.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(as_json: bool) -> None:
    """List the environments that are built, the newest first."""
    from rechain.environment import locks, store, stored

    found = stored.all_stored(store.cache_root())
    if as_json:
        import json

        rows = [
            {
                "digest": one.lock["digest"],
                "folder": one.prefix,
                "bytes": stored.size(one),
                "made": one.made,
                "runs": one.runs,
                "shells": one.shells,
                "recipe": one.lock["recipe"],
                "python": one.lock["interpreter"]["version"],
                "as_of": one.lock["as_of"],
            }
            for one in found
        ]
        click.echo(json.dumps(rows))
        return
    if not found:
        click.echo("no environments", err=True)
    for one in found:
        runs = f"{len(one.runs)} run{'s' * (len(one.runs) != 1)}"
        size = f"{stored.size(one) / 1e6:.0f} MB"
        line = f"{one.name[:12]}  {age(time.time() - one.made):>10}  {size:>8}  {runs:>8}"
        click.echo(f"{line}  {printable(locks.shown(one.lock))}")
