"""What Rechain adds to a script in a stored environment, to a rank, to an old Chainer.

Python imports a module of this name at its start. The one that would have been imported without
us is imported first. Nothing here may change what the script does as long as all goes well, or
raise in any case: a script must not fail because it is watched.

- A rank that fails must leave. Left to itself it would wait in MPI_Finalize for the others, which
  wait for it: the job would hang for ever (chainer/chainermn#236).
- A rank whose MPI is not the one it was started with sees a world of its own. That is noted, and
  it leaves.
- Ranks on different virtual nodes of this machine have different processor names.
- Chainer's reports of other ranks than 0 are noted as such.
- What Python and NumPy have dropped is put back, where the recipe says so: `rechain_guest.compat`.
- What the script has installed with pip is found as in a site-packages, `.pth` files and all.
- On SIGUSR2 the stacks of all threads go to stderr, if a stall watchdog asked for it.
"""

import os
import sys

__all__ = []


def _import_the_next_one():
    import importlib.machinery

    here = os.path.dirname(os.path.abspath(__file__))
    path = [folder for folder in sys.path if os.path.abspath(folder or ".") != here]
    spec = importlib.machinery.PathFinder.find_spec("sitecustomize", path)
    if spec is None or spec.loader is None:
        return
    import importlib.util

    module = importlib.util.module_from_spec(spec)
    sys.modules["sitecustomize"] = module
    spec.loader.exec_module(module)


class _AfterImport(object):
    """Calls a function with a module, once that is imported.

    Args:
        functions: by name of the module.
    """

    def __init__(self, functions):
        self._functions = functions

    def find_spec(self, name, path=None, target=None):
        """Find a module as the other finders do, and stand behind its loader."""
        function = self._functions.pop(name, None)
        if function is None:
            return None
        for finder in sys.meta_path:
            find = getattr(finder, "find_spec", None)
            spec = None if finder is self or find is None else find(name, path, target)
            if spec is not None:
                if spec.loader is not None and hasattr(spec.loader, "exec_module"):
                    spec.loader = _Loader(spec.loader, function)
                return spec
        return None


class _Loader(object):
    def __init__(self, loader, function):
        self._loader = loader
        self._function = function
        self.create_module = loader.create_module  # no frame of ours in its tracebacks

    def __getattr__(self, name):
        return getattr(self._loader, name)

    def exec_module(self, module):
        module.__spec__.loader = module.__loader__ = self._loader
        self._loader.exec_module(module)
        self._function(module)


def _speaks_mpi():
    """Return whether other ranks may be waiting for this process."""
    mpi = sys.modules.get("mpi4py.MPI")
    try:
        return mpi is not None and mpi.Is_initialized() and not mpi.Is_finalized()
    except Exception:
        return False


def _leave(code):
    """End this process without MPI_Finalize; the supervisor then ends the others."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:
            pass
    os._exit(code)


def _leave_on_exceptions():
    previous = sys.excepthook

    def excepthook(kind, value, traceback):
        hook = previous
        hook(kind, value, traceback)  # the traceback is printed as ever
        if _speaks_mpi():
            _run_exit_functions()
            _leave(1)

    # A script that sets a hook of its own replaces this one: then ours comes after it.
    sys.excepthook = excepthook


def _run_exit_functions():
    import atexit
    import threading

    # What they do may wait for other ranks: not for ever.
    runner = threading.Thread(target=atexit._run_exitfuncs)
    runner.daemon = True
    runner.start()
    runner.join(5)


# `main`: the frame of the script itself, once it has imported MPI. `leaving`: the last SystemExit.
_seen = {}


def _leave_on_exit_codes():
    """Have `sys.exit(3)` end a rank with 3, instead of waiting for the others.

    Nothing in Python tells an exit function why it is called. So every SystemExit is remembered,
    and whether one was caught is read from the last instruction that the script's frame has run.
    """
    import atexit
    import builtins

    class Leaving(builtins.SystemExit):
        __doc__ = builtins.SystemExit.__doc__

        def __init__(self, *args):
            super(Leaving, self).__init__(*args)
            _seen["leaving"] = self

    def exit(status=None):
        raise builtins.SystemExit(status)

    Leaving.__name__ = Leaving.__qualname__ = "SystemExit"
    Leaving.__module__ = "builtins"
    builtins.SystemExit = Leaving
    exit.__doc__ = sys.exit.__doc__
    sys.exit = exit
    atexit.register(_leave_if_failed)  # the first to be registered is the last to be called


def _leave_if_failed():
    if not (_speaks_mpi() and _main_was_left_by_an_exception()):
        return
    if hasattr(sys, "last_value"):  # Python has shown it, by another hook than ours
        _leave(1)
    code = getattr(_seen.get("leaving"), "code", None)
    if code:
        _leave(code & 0xFF if isinstance(code, int) else 1)  # a text: Python has printed it


def _main_was_left_by_an_exception():
    import dis

    main = _seen.get("main")
    if main is None:
        return False
    return not dis.opname[main.f_code.co_code[main.f_lasti]].startswith("RETURN")


def _remember_main():
    frame = sys._getframe()
    while frame is not None:
        if frame.f_globals.get("__name__") == "__main__":
            _seen["main"] = frame  # the outermost wins
        frame = frame.f_back


def _note_the_world(mpi):
    """Note which MPI this rank really uses; leave if it is not the launcher's."""
    import json

    size = mpi.COMM_WORLD.Get_size() if mpi.Is_initialized() else None
    if size is None:
        return
    rank = os.environ["RECHAIN_RANK"]
    right = size == int(os.environ["RECHAIN_WORLD_SIZE"])
    if rank != "0" and right:
        return
    library = mpi.Get_library_version().replace("\0", "").split("\n")[0].split(",")[0].strip()
    _write_note("mpi", {"rank": int(rank), "size": size, "library": library}, json)
    if not right:
        sys.stderr.write(
            "rechain: this rank sees a world of %d, but is one of %s: mpi4py uses %s, which is "
            "not the MPI that mpiexec belongs to\n"
            % (size, os.environ["RECHAIN_WORLD_SIZE"], library)
        )
        _leave(125)


