"""`rechain models`: the models of the workspace."""

from __future__ import annotations

import time

import click

from rechain.cli.shared import age, colored, fit, printable, width, workspace

__all__ = ["command"]


@click.command("models", short_help="List the registered models.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(as_json: bool) -> None:
    """List the models of the workspace, the newest version of each name first."""
    from rechain.workspace.model import Model

    found = Model.list(workspace())
    if as_json:
        import json

        click.echo(
            json.dumps([{**model.serialize(), "path": model._content()} for model in found])
        )
        return
    if not found:
        click.echo("no models yet; register one with: run.register_model(name, path)", err=True)
        return
    cells = [("model", "made", "run", "tags")]
    for model in found:
        tags = ", ".join(f"{name}={text}" for name, text in model.tags.items())
        made = age(time.time() - model.created_time.timestamp())
        cells.append((model.id, made, model.run_id or "", printable(tags)))
    widths = [max(map(width, column)) for column in zip(*cells, strict=True)]
    for number, line in enumerate(cells):
        text = "  ".join(fit(cell, columns) for cell, columns in zip(line, widths, strict=True))
        click.echo(text.rstrip() if number else colored(text.rstrip(), "dim"))
