"""`rechain env build`: make the environment of a lock."""

from __future__ import annotations

import os

import click

from rechain.cli.env.shared import failures, find_lock, say

__all__ = ["command"]


@click.command("build", short_help="Build the environment of a lock.")
@click.argument("environment")
def command(environment: str) -> None:
    """Build the environment of a lock, unless it is built; print its folder.

    With an exported folder, every wheel comes from there and no network is needed.
    """
    from rechain.environment import locks, store
    from rechain.environment.prepare import prepare

    spec = locks.lock_spec(find_lock(environment), os.environ)
    with failures():
        made = prepare(spec, store.cache_root(), say)
    click.echo(made["prefix"])
