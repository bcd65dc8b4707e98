"""Print how long finding a built environment takes in a process like the supervisor.

Usage: python -I -S find.py SITE_PACKAGES CACHE DIGEST
"""

import sys
import time

sys.path.insert(0, sys.argv[1])

from rechain.record import jsonl, paths  # noqa: F401 - the supervisor has these already

begun = time.perf_counter()

from rechain.environment import store  # noqa: E402

found = store.find(*sys.argv[2:])
seconds = time.perf_counter() - begun
if found is None:
    raise SystemExit("it is not there")
print(seconds)
