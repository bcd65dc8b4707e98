"""What is put back for an old Chainer: before it is imported, and nothing that is there changes.

NumPy, CuPy and Chainer are made up here, as bare modules. tests/environment/test_cells.py has the
real ones.
"""

import os
import subprocess

import pytest

from rechain import recipes
from rechain.guest.rechain_guest import compat
from tests.guest.conftest import GUEST

pytestmark = pytest.mark.fast

MADE_UP = {
    "numpy/__init__.py": "inf = 1.5\nprod = all = any = len\nfloat_ = 'its own'\n"
    "float16 = float32 = float64 = longdouble = int8 = int16 = int32 = int64 = float\n"
    "uint8 = uint16 = uint32 = uint64 = int\ncomplex64 = complex128 = clongdouble = complex\n"
    "void = str_ = bytes_ = str\n"
    "def load(file, mmap_mode=None, allow_pickle=False): return (file, allow_pickle)\n",
    "cupy/__init__.py": "",
    "cupy/_util.py": "class PerformanceWarning(Warning): pass\n",
    "chainer/__init__.py": "",
    "chainer/serializers/__init__.py": "",
    "chainer/serializers/npz.py": "import numpy\n"
    "def load(*args, **options): return numpy.load('f', *args, **options)\n",
    "sitecustomize.py": "import sys\nsys.its_own = True\n",
}


@pytest.fixture
def say(tmp_path, python):
    """A function: what a script prints that runs on each of the Pythons, with patches."""
    for name, text in MADE_UP.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)

    def run(code, *patches):
        variables = {k: v for k, v in os.environ.items() if not k.startswith("RECHAIN_")}
        variables["PYTHONPATH"] = f"{GUEST}/hooks:{GUEST}:{tmp_path}"
        variables["PYTHONDONTWRITEBYTECODE"] = "1"
        if patches:
            variables["RECHAIN_COMPAT"] = " ".join(patches)
        done = subprocess.run(
            [python, "-W", "error", "-c", code],
            env=variables, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout.split()

    return run


def test_the_standard_library_is_as_it_was(say):
    code = (
        "import warnings; warnings.simplefilter('ignore')  # the oldest still have them\n"
        "import collections, fractions, inspect, sys, time\n"
        "print(collections.Iterable.__name__, fractions.gcd(4, 6), time.clock() >= 0,\n"
        "      *inspect.getargspec(lambda a, *b: 0).args, sys.its_own)"
    )
    names = ("collections", "fractions", "inspect", "time")
    assert say(code, *names) == ["Iterable", "2", "True", "a", "True"]


def test_nothing_is_patched_that_is_not_asked_for(say):
    code = "import numpy, cupy; print(hasattr(numpy, 'float'), hasattr(cupy, 'util'))"
    assert say(code) == ["False", "False"]
    assert say(code, "time", "of-another-version") == ["False", "False"]
    assert say(code, "numpy") == ["True", "False"]


def test_numpy_gets_what_is_missing_and_keeps_what_is_there(say):
    code = (
        "import numpy as np\n"
        "print(np.float is float, np.product is np.prod, np.NINF, np.float_ == 'its own',\n"
        "      hasattr(np, 'row_stack'), len(np.sctypes['int']))"
    )
    assert say(code, "numpy") == ["True", "True", "-1.5", "True", "False", "4"]


def test_modules_that_are_gone(say):
    code = (
        "import numpy.distutils.system_info\n"
        "from cupy.util import PerformanceWarning\n"
        "print(numpy.distutils.system_info.get_info('blas_opt'), PerformanceWarning.__name__)"
    )
    assert say(code, "numpy", "numpy.distutils", "cupy.util") == ["{}", "PerformanceWarning"]


def test_chainer_reads_pickled_objects_and_nobody_else_does(say):
    code = (
        "import numpy\n"
        "from chainer.serializers import npz\n"
        "print(npz.load()[1], npz.load(allow_pickle=False)[1], npz.load(None, False)[1],\n"
        "      numpy.load('f')[1])"
    )
    assert say(code, "chainer.serializers.npz") == ["True", "False", "False", "False"]
    assert say(code) == ["False"] * 4


def test_recipes_name_patches_that_there_are():
    cells = [cell for name in recipes.names() for cell in recipes.load(name).cells]
    assert {patch for cell in cells for patch in cell.compat} == set(compat._PATCHES)
