"""Which GPUs there are, and which CuPy drives them, as a fake nvidia-smi reports them."""

import os
import stat
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from rechain import recipes
from rechain.environment import cupy, gpu
from rechain.environment.errors import EnvironmentFailure
from rechain.environment.spec import venv_spec

pytestmark = pytest.mark.fast

V100 = "0, GPU-aaaa, Tesla V100-SXM2-16GB, 440.33.01, 7.0"
A100 = "1, GPU-bbbb, NVIDIA A100-SXM4-40GB, 535.104.05, 8.0"


def found(driver, capability):
    return [{"uuid": "GPU-a", "name": "a card", "driver": driver, "capability": capability}]


def children():
    return {
        pid
        for thread in Path("/proc/self/task").iterdir()
        for pid in (thread / "children").read_text().split()
    }


def test_a_fake_gpu_is_found(fake_gpu):
    fake_gpu(V100, A100)
    gpus, why = gpu.look({})
    assert why == ""
    assert gpus[0] == {
        "index": "0",
        "uuid": "GPU-aaaa",
        "name": "Tesla V100-SXM2-16GB",
        "driver": "440.33.01",
        "capability": "7.0",
    }
    assert gpu.visible({}) == ["GPU-aaaa", "GPU-bbbb"]


@pytest.mark.parametrize(
    ("visible", "names"),
    [("1,0", ["1", "0"]), ("GPU-b", ["1"]), ("0,9,1", ["0"]), ("0,0,1", ["0"]), ("GPU-", [])],
)
def test_of_fake_gpus_those_that_cuda_would_see(fake_gpu, visible, names):
    fake_gpu(V100, A100)
    assert [one["index"] for one in gpu.look({gpu.VARIABLE: visible})[0]] == names


@pytest.mark.parametrize(
    ("lines", "status", "visible", "says"),
    [
        (["NVIDIA-SMI has failed.", "No devices were found"], 6, None, "No devices were found"),
        ([], 9, None, "ended with wait status"),
        ([""], 0, None, "lists none"),
        ([V100], 0, "", "CUDA_VISIBLE_DEVICES= hides the GPU"),
        ([V100, A100], 0, "7", "CUDA_VISIBLE_DEVICES=7 hides all 2 GPUs"),
    ],
)
def test_why_there_is_no_fake_gpu(fake_gpu, lines, status, visible, says):
    fake_gpu(*lines, status=status)
    gpus, why = gpu.look({} if visible is None else {gpu.VARIABLE: visible})
    assert gpus == []
    assert says in why


def test_without_nvidia_smi_there_is_none(tmp_path, monkeypatch):
    (tmp_path / "nvidia-smi").mkdir()  # no program
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpu.look({})[0] == []
    assert "no nvidia-smi on PATH" in gpu.look({})[1]


def test_a_fake_nvidia_smi_that_cannot_be_run(fake_gpu, tmp_path):
    program = tmp_path / "bin" / "nvidia-smi"
    program.write_bytes(b"\x7fELF nonsense")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    gpus, why = gpu.look({})
    assert gpus == []
    assert "nvidia-smi" in why


def test_a_fake_nvidia_smi_that_hangs(fake_gpu, tmp_path, monkeypatch):
    (tmp_path / "bin" / "nvidia-smi").write_text("#!/bin/sh\nexec sleep 60\n")
    os.chmod(tmp_path / "bin" / "nvidia-smi", 0o755)
    monkeypatch.setattr(gpu, "_PATIENCE", 0.05)
    before = children()
    assert gpu.look({}) == ([], "nvidia-smi finds none: no answer within 0.05 s")
    assert children() <= before


def test_an_old_fake_nvidia_smi_that_does_not_know_capabilities(fake_gpu, tmp_path):
    (tmp_path / "bin" / "nvidia-smi").write_text(
        '#!/bin/sh\ncase "$1" in *compute_cap*) echo not a valid field; exit 2;; esac\n'
        "echo 0, GPU-a, Tesla K80, 418.87\n"
    )
    os.chmod(tmp_path / "bin" / "nvidia-smi", 0o755)
    (one,), _ = gpu.look({})
    assert (one["driver"], one["capability"]) == ("418.87", "")
    cell = recipes.load("chainer-7.0.0").cell("3.6")
    assert cupy.newest(cell, [one]) == "cupy-cuda101==7.8.0"


