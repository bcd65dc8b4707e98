"""`rechain env shell`: a shell in an environment."""

from __future__ import annotations

import os

import click

from rechain.cli.env.shared import failures, find_lock, say

__all__ = ["command"]


@click.command(
    "shell",
    short_help="Open a shell in an environment, or run a command there.",
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
)
@click.argument("environment", metavar="VERSION | ENVIRONMENT")
@click.argument("words", nargs=-1, metavar="[-- COMMAND...]", type=click.UNPROCESSED)
def command(environment: str, words: tuple[str, ...]) -> int:
    """Open a shell in an environment, with the variables and the PATH that a script has there.

    VERSION is one of Chainer, such as 7.0.0. With a COMMAND that is run instead, and its exit
    code is this one's. The environment is built if need be. What pip installs there is gone
    afterwards.
    """
    from rechain.environment import locks, store
    from rechain.environment.prepare import prepare
    from rechain.environment.spec import venv_spec
    from rechain.recipes import names
    from rechain.workspace.shell import call, shell

    if f"chainer-{environment}" in names():
        spec = venv_spec(f"chainer-{environment}")
    else:
        spec = locks.lock_spec(find_lock(environment), os.environ)
    for note in spec.pop("notes", ()):
        say(f"note: {note}")
    cache = store.cache_root()
    with failures():
        made = prepare(spec, cache, say)
    wanted = list(words[1:] if words[:1] == ("--",) else words)
    opened, more = shell(made["lock"]["recipe"])
    try:
        return call(made, cache, wanted or opened, {} if wanted else more)
    except OSError as error:
        say(f"Error: {(wanted or opened)[0]} cannot be started: {error.strerror}")
        return 127
