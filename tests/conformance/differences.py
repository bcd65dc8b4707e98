"""Where Rechain differs from v1 on purpose: each with its reason; nothing else may differ.

A difference says for which calls it is, and then one of: `refused`: Rechain raises
UserErrorException; `instead`: v1 is asked this call in place of it; `patched`: what v1 answers,
made into what Rechain answers.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.conformance.calls import VALUES, WRONG, Call

Answer = dict[str, Any]
_EMPTY = ("", None)


@dataclass(frozen=True)
class Difference:
    name: str
    reason: str
    applies: Callable[[Call], bool]
    refused: bool = False
    instead: Callable[[Call], Call] = lambda call: call
    patched: Callable[[Call, Answer], Answer] = lambda call, answer: answer


def _wrong(call: Call) -> bool:
    return any(
        any(type(value) is type(wrong) and value == wrong for wrong in WRONG.get(name, ()))
        for name, value in call.items()
    )


def _without_empty(call: Call) -> Call:
    return {name: None if value == "" else value for name, value in call.items()}


def _distributed(call: Call) -> bool:
    return bool(call.get("distributed_backend") or call.get("distributed_training"))


def _is_pool(target: Any) -> bool:
    return isinstance(target, dict) and target.get("!") == "AmlCompute"


def _is_mpi(call: Call) -> bool:
    training = call.get("distributed_training")
    backend = str(call.get("distributed_backend")).lower() == "mpi"
    return backend and isinstance(training, dict) and training["!"] == "Mpi"


def _named_on_nodes(call: Call) -> bool:
    target = call.get("compute_target")
    named = isinstance(target, str) and target not in ("", "local")
    return named and call.get("node_count", 1) > 1 and _distributed(call)


def _with_nodes(call: Call, answer: Answer) -> Answer:
    answer["run_config"]["nodeCount"] = call["node_count"]
    answer["run_config"]["amlcompute"]["clusterMaxNodeCount"] = call["node_count"]
    return answer


def _asked_python(call: Call) -> str | None:
    packages = call.get("conda_packages") or []
    packages = packages["items"] if isinstance(packages, dict) else packages
    return next((item for item in packages if str(item).startswith("python=")), None)


def _with_python(call: Call, answer: Answer) -> Answer:
    def put(conda: Answer) -> None:
        conda["dependencies"] = [
            _asked_python(call) if item == "python=3.6.2" else item
            for item in conda["dependencies"]
        ]

    put(answer["conda_dependencies"])
    put(answer["run_config"]["environment"]["python"]["condaDependencies"])
    return answer


def _canonical(packages: Any) -> Any:
    if not isinstance(packages, list):
        return packages
    return [re.sub(r"^Chainer", "chainer", item) for item in packages]


_MORE_VERSIONS = {"4.5.0", "5.4.0", "6.7.0", "7.7.0", "7.8.1"}


def _replaced(value: Any, old: str, new: str) -> Any:
    if isinstance(value, dict):
        return {name: _replaced(item, old, new) for name, item in value.items()}
    if isinstance(value, list):
        return [_replaced(item, old, new) for item in value]
    return value.replace(old, new) if isinstance(value, str) else value


def _has_no_image(call: Call) -> bool:
    notebook = str(call.get("entry_script")).lower().endswith(".ipynb")
    others = ("environment_definition", "custom_docker_image", "custom_docker_base_image")
    return notebook or any(call.get(name) not in _EMPTY for name in others)


DIFFERENCES = [
    Difference(
        "wrong values",
        "v1 ignores them, or passes them on until something breaks far away; the caller learns it "
        "here, from one message that names the parameter",
        _wrong,
        refused=True,
    ),
    Difference(
        "empty text",
        "an empty text is what a form or a variable that is not set leaves: it names nothing. v1 "
        "takes it for a given image or file in some places and not in others",
        lambda call: "" in call.values(),
        instead=_without_empty,
    ),
    Difference(
        "resume_from by a run or a path",
        "v1 takes a DataPath alone; here it may also name a run, a snapshot or a folder, which is "
        "looked for when the run is submitted",
        lambda call: isinstance(call.get("resume_from"), str) and call["resume_from"] != "",
        instead=lambda call: {**call, "resume_from": None},
    ),
    Difference(
        "custom_docker_base_image",
        "v1 replaces it by its own image; who names an image wants that image",
        lambda call: (
            call.get("custom_docker_base_image") not in _EMPTY
            and call.get("custom_docker_image") in _EMPTY
            and call.get("environment_definition") is None
        ),
        instead=lambda call: {
            **call,
            "custom_docker_image": call["custom_docker_base_image"],
            "custom_docker_base_image": None,
        },
    ),
    Difference(
        "distributed_backend='mpi' together with Mpi()",
        "both say the same; v1 refuses with 'Unsupported ... mpi. Supported ...: mpi'",
        _is_mpi,
        instead=lambda call: {**call, "distributed_backend": None},
    ),
    Difference(
        "a cluster's name for several nodes",
        "the name says which cluster as well as the object does",
        _named_on_nodes,
        instead=lambda call: {**call, "node_count": 1},
        patched=_with_nodes,
    ),
    Difference(
        "Python in conda_packages",
        "v1 overwrites the Python that the user asked for with 3.6.2",
        lambda call: call["class"] == "Chainer" and _asked_python(call) is not None,
        patched=_with_python,
    ),
    Difference(
        "requirements",
        "v1 compares names letter by letter, so that Chainer and chainer are both installed, and "
        "copies comments and blank lines of a file, which ends in no valid requirement",
        lambda call: True,
        instead=lambda call: {
            **call,
            **{
                name: _canonical(call[name])
                for name in ("pip_packages", "conda_packages")
                if name in call
            },
            **{
                name: f"{call[name]}.plain"
                for name in ("pip_requirements_file", "pip_requirements_file_path")
                if call.get(name) == "commented.txt"
            },
        },
    ),
    Difference(
        "optimized mode",
        "v1 allows it on its own clusters only; here environments are reused on every target",
        lambda call: (
            bool(call.get("_enable_optimized_mode"))
            and call.get("compute_target") not in _EMPTY
            and not _is_pool(call["compute_target"])
            and not _has_no_image(call)
        ),
        instead=lambda call: {**call, "_enable_optimized_mode": False},
    ),
    Difference(
        "more versions",
        "v1 knows 5.1.0 and 7.0.0 only; people's code needs the last Chainer of each line, too",
        lambda call: call.get("framework_version") in _MORE_VERSIONS,
        instead=lambda call: {**call, "framework_version": "7.0.0"},
        patched=lambda call, answer: _replaced(answer, "7.0.0", call["framework_version"]),
    ),
]


def expected(call: Call, ask: Callable[[Call], Answer]) -> tuple[Answer, list[str], bool]:
    """Return what Rechain is to answer.

    With it come the names of the differences that went into it, and whether v1 was asked the same
    call, so that it warns of the same.

    Args:
        call: the call.
        ask: asks v1.
    """
    # A value of a wrong type is refused before anything else is looked at.
    refused = [one.name for one in DIFFERENCES if one.refused and one.applies(call)]
    if refused:
        return {"error": "UserErrorException"}, refused, False
    found = [one for one in DIFFERENCES if not one.refused and one.applies(call)]
    names = [one.name for one in found]
    instead = copy.deepcopy(call)
    for difference in found:
        instead = difference.instead(instead)
    answer = ask(instead)
    if "run_config" in answer:
        for difference in reversed(found):
            answer = difference.patched(call, answer)
    return answer, names, instead == call


def alike(answer: Answer) -> Answer:
    """Return an answer without what differs for every call.

    v1's variables are None where none are given, and its default environment sends
    EXAMPLE_ENV_VAR, which its authors forgot, to every job. Merged requirements say each
    constraint once, in any order.
    """
    if "run_config" not in answer:
        return {"error": answer.get("error", answer.get("crash"))}
    answer = copy.deepcopy(answer)
    del answer["warnings"]
    run_config = answer["run_config"]
    run_config["environmentVariables"] = run_config["environmentVariables"] or {}
    run_config["environment"]["environmentVariables"].pop("EXAMPLE_ENV_VAR", None)
    for conda in (
        answer["conda_dependencies"],
        run_config["environment"]["python"].get("condaDependencies") or {},
    ):
        for item in conda.get("dependencies", ()):
            if isinstance(item, dict):
                item["pip"] = [_constraints(text) for text in item["pip"]]
        conda["dependencies"] = [_canonical([item])[0] if isinstance(item, str) else item
                                 for item in conda.get("dependencies", ())]  # fmt: skip
    return answer


def _constraints(requirement: str) -> str:
    found = re.fullmatch(r"([A-Za-z0-9._-]+)([<>=!~][^;]*)", requirement)
    if not found:
        return _canonical([requirement])[0]
    return _canonical([found[1]])[0] + ",".join(sorted(set(found[2].split(","))))


def warned(answer: Answer, call: Call, ours: bool = False) -> list[list[Any]]:
    """Return the warnings of an answer: by which logger, and of which parameter or packages.

    Not among them: that v1 calls its estimators deprecated, which is one line of INFO here; the
    default version of a framework beside an environment, whose own version is what runs. Which of
    them come before an error is not compared: v1 stops in the middle of them.
    """
    found = []
    for logger, level, said in answer["warnings"]:
        text = said.replace("Optimized Mode", "_enable_optimized_mode")
        if not ours and logger in _DEPRECATED:
            continue
        names = sorted({name for name in _WORTH_NAMING if re.search(rf"\b{name}\b", text)})
        if not ours and "framework_version" in names and call.get("environment_definition"):
            continue
        if len(names) > 1:  # v1 names one that would do the same, too
            names = [name for name in names if call.get(name) is not None] or names
        found.append([logger, level, names])
    return sorted(found)


_DEPRECATED = ("azureml.train.dnn._chainer", "azureml.train.estimator._estimator")
_WORTH_NAMING = [*VALUES, "chainer", "mpi4py", "cupy"]
