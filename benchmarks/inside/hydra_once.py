"""Run a command as a hydra application."""

import os
import subprocess

import hydra


@hydra.main(version_base=None, config_path=None)
def main(_):
    subprocess.check_call([os.environ["JOB_PYTHON"], os.environ["JOB_SCRIPT"]])


main()
