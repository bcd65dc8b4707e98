"""`rechain diff`: in what two runs differ."""

from __future__ import annotations

import sys

import click

from rechain.cli.shared import find_run, printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from rechain.workspace import Run

__all__ = ["command", "in_words"]

_SHOWN = 5  # places in a file
_FILES = 3  # more files than these have one line each


@click.command("diff", short_help="Show in what two runs differ.")
@click.argument("run", metavar="RUN")
@click.argument("other", metavar="OTHER")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(run: str, other: str, as_json: bool) -> None:
    """Show in what RUN and OTHER differ: in what went into them, and in what they made.

    Each is an id, the beginning of one, or `latest`. --json has all places of all files.
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
    if found["same"] and not found["compared"] and not first.get_metrics():
        lines = [f"nothing to compare: {first.id} and {second.id} made no file and no metric"]
    elif found["same"]:
        lines = [f"the same: {files} and the metrics of {first.id} and {second.id}"]
    else:
        lines = [f"{first.id} and {second.id} differ ({files} compared)"]
    if found["same"] and first.cause != "completed":
        lines.append(f"neither got to its end: {first.cause}")
    if found["changes"]:
        lines.append("what went in and is not the same:")
        lines += [f"  {row['what']}: {printable(row['text'])}" for row in found["changes"]]
    elif not found["same"]:
        lines.append(
            "nothing that is recorded of what went in has changed: is a seed missing, or is the "
            "order of sums left to threads or a GPU?"
        )
    if not found["same"]:
        lines += ["what came out and is not the same:", *_made(found["outputs"])]
    return lines


def _made(rows: list[dict[str, str]]) -> Iterator[str]:
    """Yield the lines of what came out: of a few files some places, of many the first of each."""
    by_file: dict[str, list[str]] = {}
    for row in rows:
        by_file.setdefault(row["file"], []).append(printable(row["text"]))
    limit = _SHOWN if len(by_file) <= _FILES else 1
    for name, texts in by_file.items():
        yield from (f"  {name}: {text}" for text in texts[: limit - 1])
        rest = texts[limit:]
        # The last one may itself say how many there are.
        counted = rest and (rest[-1] if rest[-1].startswith("...") else f"and {len(rest)} more")
        yield from (
            f"  {name}: {text}{f', {counted}' if counted else ''}"
            for text in texts[limit - 1 : limit]
        )
