"""`rechain env lock`: resolve, and write down to what."""

from __future__ import annotations

import os

import click

from rechain.cli.env.shared import failures, say, wishes, write_lock
from rechain.cli.shared import packages

__all__ = ["command"]


@click.command("lock", short_help="Resolve packages, and write the lock.")
@click.option("--framework-version", metavar="VERSION", help="Chainer's version, such as 7.0.0.")
@packages
@wishes
def command(
    framework_version: str | None,
    pip: tuple[str, ...],
    conda: tuple[str, ...],
    channel: tuple[str, ...],
    python: str | None,
    as_of: str | None,
    mpi: str | None,
    output: str | None,
) -> None:
    """Resolve an environment for Chainer and write its lock: to stdout, or to a file.

    The lock stands for the environment wherever one is asked for: `rechain run --lock FILE`.
    """
    from rechain.environment import store
    from rechain.environment.conda.asked import conda_setting
    from rechain.environment.prepare import resolved
    from rechain.environment.spec import mpi_setting, venv_spec
    from rechain.estimator import Chainer

    setting = mpi_setting(mpi, os.environ) if mpi else None
    recipe = f"chainer-{framework_version or Chainer.DEFAULT_VERSION}"
    asked, named, said = conda_setting(conda, channel, os.environ)
    spec = venv_spec(recipe, python or named, pip, mpi=setting, as_of=as_of, conda=asked)
    for note in (*said, *spec.pop("notes")):
        say(f"note: {note}")
    with failures():
        lock, _ = resolved(spec, store.cache_root(), say)
    for note in lock["notes"]:
        say(f"note: {note}")
    write_lock(lock, output)
