"""Run a command with one of submitit's executors."""

import os
import sys

import submitit

executor = getattr(submitit, sys.argv[1])(folder=os.getcwd())
command = [os.environ["JOB_PYTHON"], os.environ["JOB_SCRIPT"]]
executor.submit(submitit.helpers.CommandFunction(command)).result()
