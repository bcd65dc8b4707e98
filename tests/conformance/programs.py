"""Programs of a few lines over v1's plain objects: starts, steps, and what is looked at.

Each kind has the lines that make an object, the lines that change it, and an expression for what
came of it. `REFUSED` and `DIFFERENT` are what Rechain does otherwise on purpose, with the reason.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Kind:
    starts: list[str]
    steps: list[str]
    look: str

    def one_step(self) -> Iterator[str]:
        """Each start alone, and each step after each start."""
        for start in self.starts:
            for step in ("", *self.steps):
                yield "\n".join(line for line in (start, step, f"r = {self.look}") if line)

    def several_steps(self, chance: random.Random) -> str:
        """A start with two to six steps that Rechain takes as v1 does."""
        parts = (*REFUSED, *DIFFERENT)
        plain = [step for step in self.steps if not any(part in step for part in parts)]
        lines = [chance.choice(self.starts), *chance.choices(plain, k=chance.randint(2, 6))]
        return "\n".join([*lines, f"r = {self.look}"])


def _calls(method: str, *arguments: str) -> list[str]:
    return [f"x.{method}({given})" for given in arguments]


def _sets(name: str, *values: str) -> list[str]:
    return [f"x.{name} = {value}" for value in values]


_OPTIONS = ("'--pre'", "'--extra-index-url https://h.invalid'", "'--index-url https://h.invalid'",
            "'-i https://h.invalid'", "'--find-links x'", "'--no-deps'")  # fmt: skip
_PIP = ("'numpy'", "'numpy==1'", "'numpy>=1,<2'", "'scikit-learn'", "'scikit_learn'",
        "'azureml-defaults'", "'pkg[extra]==1'", "'git+https://h.invalid/a.git'", "'./a.whl'",
        "'tqdm~=1.0'", "'a @ https://h.invalid/a.tgz'", "'six'")  # fmt: skip
_CONDA = ("'numpy'", "'numpy=1.15'", "'numpy>=1.1'", "'scipy'", "'python=3.7'", "'pip=19'",
          "'conda-forge::scipy=1'", "'six'")  # fmt: skip

CONDA = Kind(
    ["x = CondaDependencies()", "x = CondaDependencies('env.yml')",
     "x = CondaDependencies('sub/env.yml')", "x = CondaDependencies(None)",
     "x = CondaDependencies.create(python_version='3.6.2', pip_packages=['six==1.12'])"],
    [
        *_calls("add_pip_package", *_PIP, "'--pre'", "None", "5"),
        *_calls("remove_pip_package", *_PIP),
        *_calls("add_conda_package", *_CONDA, "'python'", "None", "5"),
        *_calls("remove_conda_package", *_CONDA),
        *_calls("add_channel", "'conda-forge'", "'anaconda'", "'https://h.invalid/c'", "None"),
        *_calls("remove_channel", "'conda-forge'", "'anaconda'", "'pytorch'"),
        *_calls("set_pip_option", *_OPTIONS, "'pre'"), *_calls("remove_pip_option", *_OPTIONS),
        *_calls("set_pip_index_url", "'--index-url https://h.invalid'"),
        *_calls("set_python_version", "'3.7'", "'3.6.2'", "None", "3.7"),
        *_calls("set_pip_requirements", "['a', 'b==1']", "['--pre', 'a']", "('a',)", "'a'"),
        *_calls("add_tensorflow_pip_package", "", "'gpu'", "'gpu', '1.13'", "'x'"),
        *_calls("add_tensorflow_conda_package", "", "'gpu'", "'cpu', '1.12'", "'x'"),
        *_calls("add_cntk_package", "", "'gpu'", "'x'"),
        "x = copy.deepcopy(x)", "x = pickle.loads(pickle.dumps(x))",
        "x.save_to_file('.', 'made.yml'); x = CondaDependencies('made.yml')", "x.nope()",
    ],
    "[x, x.conda_channels, x.conda_packages, x.pip_packages, "
    "[o for o in x.pip_options if 'pypi' not in o]]",
)  # fmt: skip

_IMAGE = [
    *_sets("environment.docker.base_image", "'x'", "None", "''", "5"),
    *_sets("environment.docker.base_dockerfile", "'FROM x'", "'Dockerfile'", "None"),
    *_sets("environment.docker.enabled", "True", "1", "'x'"),
    *_sets("environment.docker.arguments", "['-x']", "('-x',)", "'-x'"),
    *_sets("environment.docker.base_image_registry.address", "'h'", "None"),
    *_sets("environment.docker.shm_size", "'8g'", "None", "8"),
]

RUN_CONFIGURATION = Kind(
    ["x = RunConfiguration()", "x = RunConfiguration('s.py', ['--a', 1])",
     "x = RunConfiguration(conda_dependencies=CondaDependencies('env.yml'))"],
    [
        *_sets("script", "'x'", "None"), *_sets("arguments", "[]", "['a', 1]", "('a',)", "'x'"),
        *_sets("target", "'local'", "'x'", "None", "pool('p')", "5"),
        *_sets("framework", "'Python'", "'PySpark'", "'x'", "None"),
        *_sets("communicator", "'IntelMpi'", "'OpenMpi'", "'x'", "None"),
        *_sets("node_count", "2", "0", "2.0", "None", "'2'"),
        *_sets("max_run_duration_seconds", "60", "None", "'60'"),
        *_sets("environment", "Environment('x')", "'x'"),
        *_sets("history.output_collection", "False", "1"),
        *_sets("history.directories_to_watch", "['a']", "None"),
        *_sets("docker", "DockerConfiguration(True)", "None"),
        *_sets("docker.use_docker", "True", "0"),
        *_sets("mpi", "MpiConfiguration(2, 3)", "Mpi()"),
        *_sets("mpi.process_count_per_node", "2", "None", "'2'"),
        *_sets("amlcompute.vm_size", "'x'"), *_sets("amlcompute.vm_priority", "'lowpriority'"),
        *_sets("data_references", "{'a': DataReference(datastore(), 'n').to_config()}", "{}"),
        *_sets("environment_variables", "{'A': '1'}", "{'A': 1}", "{}"),
        *_sets("environment.environment_variables", "{'A': '1'}"),
        *_sets("environment.python.user_managed_dependencies", "True", "0", "'x'"),
        *_sets("environment.python.interpreter_path", "'p'", "None"),
        *_sets("environment.spark.precache_packages", "False"),
        *_sets("source_directory_data_store", "'s'", "None"), *_sets("nope", "1"),
        *_sets("mpi.nope", "1"), *_sets("environment.nope", "1"), *_IMAGE,
        "x = copy.deepcopy(x)", "x = pickle.loads(pickle.dumps(x))",
        "os.makedirs('.azureml', exist_ok=True); x.target = 'c'; x.save('.', 'q'); "
        "x = RunConfiguration.load('.', 'q')",
    ],
    "x",
)  # fmt: skip

REFERENCE = Kind(
    ["x = datastore().path('a', 'n')", "x = DataReference(datastore())",
     "x = DataReference(datastore(), 'n', 'p', 'download', 'c', True)",
     "x = DataReference(datastore(), data_reference_name='', path_on_compute='/c')",
     "x = DataReference(datastore(), 'n', mode='x')", "x = DataReference(None, 'n')",
     "x = DataPath(datastore(), 'p').create_data_reference('n')",
     "x = DataPath(datastore(), 'p').create_data_reference('n', "
     "DataPathComputeBinding('download', 'c', True))", "x = DataPath(None)"],
    [
        "x = x.as_mount()", "x = x.as_download()", "x = x.as_download('d')",
        "x = x.as_upload()", "x = x.as_upload('d')", "x = x.path()", "x = x.path('')",
        "x = x.path('b', 'm')", "x = x.path(data_reference_name='m')",
        "x = x.as_download(path_on_compute='d', overwrite=True)", "x.nope()",
    ],
    "[x.to_config(), x.data_reference_name, x.path_on_datastore, x.mode, x.path_on_compute, "
    "x.overwrite, str(x)]",
)  # fmt: skip

ENVIRONMENT = Kind(
    ["x = Environment('x')", "x = Environment('my env')", "x = Environment('')",
     "x = Environment(None)", "x = Environment(5)", "x = Environment()",
     "x = Environment.from_conda_specification('x', 'env.yml')",
     "x = Environment.from_conda_specification('x', 'sub/env.yml')",
     "x = Environment.from_conda_specification('x', 'gone.yml')",
     "x = Environment.from_conda_specification('x', 'unknown-key.yml')",
     "x = Environment.from_pip_requirements('x', 'requirements.txt')",
     "x = Environment.from_pip_requirements('x', 'requirements.txt', '20.1')",
     "x = Environment.from_pip_requirements('x', 'gone.txt')",
     "x = Environment.from_docker_image('x', 'i:1')",
     "x = Environment.from_docker_image('x', 'i:1', None, 'env.yml')",
     "x = Environment.from_docker_image('x', 'i', None, 'env.yml', 'requirements.txt')",
     "x = Environment.from_dockerfile('x', 'FROM y')"],
    [
        *_sets("name", "'y'", "5"), *_sets("version", "'1'", "None"),
        *_sets("python", "PythonSection()", "{}"),
        *_sets("python.conda_dependencies", "CondaDependencies('env.yml')", "'env.yml'"),
        *_sets("environment_variables", "{'A': '1'}", "'A=1'"),
        *(step.replace("x.environment.", "x.") for step in _IMAGE),
        "x = x.clone('y')", "x = copy.deepcopy(x)", "x = pickle.loads(pickle.dumps(x))",
        "x.save_to_directory('d'); x = Environment.load_from_directory('d')", "x.nope = 1",
    ],
    "[x, x.python.conda_dependencies, x.environment_variables, json.loads(repr(x))['name'], "
    "x.docker.base_dockerfile]",
)  # fmt: skip

_CHAINER = "x = Chainer('.', compute_target={}, entry_script='t.py', framework_version='7.0.0'{})"
_GIVEN = [
    "node_count=1.0", "process_count_per_node=2.0, distributed_backend='mpi'", "use_gpu=1",
    "use_gpu=0", "use_gpu=None", "use_gpu=''", "use_gpu='False'", "use_docker=1", "use_docker=0",
    "use_docker=None", "user_managed=0", "user_managed=None", "conda_packages=('scipy',)",
    "conda_packages={'scipy'}", "conda_packages=(p for p in ['scipy'])", "conda_packages='scipy'",
    "pip_packages={}", "pip_packages=(p for p in ['six'])", "inputs={datastore()}",
    "inputs=(d for d in [datastore()])", "inputs={}", "environment_variables={'A': None}",
    "environment_variables={'A': 1.5}", "environment_variables={'A': []}",
    "vm_priority='LowPriority'", "vm_priority='x'", "distributed_backend=False",
    "distributed_training={}", "distributed_training=Mpi(2.0)", "distributed_training=Mpi(0)",
    "resume_from=False", "resume_from=0", "environment_definition={}", "image_registry_details={}",
    "max_run_duration_seconds=60.5", "max_run_duration_seconds=0", "shm_size=8", "nope=1",
    "entryscript='t.py'", "_disable_validation=0", "script_params={'--a': (1, 2)}",
    "script_params={'--a': range(2)}", "custom_docker_image=5", "source_directory='.'",
]  # fmt: skip
CHAINER = Kind(
    [_CHAINER.format(target, f", {given}") for target in ("'local'", "pool('p')")
     for given in _GIVEN],
    ["x.run_config.script = 'u.py'", "x.nope()", "x.run_config.nope = 1"],
    "[x, x.source_directory, x.framework_version, x.conda_dependencies]",
)  # fmt: skip

KINDS = {
    "conda": CONDA, "run configuration": RUN_CONFIGURATION, "reference": REFERENCE,
    "environment": ENVIRONMENT, "chainer": CHAINER,
}  # fmt: skip

# What v1 keeps until something breaks far away, by a part of its line.
REFUSED = (
    "add_channel(None)", "set_pip_requirements('a')", "arguments = 'x'", "target = 5",
    "node_count = '2'", "seconds = '60'", "environment = 'x'", "mpi = Mpi()",
    "per_node = '2'", "enabled = 'x'", "arguments = '-x'", "shm_size = 8", "base_image = 5",
    "dependencies = 'x'", "name = 5", "python = {}", "dependencies = 'env.yml'",
    "variables = 'A=1'", "use_gpu='False'", "conda_packages='scipy'", "variables={'A': []}",
    "priority='x'", "Mpi(0)", "resume_from=0", "seconds=0", "shm_size=8", "docker_image=5",
)  # fmt: skip
# What is another value here.
DIFFERENT = {
    "overwrite=True)": "v1 forgets that a download may overwrite",
    "vm_priority='LowPriority'": "a priority is written in one way",
    "environment_definition={}": "v1 takes it for none in one place and not in another",
    "use_docker=None": "a flag is True or False",
    "user_managed=None": "a flag is True or False",
}
