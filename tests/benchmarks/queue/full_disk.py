"""A queue on a disk that gets full and is freed again: `python full_disk.py DIR`, DIR a file system of its own.

Prints as JSON what the workers said, how often each run was recorded, and how runs ended.
"""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[3]), str(Path(__file__).parent)]
from fake_queue import PLACE, fake_queue, recorded, wanted  # noqa: E402

from benchmarks.errors import RunError  # noqa: E402
from benchmarks.queue import local  # noqa: E402


def main(root: Path) -> None:
    local.installed_engines = lambda: ["gluon"]  # type: ignore[assignment]
    queue, said = fake_queue(root / "queue", range(4)), []
    for left in (0, 4096, 16384):  # bytes: the claim fails, or the log, or the run
        with contextlib.suppress(OSError), (root / "filler").open("wb", buffering=0) as filler:
            while True:
                filler.write(bytes(4096))
        if left:
            with (root / "filler").open("r+b") as filler:
                filler.truncate(max(0, (root / "filler").stat().st_size - left))
        try:
            local.Worker(queue, wanted(), lambda _: None).work([PLACE])
        except RunError as error:
            said.append(str(error))
        (root / "filler").unlink()
    local.Worker(queue, wanted(), lambda _: None).work([PLACE])
    print(json.dumps({"said": said, "recorded": recorded(queue), "over": list(queue.over().values())}))


main(Path(sys.argv[1]))
