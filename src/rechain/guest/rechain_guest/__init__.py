"""What Rechain brings into the job: `Run.get_context()` and the writing of metrics.

Standard library only, Python 3.6 and newer: it runs on the job's interpreter, inside the user's
process. Rechain itself reads the record with the same code (`lines`, `chainer_log`).
"""
