"""How fast a benchmark trained on this machine before: from the folder of runs, else from the registry."""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from benchmarks.machine.facts import cpu_model, nvidia_gpus
from benchmarks.recipe import Recipe
from benchmarks.recipe.settings import named_settings
from benchmarks.run.listing import manifest_of, run_folders, stored_of
from benchmarks.run.seals import SealError
from benchmarks.run.state import SittingLog
from results.registry import read_all


class Machine(NamedTuple):
    """What computes: engine, device, its name as engines give it, CPU threads, precision; the processor beside it."""

    name: str
    device: str
    device_name: str
    threads: int
    precision: str
    processor: str

    @classmethod
    def here(cls, engine: str, device: str, threads: int, precision: str) -> Machine:
        """This one."""
        processor = cpu_model()
        gpus = nvidia_gpus() if device == "gpu" else []
        return cls(engine, device, gpus[0].name if gpus else processor, threads, precision, processor)

    def did(self, sitting: SittingLog) -> bool:
        """Whether a sitting computed on the same; a GPU with however many threads beside it.

        Older sittings do not tell the processor beside a GPU.
        """
        engine, wanted = sitting.engine or {}, self._asdict()
        if self.device == "gpu":
            del wanted["threads"]
        processor = (sitting.machine or wanted)["processor"]
        return processor == wanted.pop("processor") and all(engine.get(name) == wanted[name] for name in wanted)


class Measured(NamedTuple):
    """The median time of an epoch: of how many, of which run or record."""

    epoch_seconds: float
    epochs: int
    of: str


def measured(recipe: Recipe, machine: Machine, runs_root: Path, registry: Path) -> Measured | None:
    """The speed of the latest run that did the same work on the same machine; None if there is none.

    The same work: all settings but the number of epochs. Local runs first, then records. What cannot be read is passed
    over: `resume` and `verify` say what is wrong with it.
    """
    for name, settings, sittings, seconds in (*_local(recipe.id, runs_root), *_recorded(recipe.id, registry)):
        if _work(settings) != _work(named_settings(recipe.settings, recipe.stated)):
            continue
        for sitting in reversed(sittings):
            # What is compiled is compiled in the first epoch.
            epochs = seconds[sitting.first_epoch : sitting.last_epoch] or seconds[sitting.first_epoch - 1 :][:1]
            if machine.did(sitting) and sitting.last_epoch >= sitting.first_epoch and epochs:
                return Measured(statistics.median(epochs), len(epochs), name)
    return None


_Run = tuple[str, Mapping[str, Any], Sequence[SittingLog], Sequence[float]]


def _local(benchmark: str, runs_root: Path) -> Iterator[_Run]:
    for path in reversed(run_folders(runs_root, benchmark)):
        with contextlib.suppress(OSError, SealError, ValueError, KeyError, TypeError, msgspec.MsgspecError):
            manifest, stored = manifest_of(path), stored_of(path)
            if stored is not None:
                name = f"run {path.parent.name}/{path.name}"
                yield name, manifest.settings, stored.sittings, stored.curve.seconds


def _recorded(benchmark: str, registry: Path) -> Iterator[_Run]:
    records = [record for _, record in read_all(registry, lambda _: None, benchmark)]
    for record in sorted(records, key=lambda record: record.sittings[-1].started, reverse=True):
        sittings = msgspec.convert(msgspec.to_builtins(record.sittings), list[SittingLog])
        yield f"record {record.id}", record.recipe.named_settings, sittings, record.curve.seconds


def _work(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {**settings, "train": {key: value for key, value in settings["train"].items() if key != "epochs"}}
