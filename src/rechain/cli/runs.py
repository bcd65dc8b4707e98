"""`rechain runs`: the newest runs, one line each."""

from __future__ import annotations

import contextlib
import itertools
import sys
import time

import click

from rechain.cli.shared import age, colored, duration, fit, printable, width, workspace
from rechain.exceptions import UserErrorException

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["command"]

_COLORS = {"Completed": "green", "Failed": "red", "Canceled": "yellow", "Running": "cyan"}
_LEAST = 10  # columns: less of a command says nothing
_OUTCOME = 40  # columns, where there is no terminal: all of it is in `show` and in JSON


@click.command("runs", short_help="List the newest runs.")
@click.option(
    "-n",
    "--number",
    type=click.IntRange(1),
    default=20,
    show_default=True,
    metavar="N",
    help="How many.",
)
@click.option("-e", "--experiment", metavar="NAME", help="Only of this experiment.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(number: int, experiment: str | None, as_json: bool) -> None:
    """List the newest runs of the workspace."""
    found = (run for run in workspace().get_runs() if experiment in (None, run.experiment.name))
    rows = []
    now = time.time()
    for run in itertools.islice(found, number):
        with contextlib.suppress(UserErrorException):  # deleted while we look
            rows.append(_row(run, now))
    if as_json:
        import json

        click.echo(json.dumps(rows))
        return
    if not rows:
        click.echo("no runs yet; start one with: rechain run SCRIPT", err=True)
        return
    cells: list[tuple[str, ...]] = [("run", "submitted", "took", "outcome", "command")]
    for row in rows:
        outcome = row["cause"] if row["status"] == "Failed" else row["status"].lower()
        if outcome.startswith("user error (exit "):  # of the rest, the exception says most
            outcome = outcome[len("user error (") : -1]
            outcome = outcome.partition(", ")[2] or outcome
        took = duration(row["seconds"]) if row["seconds"] is not None else ""
        command_line = printable(row["script"])
        cells.append((row["run_id"], age(now - row["submitted"]), took, outcome, command_line))
    widths = _widths(cells)
    cut = sys.stdout.isatty()
    colors = ["dim", *(_COLORS.get(row["status"], "") for row in rows)]
    for line, color in zip(cells, colors, strict=True):
        parts = [
            fit(cell, columns) if cut or at == 3 else cell.ljust(columns)
            for at, (cell, columns) in enumerate(zip(line, widths, strict=False))
        ]
        parts[-1] = parts[-1].rstrip()
        if color == "dim":
            parts = [colored(part, "dim") for part in parts]
        elif color:
            parts[3] = colored(parts[3], color)
        click.echo("  ".join(parts))


def _row(run: Any, now: float) -> dict[str, Any]:
    from rechain.workspace.details import describe

    state = run._state()
    last = state.last
    until = state.end["t"] if state.end else now
    return {
        "run_id": run.id,
        "experiment": run.experiment.name,
        "status": state.status,
        "cause": describe(state.end) if state.end else None,
        "script": " ".join(run._job["command"]),
        "submitted": run._job["submitted"]["time"],
        "seconds": round(until - last.started, 3) if last and last.started else None,
    }


def _widths(cells: list[tuple[str, ...]]) -> list[int]:
    """Return the columns' widths: all there is to say, but no more than the terminal holds."""
    widths = [max(map(width, column)) for column in zip(*cells, strict=True)]
    if not sys.stdout.isatty():
        return [*widths[:3], min(widths[3], _OUTCOME), widths[4]]
    import shutil

    room = shutil.get_terminal_size().columns - sum(widths[:3]) - 3 * 2
    if room < _LEAST:
        return widths[:4]  # long names: better a broken line than nothing to copy
    outcome = min(widths[3], room, max(room - 2 - widths[4], room * 2 // 3, _LEAST))
    rest = room - outcome - 2
    command_line = [min(widths[4], rest)] if rest >= _LEAST else []
    return [*widths[:3], outcome, *command_line]
