"""Describe a training with the Chainer estimator, run it, look at the result.

Where there is an MPI, two processes share the work.
"""

import os
import shutil

from rechain import Chainer, Experiment, Mpi, Workspace

ranks = 2 if shutil.which("mpiexec") or shutil.which("mpirun") else 1
estimator = Chainer(
    source_directory=os.path.dirname(os.path.abspath(__file__)),
    entry_script="train_mn.py" if ranks > 1 else "train.py",
    script_params={"--epoch": 15, "--batchsize": 32 // ranks},
    compute_target="local",
    distributed_training=Mpi(process_count_per_node=ranks) if ranks > 1 else None,
    framework_version="7.0.0",
    pip_packages=["scikit-learn"],
    use_docker=False,
    max_run_duration_seconds=600,
)
run = Experiment(Workspace.local(), "digits").submit(estimator)
run.wait_for_completion(show_output=True)

accuracy = run.get_metrics("validation/main/accuracy")["validation/main/accuracy"]
print(f"accuracy on digits it has not seen: {accuracy[-1]:.1%}")
