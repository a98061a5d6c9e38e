"""The fields of a record: facts of one run, and the properties that follow from them.

What can be derived is a property and stands in no file: the results, and all judgement. Errors are in percent and
always `error_percent` of an integer count, so that nothing is rounded twice.
"""

from __future__ import annotations

import functools
from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from results.record.points import Results, seeds_of, summarize

SCHEMA = 2
ID_DIGITS = 16  # 64 bits: two of a million records share a name with a probability of 3e-8
CHECKSUM_DIGITS = 8  # enough to see an edit; the record's own name is what proves the content


class Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A part of a record: immutable, every field required, no field beside them.

    A field that only some records have is UNSET in the others, and not in their text: so a field can be added without
    a new schema, and older records keep their bytes and names.
    """


class RecordedDifference(Part, frozen=True, kw_only=True):
    """One setting that is not the published one, and where the change came from (`--set`, `--epochs`, ...)."""

    key: str
    published: Any
    value: Any
    source: str


class RecordedRecipe(Part, frozen=True, kw_only=True):
    """All settings, what names them, and how they differ from what was published.

    digest: of the settings without `defaults`: those at the value that stands for their absence, so that a setting that
    is added later changes no digest. version: of the catalog's entry. scoring: exactly the published settings, on
    complete data, as that version of the entry has them.
    """

    digest: str
    version: int
    settings: dict[str, dict[str, Any]]
    defaults: list[str]
    scoring: bool
    differences: list[RecordedDifference]

    @property
    def selection(self) -> str:
        """The rule that says which epoch is the result, see `declared_epoch`."""
        return str(self.settings.get("protocol", {}).get("selection", "best_validation"))

    @property
    def named_settings(self) -> dict[str, dict[str, Any]]:
        """The settings without `defaults`: those of the digest. A group that has only such is there, and empty."""
        return {
            group: {key: value for key, value in values.items() if f"{group}.{key}" not in self.defaults}
            for group, values in self.settings.items()
        }


class RecordedTarget(Part, frozen=True, kw_only=True):
    """The published test error in percent, with the decimals it was published with and how it is known.

    kind: "read" at its source, "mem" from memory, "2nd" in a secondary source.
    """

    test_error: float | None
    decimals: int
    test_images: int
    source: str
    kind: Literal["read", "mem", "2nd"]


class RecordedEngine(Part, frozen=True, kw_only=True):
    """What computed the numbers. determinism: the engine's switches that decide whether a rerun gives the same bits."""

    name: str
    device: Literal["cpu", "gpu"]
    device_name: str
    threads: int
    precision: str
    versions: dict[str, str]
    features: list[str]
    driver: str | None
    determinism: dict[str, bool | str]


class Machine(Part, frozen=True, kw_only=True):
    """Where a sitting computed: processor, cores that it could use, memory of the machine in MiB."""

    processor: str
    cores: int
    memory_mib: int


class Sitting(Part, frozen=True, kw_only=True):
    """One uninterrupted stretch of a run: its code, engine and machine, and the epochs that it ended.

    last_epoch is first_epoch - 1 if it ended no epoch that the run kept. started: UTC, ISO 8601, as
    "2024-05-01T12:00:00Z". commit: None outside a git checkout. code_sha256: of all files that compute, whatever the
    commit (benchmarks/run/provenance.py). code_sha256, engine and machine are None where an older schema did not record
    them.
    """

    commit: str | None
    dirty: bool
    diff_sha256: str | None
    code_sha256: str | None
    first_epoch: int
    last_epoch: int
    seconds: float
    started: str
    engine: RecordedEngine | None
    machine: Machine | None


class Split(Part, frozen=True, kw_only=True):
    """The images of one split: which set, what was done to them, how many, and the digest of the arrays.

    class_images: how many images each class has, where the curve counts errors by class.
    """

    dataset: str
    preprocessing: str
    images: int
    digest: str
    class_images: list[int] | UnsetType = UNSET


class Data(Part, frozen=True, kw_only=True):
    """The three splits, as the engine saw them."""

    train: Split
    valid: Split
    test: Split


