"""`rechain env`: environments, from what is asked for to what is kept. One file per verb."""

from __future__ import annotations

import importlib

import click

from rechain.cli.shared import Verbs

__all__ = ["command"]

_VERBS = (
    "lock", "import", "build", "shell", "list", "show", "verify", "export", "containerfile",
    "rm", "gc",
)  # fmt: skip


class _Verbs(Verbs):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _VERBS:
            return None
        module = importlib.import_module(
            f"rechain.cli.env.{cmd_name.replace('import', 'import_')}"
        )
        found: click.Command = module.command
        return found


@click.command("env", cls=_Verbs, short_help="Lock, build, check and keep environments.")
def command() -> None:
    """Lock, build, check and keep the environments that scripts run in.

    What is asked for is resolved to a lock, whose digest is the environment's identity; the lock
    is built, once; a run finds it. ENVIRONMENT is a lock file, an exported folder, the beginning
    of a digest that `env list` shows, or a run.
    """
