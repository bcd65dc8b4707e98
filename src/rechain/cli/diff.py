"""`rechain diff`: in what two runs differ."""

from __future__ import annotations

import sys

import click

from rechain.cli.shared import RUN, find_run, printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rechain.workspace import Run

__all__ = ["command", "in_words"]


@click.command("diff", short_help="Show in what two runs differ.")
@RUN
@click.argument("other", metavar="OTHER")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(run: str, other: str, as_json: bool) -> None:
    """Show in what RUN and OTHER differ: in what they made, and in what went into them.

    Arrays are compared by value, images by pixel, logs and JSON without their times.
    Exit code: 0 if all that they made is the same, else 1.
    """
    first, second = find_run(run), find_run(other)
    found = first.differences(second)
    if as_json:
        import json

        click.echo(json.dumps(found))
    else:
        for line in in_words(found, first, second):
            click.echo(line)
    sys.exit(0 if found["same"] else 1)


def in_words(found: dict[str, Any], first: Run, second: Run) -> list[str]:
    """Return in lines what `Run.differences` found."""
    files = f"{found['compared']} file{'' if found['compared'] == 1 else 's'}"
    if found["same"]:
        lines = [f"the same: {files} and the metrics of {first.id} and {second.id}"]
    else:
        lines = [f"{first.id} and {second.id} differ ({files} compared)"]
        lines += [f"  {row['file']}: {printable(row['text'])}" for row in found["outputs"]]
    if found["changes"]:
        lines.append("what went in and is not the same:")
        lines += [f"  {row['what']}: {printable(row['text'])}" for row in found["changes"]]
    elif not found["same"]:
        lines.append(
            "nothing that is recorded of what went in has changed: is a seed missing, or is the "
            "order of sums left to threads or a GPU?"
        )
    return lines
