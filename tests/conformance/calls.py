"""Constructor calls: for each parameter values that are right, wrong, and wrong with others."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

Call = dict[str, Any]


def obj(kind: str, **given: Any) -> dict[str, Any]:
    return {"!": kind, **given}


POOL = obj("AmlCompute", name="gpu-cluster")

# What v1 takes, or refuses with an exception of its own.
VALUES: dict[str, list[Any]] = {
    "source_directory": [".", "", "sub"],
    "compute_target": ["local", "cpu-cluster", POOL, None, ""],
    "vm_size": ["STANDARD_NC6", None, ""],
    "vm_priority": ["dedicated", "lowpriority", None],
    "entry_script": ["train.py", None, "notebook.ipynb", "Notebook.IPYNB", "sub/x.py"],
    "script_params": [
        {}, None, {"--a": 1, "--b": 1.5, "--c": "a b"}, {"--flag": "", "--x": None, "": "here"},
        {"--t": True, "--f": False}, {"--l": [1, "a", None, ""], "--n": ["x y", [1, 2]]},
        {"--e": [], "--s": " ", "--zero": 0}, {"--u": "é", "--neg": -1},
        {"--d": obj("DataReference", data_reference_name="mnist", path_on_datastore="m")},
        {"--s": obj("Datastore")},
    ],
    "node_count": [1, 2, 4, 0, -1],
    "process_count_per_node": [1, 2, 0],
    "distributed_backend": ["mpi", "MPI", "ps", "gloo", None, ""],
    "distributed_training": [
        None, obj("Mpi"), obj("Mpi", process_count_per_node=4),
        obj("MpiConfiguration", process_count_per_node=3, node_count=2), obj("Gloo"), obj("Nccl"),
        obj("ParameterServer"), obj("ParallelTaskConfiguration"),
    ],
    "use_gpu": [True, False],
    "use_docker": [True, False],
    "custom_docker_base_image": ["base:1", None, ""],
    "custom_docker_image": ["mine:1", "MCR.microsoft.com/azureml/base", None, ""],
    "image_registry_details": [
        obj("ContainerRegistry", address="host", username="u", password="p"),
        obj("ContainerRegistry"), None,
    ],
    "user_managed": [True, False],
    "conda_packages": [
        [], None, ["scikit-learn"], ["numpy=1.15", "conda-forge::scipy"], ["python=3.7"],
        ["python=3.8.13", "h5py"], ["mpi4py"], ["Chainer=5"], obj("tuple", items=["scipy"]),
    ],
    "pip_packages": [
        [], None, ["numpy", "pytest"], ["chainer==5.2.0"], ["Chainer==7.8.0"], ["--pre", "numpy"],
        ["a>=1", "a<2"], ["azureml-defaults"], ["mpi4py==3.1", "cupy-cuda90==6.0"],
        ["cupy-cuda102"], ["pkg[extra]>=1; python_version<'3.8'"], ["foo_bar"], ["numpy<2"],
    ],
    "conda_dependencies_file_path": ["env.yml", "gone.yml", None, ""],
    "pip_requirements_file_path": ["requirements.txt", "gone.txt", None, ""],
    "conda_dependencies_file": ["env.yml", "sub/env.yml", "gone.yml", "unknown-key.yml", None],
    "pip_requirements_file": ["requirements.txt", "commented.txt", "gone.txt", None],
    "environment_variables": [{}, None, {"A": "1"}, {"A": 1, "MY_TOKEN": "hunter2"}],
    "environment_definition": [
        None, obj("Environment"), obj("Environment", docker=True, image="theirs:1"),
        obj("Environment", user_managed=True), obj("Environment", variables={"B": "2"}),
    ],
    "inputs": [
        [], None, [obj("DataReference", data_reference_name="in", path_on_datastore="x/y")],
        [obj("Datastore")], ["data"], [obj("object")],
        [obj("DataReference", data_reference_name="d", mode="download", path_on_compute="/tmp/d")],
    ],
    "source_directory_data_store": [None, obj("Datastore")],
    "shm_size": ["8g", "512m", None, ""],
    "resume_from": [None, obj("DataPath", path="old/run"), "outputs", obj("object")],
    "max_run_duration_seconds": [60, 3600, None],
    "framework_version": ["4.5.0", "5.1.0", "7.0.0", "7.8.1", None, "9", "7", 7.0],
    "_enable_optimized_mode": [True, False],
    "_disable_validation": [True, False],
    "_show_lint_warnings": [True, False],
    "_show_package_warnings": [True, False],
}  # fmt: skip

# What v1 ignores, takes as it is or stumbles over.
WRONG: dict[str, list[Any]] = {
    "compute_target": [5, obj("RunConfiguration")],
    "vm_priority": ["cheap"],
    "script_params": [["--a", 1], {"--d": {"k": 1}}, {"--b": obj("bytes", text="by")}],
    "node_count": ["2", None, True],
    "process_count_per_node": [1.5],
    "distributed_backend": [1],
    "distributed_training": ["mpi", obj("object"), obj("Mpi", process_count_per_node=0)],
    "use_gpu": ["yes"],
    "use_docker": ["no"],
    "custom_docker_image": [["mine:1"]],
    "image_registry_details": ["host"],
    "user_managed": ["no"],
    "conda_packages": ["scipy", [1]],
    "pip_packages": ["numpy", [1]],
    "pip_requirements_file": [["requirements.txt"]],
    "environment_variables": ["A=1", {"A": obj("object")}],
    "environment_definition": ["mine"],
    "inputs": ["data"],
    "shm_size": ["big", 2, "0g"],
    "max_run_duration_seconds": [-1, 0, "60"],
}

# What a user does to the run configuration of an estimator.
CHANGES: list[tuple[str, Any]] = [
    ("arguments", ["--x", 1]), ("arguments.append()", ["y"]), ("script", "other.py"),
    ("target", "other"), ("node_count", 3), ("max_run_duration_seconds", 5),
    ("communicator", "IntelMpi"), ("mpi.process_count_per_node", 7),
    ("environment_variables", {"C": "3"}), ("docker.use_docker", False),
    ("docker.shm_size", "1g"), ("docker.arguments", ["-x"]),
    ("amlcompute.vm_size", "STANDARD_D2"), ("history.output_collection", False),
    ("history.directories_to_watch", ["a"]), ("environment.name", "theirs"),
    ("environment.docker.base_image", "q:1"), ("environment.docker.base_dockerfile", "FROM q"),
    ("environment.python.interpreter_path", "/usr/bin/python3"),
    ("environment.python.user_managed_dependencies", True),
    ("environment.python.conda_dependencies.add_pip_package()", ["tqdm==1"]),
    ("environment.python.conda_dependencies.add_conda_package()", ["scipy"]),
    ("environment.python.conda_dependencies.add_channel()", ["bioconda"]),
    ("source_directory_data_store", "other"),
]  # fmt: skip

# What a submission says in place of an estimator. v1 reads its arguments two by two, so that it
# takes a flag, or the values of a list, for what follows; so each has one value here.
PAIRS = {"--a": 1, "--b": "x y", "--c": 0.5}
OVERRIDES: list[dict[str, Any]] = [
    {"script_params": {"--a": 2}}, {"script_params": {"--z": 3, "--b": "w"}},
    {"script_params": {"--d": obj("DataReference", data_reference_name="more")}},
    {"script_params": {"--s": obj("Datastore")}}, {"script_params": {}},
    {"inputs": [obj("DataReference", data_reference_name="in", path_on_datastore="z")]},
    {"inputs": [obj("Datastore")]}, {"inputs": []}, {"inputs": ["data"]},
    {"source_directory_data_store": obj("Datastore")},
    {"script_params": {"--a": 9}, "inputs": [obj("Datastore")]},
]  # fmt: skip

FILES = {
    "env.yml": "name: mine\nchannels: [conda-forge]\ndependencies:\n- python=3.7\n- pip: [six]\n",
    "sub/env.yml": "dependencies:\n- numpy=1.15\n",
    "unknown-key.yml": "nme: mine\ndependencies:\n- python=3.7\n",
    "requirements.txt": "tqdm\nnumpy>=1.10\nsix==1.12\n",
    # The same with what pip does not read, and without.
    "commented.txt": "# mine\n\nnumpy>=1.10,!=1.11 # why\n\ntqdm\n",
    "Dockerfile": "FROM y\n",
    "commented.txt.plain": "numpy>=1.10,!=1.11\ntqdm\n",
}

START: Call = {"compute_target": "local", "entry_script": "train.py", "framework_version": "7.0.0"}


# What `Estimator` has not: it is for no framework.
OF_FRAMEWORKS = {"framework_version", "_enable_optimized_mode"}


def start(kind: str) -> Call:
    """Return a call that is right; the estimator's class goes with it as `class`."""
    kept = {k: v for k, v in START.items() if kind == "Chainer" or k not in OF_FRAMEWORKS}
    return {"class": kind, **kept}


