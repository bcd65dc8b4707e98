"""`rechain env import`: lock what another tool's file asks for."""

from __future__ import annotations

import os

import click

from rechain.cli.env.shared import failures, say, wishes, write_lock

__all__ = ["command"]


@click.command("import", short_help="Lock what another tool's file asks for.")
@click.argument("file")
@wishes
def command(
    file: str, python: str | None, as_of: str | None, mpi: str | None, output: str | None
) -> None:
    """Resolve what FILE asks for and write the lock, to stdout or to a file.

    FILE is a requirements.txt (or any other name), an environment.yml of conda, a Pipfile.lock or
    a .runconfig. With Chainer among its pip packages, that version's recipe holds.
    """
    from rechain.environment import store
    from rechain.environment.conda.asked import conda_setting
    from rechain.environment.prepare import resolved
    from rechain.environment.spec import mpi_setting, venv_spec
    from rechain.estimator import importing

    asked = importing.read(file)
    recipe, pip, notes = importing.recipe_for(asked, as_of)
    setting = mpi_setting(mpi, os.environ) if mpi else None
    conda, named, said = conda_setting(asked.conda, asked.channels, os.environ)
    spec = venv_spec(
        recipe,
        python or named or asked.python,
        pip,
        mpi=setting,
        as_of=as_of,
        constraints=asked.constraints,
        conda=conda,
    )
    for note in (*asked.notes, *notes, *said, *spec.pop("notes")):
        say(f"note: {note}")
    with failures():
        lock, _ = resolved(spec, store.cache_root(), say)
    importing.check_hashes(asked, lock["packages"], file)
    for note in lock["notes"]:
        say(f"note: {note}")
    write_lock(lock, output)
