"""The executor for Slurm: arrays of checkpointable jobs, by submitit (requirements-slurm.txt)."""

from __future__ import annotations

import re
import secrets
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from benchmarks.errors import RunError
from benchmarks.queue.cluster import Settings, options_of, read_settings, tag_of, threads_of
from benchmarks.queue.executor import Seen
from benchmarks.queue.folder import QueueFolder
from benchmarks.queue.queued import QueuedRun
from benchmarks.queue.slurm_job import Job, nodes_folder
from benchmarks.queue.slurm_nodes import Nodes

SIGNAL_SECONDS = 120  # before the time limit, in which an epoch is given up and the process ends
TIME_LIMITS = 10**6  # that a run may reach; how long it takes is no fault
LONGEST_ARRAY = 1000  # Slurm's own limit, where it was not changed: MaxArraySize=1001
AT_A_TIME = 500  # jobs in one command line
# Of a node on which Python does not even start there is nothing to count: the job itself goes elsewhere.
_ELSEWHERE = """\
{python} -c 'import submitit, benchmarks' || {{
  mkdir -p {nodes}; touch {nodes}/"$SLURMD_NODENAME~$SLURM_JOB_ID~${{SLURM_RESTART_COUNT:-0}}"
  trap "" TERM
  before=$(squeue --noheader --jobs="$SLURM_JOB_ID" --format=%x)
  [ "$before" = "(null)" ] && before=
  scontrol requeue "$SLURM_JOB_ID"
  scontrol update JobId="$SLURM_JOB_ID" ExcNodeList="${{before:+$before,}}$SLURMD_NODENAME"
  exit 1
}}"""

# A job is killed where memory is short, and Slurm requeues none for that. 100: it may be always so.
_KILLED = """\
code=$?
state=$(squeue --noheader --jobs="$SLURM_JOB_ID" --format=%T)
if [ $code = 137 ] && [ "$state" = RUNNING ] && [ "${SLURM_RESTART_COUNT:-0}" -lt 100 ]; then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit $code"""


class SlurmSettings(Settings, frozen=True, kw_only=True):
    """What a site wants of Slurm.

    Attributes:
        hours: the time limit of a start; a run that reaches it goes on with another.
        at_once: jobs of one array that run at a time.
        partition, memory_gb: as Slurm has them; the cluster's own, if they are not given.
        setup: lines of a shell, before a job's command, as `module load python`.
        sbatch: any other option of sbatch, as {account: vision, constraint: a100}.
        signal_seconds: how long before the time limit a run is told to end.
    """

    hours: float = 12.0
    at_once: int = 100
    partition: str | None = None
    memory_gb: float | None = None
    setup: tuple[str, ...] = ()
    sbatch: dict[str, str | int | bool] = {}  # noqa: RUF012 - msgspec copies it
    signal_seconds: int = SIGNAL_SECONDS


