"""Slurm's own commands, called with explicit formats and without the user's defaults for them."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["NO_CLUSTER", "UNCONFIGURED", "SlurmError", "call", "environment"]

UNCONFIGURED = "Could not establish a configuration source"
"""What Slurm's commands say where there is no slurm.conf (`read_config.c`, from 20.02 on)."""
NO_CLUSTER = (
    "Slurm is not configured on this machine: go to a login node of the cluster, or set "
    "SLURM_CONF to the cluster's slurm.conf"
)

_PATIENCE = 120.0  # seconds; slurmctld's own MessageTimeout is mostly 10, but commands retry

# What a user may have set for interactive use would change what our calls mean, and what belongs
# to a surrounding job would be believed by the new one. A cluster's location has to stay.
_DROPPED = ("SLURM_", "SLURMD_", "SBATCH_", "SQUEUE_", "SACCT_", "SCANCEL_", "SINFO_", "SRUN_")
_KEPT = ("SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_CLUSTERS", "SLURM_JWT")


class SlurmError(Exception):
    """A command of Slurm failed.

    Args:
        message: one line: which, and what it said.
        missing: whether there is no such command on this machine.
        said: all that it printed on stderr, where it ran and failed.
    """

    def __init__(self, message: str, *, missing: bool = False, said: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.missing = missing
        self.said = said


def environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return variables without those that change the meaning of Slurm's commands."""
    return {
        name: value
        for name, value in environ.items()
        if name in _KEPT or not name.startswith(_DROPPED)
    }


def call(
    command: Sequence[str],
    *,
    given: str | None = None,
    environ: Mapping[str, str] | None = None,
    seconds: float = _PATIENCE,
) -> str:
    """Run a command and return what it printed.

    Args:
        command: its name and arguments.
        given: its stdin.
        environ: its variables; this process's if left out.
        seconds: how long it may take.

    Raises:
        SlurmError: it is not there, failed, or took too long.
    """
    import subprocess

    name = command[0]
    variables = environment(os.environ if environ is None else environ)
    variables["SLURM_TIME_FORMAT"] = "standard"
    try:
        done = subprocess.run(
            command, input=given or "", env=variables, timeout=seconds, cwd="/",
            capture_output=True, check=False, text=True, errors="replace",
            start_new_session=True,  # a Ctrl-C at the terminal is ours to hear
        )  # fmt: skip
    except FileNotFoundError:
        raise SlurmError(
            f"there is no {name} on PATH: is this a login node of the cluster?", missing=True
        ) from None
    except OSError as error:
        raise SlurmError(f"{name} cannot be run: {error}") from error
    except subprocess.TimeoutExpired:
        raise SlurmError(f"{name} timed out: no answer within {seconds:g} s") from None
    if done.returncode:
        printed = done.stderr.strip() or done.stdout  # scontrol says on stdout what is not found
        said = [line.strip() for line in printed.splitlines() if line.strip()]
        last = said[-1] if said else f"it ended with {done.returncode} and said nothing"
        words = last.removeprefix(f"{name}: ").removeprefix("error: ")
        if UNCONFIGURED in done.stderr:
            words = f"{NO_CLUSTER} [{words}]"
        raise SlurmError(f"{name}: {words}", said=done.stderr)
    return done.stdout
