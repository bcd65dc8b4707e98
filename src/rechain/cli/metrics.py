"""`rechain metrics`: what a run measured."""

from __future__ import annotations

import click

from rechain.cli.shared import RUN, find_run, printable

__all__ = ["command"]


@click.command("metrics", short_help="Print a run's metrics.")
@RUN
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(run: str, name: str | None, as_json: bool) -> None:
    """Print the metrics of RUN, the newest by default, or all values of the one named NAME."""
    from rechain.exceptions import UserErrorException

    found = find_run(run)
    metrics = found.get_metrics()
    if name is not None and name not in metrics:
        known = ", ".join(sorted(metrics)) or "none"
        raise UserErrorException(f"{name!r} is no metric of {found.id}; there is: {known}")
    if as_json:
        import json

        click.echo(json.dumps(metrics if name is None else metrics[name]))
        return
    if name is not None:
        values = metrics[name]
        for value in values if isinstance(values, list) else [values]:
            click.echo(value)
        return
    if not metrics:
        click.echo("no metrics", err=True)
        return
    width = max(map(len, metrics))
    for key, value in metrics.items():
        click.echo(f"{printable(key).ljust(width)}  {printable(_short(value))}")


def _short(value: object) -> str:
    if isinstance(value, list):
        shown = _short(value[-1]) if value else "-"
        line = f"{shown}  ({len(value)} values"
        numbers = [one for one in value if isinstance(one, (int, float))]
        if len(numbers) == len(value) and numbers:
            line += f", {_short(min(numbers))} to {_short(max(numbers))}"
        return line + ")"
    if isinstance(value, dict):
        return ", ".join(f"{name} {_short(one)}" for name, one in value.items())
    if isinstance(value, float):
        return f"{value:.6g}"
    return str(value)
