"""A Slurm of a few nodes on this machine: munged, slurmctld and a slurmd a node, all of the user who starts it.

    python tests/benchmarks/queue/one_machine_slurm.py FOLDER   # prints what to export; Ctrl-C or SIGTERM ends it

All of it lies in the folder, uses ports that are free, and ends with its process. It needs what Debian and Ubuntu have:
`apt-get install slurmctld slurmd slurm-client munge`, whose own services need not run.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scontrol", "srun", "squeue")
KILL_WAIT = 5  # seconds from SIGTERM to SIGKILL
ENDS = (signal.SIGINT, signal.SIGTERM)
SECONDS = 60.0  # that daemons may take to start

CONFIGURATION = """
ClusterName=one-machine
SlurmctldHost=localhost
SlurmUser={user}
SlurmdUser={user}
SlurmctldPort={controller}
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=2,bf_interval=2,batch_sched_delay=0
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
KillWait={kill_wait}
SlurmdTimeout=10
ReturnToService=2
MailProg=/bin/true
MpiDefault=none
{nodes}
PartitionName=low Nodes=ALL Default=YES PriorityTier=1 PreemptMode=REQUEUE MaxTime=INFINITE
PartitionName=grace Nodes=ALL PriorityTier=1 PreemptMode=REQUEUE GraceTime=20 MaxTime=INFINITE
PartitionName=high Nodes=ALL PriorityTier=2 PreemptMode=OFF MaxTime=INFINITE
"""


def missing() -> list[str]:
    """Programs that this machine lacks."""
    return [name for name in PROGRAMS if _found(name) is None]


@contextlib.contextmanager
def slurm(folder: Path, nodes: int = 2) -> Iterator[dict[str, str]]:
    """Start it, and end it; yields the environment that makes Slurm's commands speak to it."""
    folder = folder.absolute()
    ports = _free_ports(nodes + 1)
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("state", "munge", *(f"spool-n{number}" for number in range(1, nodes + 1))):
        (folder / name).mkdir(exist_ok=True)
    (folder / "munge").chmod(0o700)
    named = [
        f"NodeName=n{number} NodeHostname=localhost NodeAddr=127.0.0.1 Port={port} CPUs=1 RealMemory=1000"
        for number, port in enumerate(ports[1:], 1)
    ]
    configuration = folder / "slurm.conf"
    configuration.write_text(
        CONFIGURATION.format(
            user=getpass.getuser(), controller=ports[0], folder=folder, kill_wait=KILL_WAIT, nodes="\n".join(named)
        )
    )
    environment = {"SLURM_CONF": str(configuration)}
    with contextlib.ExitStack() as ends:
        ends.enter_context(_daemon(folder, "munged", *_munge(folder)))
        _wait((folder / "munge" / "socket").exists, folder / "munged.out")
        ends.enter_context(_daemon(folder, "slurmctld", "-D", "-c", environment=environment))
        for number in range(1, nodes + 1):
            # slurmd leaves the steps of jobs to themselves when it ends: they are ended first, by scancel.
            ends.enter_context(_daemon(folder, "slurmd", "-D", "-c", "-N", f"n{number}", environment=environment))
        ends.callback(_cancel_all, environment)
        _wait(lambda: _are_idle(environment, nodes), folder / "slurmctld.log")
        yield environment


def lose(folder: Path, node: str) -> None:
    """End a node as a power cut would: its daemon, and all that it has started."""
    os.kill(int((folder / f"slurmd-{node}.pid").read_text()), signal.SIGKILL)
    theirs = [path for path in Path("/proc").glob("[0-9]*") if _is_of(path, node)]
    parents = {int((path / "stat").read_text().rpartition(")")[2].split()[1]) for path in theirs}
    steps = {pid for pid in parents if Path(f"/proc/{pid}/comm").read_text().strip() == "slurmstepd"}
    for pid in [*steps, *(int(path.name) for path in theirs)]:  # those first that would report the others' end
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _is_of(process: Path, node: str) -> bool:
    with contextlib.suppress(OSError):
        return f"SLURMD_NODENAME={node}\0".encode() in (process / "environ").read_bytes()
    return False


def _munge(folder: Path) -> list[str]:
    key = folder / "munge" / "key"
    if not key.exists():
        key.touch(mode=0o600)
        key.write_bytes(os.urandom(128))
    places = {"socket": "socket", "key-file": "key", "pid-file": "pid", "seed-file": "seed", "log-file": "log"}
    # --force: the socket's folder is the user's alone, which munged complains of.
    return ["--foreground", "--force", *(f"--{option}={folder / 'munge' / name}" for option, name in places.items())]


@contextlib.contextmanager
def _daemon(
    folder: Path, name: str, *arguments: str, environment: dict[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    program = _found(name)
    assert program is not None, f"{name} is not installed"
    with (folder / f"{name}.out").open("ab") as output:
        process = subprocess.Popen(
            [program, *arguments], stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            env=os.environ | (environment or {}), start_new_session=True,
        )  # fmt: skip
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _cancel_all(environment: dict[str, str]) -> None:
    """End all jobs, and wait until their processes have ended."""
    with contextlib.suppress(subprocess.SubprocessError):
        subprocess.run(["scancel", "--me"], env=os.environ | environment, check=False, timeout=20)
        end = time.monotonic() + 4 * KILL_WAIT
        while time.monotonic() < end and _output(environment, "squeue", "--noheader"):
            time.sleep(0.2)


def _are_idle(environment: dict[str, str], nodes: int) -> bool:
    return _output(environment, "sinfo", "--noheader", "--Node", "--partition=low", "--format=%t").split() == (
        ["idle"] * nodes
    )


def _output(environment: dict[str, str], *command: str) -> str:
    return subprocess.run(
        command, env=os.environ | environment, capture_output=True, text=True, check=False, timeout=20
    ).stdout


def _wait(done: Callable[[], bool], log: Path) -> None:
    end = time.monotonic() + SECONDS
    while not done():
        if time.monotonic() > end:
            raise TimeoutError(f"Slurm does not start: {log.read_text(errors='replace') if log.exists() else log}")
        time.sleep(0.1)


def _free_ports(many: int) -> list[int]:
    with contextlib.ExitStack() as ends:
        sockets = [ends.enter_context(socket.socket()) for _ in range(many)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _found(program: str) -> str | None:
    """Where a program is; daemons are in folders that users' PATH may lack."""
    return shutil.which(program, path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"]))


if __name__ == "__main__":
    if absent := missing():
        sys.exit(f"not installed: {', '.join(absent)}; apt-get install slurmctld slurmd slurm-client munge")
    with slurm(Path(sys.argv[1])) as exported:
        print(*(f"export {name}={value}" for name, value in exported.items()), sep="\n", flush=True)
        signal.pthread_sigmask(signal.SIG_BLOCK, ENDS)
        signal.sigwait(ENDS)  # also where a shell has its background ignore Ctrl-C
