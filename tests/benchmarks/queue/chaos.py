"""Workers that are killed at random moments until a queue is done: `python chaos.py QUEUE WORKERS KILLS SEED`.

Of the workers, one has a clock that is an hour behind, one is an hour ahead, and for all of them flock does not work.
Prints how many were killed. A process of its own, which forks the workers: so they begin at once.
"""

from __future__ import annotations

import datetime
import errno
import fcntl
import os
import random
import signal
import sys
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[3]), str(Path(__file__).parent)]
from fake_queue import PLACE, wanted  # noqa: E402

from benchmarks.errors import RunError  # noqa: E402
from benchmarks.queue.folder import QueueFolder  # noqa: E402
from benchmarks.queue.local import Worker  # noqa: E402

HOURS = (0, -1, 1)
_time = time.time


def break_clock(hours: int) -> None:
    class Shifted(datetime.datetime):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> Shifted:
            return super().now(tz) + datetime.timedelta(hours=hours)

    datetime.datetime = Shifted  # type: ignore[misc]
    time.time = lambda: _time() + 3600 * hours


def refuse_locks(*_: object) -> None:
    raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))


def start(queue: Path, number: int) -> int:
    """Fork a worker; its process."""
    if child := os.fork():
        return child
    break_clock(HOURS[number % 3])
    fcntl.flock = refuse_locks
    try:
        Worker(QueueFolder(queue), wanted(at_once=2), lambda _: None).work([PLACE, PLACE])
    except (OSError, RunError) as error:
        print(error, file=sys.stderr, flush=True)
        os._exit(1)
    os._exit(0)


def main(queue: Path, workers: int, kills: int, seed: int) -> None:
    draw, killed, number = random.Random(seed), 0, 0
    alive = set[int]()
    while True:
        while len(alive) < workers and not (killed == kills and number > kills + workers):
            alive.add(start(queue, number))
            number += 1
        time.sleep(draw.uniform(0.05, 0.4))
        if killed < kills:
            victim = draw.choice(sorted(alive))
            os.kill(victim, signal.SIGKILL)
            killed += 1
        ended = {pid for pid in alive if os.waitpid(pid, os.WNOHANG)[0]}
        alive -= ended
        if killed == kills and not alive:
            break
        if ended and set(QueueFolder(queue).runs()) <= set(QueueFolder(queue).over()):
            kills = killed  # nothing is left to be killed at
    print(killed)


main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
