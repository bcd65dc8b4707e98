"""From `script_params` to the script's arguments, by v1's rules.

Each key is an argument, then its value is one; a list adds one argument per element. None and ""
add nothing, so that a flag is `{"--flag": ""}` and a positional argument `{"": value}`. Everything
else becomes text: True is `"True"`, not a flag. What v1 passed on in a form that no script can
use (dicts as their keys, bytes as numbers) is refused.
"""

from __future__ import annotations

from rechain.estimator.inputs import as_data, text
from rechain.exceptions import UserErrorException
from rechain.job.variables import Secret
from rechain.runconfig.plain import whole

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    Frozen = dict[Any, tuple[Any, ...]]

__all__ = ["flat", "freeze", "to_argv", "to_notebook_argv"]


def freeze(script_params: Mapping[Any, Any]) -> Frozen:
    """Return a copy of `script_params`, each value as a tuple of str, numbers, bool, None or data.

    Keys keep their order. Iterators are used up here, once: an estimator may be submitted often.

    Raises:
        UserErrorException: a key or a value cannot be an argument; the message names it.
    """
    frozen: Frozen = {}
    for key, value in script_params.items():
        if not (key is None or isinstance(key, (str, int, float)) or as_data(key)):
            raise UserErrorException(
                f"script_params has the key {key!r}, a {type(key).__name__}; keys are the "
                "names of options, as str."
            )
        frozen[_plain(key, key)] = tuple(_elements(key, value))
    return frozen


def flat(frozen: Frozen) -> list[Any]:
    """Return the elements that are arguments, in order, as v1 has them in a run configuration."""
    found = [element for key, values in frozen.items() for element in (key, *values)]
    return [element for element in found if not (element is None or element == "")]


def to_argv(frozen: Frozen) -> list[str]:
    """Return the arguments that `script_params` means."""
    return [text(element) for element in flat(frozen)]


def to_notebook_argv(frozen: Frozen) -> list[str]:
    """Return the arguments that `script_params` means where the script is a notebook.

    Its parameters have types, so a text that looks like something else goes in quotes; None and
    empty texts and lists are values. A name with dashes and the value "" is a flag.
    """
    from rechain.guest.rechain_guest.notebook import write

    found = []
    for key, values in frozen.items():
        if key is None or key == "":  # arguments as they are
            found += [text(value) for value in values if not (value is None or value == "")]
            continue
        name = text(key)
        is_option = name.startswith("-")
        found.append(name if is_option else f"--{name}")
        if not values:
            found.append("[]")
        elif values == ("",):
            found += [] if is_option else ["''"]
        else:
            found += [text(value) if as_data(value) else str(write(value)) for value in values]
    return found


def _elements(key: object, value: object) -> list[Any]:
    _refuse(key, value)
    if isinstance(value, str) or not _is_iterable(value):
        return [_plain(key, value)]
    elements: list[Any] = list(value)  # type: ignore[call-overload]
    for element in elements:
        _refuse(key, element)
    found = [_plain(key, element) for element in elements]
    # Sets have another order in every process: the same job must have the same command.
    return sorted(found, key=str) if isinstance(value, (set, frozenset)) else found


def _is_iterable(value: object) -> bool:
    try:
        iter(value)  # type: ignore[call-overload]
    except TypeError:  # also a NumPy array without dimensions, which has __iter__
        return False
    return True


def _refuse(key: object, value: object) -> None:
    if isinstance(value, Secret):
        raise UserErrorException(
            f"script_params[{key!r}] is a Secret; arguments are visible to everybody on the "
            "machine. Pass it in environment_variables, and read it with os.environ in the script."
        )
    if isinstance(value, (bytes, bytearray, memoryview)):
        raise UserErrorException(
            f"script_params[{key!r}] is {value!r}, a {type(value).__name__}; arguments are text: "
            "decode it first."
        )
    if isinstance(value, dict):
        raise UserErrorException(
            f"script_params[{key!r}] is the dict {value!r}; only its keys could be arguments. "
            "Pass json.dumps of it, or one parameter per entry."
        )


def _plain(key: object, value: object) -> Any:
    kind = type(value)
    if kind in (float, bool) or value is None:
        return value
    number = whole(value)
    if type(number) is int:
        return number
    data = as_data(value)
    if data is not None:
        return data
    if kind.__str__ is object.__str__ and kind.__repr__ is object.__repr__:
        raise UserErrorException(
            f"script_params[{key!r}] is a {kind.__module__}.{kind.__qualname__}, which has no "
            "text form; pass a str, a number or a list of these."
        )
    words = str(value)
    if "\0" in words:
        raise UserErrorException(
            f"script_params[{key!r}] has a NUL character, which no argument can hold."
        )
    return words
