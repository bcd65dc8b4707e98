"""Trainer extensions for scripts that want more than Chainer's own.

In a script: `from rechain_guest.extensions import snapshot_on_sigterm`, and then
`trainer.extend(snapshot_on_sigterm())`, or `snapshot_on_sigterm(comm)` with ChainerMN.
"""

import os
import random
import re
import signal
import sys
import threading

import chainer
import numpy
from chainer.training import extension

__all__ = ["SnapshotOnSigterm", "snapshot_on_sigterm"]


def snapshot_on_sigterm(comm=None):
    """Return an extension that saves the training when it is asked to end, and goes on from there.

    On SIGTERM (cancel, time limit, a run that goes first) the iteration under way is finished and
    saved to `snapshot_iter_<iteration>` in the trainer's `out`, an ordinary snapshot; the process
    then ends as it would have. The next attempt of the run takes it up by itself, with the global
    random state of NumPy and Python, which Chainer's snapshots lack: the result is then that of an
    uninterrupted training, bit for bit, as long as nothing else is random (CuPy's generators, and
    the processes of a MultiprocessIterator, have states of their own).

    Args:
        comm: ChainerMN's communicator. Then every rank saves and loads its own file, and all agree
            on the iteration; pass it on all ranks.
    """
    return SnapshotOnSigterm(comm)


class SnapshotOnSigterm(extension.Extension):
    """See `snapshot_on_sigterm`.

    Args:
        comm: ChainerMN's communicator, or None.
    """

    trigger = 1, "iteration"
    # After all others of an iteration, LogReport and Chainer's snapshot (-100) among them.
    priority = -200
    name = "snapshot_on_sigterm"

    def __init__(self, comm=None):
        self._comm = comm
        self._rank = 0 if comm is None else comm.rank
        self._asked = False
        self._previous = None
        self._loaded = None

    def initialize(self, trainer):
        """Take up what an earlier attempt saved, and listen from now on."""
        attempt = os.environ.get("RECHAIN_ATTEMPT", "").rpartition("/")[2]
        if attempt not in ("", "1"):
            self._take_up(trainer)
        if self._loaded is not None:  # a snapshot was loaded, by us or by the script
            _set_random_state(self._loaded)
            self._loaded = None
        if threading.current_thread() is threading.main_thread():
            self._previous = signal.signal(signal.SIGTERM, self._on_sigterm)
        else:
            sys.stderr.write("snapshot_on_sigterm: not in the main thread, so it does nothing\n")

    def __call__(self, trainer):
        """End the process if that was asked for."""
        if not self._together(self._asked):
            return
        path = os.path.join(trainer.out, self._file(trainer.updater.iteration))
        chainer.serializers.save_npz(path + ".part", trainer)
        os.rename(path + ".part", path)
        self._together(True)  # nobody leaves before all have saved
        print("saved {}".format(path))
        sys.stdout.flush()
        signal.signal(signal.SIGTERM, self._previous or signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTERM)

    def serialize(self, serializer):
        """Save or load the random states."""
        if isinstance(serializer, chainer.Serializer):
            for name, value in sorted(_random_state().items()):
                serializer(name, value)
            return
        try:
            self._loaded = {name: serializer(name, None) for name in sorted(_random_state())}
        except KeyError:  # a snapshot that was taken without this extension
            self._loaded = None

    def finalize(self):
        """Stop listening."""
        if self._previous is not None:
            signal.signal(signal.SIGTERM, self._previous)
            self._previous = None

    def _on_sigterm(self, *_):
        self._asked = True

    def _together(self, flag):
        """Return whether a flag is set on any rank."""
        if self._comm is None:
            return flag
        return any(self._comm.mpi_comm.allgather(flag))

    def _file(self, iteration):
        # Those of other ranks must not look like a snapshot to `snapshot(autoload=True)`.
        prefix = "rank{}_".format(self._rank) if self._rank else ""
        return "{}snapshot_iter_{}".format(prefix, iteration)

    def _take_up(self, trainer):
        pattern = re.compile("^" + self._file("([0-9]+)") + "$")
        names = os.listdir(trainer.out) if os.path.isdir(trainer.out) else []
        mine = {int(found.group(1)) for found in map(pattern.match, names) if found}
        every = [mine] if self._comm is None else self._comm.mpi_comm.allgather(mine)
        common = set.intersection(*every)
        # What the script has loaded by itself may be newer than all of these.
        if common and max(common) >= trainer.updater.iteration:
            path = os.path.join(trainer.out, self._file(max(common)))
            chainer.serializers.load_npz(path, trainer)
            for optimizer in trainer.updater.get_all_optimizers().values():
                # Else ChainerMN's spends its first update on giving all ranks the same weights.
                if type(optimizer).__name__ == "_MultiNodeOptimizer":
                    optimizer.is_changed(optimizer.target)
            if self._rank == 0:
                print("goes on from {}".format(path))
                sys.stdout.flush()


def _random_state():
    _, numbers, position, has_gauss, gauss = numpy.random.get_state()
    version, internal, python_gauss = random.getstate()
    return {
        "numpy_numbers": numbers,
        "numpy_gauss": numpy.array([position, has_gauss, gauss], dtype=numpy.float64),
        "python_numbers": numpy.array(internal, dtype=numpy.uint32),
        "python_gauss": numpy.array(
            [version, numpy.nan if python_gauss is None else python_gauss], dtype=numpy.float64
        ),
    }


def _set_random_state(state):
    position, has_gauss, gauss = state["numpy_gauss"]
    numpy.random.set_state(
        ("MT19937", state["numpy_numbers"], int(position), int(has_gauss), float(gauss))
    )
    version, python_gauss = state["python_gauss"]
    numbers = tuple(int(number) for number in state["python_numbers"])
    gauss = None if numpy.isnan(python_gauss) else float(python_gauss)
    random.setstate((int(version), numbers, gauss))
