"""The run around this process, made once."""

import os

from . import place

__all__ = ["offline", "submitted"]

_runs = {}


def submitted():
    """Return the submitted run this process is part of, or None."""
    folder = place.run_folder()
    if folder is None:
        return None
    run = _runs.get(folder)
    if run is None:
        from .run import _SubmittedRun

        if not os.path.isdir(folder):  # variables left over in somebody's shell
            return None
        run = _runs.setdefault(folder, _SubmittedRun(folder))
    return run


def offline():
    """Return this process's offline run."""
    run = _runs.get(None)
    if run is None:
        from .offline import _OfflineRun

        run = _runs.setdefault(None, _OfflineRun())
    return run
