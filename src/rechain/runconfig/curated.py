"""The curated environments of Chainer, which every workspace has: `AzureML-Chainer-5.1.0-GPU`.

Their content is what v1's estimator installed for a version (azureml-train-core 1.62).
"""

from __future__ import annotations

__all__ = ["content", "names"]

_IMAGES = {
    "CPU": "mcr.microsoft.com/azureml/base:intelmpi2018.3-ubuntu16.04",
    "GPU": "mcr.microsoft.com/azureml/base-gpu:intelmpi2018.3-cuda9.0-cudnn7-ubuntu16.04",
}
_CUPY = {"5.1.0": "5.2.0"}  # other versions of Chainer have a CuPy of the same number


def names() -> list[str]:
    """Return the names of the curated environments: two for each Chainer that has a recipe."""
    from rechain import recipes

    versions = [name.removeprefix("chainer-") for name in recipes.names()]
    return [f"AzureML-Chainer-{version}-{kind}" for version in versions for kind in _IMAGES]


def content(name: str) -> tuple[str, str, list[str]]:
    """Return the image, the Python and the pip requirements of a curated environment."""
    _, _, chainer, kind = name.split("-")
    packages = ["azureml-defaults", f"chainer=={chainer}", "mpi4py==3.0.0"]
    if kind == "GPU":
        packages.append(f"cupy-cuda90=={_CUPY.get(chainer, chainer)}")
    return _IMAGES[kind], "3.6.2", packages
