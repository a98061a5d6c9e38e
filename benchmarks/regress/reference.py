"""What a regression run compares with: one versioned file an engine, and those that it replaced.

references/gluon.json                     in force
references/history/gluon-1.json, ...      what was in force before, oldest first
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import msgspec

from benchmarks.errors import OneLineError
from benchmarks.regress.budgets import Budget, budget_of
from benchmarks.regress.measure import Measured, Scored
from results.errors import RegistryError
from results.files import read_whole, restoring, write_atomically

SCHEMA = 1
FOLDER = Path(__file__).parent / "references"


class ReferenceFileError(OneLineError):
    """A reference that is absent, damaged or of another schema: the message says what to do."""


class Origin(msgspec.Struct, frozen=True):
    """What measured a reference, when and why.

    Attributes:
        date: UTC, YYYY-MM-DD.
        reason: why it was measured, in the words of who did it.
        commit: of this repository; None where it is not known, or the code was not that of a commit.
        processor: its name.
        factors: what, besides the code, bits depend on: versions, threads, instruction sets.
    """

    date: str
    reason: str
    commit: str | None
    processor: str
    factors: dict[str, str]


class Benchmark(msgspec.Struct, frozen=True):
    """The reference of one benchmark.

    Attributes:
        origin: which of the file's origins measured it.
        budget: that its seeds were trained in.
        bits, first_loss, draws, exact_data, data, memory: see measure.Measured.
        speed: of the null rounds.
        scores: of the seeds.
    """

    origin: int
    budget: Budget
    bits: str
    first_loss: float
    draws: str
    exact_data: bool
    data: list[float]
    memory: float
    speed: list[float]
    scores: list[Scored]


def benchmark_of(measured: Measured) -> Benchmark:
    """The reference that a complete measurement is; of the origin 0.

    Raises:
        ReferenceFileError: something of it failed.
    """
    name, scores = measured.benchmark, [*measured.scores]
    if measured.failed is not None:
        raise ReferenceFileError(f"no new reference of {name}: {measured.failed}")
    if diverged := [score.seed for score in scores if score.loss is None]:
        raise ReferenceFileError(f"no new reference of {name}: it diverges with seed {diverged[0]}: change its budget")
    assert measured.bits is not None
    assert measured.first_loss is not None
    assert measured.draws is not None
    assert measured.memory is not None
    return Benchmark(
        0,
        budget_of(name),
        measured.bits,
        measured.first_loss,
        measured.draws,
        measured.exact_data,
        [*measured.data],
        measured.memory,
        [*measured.speed],
        scores,
    )


class Reference(msgspec.Struct, frozen=True):
    """A file."""

    engine: str
    origins: list[Origin]
    benchmarks: dict[str, Benchmark]
    schema: int = SCHEMA

    def of(self, benchmark: str) -> tuple[Benchmark, Origin] | None:
        """The reference of a benchmark, and what measured it; None: there is none."""
        found = self.benchmarks.get(benchmark)
        return None if found is None else (found, self.origins[found.origin])


def path_of(engine: str, folder: Path = FOLDER) -> Path:
    """The file in force."""
    return folder / f"{engine}.json"


def read(engine: str, folder: Path = FOLDER) -> Reference | None:
    """The reference in force; None: nothing was ever measured.

    Raises:
        ReferenceFileError: it is damaged, or of another schema.
    """
    path = path_of(engine, folder)
    try:
        found = msgspec.json.decode(read_whole(path), type=Reference)
    except FileNotFoundError:
        return None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, OSError, RegistryError) as error:
        why = str(error).removeprefix(f"{path}: ")
        raise ReferenceFileError(f"{path}: {why}: {_mend(path)}") from error
    if found.schema != SCHEMA or found.engine != engine:
        raise ReferenceFileError(f"{path}: expected schema {SCHEMA} and engine {engine}: {_mend(path)}")
    for name, one in found.benchmarks.items():
        if not _is_whole(one, len(found.origins)):
            raise ReferenceFileError(f"{path}: {name}: is no reference that could be compared with: {_mend(path)}")
    return found


def _mend(path: Path) -> str:
    return f"expected the file as it was committed; {restoring(path)}"


def _is_whole(one: Benchmark, origins: int) -> bool:
    """Whether there is all that the rules reckon with, and nothing that they would divide by is 0."""
    losses = [score.loss for score in one.scores]
    return (
        0 <= one.origin < origins
        and len(losses) > 1
        and None not in losses
        and min(one.speed, default=0) > 0
        and one.memory > 0
        and len(one.data) in (6, 9)  # of two or three splits
    )


def replace(new: Reference, folder: Path = FOLDER) -> Path | None:
    """Put a reference in force; the path of the one that it replaces, which is kept. None: there was none."""
    path = path_of(new.engine, folder)
    kept = None
    if path.exists():
        history = folder / "history"
        numbers = (path.stem.rpartition("-")[2] for path in history.glob(f"{new.engine}-*.json"))
        last = max((int(number) for number in numbers if number.isdecimal()), default=0)
        kept = history / f"{new.engine}-{last + 1}.json"  # whichever was deleted, none is written over
        write_atomically(kept, path.read_bytes())
    write_atomically(path, _text(new))
    return kept


def _text(reference: Reference) -> bytes:
    """JSON with a line for each field of a benchmark, so that a diff says what has changed."""
    content = msgspec.to_builtins(reference)
    benchmarks = ",\n".join(
        f"  {_json(name)}: {{\n"
        + ",\n".join(f"   {_json(key)}: {_json(value)}" for key, value in one.items())
        + "\n  }"
        for name, one in content["benchmarks"].items()
    )
    others = ",\n".join(f" {_json(key)}: {_json(value)}" for key, value in content.items() if key != "benchmarks")
    return f'{{\n{others},\n "benchmarks": {{\n{benchmarks}\n }}\n}}\n'.encode()


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


def by_factors(measured: Iterable[Measured]) -> list[tuple[dict[str, str], list[str]]]:
    """What bits depend on, and the benchmarks of which it is that: not every network uses every kernel."""
    found: list[tuple[dict[str, str], list[str]]] = []
    for one in measured:
        names = next((names for factors, names in found if factors == one.factors), None)
        if names is None:
            found.append((dict(one.factors), [one.benchmark]))
        else:
            names.append(one.benchmark)
    return found


def merged(old: Reference | None, engine: str, origin: Origin, measured: dict[str, Benchmark]) -> Reference:
    """The old reference with what `origin` measured now; origins that nothing comes from any longer are left out."""
    kept = {} if old is None else {name: one for name, one in old.benchmarks.items() if name not in measured}
    origins = [] if old is None else [*old.origins]
    together = kept | {name: msgspec.structs.replace(one, origin=len(origins)) for name, one in measured.items()}
    origins.append(origin)
    used = sorted({one.origin for one in together.values()})
    return Reference(
        engine,
        [origins[number] for number in used],
        {name: msgspec.structs.replace(one, origin=used.index(one.origin)) for name, one in sorted(together.items())},
    )
