"""The program of every attempt: `python -I -S __main__.py RUN_FOLDER` starts one.

`... --rank RUN_FOLDER ATTEMPT` is what mpiexec starts in place of each rank, and `--resume` finds
out how a next attempt goes on. `... --slurm RUN_FOLDER` is one as a Slurm job, and
`--node RUN_FOLDER ATTEMPT` guards one of its nodes, where it has several. `--unpack` brings an
environment to a node's own disk, and `--deaf COMMAND` becomes a daemon of Open MPI there.

`-I -S` keeps the user's Python settings and site-packages out and halves the start; so the way to
Rechain's own modules is laid here.
"""

import os.path
import sys

# Last: nothing of the standard library is looked for here first.
sys.path.append(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

if sys.argv[1] == "--rank":
    from rechain.supervisor.rank import guard_rank

    guard_rank(sys.argv[2], sys.argv[3])
elif sys.argv[1] == "--node":
    from rechain.supervisor.node import guard_node

    guard_node(sys.argv[2], sys.argv[3])
elif sys.argv[1] == "--deaf":
    from rechain.supervisor.launchers import deafen

    deafen(*sys.argv[2:])
elif sys.argv[1] == "--resume":
    from rechain.supervisor.resume import resume

    resume(sys.argv[2], sys.argv[3])
elif sys.argv[1] == "--unpack":
    from rechain.supervisor.unpack import unpack_here

    unpack_here(*sys.argv[2:])
elif sys.argv[1] == "--slurm":
    from rechain.supervisor.slurm import serve

    serve(sys.argv[2])
else:
    from rechain.supervisor.guard import launch

    launch(sys.argv[1])
