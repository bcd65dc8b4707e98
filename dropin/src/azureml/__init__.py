"""Azure ML's Python SDK v1, by name: its modules, with Rechain's objects in them.

This distribution has no logic but the check below: two distributions that own one package cannot
be told apart once they are mixed.
"""

from __future__ import annotations

import os
import sys


def _refuse_a_mixture() -> None:
    found = set()
    for folder in sys.path:
        try:
            names = os.listdir(folder or ".")
        except OSError:
            continue
        for name in names:
            stem, _, kind = name.rpartition(".")
            distribution = stem.partition("-")[0].replace("_", "-").lower()
            if kind in ("dist-info", "egg-info") and distribution.startswith("azureml-"):
                found.add(distribution)
    if found:
        names_found = " ".join(sorted(found))
        raise ImportError(
            f"rechain-azureml is the package azureml, and so is Microsoft's {names_found}, which "
            f"is installed in {sys.prefix} too. Keep one: `pip uninstall {names_found}`, then "
            "`pip install --force-reinstall --no-deps rechain-azureml`; or give it an "
            "environment of its own."
        )


_refuse_a_mixture()
