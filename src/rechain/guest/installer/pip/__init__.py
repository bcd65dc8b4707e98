"""pip, as a script finds it whose environment is stored and shared: it installs beside that.

This stands in front of the environment's own pip, or else of the one that Python brings, and
becomes it. What it installs goes to a folder of the run (`RECHAIN_PACKAGES`) that is first on the
path of the script, as pip's own `--user` installs do: what the environment has is left alone, and
is not installed once more. In any other environment, such as a venv that the script makes,
nothing is different.
"""

import os
import sys

__all__ = []

_HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
# pip knows no manylinux2014 wheels before 19.3, and no later ones before 20.3: instead of an older
# one, that of Python 3.6.15 among them, the newest for Python 3.6 is taken.
_OLD, _NEWER = (20, 3), "pip==21.3.1"


def _next(path):
    from importlib.machinery import PathFinder

    return PathFinder.find_spec("pip", path)


def _is_stored():
    prefix = os.environ.get("RECHAIN_ENVIRONMENT")
    return bool(prefix) and os.path.realpath(prefix) == os.path.realpath(sys.prefix)


def _provide(folder):
    """Unpack the pip that Python brings, unless that was done; return the folder with it."""
    import zipfile

    if not os.path.isdir(folder):
        wheel = _bundled()
        beside = "{}.{}".format(folder, os.getpid())
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(beside)
        version = os.path.basename(wheel).split("-")[1].split(".")
        if tuple(int(part) for part in version[:2] if part.isdigit()) < _OLD:
            _renew(beside)
        _rename(beside, folder)
    return folder


def _bundled():
    import glob

    folders = [os.path.join(sys.base_prefix, "share", "python-wheels")]  # Debian
    try:
        import ensurepip

        folders.insert(0, os.path.join(os.path.dirname(ensurepip.__file__), "_bundled"))
    except ImportError:
        pass
    for folder in folders:
        for wheel in sorted(glob.glob(os.path.join(folder, "pip-*.whl"))):
            return wheel
    raise ImportError(
        "rechain: this Python brings no pip (ensurepip); name pip among the pip_packages of the "
        "environment, or the packages that you want"
    )


def _renew(folder):
    """Replace an old pip by a newer one, if the index can be reached."""
    import shutil
    import subprocess

    beside = folder + ".new"
    command = [sys.executable, os.path.join(folder, "pip"), "install", "--quiet", "--no-deps"]
    command += ["--disable-pip-version-check", "--retries", "1", "--target", beside, _NEWER]
    with open(os.devnull, "w") as null:
        done = subprocess.call(command, stdout=null, stderr=null)
    if done == 0 and os.path.exists(os.path.join(beside, "pip", "__init__.py")):
        shutil.rmtree(folder)
        os.rename(beside, folder)
    else:
        shutil.rmtree(beside, ignore_errors=True)


def _rename(beside, final):
    try:
        os.rename(beside, final)
    except OSError:  # another rank was faster
        import shutil

        shutil.rmtree(beside, ignore_errors=True)


def _install_beside(base):
    """Have pip, in this process, take `--user` for granted, and `base` for the user's folder.

    In a virtual environment pip refuses that, since such packages could not be imported; here
    they can: so it must not take this for one.
    """
    import site
    import sysconfig

    sys.base_prefix = sys.base_exec_prefix = sys.prefix
    os.environ.update(
        PYTHONUSERBASE=base,
        PIP_BREAK_SYSTEM_PACKAGES="1",
        PIP_DISABLE_PIP_VERSION_CHECK="1",
        PIP_NO_WARN_SCRIPT_LOCATION="1",
        PIP_ROOT_USER_ACTION="ignore",
    )
    site.ENABLE_USER_SITE = True
    site.USER_BASE = sysconfig.get_config_vars()["userbase"] = base
    site.USER_SITE = "{}/lib/python{}.{}/site-packages".format(base, *sys.version_info[:2])
    command = sys.argv[1:] if sys.argv[0] == "-m" else ["install"]  # else a script calls pip
    if not {"list", "freeze"}.intersection(command):  # these show all, not only what is beside
        os.environ["PIP_USER"] = "1"
    if "install" in command:
        sys.stderr.write("rechain: what is installed now goes to {}\n".format(base))


def _become_pip():
    import importlib.util

    spec = _next([one for one in sys.path if os.path.abspath(one or ".") != _HERE])
    base = os.environ.get("RECHAIN_PACKAGES")
    if base and _is_stored():
        if spec is None:
            spec = _next([_provide(os.path.join(base, "pip"))])
        _install_beside(base)
    if spec is None:
        raise ImportError("No module named 'pip'", name="pip")
    module = importlib.util.module_from_spec(spec)
    sys.modules["pip"] = module
    spec.loader.exec_module(module)


_become_pip()
