"""Why a job waits or is not taken, in words: what Slurm says, and what its user can do.

The codes are those of squeue(1), "JOB REASON CODES", and of Slurm's page on resource limits; the
sentences are those of Slurm's `slurm_errno.c`, the same from 19.05 to 25.11, and of sbatch.
"""

from __future__ import annotations

import re

from rechain.compute.slurm.commands import NO_CLUSTER, UNCONFIGURED

__all__ = ["REASONS", "REFUSALS", "Reason", "in_words", "refused"]

_WAIT = "nothing to do but to wait"
_ADMIN = "ask the cluster's administrators"


class Reason:
    """One row of the table.

    Attributes:
        words: what it means.
        advice: what to do.
        stuck: whether the job will never start by itself.
    """

    __slots__ = ("advice", "stuck", "words")

    def __init__(self, words: str, advice: str, *, stuck: bool = False) -> None:
        self.words = words
        self.advice = advice
        self.stuck = stuck


REASONS: dict[str, Reason] = {
    "": Reason("Slurm has not looked at it yet", _WAIT),
    "Priority": Reason("other jobs go first", _WAIT),
    "Resources": Reason("it is next, and waits until its nodes are free", _WAIT),
    "WaitingForScheduling": Reason("Slurm has not looked at it yet", _WAIT),
    "BeginTime": Reason("its earliest start is to come, as for a while after a requeue", _WAIT),
    "Cleaning": Reason("its last start is still being tidied up", _WAIT),
    "Prolog": Reason("the cluster prepares its nodes", _WAIT),
    "Reservation": Reason("its reservation has not begun", _WAIT),
    "Licenses": Reason("a license that it asks for is taken", _WAIT),
    "JobArrayTaskLimit": Reason("as many tasks of its array run as may", _WAIT),
    "BurstBufferResources": Reason("the burst buffer is full", _WAIT),
    "BurstBufferStageIn": Reason("its data is being brought in", _WAIT),
    "Dependency": Reason("a job that it depends on has not ended", _WAIT),
    "FedJobLock": Reason("the clusters of the federation agree on where it runs", _WAIT),
    "NodeDown": Reason("a node that it needs is down", f"wait, or {_ADMIN}"),
    "ReqNodeNotAvail": Reason(
        "nodes that it asks for are down, drained or reserved",
        "see `sinfo -R`; it may also be that a maintenance begins before its time limit is over: "
        "then a shorter --time-limit helps",
    ),
    "Nodes required for job are DOWN": Reason(
        "nodes that it needs are down, drained, or kept for jobs of a partition that goes first",
        "wait, or see `sinfo -R`",
    ),
    "SchedDefer": Reason("Slurm looks at many jobs at once, and has not come to it", _WAIT),
    "MpiPortsBusy": Reason("the ports that MPI steps need are taken", _WAIT),
    "NvidiaImexChannels": Reason("the channels of its nodes' GPUs are taken", _WAIT),
    "MaxPoweredUpNodes": Reason("as many nodes are switched on as may", _WAIT),
    "PowerNotAvail": Reason("the cluster may not use more power now", _WAIT),
    "PowerReserved": Reason("power is kept for a reservation", _WAIT),
    "BurstBufferOperation": Reason("the burst buffer failed", _ADMIN),
    "AccountingPolicy": Reason("your account or its QOS does not allow more now", _WAIT),
    "ReservationDeleted": Reason(
        "its reservation is gone", "cancel it, and submit it again without", stuck=True
    ),
    "ReservationInvalid": Reason(
        "its reservation is gone", "cancel it, and submit it again without", stuck=True
    ),
    "PartitionDown": Reason(
        "its partition takes jobs, but starts none now", f"wait, or use another; {_ADMIN}"
    ),
    "FrontEndDown": Reason("no front end can start it", _ADMIN),
    "MaxRequeueReached": Reason(
        "it was started as often as the cluster allows", "cancel it, and submit it again",
        stuck=True,
    ),
    "PartitionInactive": Reason(
        "its partition is switched off", "use another partition (rechain target add)", stuck=True
    ),
    "PartitionNodeLimit": Reason(
        "its partition does not have, or does not give to one job, that many nodes; or they are "
        "down",
        "ask for fewer nodes (--node-count), or see `sinfo`", stuck=True,
    ),
    "PartitionConfig": Reason(
        "its partition does not have or allow what it asks for",
        "ask for less (--node-count, --vm-size), or use another partition", stuck=True,
    ),
    "PartitionTimeLimit": Reason(
        "its time limit is longer than its partition's",
        "give a shorter --time-limit (max_run_duration_seconds)", stuck=True,
    ),
    "BadConstraints": Reason(
        "no node of the partition has what it asks for",
        "see the target's vm_size (rechain target show), and `sinfo -o '%N %f %G'`", stuck=True,
    ),
    "AccountNotAllowed": Reason(
        "its account may not use the partition", "name another with --account", stuck=True
    ),
    "QOSNotAllowed": Reason(
        "its QOS may not be used on the partition", "name another with --qos", stuck=True
    ),
    "InvalidAccount": Reason(
        "there is no such account, or you are not in it",
        "name yours in the target (rechain target add --account); `sacctmgr show assoc "
        "user=$USER` lists them",
        stuck=True,
    ),
    "InvalidQOS": Reason(
        "there is no such QOS, or you may not use it",
        "name another in the target (rechain target add --qos)", stuck=True,
    ),
    "QOSUsageThreshold": Reason("its QOS asks for less usage than you have had", _WAIT),
    "DependencyNeverSatisfied": Reason(
        "a job that it depends on failed", "cancel it, and submit it again", stuck=True
    ),
    "JobHeldUser": Reason("somebody held it", "`scontrol release JOB` lets it go on", stuck=True),
    "JobHeldAdmin": Reason("an administrator held it", _ADMIN, stuck=True),
    "JobHoldMaxRequeue": Reason(
        "it was requeued too often, and Slurm holds it",
        "see the run's log; `scontrol release JOB` lets it go on", stuck=True,
    ),
    "JobLaunchFailure": Reason("a node could not start it", _ADMIN),
    "launch_failed_requeued_held": Reason(
        "it could not be started, and Slurm holds it",
        f"`scontrol release JOB` lets it try again; {_ADMIN}", stuck=True,
    ),
    "AssociationJobLimit": Reason("as many of your jobs run as may", _WAIT),
    "AssociationResourceLimit": Reason("your account has what it may have", _WAIT),
    "AssociationTimeLimit": Reason("your account has used its time", _ADMIN),
    "QOSJobLimit": Reason("as many jobs of its QOS run as may", _WAIT),
    "QOSResourceLimit": Reason("the jobs of its QOS have what they may have", _WAIT),
    "QOSTimeLimit": Reason("its QOS has used its time", _ADMIN),
    "SystemFailure": Reason("Slurm itself, a file system or the network failed", _ADMIN),
}  # fmt: skip

