"""The command `rechain`. One file per verb, imported when the verb is used."""

from __future__ import annotations

import os
import re
import signal
import sys

import click

from rechain import __version__
from rechain.cli.shared import Verbs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

__all__ = ["main"]

# In the order a person meets them.
_VERBS = (
    "run", "runs", "show", "logs", "metrics", "files", "cancel", "rm", "replay", "diff", "export",
    "import", "models", "data", "env", "targets", "target", "doctor", "reindex",
)  # fmt: skip


class _Verbs(Verbs):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _VERBS:
            return None
        import importlib

        module = importlib.import_module(f"rechain.cli.{cmd_name}")
        command: click.Command = module.command
        return command


@click.command(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, "-V", "--version", message="rechain %(version)s")
def cli() -> None:
    """Run Chainer trainings, recorded and reproducible, on the machine you have.

    \b
    rechain run train.py --epoch 5         run a script, with its own arguments
    rechain run --gpu required train.py    options of ours stand before it
    rechain show                           what is known of the newest run
    rechain replay --verify latest         once more: is the result the same?

    RUN is an id, the beginning of one or of its last part, or `latest`. The runs are in the
    folder .rechain of the current folder or of one above it, or in $RECHAIN_HOME.

    \b
    Exit codes: 0; 1 a failure; 2 wrong usage, printed above the error. `run` and
    `replay` end with the script's own; their help has more.

    \b
    Completion by the shell (zsh_source and fish_source for others):
      eval "$(_RECHAIN_COMPLETE=bash_source rechain)"
    """  # noqa: D301


def main() -> NoReturn:
    """Run the command line; never returns.

    Exit codes: 2 is a command line that is wrong by itself (`Usage: ...`), with every verb.
    Of failures (`Error: ...`) it is 1, and with `run` and `replay`, which end with the script's
    own, 125.
    """
    _open_closed_streams()
    running = sys.argv[1:2] in (["run"], ["replay"])
    if not running:
        # `rechain runs | head` ends like `ls | head`. With `run` there is a run to wait for.
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    # Names of files need not be text, nor text be in the terminal's encoding.
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        code = _invoke(running)
    finally:
        _forget_broken_pipes()
    events = sys.modules.get("rechain.record.events")
    if events is not None:
        events.leave_watches_behind()
    os._exit(code)  # taking the interpreter apart would cost as much as starting it


def _invoke(running: bool) -> int:
    from rechain.exceptions import AzureMLException

    # 125 tells our failures from a script's own, but only `run` and `replay` have a script.
    failure = 125 if running else 1
    try:
        code = cli.main(prog_name="rechain", standalone_mode=False)
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else 0
    except click.ClickException as error:
        error.show()
        return error.exit_code if isinstance(error, click.UsageError) else failure
    except click.Abort:
        click.echo("Aborted.", err=True)
        return 130 if running else 1
    except AzureMLException as error:
        # v1's code of an error, such as `ModelNotFound: `, is for programs.
        message = re.sub("^[A-Z][A-Za-z]+NotFound: ", "", error.message)
        if sys.argv[1:2] == ["run"] or sys.argv[1:3] == ["env", "lock"]:
            from rechain.cli.options import in_options

            message = in_options(message)
        click.echo(f"Error: {message}", err=True)
        return failure
    except Exception:
        sys.excepthook(*sys.exc_info())
        click.echo("Error: this is a fault of Rechain; please report it.", err=True)
        return failure
    return code if isinstance(code, int) else 0


def _open_closed_streams() -> None:
    """Have all three standard streams, also where cron or a daemon closed some."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free: this one
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115


def _forget_broken_pipes() -> None:
    """Keep Python from complaining at its exit that nobody reads any more."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
