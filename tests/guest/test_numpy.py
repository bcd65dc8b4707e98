"""NumPy and matplotlib for real, old and new: the guest recognises them without importing them."""

import subprocess
from pathlib import Path

import pytest
import uv

from rechain.guest.rechain_guest import lines, values

pytestmark = pytest.mark.engines

SCRIPT = """
import sys, warnings
from azureml.core.run import Run
run = Run.get_context()
run.log("before", 1)
assert "numpy" not in sys.modules and "matplotlib" not in sys.modules
import numpy as np
for kind in "int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64 " \\
        "longdouble bool_".split():
    run.log(kind, getattr(np, kind)(1))
run.log("0-d", np.array(1.5))
run.log("mean", np.arange(4, dtype="f4").mean())
run.log("str", np.str_("text"))
run.log("nan", np.float32("nan"), step=np.int64(3))
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    run.log("array", np.arange(2))
    run.log("date", np.datetime64("2020-01-01", "ns"))
    run.log("complex", np.complex64(1j))
run.log_list("list", np.arange(3))
run.log_list("longs", np.array([1, 2], dtype="longdouble"))
run.log_row("row", x=np.int64(1), y=np.float32(0.5))
run.log_table("table", {"x": np.arange(2), "y": [np.float64(1), np.int64(2)]})
run.log_confusion_matrix("matrix", {"data": {"matrix": np.eye(2), "n": np.int64(4)}})
try:
    run.log_list("bad", np.eye(2))
except Exception as error:
    assert "one value" in error.message
else:
    raise AssertionError
import matplotlib.pyplot as plt
plt.plot([1, 2])
run.log_image("pyplot", plot=plt)
run.log_image("figure", plot=plt.figure())
run.log_image("again", plot=plt.gca())
"""


@pytest.mark.parametrize("version", ["3.6", "3.13"])
def test_numpy_and_matplotlib(version, interpreters, make_job, tmp_path, need):
    if version not in interpreters:
        need(f"python{version}")
    venv = tmp_path / "venv"
    tool = uv.find_uv_bin()
    subprocess.run([tool, "venv", "-q", "-p", interpreters[version], venv], check=True)
    python = venv / "bin" / "python"
    install = [tool, "pip", "install", "-q", "-p", python, "numpy", "matplotlib"]
    subprocess.run(install, check=True)
    job = make_job(tmp_path, str(python))
    job.run(SCRIPT)

    metrics = lines.read_metrics(job.folder)
    for kind in ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]:
        assert metrics[kind] == 1
        assert type(metrics[kind]) is int
    for kind in ("float16", "float32", "float64", "longdouble"):
        assert metrics[kind] == 1
        assert type(metrics[kind]) is float
    assert metrics["bool_"] is True
    assert metrics["0-d"] == metrics["mean"] == 1.5
    assert metrics["str"] == "text"
    assert metrics["array"] == "array([0, 1])"
    assert "2020-01-01" in metrics["date"]
    assert "1j" in metrics["complex"]
    assert metrics["list"] == [0, 1, 2]
    assert metrics["longs"] == [1.0, 2.0]
    assert metrics["row"] == {"x": 1, "y": 0.5}
    assert metrics["table"] == {"x": [0, 1], "y": [1.0, 2]}
    assert metrics["matrix"]["data"] == {"matrix": [[1.0, 0.0], [0.0, 1.0]], "n": 4}
    assert lines.read_series(job.folder)["nan"][0][0] == 3
    for name in ("pyplot", "figure", "again"):
        image = Path(job.folder, "uploads", metrics[name]).read_bytes()
        assert values.is_image(image[:256])
