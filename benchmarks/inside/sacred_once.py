"""Run a command as a sacred experiment, recorded in files."""

import os
import subprocess

from sacred import Experiment
from sacred.observers import FileStorageObserver

experiment = Experiment("benchmark", save_git_info=False)
experiment.observers.append(FileStorageObserver(os.getcwd()))


@experiment.automain
def main():
    subprocess.check_call([os.environ["JOB_PYTHON"], os.environ["JOB_SCRIPT"]])
