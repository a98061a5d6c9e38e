"""What a job of the Slurm executor does on its node: one queued run, until it is over, in as many starts as it takes.

Slurm ends a start for four reasons, and the job waits in Slurm's queue again after each but the last:

- the time limit: `--signal` has SIGUSR2 come first, upon which submitit calls `checkpoint` and requeues the job;
- preemption, or a node that is lost: Slurm requeues the job, for it has `--requeue`. Only where a partition gives time
  to go (GraceTime) does a job that uses that time to end count as complete: so it requeues itself;
- the run failed, and has another try: the job requeues itself, with nodes that fail at once excluded;
- `scancel`.

It uses the code of the run's commit, and of this house only what needs no engine.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.queue.attempt import epoch_of, find_begun
from benchmarks.queue.child import dying_with
from benchmarks.queue.cluster import job_command
from benchmarks.queue.folder import Over, QueueFolder
from benchmarks.queue.slurm_nodes import Nodes
from benchmarks.start import INTERRUPTED

if TYPE_CHECKING:
    from submitit.helpers import DelayedSubmission

AT_ONCE = 300.0  # seconds: a run that fails within them may do so because of its node; imports from a slow disk count
LOOK_SECONDS = 0.5
_STALLED = 2  # time limits in which no epoch was stored, after which a run has failed
# Slurm tells a job that is requeued to end, before it can be told that it must not come back to the same node.
_REQUEUE = """
trap "" TERM
scontrol requeue$3 "$1" && if [ -n "$2" ]; then scontrol update JobId="$1" ExcNodeList="$2"; fi
"""


class Job:
    """A callable that submitit keeps in a file, and that a node carries out.

    Args:
        options: those of `queue work`.
        hours: of the time limit; seconds: that a start has of it until it is told to end.
        stalled: time limits in a row that the run has reached without storing an epoch.
    """

    def __init__(
        self, queue: Path, name: str, options: tuple[str, ...], hours: float, seconds: float, stalled: int = 0
    ) -> None:
        self.queue, self.name, self.options, self.stalled = queue, name, options, stalled
        self.hours, self.seconds = hours, seconds

    def __call__(self) -> None:
        self._folder, self._nodes = QueueFolder(self.queue), Nodes(nodes_folder(self.queue))
        self._began, self._epochs = time.monotonic(), self._stored()
        _remove_half_written()
        self._process = subprocess.Popen(
            job_command(self._folder, self.name, self.options), stdin=subprocess.DEVNULL,
            # Slurm sends SIGUSR2 to all processes of a job, and it is for this one.
            preexec_fn=dying_with(os.getpid(), deaf_to=[signal.SIGUSR2]),  # noqa: PLW1509 - system calls alone
        )  # fmt: skip
        code = self._wait()
        if code in (INTERRUPTED, -signal.SIGTERM):
            if _state() == "RUNNING":  # else Slurm has decided what becomes of the job
                _requeue()
        elif code != 0:
            self._failed()

    def checkpoint(self) -> DelayedSubmission | None:
        """End the run in an orderly way, and say what goes on with it; None if it comes no further."""
        from submitit.helpers import DelayedSubmission

        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        # Without reaping it: `_wait`, in the midst of which the signal came, holds Popen's lock.
        os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)
        is_stalled = self._seconds() > 0.8 * self.seconds and self._stored() == self._epochs
        stalled = self.stalled + 1 if is_stalled else 0
        if stalled == _STALLED and self._folder.end_of(self.name) is None:
            reason = f"no epoch was stored within {self.hours:g} hours, {_STALLED} times: a longer limit is `hours` in"
            self._folder.write_over(self.name, Over(end="failed", reason=f"{reason} slurm.yaml"))
            return None
        return DelayedSubmission(Job(self.queue, self.name, self.options, self.hours, self.seconds, stalled))

    def _wait(self) -> int:
        is_noted = False
        while (code := self._process.poll()) is None:
            time.sleep(LOOK_SECONDS)
            if not is_noted and self._seconds() > AT_ONCE:
                self._nodes.works(_node())
                is_noted = True
        if code == 0:
            self._nodes.works(_node())
        return code

    def _failed(self) -> None:
        """Have the run tried again, if it may be: on another node, if it failed at once."""
        excluded = self._nodes.excluded()
        is_at_once = self._seconds() <= AT_ONCE
        if is_at_once:
            self._nodes.failed(_node(), self.name, f"{_job()}-{os.environ.get('SLURM_RESTART_COUNT', '0')}")
            excluded = self._nodes.excluded()
            exclude_from_waiting(os.environ["SLURM_JOB_NAME"], excluded)
        if self._folder.end_of(self.name) is not None:
            return
        if is_at_once:
            excluded = sorted({*excluded, *_expanded(_excluded_of_this_job()), _node()})
            if not _nodes_beside(excluded):
                # One more try, here; then whoever looks must say what is to happen: status shows it as held.
                return _requeue(hold=self._nodes.failures(_node(), self.name) > 1)
        return _requeue(excluded)

    def _seconds(self) -> float:
        return time.monotonic() - self._began

    def _stored(self) -> int:
        with contextlib.suppress(Exception):  # whatever is wrong with the run's folder, `queue work` says
            begun = find_begun(self._folder, self._folder.runs()[self.name])
            return 0 if begun is None else epoch_of(begun)
        return 0


def nodes_folder(queue: Path) -> Path:
    """Where failures of nodes are written down."""
    return queue / "slurm" / "nodes"


def exclude_from_waiting(job_name: str, nodes: list[str]) -> None:
    """Have jobs that wait not get these nodes."""
    if not nodes:
        return
    waiting = _said("squeue", "--noheader", "--states=PENDING", f"--name={job_name}", "--format=%i %x")
    for line in waiting.splitlines():
        job, _, before = line.partition(" ")
        known = _expanded(before)
        if not set(nodes) <= set(known):
            together = ",".join(sorted({*known, *nodes}))
            # An array's name ends in its limit of tasks at a time, "7_[3-9%2]", which is not part of it.
            job = job.partition("%")[0] + "]" if "%" in job else job
            _said("scontrol", "update", f"JobId={job}", f"ExcNodeList={together}")


def _node() -> str:
    return os.environ["SLURMD_NODENAME"]


def _job() -> str:
    """Its number: an element of an array has one of its own."""
    return os.environ["SLURM_JOB_ID"]


def _state() -> str:
    return _said("squeue", "--noheader", f"--jobs={_job()}", "--format=%T")


def _excluded_of_this_job() -> str:
    return _said("squeue", "--noheader", f"--jobs={_job()}", "--format=%x")


def _expanded(nodes: str) -> list[str]:
    """Names of nodes from Slurm's short form, "n[1-3]"."""
    nodes = nodes.strip()
    return _said("scontrol", "show", "hostnames", nodes).split() if nodes and nodes != "(null)" else []


def _nodes_beside(excluded: list[str]) -> set[str]:
    """Nodes of the job's partition that answer, but for these."""
    partition = f"--partition={os.environ['SLURM_JOB_PARTITION']}"
    return set(_said("sinfo", "--noheader", "--responding", "--Node", partition, "--format=%N").split()) - {*excluded}


def _requeue(excluded: list[str] | None = None, hold: bool = False) -> None:
    """Have this job wait again, which ends this process."""
    nodes = ",".join(excluded or ())
    subprocess.run(["sh", "-c", _REQUEUE, "sh", _job(), nodes, "hold" if hold else ""], check=False)
    sys.exit(INTERRUPTED)


def _said(*command: str) -> str:
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    sys.stderr.write(result.stderr)
    return result.stdout.strip()


def _remove_half_written() -> None:
    """What a kill has left of submitit's own file: it refuses to write it again while that is there."""
    import submitit

    path = submitit.JobEnvironment().paths.submitted_pickle
    path.with_suffix(f"{path.suffix}.save_tmp").unlink(missing_ok=True)
