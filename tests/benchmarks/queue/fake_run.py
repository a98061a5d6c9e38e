"""`python cli.py reproduce|resume ...` of a queue's frozen code in tests: no training, but the same files in time.

It begins a folder with run.json, "trains" epochs of some milliseconds, stores each, writes a record, and registers it.
In `<code>/inside` a run's file is locked while the run is trained, so that two at a time are noticed.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import sys
import time
import uuid
import zipfile
from pathlib import Path

CODE = Path(__file__).parent
SETTINGS = json.loads(
    (CODE / "settings.json").read_text()
)  # {"epochs": 3, "epoch_seconds": 0.01, "fails": {"7": "why"}}


def option(name: str) -> str:
    return sys.argv[sys.argv.index(name) + 1]


def write(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with temporary.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def write_checkpoint(path: Path, epoch: int) -> None:
    """What is read of one without its arrays: an array of bytes in NumPy's format 1, with a header of no length."""
    facts = json.dumps({"curve": {"epoch": list(range(1, epoch + 1))}}).encode()
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with zipfile.ZipFile(temporary, "w") as archive:
        archive.writestr("facts.npy", b"\x93NUMPY\x01\x00" + bytes(2) + facts)
    temporary.replace(path)


def begin() -> Path:
    benchmark, seed = sys.argv[2], option("--seed")
    folder = Path(option("--runs")) / benchmark / f"{time.time_ns()}-s{seed}"
    folder.mkdir(parents=True)
    write(folder / "run.json", (CODE / "manifests" / f"{seed}.json").read_text())
    return folder


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: os._exit(130))
    folder = Path(sys.argv[2]) if sys.argv[1] == "resume" else begin()
    seed = folder.name.rpartition("-s")[2]
    fails = SETTINGS["fails"]  # by seed, or by node of Slurm's
    if why := fails.get(seed) or fails.get(os.environ.get("SLURMD_NODENAME")):
        sys.exit(f"Traceback\nerror: {why}")
    with (CODE / "inside" / seed).open("a") as inside:
        try:
            fcntl.flock(inside, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            (CODE / "inside" / f"{seed}-twice").touch()
        record, stored = folder / "record.json", folder / "epoch"
        epoch = int(stored.read_text()) if stored.exists() else 0
        while not record.exists() and epoch < SETTINGS["epochs"]:
            time.sleep(SETTINGS["epoch_seconds"])
            epoch += 1
            write(stored, str(epoch))
            write_checkpoint(folder / "checkpoint.npz", epoch)
            print(f"epoch {epoch}", flush=True)
        if not record.exists():
            write(record, json.dumps({"id": uuid.uuid4().hex, "outcome": "finished"}))
        registry = Path(option("--registry")) / folder.parent.name
        registry.mkdir(parents=True, exist_ok=True)
        write(registry / f"{json.loads(record.read_text())['id']}.json", json.dumps({"seed": seed}))


main()
