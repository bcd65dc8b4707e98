"""`rechain files`: what a run made."""

from __future__ import annotations

import os

import click

from rechain.cli.shared import RUN, colored, find_run, printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rechain.workspace import Run

__all__ = ["command"]


@click.command("files", short_help="List or copy a run's files.")
@RUN
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("-o", "--output", metavar="PATH", help="Copy the named files here.")
@click.option("--send", is_flag=True, help="Send what is not yet in the outputs' datastores.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    run: str, names: tuple[str, ...], output: str | None, send: bool, as_json: bool
) -> None:
    """List the files of RUN, the newest by default, with kind and size; or copy those named.

    What a run writes to datastores is sent while it goes on, and the rest at its end. --send is
    for what was left: after `cancel --kill`, or when the datastore could not be reached.
    """
    from rechain.exceptions import UserErrorException
    from rechain.workspace import files

    if send and (names or output):
        raise click.UsageError("--send is for all outputs: leave out NAME and --output")
    found = find_run(run)
    if send:
        _send(found)
        return
    if names:
        if len(names) > 1 and output and not os.path.isdir(output):
            raise UserErrorException(f"{output} is no folder: several files need one")
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


def _send(run: Run) -> None:
    from rechain.exceptions import UserErrorException
    from rechain.record.causes import TERMINAL
    from rechain.workspace.reconcile import send_outputs

    if run.get_status() not in TERMINAL:
        raise UserErrorException(f"{run.id} has not ended: it sends its outputs itself")
    if not send_outputs(run._paths, run._job, attended=True):
        raise UserErrorException(f"not all outputs of {run.id} could be sent")
    click.echo(f"all outputs of {run.id} are in their datastores")


def _size(count: int) -> str:
    size = float(count)
    for unit in ("B", "KB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"
