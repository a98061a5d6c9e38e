"""A queue of fake runs, whose frozen code is fake_run.py."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from benchmarks.queue.folder import QueueFolder
from benchmarks.queue.local import Place, Wanted
from benchmarks.queue.queued import QueuedRun
from benchmarks.run.seals import seal_json
from benchmarks.run.state import Manifest
from results.record.canonical import digest

COMMIT, BENCHMARK = "c0ffee" * 6 + "c0ff", "fake"
SETTINGS = {"train": {"epochs": 3}}
PLACE = Place("a test", Path("data"), 1, {})


def fake_queue(
    path: Path, seeds: Iterable[int], *, fails: Mapping[int, str] | None = None, epochs: int = 3, seconds: float = 0.01
) -> QueueFolder:
    """A queue with a run of each seed. fails: what those say that fail at once."""
    queue, seeds = QueueFolder(path), list(seeds)
    code = queue.code_of(COMMIT)
    for folder in ("manifests", "inside"):
        (code / folder).mkdir(parents=True)
    shutil.copy(Path(__file__).with_name("fake_run.py"), code / "cli.py")
    code.with_suffix(".json").write_text("{}")
    settings = {"epochs": epochs, "epoch_seconds": seconds, "fails": {str(k): v for k, v in (fails or {}).items()}}
    (code / "settings.json").write_text(json.dumps(settings))
    for seed in seeds:
        manifest = Manifest(
            benchmark=BENCHMARK, settings=SETTINGS, overrides={}, seed=seed, engine="gluon", device="cpu", threads=1,
            data={},
        )  # fmt: skip
        text = msgspec.json.format(msgspec.json.encode(manifest)) + b"\n"
        (code / "manifests" / f"{seed}.json").write_bytes(seal_json(text))
    queue.add([fake_run(seed) for seed in seeds])
    return queue


def fake_run(seed: int, **changes: object) -> QueuedRun:
    """A run of this seed."""
    run = QueuedRun(
        name=f"fake-00000000-s{seed}", group="fake-00000000", benchmark=BENCHMARK, seed=seed, digest=digest(SETTINGS),
        engine="gluon", device="cpu", precision="float32", commit=COMMIT, registry="registry", scoring=False,
        arguments=("reproduce", BENCHMARK, "--seed", str(seed)),
    )  # fmt: skip
    return msgspec.structs.replace(run, **changes)


def wanted(**changes: object) -> Wanted:
    """What a worker of tests is to do."""
    return Wanted(Path("data"), 1, beat=0.1)._replace(**changes)


def recorded(queue: QueueFolder) -> Counter[int]:
    """How many records of each seed the registry has."""
    records = (queue.path / "registry" / BENCHMARK).glob("[!.]*.json")
    return Counter(int(json.loads(path.read_text())["seed"]) for path in records)


def trained_twice_at_a_time(queue: QueueFolder) -> list[str]:
    """Seeds that two processes trained at the same time."""
    return [path.name for path in (queue.code_of(COMMIT) / "inside").glob("*-twice")]


def folders_of(queue: QueueFolder) -> Counter[str]:
    """How many folders each seed has that hold an epoch."""
    return Counter(path.parent.name.rpartition("-s")[2] for path in queue.runs_of(COMMIT).glob(f"{BENCHMARK}/*/epoch"))


def check_failed(queue: QueueFolder, seed: int, why: str) -> None:
    """The run of this seed has failed, after two tries, and says why."""
    name = fake_run(seed).name
    over = queue.read_over(name)
    assert over is not None
    assert over.reason == why
    assert len(queue.failed_tries(name)) == 2