_SEE = "see the target's vm_size (rechain target show)"
_TIME = "give a shorter --time-limit (max_run_duration_seconds); `sinfo -o '%P %l'` shows limits"
_OPTION = "see the target's --sbatch-option (rechain target show)"
_LATER = "nothing was submitted; try again later"

# What sbatch says when it does not take a job. It may say more in the lines before.
REFUSALS: dict[str, Reason] = {
    "Invalid partition name specified": Reason(
        "the cluster has no such partition",
        "name one of `sinfo -o %P` in the target (rechain target add --partition)",
    ),
    "No partition specified or system default partition": Reason(
        "the cluster has no default partition",
        "name one of `sinfo -o %P` in the target (rechain target add --partition)",
    ),
    "User's group not permitted to use this partition": Reason(
        "you may not use the partition", f"name another with --partition, or {_ADMIN}"
    ),
    "Required partition not available (inactive or drain)": Reason(
        "the partition takes no jobs now", f"name another with --partition, or {_ADMIN}"
    ),
    "Partition in DOWN state": Reason(
        "the partition takes no jobs now", f"name another with --partition, or {_ADMIN}"
    ),
    "Invalid account or account/partition combination specified": Reason(
        "there is no such account, or you may not charge it, or not on this partition",
        "name yours in the target (rechain target add --account); `sacctmgr show assoc "
        "user=$USER format=account,partition,qos` lists them",
    ),
    "Invalid qos specification": Reason(
        "there is no such QOS, or you may not use it",
        "name another in the target (rechain target add --qos); `sacctmgr show assoc user=$USER "
        "format=account,qos` lists them",
    ),
    "Job violates accounting/QOS policy": Reason(
        "it asks for more than your account or its QOS allows, or you have too many jobs there",
        "wait for jobs to end, or ask for less: --node-count, --vm-size, --time-limit",
    ),
    "Requested time limit is invalid (missing or exceeds some limit)": Reason(
        "its time limit is missing, or longer than it may be", _TIME
    ),
    "Time limit specification required, but not provided": Reason(
        "it needs a time limit", "give one with --time-limit (max_run_duration_seconds)"
    ),
    "Invalid generic resource (gres) specification": Reason(
        "the cluster has no such gres",
        f"{_SEE}: its gres must be one of `sinfo -o '%P %G'`, as in --vm-size "
        "NAME=cpus:8,gres:gpu:1",
    ),
    "Invalid GRES specification (with and without type identification)": Reason(
        "its gres is named with a type and without one", f"{_SEE}, and its --sbatch-option"
    ),
    "Invalid Trackable RESource (TRES) specification": Reason(
        "it asks for a resource that the cluster does not know", f"{_SEE}, and its --sbatch-option"
    ),
    "Invalid feature specification": Reason(
        "no node has such a feature",
        f"{_SEE}: its constraint must be one of `sinfo -o '%P %f'`",
    ),
    "Requested node configuration is not available": Reason(
        "no node, or not as many nodes, can give what it asks for",
        f"ask for less (--node-count, -n), or {_SEE}; `sinfo -o '%P %D %c %m %G'` shows each "
        "partition's nodes, CPUs, memory in MB and gres",
    ),
    "Memory required by task is not available": Reason(
        "no node has the memory that it asks for", f"{_SEE}; `sinfo -o '%P %m'` shows MB per node"
    ),
    "More processors requested than permitted": Reason(
        "it asks for more CPUs than it may", "ask for less: --node-count, -n, --vm-size"
    ),
    "Node count specification invalid": Reason(
        "it asks for more nodes than the partition gives to one job, or for fewer",
        "change --node-count; `sinfo -o '%P %s'` shows how many there may be",
    ),
    "Task count specification invalid": Reason(
        "its ranks do not fit its nodes", "change --node-count or -n"
    ),
    "Invalid node name specified": Reason(
        "the cluster has no node of that name", _OPTION
    ),
    "Requested nodes not in this partition": Reason(
        "the nodes that are named are not in its partition",
        _OPTION,
    ),
    "Required node not available (down, drained or reserved)": Reason(
        "nodes that it asks for are down, drained or reserved", f"see `sinfo -R`, or {_ADMIN}"
    ),
    "Requested reservation is invalid": Reason(
        "the cluster has no such reservation", _OPTION
    ),
    "Access denied to requested reservation": Reason(
        "you may not use the reservation", f"leave out its --sbatch-option, or {_ADMIN}"
    ),
    "Invalid license specification": Reason(
        "the cluster has no such license", _OPTION
    ),
    "Access/permission denied": Reason("you may not do that there", _ADMIN),
    "Invalid user id": Reason("the cluster does not know your user", _ADMIN),
    "MaxJobCount limit reached": Reason("the cluster is full of jobs", _LATER),
    "Slurm temporarily unable to accept job": Reason("the cluster is full of jobs", _LATER),
    "Unable to contact slurm controller": Reason(
        "slurmctld does not answer", f"{_LATER}; `scontrol ping` shows whether it does"
    ),
    UNCONFIGURED: Reason(*NO_CLUSTER.split(": ")),
    "Invalid authentication credential": Reason(
        "munge does not work on this machine, or its clock is wrong", _ADMIN
    ),
    "Protocol authentication error": Reason(
        "munge does not work on this machine, or its clock is wrong", _ADMIN
    ),
    "unrecognized option": Reason(
        "this sbatch has no such option", _OPTION
    ),
}  # fmt: skip

