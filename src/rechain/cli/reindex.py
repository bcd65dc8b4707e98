"""`rechain reindex`: rebuild the list of runs."""

from __future__ import annotations

import click

from rechain.cli.shared import workspace

__all__ = ["command"]


@click.command("reindex", short_help="Rebuild the list of runs from their folders.")
def command() -> None:
    """Rebuild the index, after run folders were copied in, moved or deleted by hand."""
    from rechain.record import index

    count = index.rebuild(workspace()._paths)
    click.echo(f"{count} run{'s' if count != 1 else ''}")