def _stand_on_its_node(mpi):
    """Have ranks on different virtual nodes of one machine see that they are apart.

    ChainerMN takes those with one processor name for one node, and has each choose the GPU of
    its number there; but each node has its own GPUs.
    """
    node = os.environ.get("RECHAIN_NODE")
    if node is not None:
        name = "%s-node%s" % (mpi.Get_processor_name(), node)
        mpi.Get_processor_name = lambda: name


def _note_reports(module):
    """Note what this rank's LogReports say: of several ranks, only the first one's count.

    Often all ranks write to one file, and the last to write wins. So the rows are noted too.
    """
    import json

    report = module.LogReport
    initialize = getattr(report, "initialize", None)
    start_over = report._init_summary
    noted = {}

    def note_where(self, trainer):
        self._rechain_out = trainer.out
        if initialize is not None:
            initialize(self, trainer)

    def note_rows(self):
        start_over(self)  # called after each row that is written, and at the very beginning
        rows = getattr(self, "_log", None)
        out = getattr(self, "_rechain_out", None)
        if rows and out is not None and self._log_name is not None:
            path = os.path.join(out, self._log_name.format(**rows[-1]))
            noted[os.path.relpath(path, _work())] = rows
            rank = os.environ["RECHAIN_RANK"]
            _write_note("reports", {"rank": int(rank), "reports": noted}, json)

    report.initialize = note_where
    report._init_summary = note_rows


def _work():
    return os.path.join(os.path.realpath(os.environ["RECHAIN_RUN_DIR"]), "work")


def _write_note(what, content, json):
    attempt = os.environ["RECHAIN_ATTEMPT"].rpartition("/")[2]
    name = "%s.%s.json" % (os.environ["RECHAIN_RANK"], what)
    path = os.path.join(os.environ["RECHAIN_RUN_DIR"], "attempts", attempt, "ranks", name)
    with open(path + ".tmp", "w") as file:
        json.dump(content, file)
    os.rename(path + ".tmp", path)


def _after_mpi(mpi):
    _remember_main()
    _guarded(_stand_on_its_node)(mpi)
    _note_the_world(mpi)


def _install():
    if os.environ.get("RECHAIN_STALL"):
        import faulthandler
        import signal

        faulthandler.register(signal.SIGUSR2, all_threads=True, chain=False)
    if os.environ.get("RECHAIN_PACKAGES"):
        _take_installed(os.environ["RECHAIN_PACKAGES"])
    functions = {}
    if os.environ.get("RECHAIN_COMPAT"):
        from rechain_guest import compat

        functions.update(compat.after_import(os.environ["RECHAIN_COMPAT"].split()))
    # Else it is not a rank itself, but a program that one started.
    if os.environ.get("RECHAIN_RANK_GUARD") == str(os.getppid()):
        _leave_on_exceptions()
        _leave_on_exit_codes()
        functions["mpi4py.MPI"] = _guarded(_after_mpi)
        functions["chainer.training.extensions.log_report"] = _guarded(_note_reports)
    if functions:
        sys.meta_path.insert(0, _AfterImport(functions))


def _take_installed(base):
    """Read the `.pth` files of what was installed: Python does so for its own folders only."""
    folder = "%s/lib/python%d.%d/site-packages" % ((base,) + sys.version_info[:2])
    if os.environ.get("PYTHONUSERBASE") == base:  # a setup.py that pip runs, with --user
        import site

        site.ENABLE_USER_SITE = True
    if folder in sys.path and any(name.endswith(".pth") for name in os.listdir(folder)):
        import site

        site.addsitedir(folder)


def _guarded(function):
    def call(module):
        try:
            function(module)
        except Exception:
            pass  # the record lacks a line; the training goes on

    return call


_import_the_next_one()
try:
    _install()
except Exception as error:
    sys.stderr.write("rechain: this process lacks its hooks: %s\n" % error)