def singles(kind: str) -> list[Call]:
    """Return one call for each value of each parameter, here and on a pool."""
    return [
        {**start(kind), **where, name: value}
        for table in (VALUES, WRONG)
        for name, values in table.items()
        if kind == "Chainer" or name not in OF_FRAMEWORKS
        for value in values
        for where in ({}, {"compute_target": POOL})
        if not (where and name == "compute_target")
    ]


def afterwards(kind: str) -> list[Call]:
    """Return one call for each change of a run configuration, and for each override."""
    begun = [start(kind), {**start(kind), "compute_target": POOL, "pip_packages": ["numpy"]}]
    given = {"script_params": PAIRS, "inputs": VALUES["inputs"][2]}
    return [{**call, "then": [change]} for call in begun for change in CHANGES] + [
        {**call, **more, "override": override}
        for call in begun
        for more in ({}, {"script_params": PAIRS}, given)
        for override in OVERRIDES
    ]


@st.composite
def calls(draw: st.DrawFn) -> Call:
    """Several parameters at once; most of them right, so that later checks have their turn."""
    names = draw(st.lists(st.sampled_from(sorted(VALUES)), min_size=2, max_size=7, unique=True))
    call = start(draw(st.sampled_from(["Chainer", "Chainer", "Estimator"])))
    if call["class"] == "Estimator":
        names = [name for name in names if name not in OF_FRAMEWORKS]
    for name in names:
        wrong = name in WRONG and draw(st.integers(0, 19)) == 0
        call[name] = draw(st.sampled_from(WRONG[name] if wrong else VALUES[name]))
    if draw(st.booleans()):
        call["then"] = draw(st.lists(st.sampled_from(CHANGES), max_size=3))
    elif "script_params" not in call:
        call["script_params"] = PAIRS
        call["override"] = draw(st.sampled_from(OVERRIDES))
    return call
