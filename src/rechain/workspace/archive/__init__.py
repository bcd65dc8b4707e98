"""Whole runs as one tar file, and back: run folders, their snapshots and their child runs.

An archive holds the files as they lie in a workspace, in one order, without owners, and first
`rechain-export.json`, which says which runs are in it, how many files and how many bytes. So the
same runs make the same archive, and what comes out is checked against what was said before
anything is written. Runs are put together beside their place and renamed into it.
"""

from __future__ import annotations

from rechain.workspace.archive.pack import export_runs
from rechain.workspace.archive.unpack import import_runs

__all__ = ["export_runs", "import_runs"]