# QOSMaxCpuPerUserLimit, AssocGrpGRES, QOSGrpNodeLimit, AssocMaxWallDurationPerJobLimit, ...
_LIMIT = re.compile(
    r"(?P<scope>QOS|Assoc|)(?P<kind>Grp|Max|Min)(?P<what>[A-Za-z]*?)"
    r"(?:Per(?P<per>User|Job|Node|Account|PerAccount))?(?:Limit)?$"
)
_SCOPES = {"QOS": "its QOS", "Assoc": "your account", "": "its QOS"}
_WHATS = (
    ("cpurun", "CPU minutes"), ("cpumin", "CPU minutes"), ("cpu", "CPUs"), ("gres", "GPUs"),
    ("mem", "memory"), ("node", "nodes"), ("wall", "time"), ("submit", "submitted jobs"),
    ("job", "jobs"), ("bil", "billing units"), ("license", "licenses"), ("energy", "energy"),
    ("bb", "burst buffer"), ("unknown", "resources"),
)  # fmt: skip


def in_words(code: str) -> str:
    """Return why a job waits and what to do, in one line that ends with Slurm's own code."""
    short = code.partition(",")[0].strip("() ")
    found = REASONS.get(short) or _of_limit(short)
    if found is None:
        return f"Slurm gives the reason {code}"
    never = "it will not start by itself: " if found.stuck else ""
    shown = f" [{code}]" if code else ""
    return f"{found.words}: {never}{found.advice}{shown}"


