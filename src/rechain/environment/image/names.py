"""What the image of a job is: ours, the user's, or one of v1's that ours takes the place of."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from rechain import recipes
from rechain.environment.spec import digest_of
from rechain.exceptions import UserErrorException

__all__ = ["BASE", "Known", "base_for", "image_spec", "of_v1", "pinned_spec", "same"]

BASE = "RECHAIN_BASE_IMAGE"
"""The variable that names the image to build environments on, in place of today's Ubuntu or CUDA;
`documented` is what v1's documentation names."""

_DOCUMENTED = "documented"
_OF_A_DOCKERFILE = "localhost/rechain-dockerfile"

# A reference as the engines read it: [host[:port]/]path[:tag][@digest].
_PART = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_HOST = r"(?:localhost|\[[0-9a-fA-F:]+\]|[\w.-]+\.[\w.-]+|[\w.-]+(?=:\d))(?::\d+)?"
_REFERENCE = re.compile(
    rf"(?:{_HOST}/)?{_PART}(?:/{_PART})*(?::[\w][\w.-]{{0,127}})?(?:@sha256:[0-9a-f]{{64}})?"
)
_IMAGE_ID = re.compile(r"(?:sha256:)?[0-9a-f]{64}")

# v1's names: its framework images (private), and the public ones that environments are built on.
_FRAMEWORK = re.compile(r"(?:viennaprivate\.azurecr\.io/)?chainer:(\d+\.\d+\.\d+)-(cpu|gpu)")
_OF_V1 = re.compile(
    r"mcr\.microsoft\.com/azureml/(?:base(?:-gpu)?|(?:openmpi|intelmpi)[\w.-]*|minimal[\w.-]*"
    r"|curated/[\w.-]+)(?:[:@].*)?"
)


class Known(NamedTuple):
    """An image of v1.

    Attributes:
        chainer: the version of Chainer that its name says; None for a base image.
        gpu: whether it is for a GPU.
    """

    chainer: str | None
    gpu: bool


def of_v1(reference: str) -> Known | None:
    """Return what an image of v1 is, by its name; None if it is none."""
    if found := _FRAMEWORK.fullmatch(reference):
        return Known(found[1], found[2] == "gpu")
    if _OF_V1.fullmatch(reference):
        return Known(None, "cuda" in reference or "base-gpu" in reference)
    return None


def image_spec(
    asked: str | None,
    *,
    user_managed: bool = False,
    recipe: str = recipes.PLAIN,
    registry: dict[str, str] | None = None,
    base: str | None = None,
    pull: bool = False,
    source: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Describe the image that a job runs in.

    Args:
        asked: the image that the user names, if any.
        user_managed: whether it is taken as it is, with its own Python.
        recipe: the recipe that is installed in it otherwise.
        registry: `{"address", "username"}` of where it comes from; never a password.
        base: what `$RECHAIN_BASE_IMAGE` says.
        pull: whether it is fetched again, since its tag may have moved.
        source: what an image is built from, in place of `asked`: `{"dockerfile": text}`, or
            `{"context": {"snapshot", "dockerfile"}}`, a folder of the workspace's store and the
            Dockerfile's path in it.

    Returns:
        The `image` of a job's environment, with one key more: `notes`, what the user should be
        told once. `reference` is the image to start from; None if that depends on the GPU.
        `built` says whether the environment is built on it, or it is run as it is.

    Raises:
        UserErrorException: a name is no image's, or there is nothing to run as it is.
    """
    notes = []
    if source is not None:
        asked = f"{_OF_A_DOCKERFILE}:{digest_of(source)[:32]}"
        registry = None  # what it is built on comes from where the user's own login allows
    reference = _with_registry(asked, registry) if asked else None
    known = of_v1(asked) if asked else None
    if known is not None and (known.chainer or not user_managed):
        # The public ones can still be had, by whoever takes them as they are.
        reference = None
        notes.append(_instead(str(asked), known, recipe))
        if known.chainer and user_managed:
            raise UserErrorException(
                f"{asked!r} is v1's own image for Chainer {known.chainer}, which nobody can pull: "
                "leave out user_managed, and Rechain builds one with that Chainer"
            )
    elif user_managed and not asked:
        raise UserErrorException(
            "user_managed=True takes the image's own Python, and no image is named: name one with "
            "custom_docker_image, or leave out use_docker"
        )
    built = not user_managed
    if built and reference is None and base:
        reference = _checked(base, f"the image to build on ({BASE}, --base)")
    spec: dict[str, Any] = {"reference": reference, "built": built}
    if asked:
        spec["asked"] = asked
    spec |= source or {}
    if registry and reference is not None and asked:
        spec["registry"] = registry
    return {**spec, "digest": digest_of(spec), "pull": bool(pull), "notes": notes}


def pinned_spec(image: dict[str, Any], recorded: dict[str, Any]) -> dict[str, Any]:
    """Describe the image that a run had, to have that one again.

    Args:
        image: the `image` of the run's environment.
        recorded: the `image` of its lock.

    Returns:
        As `image_spec` does, with what is `pinned`. It comes from where the user's own login
        allows: the password of the run's `registry` is nowhere recorded.
    """
    kept = ("reference", "built", "asked", "dockerfile", "context")
    spec = {**{key: image[key] for key in kept if key in image}, "pinned": recorded}
    return {**spec, "digest": digest_of(spec), "pull": False}


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two images are one: `{"id", "digest"}`, of which engines may count the id apart."""
    by_digest = one["digest"] is not None and one["digest"] == other["digest"]
    return by_digest or bool(one["id"] == other["id"])


def base_for(image: dict[str, Any], packages: list[str]) -> str:
    """Return the image that an environment is built on.

    Args:
        image: what `image_spec` returned; its `base`, if it has one, is settled.
        packages: the names of what is installed; a CuPy among them needs CUDA.
    """
    if "base" in image:
        return str(image["base"])
    known = recipes.images()
    found = [known["gpu"][name] for name in packages if name in known["gpu"]]
    if image["reference"] == _DOCUMENTED:
        return str(known["documented"]["gpu" if found else "cpu"])
    if image["reference"] is not None:
        return str(image["reference"])
    return str(found[0] if found else known["cpu"])


def _instead(asked: str, known: Known, recipe: str) -> str:
    title = recipe.replace("-", " ")
    if known.chainer and recipe != f"chainer-{known.chainer}":
        title = f"{title} (not {known.chainer}, as the name says)"
    what = "an environment of your packages" if recipe == recipes.PLAIN else title
    return f"{asked} is an image of v1: Rechain's own takes its place, with {what}"


def _with_registry(asked: str, registry: dict[str, str] | None) -> str:
    reference = _checked(asked, "the image")
    address = (registry or {}).get("address")
    if not address:
        return reference
    address = re.sub(r"^https?://", "", address).rstrip("/")
    return reference if reference.startswith(f"{address}/") else f"{address}/{reference}"


def _checked(reference: str, what: str) -> str:
    if _REFERENCE.fullmatch(reference) or _IMAGE_ID.fullmatch(reference):
        return reference
    why = "it has capital letters" if _REFERENCE.fullmatch(reference.lower()) else "it is no name"
    raise UserErrorException(
        f"{what} is {reference!r}, which no engine can pull: {why} of the form "
        "[registry/]name[:tag][@sha256:...]"
    )
