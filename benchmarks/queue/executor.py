"""The interface of what carries out queued runs: four methods.

An executor is handed runs, and has for each the queue's command carried out until that exits 0, on one machine or
another:

    python cli.py queue work --queue DIR --only NAME

The command is idempotent: it takes the run's lease, begins the run or goes on with it from its folder, and writes down
what came of it. So an executor may start it as often as it likes, also twice at a time, and needs to remember nothing
but a handle. What has become of a run, the queue's folder says; an executor adds what only it knows, as that a run
waits for a node.

Exit codes of the command: 0, the run is over: recorded, or cancelled; 1, this try failed, or an earlier one did and
there is no other (`QueueFolder.over` says whether): what is not over may be started again, better on another machine;
130, it was interrupted, by SIGTERM or SIGINT, and is to be started again, here or elsewhere: it goes on after the last
stored epoch.

The code is that of the run's commit, which the queue's folder has: a machine needs that folder and a Python.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

from benchmarks.queue.folder import QueueFolder
from benchmarks.queue.queued import QueuedRun

State = Literal["waiting", "running", "gone"]


class Seen(NamedTuple):
    """What an executor knows of a run.

    state: "waiting": it will be started; "running": its command is; "gone": the executor has it no more, whatever came
    of it. where: the kind of machine, or why it waits; never the name of a machine or user.
    """

    state: State
    where: str = ""


class Executor(Protocol):
    """Where queued runs are carried out. Made with the folder of the queue; keeps nothing else.

    A handle is what the executor needs to know a run again, in another process too: a job's id. The queue keeps it.
    """

    name: str

    def submit(self, runs: Sequence[QueuedRun]) -> dict[str, str]:
        """Have these runs carried out; a handle of each, by the run's name.

        Raises:
            RunError: they cannot be, and none is: one line that says what mends it.
        """

    def poll(self, handles: Mapping[str, str]) -> dict[str, Seen]:
        """What is known of runs, given as name -> handle, "" where none was kept; one that is not known is "gone"."""

    def cancel(self, handles: Mapping[str, str]) -> None:
        """Have these runs not carried out, and end those that are; one that is over already is no error."""

    def logs(self, name: str, handle: str) -> list[Path]:
        """Files with what the executor's own machinery printed for a run, oldest first; the run's own are elsewhere."""


def command_of(queue: QueueFolder, run: QueuedRun) -> list[str]:
    """What an executor starts for a run, on a machine that sees the queue's folder under the same path."""
    cli = queue.code_of(run.commit) / "cli.py"
    return [sys.executable, str(cli), "queue", "work", "--queue", str(queue.path), "--only", run.name]
