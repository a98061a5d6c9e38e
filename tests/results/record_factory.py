"""Valid records for the tests: small, deterministic, of any number of epochs and sittings."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
from msgspec import UNSET

from results.record import (
    Curve,
    Data,
    Machine,
    Record,
    RecordedDifference,
    RecordedEngine,
    RecordedRecipe,
    RecordedTarget,
    Sitting,
    Split,
    Times,
    declared_epoch,
    error_percent,
    pack_bits,
)
from results.record.canonical import digest

VALID_IMAGES, TEST_IMAGES = 200, 400


def make_record(
    seed: int = 1,
    epochs: int = 6,
    benchmark: str = "binaryconnect-mnist",
    sittings: int = 2,
    scoring: bool = True,
    evaluates: bool = False,
    validates: bool = True,
    **changes: Any,
) -> Record:
    """A record that verifies; `changes` replace top-level fields and may make it one that does not.

    `evaluates`: of a recipe that evaluates the training images, and has no published target. `validates`: of one that
    has validation images.
    """
    curve = with_training(make_curve(seed, epochs)) if evaluates else make_curve(seed, epochs)
    valid_images = VALID_IMAGES if validates else 0
    if not validates:
        curve = without_validation(curve)
    test_correct = (
        pack_bits(np.arange(TEST_IMAGES) >= curve.test_wrong[declared_epoch(curve, {}) - 1]) if epochs else None
    )
    settings = {
        "data": {"dataset": "mnist", "preprocessing": "centered", "train_images": 1000, "valid_images": valid_images},
        "model": {"architecture": "32FC-10FC", "batch_norm_alpha": 0.15, "weights": "stochastic"},
        "train": {"batch_size": 100, "epochs": max(epochs, 1), "lr_start": 0.003, "lr_final": 2e-06},
    }
    if evaluates:
        settings |= {"data": settings["data"] | {"labels": "random"}, "protocol": {"evaluates_training": True}}
    if not validates:
        settings["protocol"] = {"selection": "last"}
    difference = RecordedDifference(key="train.epochs", published=250, value=epochs, source="--epochs")
    fields: dict[str, Any] = {
        "harness": "0.2.0",
        "benchmark": benchmark,
        "paper": "BinaryConnect",
        "recipe": RecordedRecipe(
            digest=digest(settings),
            version=1,
            settings=settings,
            defaults=[],
            scoring=scoring,
            differences=[] if scoring else [difference],
        ),
        "target": RecordedTarget(
            test_error=None if evaluates else 1.15,
            decimals=2,
            test_images=TEST_IMAGES,
            source="" if evaluates else "README of the code",
            kind="read",
        ),
        "sittings": make_sittings(epochs, sittings),
        "data": Data(train=_split(1000, evaluates), valid=_split(valid_images), test=_split(TEST_IMAGES, evaluates)),
        "seed": seed,
        "curve": curve,
        "test_correct": test_correct,
        "weights_sha256": digest(seed) if epochs else None,
        "times": Times(train_seconds=10.5 * epochs, evaluate_seconds=2.25),
        "peak_memory_mib": 512.5,
        "outcome": "finished",
    }
    return Record(**(fields | changes))


ENGINE = RecordedEngine(
    name="gluon",
    device="cpu",
    device_name="some processor",
    threads=2,
    precision="float32",
    versions={"mxnet": "1.9.1", "numpy": "1.23.5"},
    features=["AVX512"],
    driver=None,
    determinism={"bit_exact": True, "threads": "fixed"},
)


def make_curve(seed: int, epochs: int) -> Curve:
    """A falling curve with noise, and a tie of the two best validation errors wherever there are two epochs."""
    random = np.random.RandomState(seed)
    valid_wrong = [int(w) for w in np.linspace(60, 20, epochs) + random.randint(0, 6, epochs)]
    test_wrong = [int(w) for w in np.linspace(120, 40, epochs) + random.randint(0, 12, epochs)]
    valid_wrong[-2:] = [min(valid_wrong)] * len(valid_wrong[-2:]) if epochs else []
    return Curve(
        epoch=list(range(1, epochs + 1)),
        lr=[0.003 * 0.5**i for i in range(epochs)],
        train_loss=[float(x) for x in 0.5 / np.arange(1, epochs + 1) + 0.01 * random.random_sample(epochs)],
        valid_loss=[float(x) for x in 0.6 / np.arange(1, epochs + 1) + 0.01 * random.random_sample(epochs)],
        valid_error=[error_percent(w, VALID_IMAGES) for w in valid_wrong],
        valid_wrong=valid_wrong,
        test_loss=[float(x) for x in 0.6 / np.arange(1, epochs + 1) + 0.01 * random.random_sample(epochs)],
        test_error=[error_percent(w, TEST_IMAGES) for w in test_wrong],
        test_wrong=test_wrong,
        images_per_second=[1000.0 + i for i in range(epochs)],
        seconds=[1.5 + 0.25 * i for i in range(epochs)],
    )


def without_validation(curve: Curve) -> Curve:
    """The curve of a recipe without validation images."""
    return msgspec.structs.replace(curve, valid_loss=UNSET, valid_error=UNSET, valid_wrong=UNSET)


def make_sittings(epochs: int, sittings: int) -> list[Sitting]:
    """The epochs divided evenly into sittings, a day apart."""
    ends = [round(epochs * (i + 1) / sittings) for i in range(sittings)]
    return [
        Sitting(
            commit="0123456789abcdef0123456789abcdef01234567",
            dirty=i == 0,
            diff_sha256=digest("diff") if i == 0 else None,
            code_sha256=digest("code"),
            first_epoch=first + 1,
            last_epoch=last,
            seconds=3.5,
            started=f"2024-05-{i + 1:02}T12:00:00Z",
            engine=ENGINE,
            machine=Machine(processor="some processor", cores=2, memory_mib=16_000),
        )
        for i, (first, last) in enumerate(zip([0, *ends], ends, strict=False))
    ]


def with_training(curve: Curve) -> Curve:
    """The curve of a recipe that evaluates its 1,000 training images; the first two of ten classes have all errors."""

    def by_class(wrong: list[int]) -> list[list[int]]:
        return [[w // 2, w - w // 2, *[0] * 8] for w in wrong]

    train_wrong = [min(2 * wrong, 150) for wrong in curve.valid_wrong]
    losses = [[0.5 + label for label in range(10)] for _ in curve.epoch]
    return msgspec.structs.replace(
        curve,
        train_evaluation_loss=[0.25 for _ in curve.epoch],
        train_error=[error_percent(w, 1000) for w in train_wrong],
        train_wrong=train_wrong,
        train_class_loss=losses,
        train_class_wrong=by_class(train_wrong),
        test_class_loss=losses,
        test_class_wrong=[[w // 4, w // 4, w // 4, w - w // 4 * 3, *[0] * 6] for w in curve.test_wrong],
    )


def _split(images: int, by_class: bool = False) -> Split:
    split = Split(dataset="mnist", preprocessing="centered", images=images, digest=digest(images))
    return msgspec.structs.replace(split, class_images=[images // 10] * 10) if by_class else split
