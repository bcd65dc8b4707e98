"""A job that logs metrics, and writes the same lines without Rechain. Python 3.6 and newer."""

import json
import sys
import time

from azureml.core import Run

LINES = 20000


def rechain(run):
    """Log by the run."""
    for step in range(LINES):
        run.log("loss", 0.5, step=step)


def bare(file):
    """Write the same JSON lines to a file, flushing each."""
    for step in range(LINES):
        row = {"q": step, "t": time.time(), "k": "scalar", "n": "loss", "v": 0.5, "s": step}
        file.write(json.dumps(row) + "\n")
        file.flush()


def ready(file):
    """Write lines that need no making, flushing each."""
    line = "x" * 90 + "\n"
    for _ in range(LINES):
        file.write(line)
        file.flush()


def per_line(function, target):
    """Return how many seconds a line takes."""
    begun = time.perf_counter()
    function(target)
    return (time.perf_counter() - begun) / LINES


def main():
    """Print the seconds per line of each way."""
    run = Run.get_context(allow_offline=False)
    run.log("first", 1)
    with open("bare.jsonl", "a") as bare_file, open("ready.txt", "a") as ready_file:
        times = [per_line(rechain, run), per_line(bare, bare_file), per_line(ready, ready_file)]
    json.dump(times, sys.stdout)


main()