@pytest.mark.parametrize(
    ("recipe", "python", "driver", "capability", "cupy_package"),
    [
        ("chainer-5.1.0", "3.6", "384.81", "7.0", "cupy-cuda90==8.6.0"),
        ("chainer-5.1.0", "3.6", "535.104.05", "8.6", "cupy-cuda112==8.6.0"),
        ("chainer-5.1.0", "3.6", "535.104.05", "9.0", None),
        ("chainer-5.1.0", "3.11", "535.104.05", "9.0", "cupy-cuda12x==13.6.0"),
        ("chainer-7.0.0", "3.6", "450.36.06", "8.0", "cupy-cuda110==7.8.0"),
        ("chainer-7.0.0", "3.6", "450.36.05", "7.5", "cupy-cuda102==7.8.0"),
        ("chainer-7.0.0", "3.11", "535.104.05", "8.0", "cupy-cuda12x==13.6.0"),
        ("chainer-7.8.1", "3.8", "525.60.13", "8.9", "cupy-cuda12x==12.3.0"),
        ("chainer-7.8.1", "3.8", "525.60.12", "8.9", "cupy-cuda11x==12.3.0"),
        ("chainer-7.8.1", "3.9", "580.65.06", "12.0", "cupy-cuda12x==13.6.0"),
        ("chainer-7.8.1", "3.9", "580.65.06", "3.7", "cupy-cuda11x==13.6.0"),
        ("chainer-7.8.1", "3.9", "367.48", "3.7", None),
        ("chainer-7.8.1", "3.9", "", "3.7", None),
    ],
)
def test_the_newest_cupy_that_drives_a_fake_gpu(recipe, python, driver, capability, cupy_package):
    cell = recipes.load(recipe).cell(python)
    assert cupy.newest(cell, found(driver, capability)) == cupy_package


def test_it_drives_all_of_several_fake_gpus():
    cell = recipes.load("chainer-7.8.1").cell("3.9")
    both = [*found("535.104.05", "3.7"), *found("535.104.05", "9.0")]
    assert cupy.newest(cell, both) == "cupy-cuda11x==13.6.0"
    assert cupy.newest(cell, [*both, *found("580.65.06", "12.0")]) is None


@pytest.mark.parametrize("name", recipes.names())
def test_what_every_cupy_of_a_recipe_needs_is_known(name):
    needs = recipes.cuda()
    for cell in recipes.load(name).cells:
        for text in cell.cupy:
            requirement = Requirement(text)
            assert str(requirement.specifier).startswith("==")
            low, high = needs[requirement.name]["capability"]
            assert float(low) < float(high)


def spec_for(gpus, *pip, recipe="chainer-5.1.0", python=None, wanted="required"):
    return gpu.settled(venv_spec(recipe, python, pip, gpu={"wanted": wanted}), gpus)


def test_the_environment_without_a_gpu_is_that_of_the_cpu():
    with_gpu = spec_for(found("535.104.05", "8.0"))
    other = spec_for(found("450.80.02", "8.0"))
    without = spec_for([], wanted="optional")
    assert without["digest"] == venv_spec("chainer-5.1.0")["digest"]
    assert len({with_gpu["digest"], other["digest"], without["digest"]}) == 3
    assert with_gpu["digest"].endswith("-535.104.05-8.0")


def test_a_python_is_taken_that_has_a_cupy_for_a_fake_gpu():
    recipe = recipes.load("chainer-5.1.0")
    h100 = found("535.104.05", "9.0")
    assert cupy.cells_for(recipe, spec_for(h100), h100).pythons == (
        "3.8, 3.9, 3.10, 3.11, 3.12 or 3.13"
    )
    patched = recipes.load("chainer-7.0.0")
    assert cupy.cells_for(patched, spec_for(h100, recipe=patched.name), h100).pythons == (
        "3.9, 3.10, 3.11, 3.12 or 3.13"
    )
    named = spec_for(h100, python="3.6")
    assert cupy.cells_for(recipe, named, h100) is recipe
    own = spec_for(h100, "cupy-cuda12x==13.6.0")
    assert cupy.cells_for(recipe, own, h100) is recipe
    assert cupy.pins(recipe.cell("3.6"), own, h100) == ((), [])


def test_no_cupy_for_a_fake_gpu():
    recipe = recipes.load("chainer-4.5.0")
    h100 = found("535.104.05", "9.0")
    with pytest.raises(EnvironmentFailure) as caught:
        cupy.cells_for(recipe, spec_for(h100, recipe=recipe.name), h100)
    assert caught.value.cause == "no_gpu"
    assert caught.value.message == (
        "no CuPy for chainer 4.5.0 drives a card (driver 535.104.05, compute capability 9.0)"
    )
    assert "RECHAIN_GPU=optional" in caught.value.hint
    assert "cupy-cuda90: driver 384.81 or newer" in caught.value.detail
    with pytest.raises(EnvironmentFailure, match=r"chainer 4\.5\.0 on Python 3\.9 drives"):
        cupy.pins(recipe.cell("3.9"), spec_for(h100, recipe=recipe.name), h100)
    optional = spec_for(h100, recipe=recipe.name, wanted="optional")
    assert cupy.cells_for(recipe, optional, h100) is recipe
    none, (note,) = cupy.pins(recipe.cells[0], optional, h100)
    assert none == ()
    assert "the script runs without one" in note
