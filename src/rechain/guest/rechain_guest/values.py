"""Turn what scripts log into what JSON holds.

Nothing is imported to recognise a value: NumPy, CuPy, ChainerX and PyTorch scalars are known by
their empty `shape` and their `item()`, a Chainer variable by its `array`, a figure by `savefig`.
"""

import json
import math

from .exceptions import AzureMLException, UserErrorException

__all__ = ["cell", "column", "document", "figure_png", "is_image", "plain", "scalar", "step_of"]

_PLAIN = (float, int, bool, str, type(None))

_IMAGE_HEADS = (b"\x89PNG\r\n", b"\xff\xd8", b"GIF87a", b"GIF89a", b"BM", b"II*\0", b"MM\0*")


def plain(value):
    """Return `value` as None, bool, int, float or str; anything else as its `repr`."""
    kind = type(value)
    if kind in _PLAIN:
        return value
    array = _variable_array(value)
    if array is not None:
        value = array
    if getattr(value, "shape", None) == () and callable(getattr(value, "item", None)):
        value = _item(value)
        if type(value) in _PLAIN:
            return value
    for base in (int, float, str):  # IntEnum, np.float64, np.str_, ...
        if isinstance(value, base):
            return base(value)
    return repr(value)


def scalar(value):
    """Return a value for `run.log`.

    Raises:
        UserErrorException: it is a list, a range or a generator.
    """
    if type(value) in _PLAIN:
        return value
    if isinstance(value, (list, range)) or _is_generator(value):
        raise UserErrorException(
            "run.log takes one value, not a {}: use run.log_list".format(type(value).__name__)
        )
    converted = plain(value)
    if isinstance(converted, str) and not isinstance(value, str):
        import warnings

        warnings.warn(
            "run.log cannot hold a {}: its repr is logged".format(type(value).__name__),
            stacklevel=3,
        )
    return converted


def step_of(step):
    """Return a step as a number, or None.

    Raises:
        UserErrorException: it is neither.
    """
    if step is None or type(step) is int:
        return step
    number = plain(step)
    numeric = isinstance(number, (int, float)) and not isinstance(number, bool)
    if not numeric or math.isnan(number):
        raise UserErrorException("step must be a number, not {!r}".format(step))
    return number


def column(value, where):
    """Return the values of an iterable as a list of plain values.

    Args:
        value: any iterable, or an array of one dimension.
        where: what it is, for the error message.

    Raises:
        UserErrorException: it is not iterable, or a string.
        AzureMLException: it holds lists.
    """
    array = _variable_array(value)
    if array is not None:
        value = array
    if isinstance(value, (str, bytes)):
        raise UserErrorException("{} must be a list, not a string".format(where))
    if callable(getattr(value, "tolist", None)):  # one copy from the GPU instead of one per value
        value = value.tolist()
    try:
        values = list(value)
    except TypeError:
        raise UserErrorException(
            "{} must be a list, not a {}".format(where, type(value).__name__)
        ) from None
    return [cell(entry, where) for entry in values]


def cell(value, where):
    """Return a plain value.

    Raises:
        AzureMLException: it is itself a list.
    """
    if type(value) in _PLAIN:
        return value
    if isinstance(value, (list, tuple, set, range)) or (getattr(value, "shape", ()) or ()) != ():
        raise AzureMLException(
            "{} holds a {} where one value belongs".format(where, type(value).__name__)
        )
    return plain(value)


def document(value):
    """Return a JSON object given as a dict or as JSON text.

    Raises:
        UserErrorException: it is neither, or cannot be written as JSON.
    """
    try:
        if not isinstance(value, (str, bytes)):
            value = json.dumps(value, default=_nested)
        value = json.loads(value)
    except (TypeError, ValueError) as error:
        raise UserErrorException("not valid JSON: {}".format(error)) from None
    if not isinstance(value, dict):
        raise UserErrorException("a JSON object is needed, not {}".format(type(value).__name__))
    return value


def figure_png(plot):
    """Return a figure, or what `matplotlib.pyplot` has drawn, as PNG.

    Raises:
        AzureMLException: it cannot save itself.
    """
    import io

    save = getattr(plot, "savefig", None)
    if save is None:  # an Axes, or what seaborn returns
        save = getattr(getattr(plot, "figure", None), "savefig", None)
    if not callable(save):
        raise AzureMLException(
            "plot must be a figure or matplotlib.pyplot, not a {}".format(type(plot).__name__)
        )
    buffer = io.BytesIO()
    save(buffer, format="png")
    return buffer.getvalue()


def is_image(head):
    """Return whether these first bytes are those of an image."""
    return (
        head.startswith(_IMAGE_HEADS)
        or (head[:4] == b"RIFF" and head[8:12] == b"WEBP")
        or (head[:1] == b"P" and head[1:2] in b"123456" and head[2:3].isspace())
        or b"<svg" in head
    )


def _item(value):
    kind = getattr(getattr(value, "dtype", None), "kind", "f")
    if kind not in "biufU":  # dates and complex numbers: their item() is no plain value
        return value
    try:
        item = value.item()
        if kind == "f" and type(item) not in _PLAIN:
            item = float(item)  # longdouble's item() is a longdouble
    except Exception:  # whatever the array is, logging it must not end the training
        return value
    return item


def _variable_array(value):
    if not type(value).__module__.startswith("chainer."):
        return None
    array = getattr(value, "array", None)  # Chainer 3 and newer
    return getattr(value, "data", None) if array is None else array


def _nested(value):
    if callable(getattr(value, "tolist", None)):
        return value.tolist()
    if isinstance(value, (set, tuple)) or _is_generator(value):
        return list(value)
    return plain(value)


def _is_generator(value):
    return hasattr(value, "__next__") and hasattr(value, "gi_frame")
