"""What an error calls a parameter, as the option of `rechain run` that gives it."""

from __future__ import annotations

import re

__all__ = ["in_options"]

_OPTIONS = {
    "as_of": "--as-of",
    "compute_target": "--target",
    "conda_dependencies_file": "--conda-file",
    "conda_packages": "--conda",
    "custom_docker_image": "--image",
    "entry_script": "the script",
    "environment_variables": "--env",
    "framework_version": "--framework-version",
    "max_run_duration_seconds": "--time-limit",
    "node_count": "--node-count",
    "pip_packages": "--pip",
    "pip_requirements_file": "--requirements",
    "process_count_per_node": "-n",
    "resume_from": "--resume",
    "shm_size": "--shm-size",
    "source_directory": "the source folder",
    "use_docker": "--docker",
    "use_docker=False": "--no-docker",
    "use_gpu": "--gpu",
    "user_managed": "--user-managed",
    "vm_priority": "--vm-priority",
    "vm_size": "--vm-size",
}
_NAMES = "|".join(sorted(_OPTIONS, key=len, reverse=True))
# Neither in quotes nor a part of a path or a longer name: those are the user's own.
_PARAMETER = re.compile(rf"(?<![\w.'\"`/-])({_NAMES})(?:=True\b|(=)(?=\S))?(?![\w/-]|\.\w)")


def in_options(message: str) -> str:
    """Return the message of an error with options in place of Python's parameters.

    `vm_size='X'` becomes `--vm-size 'X'`, and `use_gpu=True` becomes `--gpu`.
    """
    # These two are words, too: at the beginning they are the parameters.
    message = re.sub(r"^(python|mpi)(?: (?=is )|=)", r"--\1 ", message)
    return _PARAMETER.sub(lambda found: _OPTIONS[found[1]] + " " * bool(found[2]), message)
