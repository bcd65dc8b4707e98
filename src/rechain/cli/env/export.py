"""`rechain env export`: an environment to take elsewhere."""

from __future__ import annotations

import os

import click

from rechain.cli.env.shared import failures, find_lock, say, write_lock

__all__ = ["command"]


@click.command("export", short_help="Write an environment's lock, or all its wheels.")
@click.argument("environment")
@click.option("-o", "--output", metavar="FILE", help="Write the lock here.")
@click.option("--wheelhouse", metavar="DIR", help="Put the lock and all its wheels here.")
def command(environment: str, output: str | None, wheelhouse: str | None) -> None:
    """Write the lock of an environment: to stdout, to a file, or with all its wheels to a folder.

    From such a folder the same environment is made without a network: `rechain env build DIR`,
    `rechain run --lock DIR`.
    """
    lock = find_lock(environment)
    if wheelhouse is None:
        write_lock(lock, output)
        return
    if output is not None:
        raise click.UsageError("--output and --wheelhouse: the lock is in the wheelhouse already")
    from rechain.environment import locks, store
    from rechain.environment.prepare import prepare
    from rechain.environment.wheelhouse import export
    from rechain.exceptions import UserErrorException

    try:
        with failures():
            cache = store.cache_root()
            made = prepare(locks.lock_spec(lock, os.environ), cache, say)
            export(made, os.path.abspath(wheelhouse), cache, say)
    except OSError as error:
        raise UserErrorException(
            f"{wheelhouse} cannot be written: {error.strerror}", error
        ) from error
    click.echo(f"{wheelhouse}: rechain env build {wheelhouse}")
