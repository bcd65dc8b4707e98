"""Prints the public members of v1's classes: of the real SDK, or of the drop-in under its names.

`python members.py MODULE.CLASS ...`; JSON by class: the names of its bases, how its constructor
and each method are called, and None for what is no method. Works on Python 3.9 with the SDK and
on Rechain's Python with `rechain-azureml`.
"""

import importlib
import inspect
import json
import logging
import os
import sys

logging.disable(logging.CRITICAL)
answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # what the SDK prints is no answer


def called(function):
    """Return a signature's parameters: name, whether they are `*`, `**` or by name, default."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return None
    kinds = {"VAR_POSITIONAL": "*", "VAR_KEYWORD": "**", "KEYWORD_ONLY": "by name"}
    return [
        [
            one.name,
            kinds.get(one.kind.name, ""),
            "" if one.default is one.empty else repr(one.default),
        ]
        for one in parameters
    ]


def described(kind):
    members = {}
    for name in dir(kind):
        if name.startswith("_"):
            continue
        plain = inspect.getattr_static(kind, name, None)
        value = None if isinstance(plain, property) else getattr(kind, name, None)
        is_method = callable(value) and not inspect.isclass(value)
        members[name] = called(value) if is_method else None
    return {
        "bases": [base.__name__ for base in kind.__mro__],
        "constructor": called(kind.__init__),
        "members": members,
    }


found = {}
for path in sys.argv[1:]:
    module, _, name = path.rpartition(".")
    found[path] = described(getattr(importlib.import_module(module), name))
answers.write(json.dumps(found))
