"""Run a notebook as a job's script: `python -m rechain_guest.notebook train.ipynb --lr 0.1`.

papermill executes it in a kernel of this same Python. What the cells print is printed here; the
executed notebook, written anew after each cell, is in `outputs/` under the notebook's name.
"""

import ast
import os
import re
import sys

__all__ = ["main", "parameters", "read", "write"]

_PLAIN = (type(None), bool, int, float, str, list, tuple, dict)
_NO_LITERALS = {"nan": float("nan"), "inf": float("inf"), "-inf": -float("inf")}
_COLORS = re.compile("\x1b\\[[0-9;]*m")
_ARROW = re.compile(r"^-+> ?(\d+)", re.MULTILINE)


def read(text):
    """Return the value that a text means: Python's number, bool, None, text, list or dict.

    What is none of these is the text itself.
    """
    if text in _NO_LITERALS:
        return _NO_LITERALS[text]
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text
    return value if isinstance(value, _PLAIN) else text


def write(value):
    """Return the text that `read` makes the value of: of a text, in quotes if need be."""
    text = str(value)
    if isinstance(value, str) and (text.startswith("-") or read(text) != text):
        return repr(value)
    return text


def parameters(arguments):
    """Return what a script's arguments mean as parameters of a notebook.

    `--learning-rate 0.1` is `learning_rate = 0.1`, an option without a value is True, one with
    several is a list.

    Raises:
        ValueError: an argument has no name, or one that is no variable's.
    """
    found = {}
    values = None
    for argument in arguments:
        if not argument.startswith("-") or not isinstance(read(argument), str):
            if values is None:
                raise ValueError(
                    "the argument {!r} has no name: a notebook takes parameters, such as "
                    "--lr 0.1".format(argument)
                )
            values.append(read(argument))
            continue
        option, equals, value = argument.partition("=")
        name = option.lstrip("-").replace("-", "_")
        if not name.isidentifier():
            raise ValueError("{!r} is no name for a parameter of a notebook".format(option))
        found[name] = values = [read(value)] if equals else []
    return {name: values[0] if len(values) == 1 else values or True
            for name, values in found.items()}  # fmt: skip


def main(argv):
    """Run a notebook.

    Args:
        argv: the notebook and its arguments.

    Returns:
        The exit code.
    """
    notebook = argv[0]
    try:
        given = parameters(argv[1:])
    except ValueError as error:
        return "rechain: {}".format(error)
    try:
        import papermill
    except ImportError as error:
        return "rechain: {} runs through papermill, and {} cannot import it ({}): {}".format(
            notebook, sys.executable, error, "install papermill and ipykernel there"
        )
    output = os.path.join("outputs", os.path.basename(notebook))
    _prepend("JUPYTER_PATH", os.path.join(sys.prefix, "share", "jupyter"))  # its own kernel first
    folder = os.path.dirname(os.path.abspath(notebook))
    if folder != os.getcwd():
        os.environ["PYTHONPATH"] = "{}:{}".format(os.environ.get("PYTHONPATH", ""), folder)
    try:
        papermill.execute_notebook(
            notebook,
            output,
            given,
            kernel_name="python3",
            progress_bar=False,
            stdout_file=sys.stdout,
            stderr_file=sys.stderr,
        )
    except papermill.PapermillExecutionError as error:
        return _tell(notebook, error)
    return 0


def _tell(notebook, error):
    """Print the error of a cell, at last in the form of a traceback; return the exit code."""
    shown = _COLORS.sub("", "\n".join(error.traceback))
    line = _ARROW.search(shown)
    sys.stderr.write(
        '{}\n\nTraceback (most recent call last):\n  File "{} cell {}", line {}\n{}: {}\n'.format(
            shown,
            notebook,
            error.exec_count,
            line.group(1) if line else 1,
            error.ename,
            error.evalue,
        )
    )
    if error.ename == "SystemExit" and error.evalue.isdigit():
        return int(error.evalue)
    return 1


def _prepend(variable, folder):
    others = os.environ.get(variable)
    os.environ[variable] = "{}:{}".format(folder, others) if others else folder


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
