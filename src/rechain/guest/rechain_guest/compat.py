"""What Python and NumPy have dropped since Chainer was written, put back.

For environments whose recipe asks for it only; the variable `RECHAIN_COMPAT` names the patches,
`lock.json` records them. A patch is made right after its module was imported, so before Chainer
sees it. It adds what is missing; what is there stays as it is, but for what every NumPy of its
time did: Chainer's own call of `numpy.load` allows pickled objects, a whole number that pads a
sequence is made to fit the sequence's type, a loss and a scalar that is clipped keep their own.
"""

import sys
import types

__all__ = ["after_import"]


def after_import(names):
    """Make patches: those of modules that are loaded at once, and say what is left to be made.

    Args:
        names: of the patches; unknown ones are those of another version of Rechain, and skipped.

    Returns:
        Functions by the name of the module that each is to be called with, once that is loaded.
    """
    waiting = {}
    for name in names:
        module, patch = _PATCHES.get(name, (None, None))
        if module in sys.modules:
            patch(sys.modules[module])
        elif module is not None:
            waiting[module] = _both(waiting[module], patch) if module in waiting else patch
    return waiting


def _both(first, second):
    def patch(module):
        first(module)
        second(module)

    return patch


def _add(module, **values):
    for name, value in values.items():
        if name not in vars(module):
            setattr(module, name, value)


def _collections(module):
    import collections.abc

    # Gone from collections in Python 3.10.
    _add(module, **{name: getattr(collections.abc, name) for name in collections.abc.__all__})


def _inspect(module):
    import collections

    spec = collections.namedtuple("ArgSpec", "args varargs keywords defaults")

    def getargspec(func):
        """Return the names and defaults of a function's parameters."""
        return spec(*module.getfullargspec(func)[:4])

    _add(module, ArgSpec=spec, getargspec=getargspec)  # gone in Python 3.11


def _fractions(module):
    import math

    _add(module, gcd=math.gcd)  # gone in Python 3.9


def _time(module):
    _add(module, clock=module.perf_counter)  # gone in Python 3.8


# Gone in NumPy 1.24 and 2.0, by what is the same.
_NUMPY = {
    "Inf": "inf",
    "Infinity": "inf",
    "NAN": "nan",
    "NaN": "nan",
    "PINF": "inf",
    "alltrue": "all",
    "complex_": "complex128",
    "cumproduct": "cumprod",
    "float_": "float64",
    "in1d": "isin",
    "infty": "inf",
    "product": "prod",
    "round_": "round",
    "row_stack": "vstack",
    "sometrue": "any",
    "string_": "bytes_",
    "trapz": "trapezoid",
    "unicode_": "str_",
}


def _numpy(module):
    _add(module, bool=bool, complex=complex, float=float, int=int, object=object, str=str)
    same = {old: new for old, new in _NUMPY.items() if new in vars(module)}
    _add(module, **{old: vars(module)[new] for old, new in same.items()})
    _add(
        module,
        NINF=-module.inf,
        asfarray=lambda a, dtype=module.float64: module.asarray(a, dtype=dtype),
        asscalar=lambda a: a.item(),
        sctypes={
            "int": [module.int8, module.int16, module.int32, module.int64],
            "uint": [module.uint8, module.uint16, module.uint32, module.uint64],
            "float": [module.float16, module.float32, module.float64, module.longdouble],
            "complex": [module.complex64, module.complex128, module.clongdouble],
            "others": [bool, object, bytes, str, module.void],
        },
    )


def _numpy_distutils(module):
    # Chainer asks it for the BLAS, on macOS only, and imports it everywhere.
    if _there("numpy.distutils"):
        return
    package = types.ModuleType("numpy.distutils")
    package.__path__ = []
    package.system_info = types.ModuleType("numpy.distutils.system_info")
    package.system_info.get_info = lambda name, notfound_action=0: {}
    sys.modules["numpy.distutils"] = module.distutils = package
    sys.modules["numpy.distutils.system_info"] = package.system_info


def _cupy_util(module):
    # Chainer 7 takes no CuPy without it. CuPy has it by another name from version 8 on.
    if not _there("cupy.util") and _there("cupy._util"):
        import importlib

        sys.modules["cupy.util"] = module.util = importlib.import_module("cupy._util")


def _there(name):
    import importlib.util

    return importlib.util.find_spec(name) is not None


def _npz(module):
    module.numpy = _WithPickles(module.numpy)


class _WithPickles(object):
    """NumPy as it was before 1.16.3: `load` takes pickled objects, such as a None."""

    def __init__(self, numpy):
        self._numpy = numpy

    def __getattr__(self, name):
        return getattr(self._numpy, name)

    def load(self, file, *args, **options):
        if len(args) < 2:  # mmap_mode, allow_pickle
            options.setdefault("allow_pickle", True)
        return self._numpy.load(file, *args, **options)


def _pad_sequence(module):
    forward = module.PadSequence.forward

    def fitting(self, xs):
        # NumPy 2 raises for a -1 among unsigned numbers; NumPy 1 wrapped it.
        if isinstance(self.padding, int):
            self.padding = module.numpy.asarray(self.padding).astype(xs[0].dtype)[()]
        return forward(self, xs)

    module.PadSequence.forward = fitting


def _clip(module):
    forward = module.Clip.forward_cpu

    def of_its_type(self, x):
        # NumPy 1.17 to 1.26 make a float64 of a scalar's clip.
        (y,) = forward(self, x)
        return (y.astype(x[0].dtype, copy=False),)

    module.Clip.forward_cpu = of_its_type


def _softmax_cross_entropy(module):
    def largest(*values):
        # The number of labels, by which the loss is divided. NumPy 2 would make the loss a float64
        # if that is NumPy's own.
        value = max(*values)
        return value.item() if isinstance(value, module.numpy.generic) else value

    module.max = largest


# By the name that recipes have: the module to wait for, and what is then called with it.
_PATCHES = {
    "chainer.functions.array.pad_sequence": (
        "chainer.functions.array.pad_sequence",
        _pad_sequence,
    ),
    "chainer.functions.loss.softmax_cross_entropy": (
        "chainer.functions.loss.softmax_cross_entropy",
        _softmax_cross_entropy,
    ),
    "chainer.functions.math.clip": ("chainer.functions.math.clip", _clip),
    "chainer.serializers.npz": ("chainer.serializers.npz", _npz),
    "collections": ("collections", _collections),
    "cupy.util": ("cupy", _cupy_util),
    "fractions": ("fractions", _fractions),
    "inspect": ("inspect", _inspect),
    "numpy": ("numpy", _numpy),
    "numpy.distutils": ("numpy", _numpy_distutils),
    "time": ("time", _time),
}
