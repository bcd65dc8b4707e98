"""`rechain data`: datastores, and what is in them."""

from __future__ import annotations

import os
import sys

import click

from rechain.cli.shared import Verbs
from rechain.exceptions import UserErrorException

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rechain.data import Datastore

__all__ = ["command"]


@click.group("data", cls=Verbs, short_help="Datastores: name them, fill them, look into them.")
def command() -> None:
    """Datastores: name them, fill them, look into them.

    STORE is a datastore's name, STORE/PATH what is in it. Every workspace has workspaceblobstore.
    """


def _place(text: str) -> tuple[Datastore, str]:
    from rechain.data import Datastore
    from rechain.workspace import Workspace

    name, _, path = text.partition("/")
    return Datastore(Workspace.local(), name), path


@command.command("add", short_help="Give a folder or an address a name.")
@click.argument("name")
@click.argument("url")
@click.option("--option", "options", multiple=True, metavar="NAME=VALUE", help="How to reach it.")
@click.option("--secret", "secrets", multiple=True, metavar="NAME", help="Ask for this secret.")
@click.option("--anonymous", is_flag=True, help="Reach it without any secret.")
@click.option("--overwrite", is_flag=True, help="Replace the one of that name.")
@click.option("--default", is_flag=True, help="Make it the default.")
def add(
    name: str,
    url: str,
    options: tuple[str, ...],
    secrets: tuple[str, ...],
    anonymous: bool,
    overwrite: bool,
    default: bool,
) -> None:
    """Give a folder, or az://, s3://, gs://, sftp://, http:// or https:// an own NAME.

    Secrets are asked for, or read from stdin, one a line; they go to the system's keyring. Without
    a keyring set RECHAIN_DATASTORE_<NAME>_<SECRET> in place of --secret.
    """
    from rechain.data import Datastore, credentials
    from rechain.workspace import Workspace

    pairs = dict(_pair(text) for text in options)
    if secrets and not credentials.keep("rechain:test", {"test": "test"}):
        names = ", ".join(credentials.variable(name, one) for one in secrets)
        raise UserErrorException(f"there is no keyring here; leave out --secret and set {names}.")
    credentials.forget("rechain:test", ["test"])
    given = {one: _secret(one) for one in secrets}
    made = Datastore.register(
        Workspace.local(), name, url,
        options=pairs, secrets=given, anonymous=anonymous, overwrite=overwrite,
    )  # fmt: skip
    if default:
        made.set_as_default()


@command.command("datastores", short_help="List the datastores.")
def datastores() -> None:
    """List the datastores: name, kind, where it is; * marks the default."""
    from rechain.workspace import Workspace

    workspace = Workspace.local()
    default = workspace.get_default_datastore().name
    for name, store in workspace.datastores.items():
        mark = "*" if name == default else " "
        click.echo(f"{mark} {name:<24} {store.datastore_type:<10} {store.url}")


def _secret(name: str) -> str:
    if sys.stdin.isatty():
        return str(click.prompt(name, hide_input=True, err=True))
    line = sys.stdin.readline().rstrip("\r\n")
    if not line:
        raise UserErrorException(f"stdin has no line for the secret {name}.")
    return line


def _pair(text: str) -> tuple[str, str]:
    name, mark, value = text.partition("=")
    if not mark:
        raise click.BadParameter(f"{text!r} is not NAME=VALUE")
    return name, value


@command.command("ls", short_help="List files.")
@click.argument("place", metavar="STORE[/PATH]")
def ls(place: str) -> None:
    """List the files below PATH, or that a pattern such as 'train/*.npz' means: size and path."""
    store, path = _place(place)
    files = store.files(path)
    if path and not files:
        raise UserErrorException(f"{place}: there are no such files.")
    for where, name in files:
        size = os.stat(where).st_size if isinstance(where, str) else where.size
        click.echo(f"{size if size is not None else '?':>14} {name}")


@command.command("upload", short_help="Copy files into a datastore.")
@click.argument("source", type=click.Path(exists=True))
@click.argument("place", metavar="STORE[/PATH]")
@click.option("--overwrite", is_flag=True, help="Replace files that are there.")
def upload(source: str, place: str, overwrite: bool) -> None:
    """Copy SOURCE, a file or a folder, into a datastore."""
    store, path = _place(place)
    if os.path.isdir(source):
        store.upload(source, path, overwrite)
    else:
        store.upload_files([source], target_path=path, overwrite=overwrite)


@command.command("download", short_help="Copy files out of a datastore.")
@click.argument("place", metavar="STORE[/PATH]")
@click.argument("target", type=click.Path(file_okay=False))
@click.option("--overwrite", is_flag=True, help="Replace files that are there.")
def download(place: str, target: str, overwrite: bool) -> None:
    """Copy the files below PATH to the folder TARGET; they keep their paths in the datastore."""
    from rechain.data.datastore import stayed

    store, path = _place(place)
    files = store.files(path)
    if not files:
        raise UserErrorException(f"{place}: there are no such files.")
    count = store._get(files, target, overwrite, True)
    more = stayed(files, count)
    click.echo(f"Downloaded {count} of {len(files)} files from {store.name} to {target}{more}")


@command.command("chainer", short_help="Make Chainer's own cache of a dataset.")
@click.argument("dataset")
@click.option(
    "--from",
    "sources",
    multiple=True,
    required=True,
    metavar="FILES",
    help="Files or folders of this machine, or STORE/PATH, with the published files.",
)
@click.option(
    "--to",
    default="workspaceblobstore/chainer",
    show_default=True,
    metavar="STORE[/PATH]",
    help="Where to write it.",
)
@click.option("--overwrite", is_flag=True, help="Replace files that are there.")
def chainer(dataset: str, sources: tuple[str, ...], to: str, overwrite: bool) -> None:
    """Write DATASET (mnist, fashion-mnist, cifar10, cifar100, ptb) as Chainer's cache has it.

    A run finds it with --input CHAINER_DATASET_ROOT=workspaceblobstore/chainer: then scripts that
    call chainer.datasets.get_mnist() and its kin need no network.
    """
    import tempfile

    from rechain.data import chainer as caches
    from rechain.data.paths import below
    from rechain.workspace import Workspace

    if dataset not in caches.DATASETS:
        raise UserErrorException(
            f"there is no dataset {dataset!r}; there are {', '.join(caches.DATASETS)}."
        )
    target, path = _place(to)
    with tempfile.TemporaryDirectory(prefix="rechain-") as folder:
        files = []
        for number, source in enumerate(sources):
            if os.path.exists(source):
                files += list(below(source)) if os.path.isdir(source) else [source]
                continue
            if source.partition("/")[0] not in Workspace.local().datastores:
                raise UserErrorException(
                    f"there is no file or folder {source}, nor a datastore of that name."
                )
            store, inside = _place(source)
            store._get(store.files(inside), f"{folder}/{number}", True)
            files += below(f"{folder}/{number}")
        made = caches.write(
            dataset, files, f"{folder}/made", lambda line: click.echo(line, err=True)
        )
        there = set() if overwrite else {name for _, name in target.files(path)}
        target.upload(f"{folder}/made", path, overwrite, show_progress=False)
    for one in made:
        if os.path.normpath(f"{path}/{one}").lstrip("/") in there:
            click.echo(
                f"{to}/{one} was there already, and stays; --overwrite replaces it", err=True
            )
        else:
            click.echo(f"{to}/{one}")


@command.command("rm", short_help="Forget a datastore; its files stay.")
@click.argument("name")
def rm(name: str) -> None:
    """Forget the datastore NAME; its files stay where they are."""
    _place(name)[0].unregister()
