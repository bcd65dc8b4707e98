"""`rechain files`: what a run made."""

from __future__ import annotations

import os

import click

from rechain.cli.shared import RUN, colored, find_run, printable

__all__ = ["command"]


@click.command("files", short_help="List or copy a run's files.")
@RUN
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("-o", "--output", metavar="PATH", help="Copy the named files here.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(run: str, names: tuple[str, ...], output: str | None, as_json: bool) -> None:
    """List the files of RUN with their kind and size, or copy those named."""
    from rechain.workspace import files

    found = find_run(run)
    if names:
        if len(names) > 1 and output and not os.path.isdir(output):
            raise click.UsageError(f"{output} is no folder: several files need one")
        for name in names:
            found.download_file(name, output)
        return
    listing = files.listing(found._paths)
    if as_json:
        import json

        click.echo(json.dumps([file._asdict() for file in listing]))
        return
    if not listing:
        click.echo("no files", err=True)
    for file in listing:
        rank = "" if file.rank is None else colored(f"  rank {file.rank}", "dim")
        click.echo(f"{file.kind:<10} {_size(file.size):>9}  {printable(file.name)}{rank}")
    if listing:
        click.echo(colored(f"\nin {printable(found.folder)}", "dim"))


def _size(count: int) -> str:
    size = float(count)
    for unit in ("B", "KB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"
