"""`rechain export`: whole runs as one file."""

from __future__ import annotations

import click

from rechain.cli.shared import find_run, printable

__all__ = ["command"]


@click.command("export", short_help="Write runs to one file.")
@click.argument("runs", metavar="RUN...", nargs=-1, required=True)
@click.option(
    "-o", "--output", metavar="FILE", required=True,
    help="The file: .tar, .tar.gz, .tar.xz or (with Python 3.14) .tar.zst.",
)  # fmt: skip
def command(runs: tuple[str, ...], output: str) -> None:
    """Write RUN... to FILE: their folders, their snapshots and the runs that they made.

    Another workspace takes them in with `rechain import`. Not in it: environments, which are
    built from their locks, and data outside of the runs.
    """
    from rechain.workspace.archive import export_runs

    for name in export_runs([find_run(run) for run in runs], output):
        click.echo(f"left out: {printable(name)} (a link out of its run, or no file)", err=True)
    click.echo(output)