def refused(said: str) -> str:
    """Return why a job was not taken and what to do, in one line with Slurm's own words.

    Args:
        said: all that sbatch printed on stderr.
    """
    lines = []
    for line in said.splitlines():
        words = line.strip().removeprefix("sbatch: ").removeprefix("error: ")
        words = words.removeprefix("Batch job submission failed: ").strip()
        if words and not words.startswith("Try "):
            lines.append(words)
    own = " | ".join(lines) or "it said nothing"
    for line in lines[:-1]:
        limit = _of_limit(line)  # named in a line of its own, as AssocMaxSubmitJobLimit is
        if limit is not None:
            return f"Slurm does not take the job: {limit.words}: {limit.advice} [{own}]"
    for line in reversed(lines):
        for text, row in REFUSALS.items():
            if text in line:
                return f"Slurm does not take the job: {row.words}: {row.advice} [{own}]"
    return f"Slurm does not take the job: {own}"


def _of_limit(code: str) -> Reason | None:
    match = _LIMIT.fullmatch(code)
    if match is None:
        return None
    whose, what = _SCOPES[match["scope"]], match["what"].lower()
    named = next((words for start, words in _WHATS if what.startswith(start)), "resources")
    per = match["per"] or ""
    if what.startswith("submit"):
        return Reason(f"there are as many jobs as {whose} allows", "wait until some have ended")
    if match["kind"] == "Min":
        return Reason(f"it asks for less {named} than {whose} demands", "ask for more", stuck=True)
    if per in ("Job", "Node") or (match["kind"] == "Max" and not per):
        each = "each node" if per == "Node" else "one job"
        advice = (
            f"ask for less, or use another {'account' if match['scope'] == 'Assoc' else 'QOS'}"
        )
        return Reason(f"{whose} gives {each} less {named} than it asks for", advice, stuck=True)
    who = "you have" if per == "User" else "its jobs together have"
    return Reason(f"{who} as much of the {named} as {whose} allows", _WAIT)