class Slurm:
    """Queued runs as jobs of Slurm. A handle is `<folder of submitit's files> <job>`."""

    name = "slurm"

    def __init__(self, queue: QueueFolder) -> None:
        self._queue = queue
        # By which squeue is asked for the jobs of this queue alone, whoever has submitted them.
        self._job_name = f"bnn-{tag_of(queue)}"

    def submit(self, runs: Sequence[QueuedRun]) -> dict[str, str]:
        _require("sbatch")
        settings = read_settings(self._queue, self.name, SlurmSettings)
        handles: dict[str, str] = {}
        try:
            for what, alike in groupby(runs, lambda run: (run.commit, run.device, threads_of(run, settings))):
                left = list(alike)
                while left:
                    some, left = left[:LONGEST_ARRAY], left[LONGEST_ARRAY:]
                    handles |= self._submit_array(some, settings, *what)
        except BaseException:
            self.cancel(handles)
            raise
        return handles

    def poll(self, handles: Mapping[str, str]) -> dict[str, Seen]:
        try:
            _require("squeue")
            said = _said("squeue", "--noheader", "--array", f"--name={self._job_name}", "--format=%i|%T|%r")
        except RunError as error:  # what the queue's folder says is shown nevertheless
            return dict.fromkeys(handles, Seen("waiting", f"{error}".partition("; ")[0]))
        jobs = {job: (state, reason) for job, state, reason in (line.split("|", 2) for line in said.splitlines())}
        return {name: _seen(*jobs.get(_job_of(handle), ("", ""))) for name, handle in handles.items()}

    def cancel(self, handles: Mapping[str, str]) -> None:
        jobs = [job for handle in handles.values() if (job := _job_of(handle))]
        if jobs:
            _require("scancel")
        for start in range(0, len(jobs), AT_A_TIME):
            _said("scancel", "--quiet", *jobs[start : start + AT_A_TIME], may_fail=True)

    def logs(self, name: str, handle: str) -> list[Path]:
        folder, job = handle.partition(" ")[0], _job_of(handle)
        found = [self._queue.path / "slurm" / folder / f"{job}_0_log.{kind}" for kind in ("out", "err")]
        return [path for path in found if job and path.exists() and path.stat().st_size]

    def _submit_array(
        self, runs: Sequence[QueuedRun], settings: SlurmSettings, commit: str, device: str, threads: int
    ) -> dict[str, str]:
        submitit = _submitit()
        folder = secrets.token_hex(4)
        executor = submitit.SlurmExecutor(self._queue.path / "slurm" / folder, max_num_timeout=TIME_LIMITS)
        executor.update_parameters(**self._parameters(settings, commit, device, threads))
        options = options_of(settings, threads)
        limit = settings.hours, 3600 * settings.hours - settings.signal_seconds
        try:
            with executor.batch():
                jobs = [executor.submit(Job(self._queue.path, run.name, options, *limit)) for run in runs]
        except (submitit.core.utils.UncompletedJobError, submitit.core.utils.FailedSubmissionError) as error:
            said = [line for line in str(error).splitlines() if line.strip()]
            reason = next((line for line in said if "error" in line), said[0])
            raise RunError(
                f"Slurm does not take the jobs: {reason.strip()}; its options are in {self._queue.path}/slurm.yaml"
            ) from error
        return {run.name: f"{folder} {job.job_id}" for run, job in zip(runs, jobs, strict=True)}

    def _parameters(self, settings: SlurmSettings, commit: str, device: str, threads: int) -> dict[str, Any]:
        nodes = nodes_folder(self._queue.path)
        code = shlex.quote(str(self._queue.code_of(commit)))
        elsewhere = _ELSEWHERE.format(python=shlex.quote(sys.executable), nodes=shlex.quote(str(nodes)))
        excluded = Nodes(nodes).excluded()
        given = {
            "job_name": self._job_name,
            "time": max(1, round(60 * settings.hours)),
            "cpus_per_task": threads,
            "array_parallelism": settings.at_once,
            "signal_delay_s": settings.signal_seconds,
            "partition": settings.partition,
            "mem": None if settings.memory_gb is None else f"{round(1024 * settings.memory_gb)}M",
            "gpus_per_node": 1 if device == "gpu" else None,
            "exclude": ",".join(excluded) or None,
            "setup": [*settings.setup, f"cd {code}", elsewhere],
            "teardown": [_KILLED],
            "additional_parameters": {"requeue": True} | settings.sbatch,
        }
        return {name: value for name, value in given.items() if value is not None}


def _job_of(handle: str) -> str:
    """Its number, "" if it has none: a handle comes from a file, and is put into paths and command lines."""
    found = re.fullmatch(r"[0-9a-f]{8} (\d+(?:_\d+)?)", handle, re.ASCII)
    return found[1] if found else ""


def _seen(state: str, reason: str) -> Seen:
    """By squeue's long name of a job's state, "" if it has none."""
    if not state:
        return Seen("gone")
    if state != "PENDING":
        return Seen("running")
    if "Held" in reason:  # by `Job`, after every node has failed, or by a user
        return Seen("waiting", "held in Slurm: `queue logs` may say why, `scontrol release` has it tried again")
    return Seen("waiting", f"Slurm: {reason}")


def _submitit() -> Any:
    try:
        import submitit
    except ImportError:
        raise RunError("executor slurm needs submitit: `python -m pip install -r requirements-slurm.txt`") from None
    return submitit


def _require(command: str) -> None:
    if shutil.which(command) is None:
        raise RunError(f"no {command} here: queue and look on a machine that has Slurm's commands")


def _said(*command: str, may_fail: bool = False) -> str:
    """Raises RunError with what Slurm says."""
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode and not may_fail:
        said = (result.stderr.strip() or str(result.returncode)).splitlines()[0]
        raise RunError(f"Slurm cannot be asked: {said}; `sinfo` says whether it runs")
    return result.stdout