class Curve(Part, frozen=True, kw_only=True):
    """One entry an epoch in every column; errors in percent, seconds of the whole epoch, images/s of its training.

    train_loss is the mean over the epoch's batches, in training mode. Those of the validation images are there if the
    recipe has any. The columns from train_evaluation_loss on are there if the recipe evaluates the training images
    after every epoch: loss and errors in evaluation mode, and by class (an entry a class; six digits of a loss, null
    without images). Losses by class are means over its images.
    """

    epoch: list[int]
    lr: list[float]
    train_loss: list[float]
    valid_loss: list[float] | UnsetType = UNSET
    valid_error: list[float] | UnsetType = UNSET
    valid_wrong: list[int] | UnsetType = UNSET
    test_loss: list[float]
    test_error: list[float]
    test_wrong: list[int]
    images_per_second: list[float]
    seconds: list[float]
    train_evaluation_loss: list[float] | UnsetType = UNSET
    train_error: list[float] | UnsetType = UNSET
    train_wrong: list[int] | UnsetType = UNSET
    train_class_loss: list[list[float | None]] | UnsetType = UNSET
    train_class_wrong: list[list[int]] | UnsetType = UNSET
    test_class_loss: list[list[float | None]] | UnsetType = UNSET
    test_class_wrong: list[list[int]] | UnsetType = UNSET


class Times(Part, frozen=True, kw_only=True):
    """Seconds of all sittings together, without loading and saving."""

    train_seconds: float
    evaluate_seconds: float


class PublishedWeights(Part, frozen=True, kw_only=True):
    """The weights that are published with the record, as bytes (results/packed_weights.py): SHA-256 and length."""

    sha256: str
    bytes: int


class Record(Part, frozen=True, kw_only=True, dict=True):
    """One run: one seed of one recipe. `id` and `checksums` follow from the rest; `seal` fills them in.

    harness: the version of this program that wrote it. test_correct: `pack_bits` of which test images the network of
    the declared epoch gets right. weights_sha256: of that network's parameters. Both are None exactly if the run ended
    before its first epoch did. unpublished_reason: why a run whose recipe has weights to publish published none.
    """

    schema: int = SCHEMA
    id: str = ""
    checksums: dict[str, str] = {}
    harness: str
    benchmark: str
    paper: str
    recipe: RecordedRecipe
    target: RecordedTarget
    sittings: list[Sitting]
    data: Data
    seed: int
    curve: Curve
    test_correct: str | None
    weights_sha256: str | None
    times: Times
    peak_memory_mib: float
    outcome: Literal["finished", "diverged", "killed"]
    published_weights: PublishedWeights | UnsetType = UNSET
    unpublished_reason: str | UnsetType = UNSET

    @functools.cached_property
    def results(self) -> Results | None:
        """The run's points; None if it ended before its first epoch did."""
        return summarize(self.curve, self.data.test.images, self.test_correct, self.recipe.settings)

    @property
    def train_error(self) -> float | None:
        """The error of the training images at the declared epoch, in percent; None where it was not measured."""
        if self.results is None or self.curve.train_error is UNSET:
            return None
        return self.curve.train_error[self.results.declared.epoch - 1]

    @property
    def engine(self) -> RecordedEngine:
        """The engine of the last sitting; every record has one."""
        engine = self.sittings[-1].engine
        assert engine is not None
        return engine

    @property
    def seeds(self) -> dict[str, int]:
        """The run's seed, and that of everything else that was drawn before it trained."""
        return seeds_of(self.recipe.settings, self.seed)

    @property
    def restarts(self) -> int:
        return len(self.sittings) - 1

    @property
    def mixtures(self) -> list[str]:
        """Of code, engine and machine, those of which the run's sittings had different ones, as far as is known."""
        trained = [sitting for sitting in self.sittings if sitting.last_epoch >= sitting.first_epoch]
        codes = {sitting.code_sha256 or f"{sitting.commit} {sitting.diff_sha256}" for sitting in trained}
        engines = [sitting.engine for sitting in trained if sitting.engine is not None]
        machines = [sitting.machine for sitting in trained if sitting.machine is not None]
        different = {"code": len(codes) > 1, "engine": engines != engines[:1] * len(engines)}
        different["machine"] = machines != machines[:1] * len(machines)
        return [name for name, is_mixed in different.items() if is_mixed]
