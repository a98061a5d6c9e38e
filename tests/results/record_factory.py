"""Valid records for the tests: small, deterministic, of any number of epochs and sittings."""

from __future__ import annotations

from typing import Any

import numpy as np

from results.canonical import digest
from results.record import (
    Curve,
    Data,
    Difference,
    Engine,
    Recipe,
    Record,
    Sitting,
    Split,
    Target,
    Times,
    Verdict,
    declared_epoch,
    error_percent,
    pack_bits,
    standard_error,
    summarize,
)

VALID_IMAGES, TEST_IMAGES = 200, 400


def make_record(
    seed: int = 1,
    epochs: int = 6,
    benchmark: str = "binaryconnect-mnist",
    sittings: int = 2,
    scoring: bool = True,
    **changes: Any,
) -> Record:
    """A record that verifies; `changes` replace top-level fields and may make it one that does not."""
    curve = make_curve(seed, epochs)
    test_correct = pack_bits(np.arange(TEST_IMAGES) >= curve.test_wrong[declared_epoch(curve) - 1]) if epochs else None
    results = summarize(curve, TEST_IMAGES, test_correct, TEST_IMAGES)
    settings = {
        "data": {"dataset": "mnist", "preprocessing": "centered", "train_images": 1000, "valid_images": VALID_IMAGES},
        "model": {"architecture": "32FC-10FC", "batch_norm_alpha": 0.15, "weights": "stochastic"},
        "train": {"batch_size": 100, "epochs": epochs, "lr_start": 0.003, "lr_final": 2e-06},
    }
    difference = Difference(key="train.epochs", published=250, value=epochs, source="--epochs")
    fields: dict[str, Any] = {
        "benchmark": benchmark,
        "paper": "BinaryConnect",
        "recipe": Recipe(
            digest=digest(settings), settings=settings, scoring=scoring, differences=[] if scoring else [difference]
        ),
        "target": Target(
            test_error=1.15, decimals=2, test_images=TEST_IMAGES, source="README of the code", kind="read"
        ),
        "engine": Engine(
            name="gluon",
            device="cpu",
            device_name="some processor",
            threads=2,
            precision="float32",
            versions={"mxnet": "1.9.1", "numpy": "1.23.5"},
            features=["AVX512"],
            driver=None,
            determinism={"bit_exact": True, "threads": "fixed"},
        ),
        "sittings": make_sittings(epochs, sittings),
        "data": Data(train=_split(1000), valid=_split(VALID_IMAGES), test=_split(TEST_IMAGES)),
        "seeds": {"run": seed},
        "curve": curve,
        "results": results,
        "test_correct": test_correct,
        "weights_sha256": digest(seed) if results else None,
        "times": Times(train_seconds=10.5 * epochs, evaluate_seconds=2.25, total_seconds=12.0 * epochs + 2.25),
        "peak_memory_mib": 512.5,
        "restarts": sittings - 1,
        "outcome": "finished",
        "verdict": Verdict(
            word="not reproduced" if scoring else "not scored",
            provisional=True,
            margin=0.21 if scoring else None,
            standard_error=standard_error(results.declared.test_wrong, TEST_IMAGES) if results else None,
            explanation="an example",
        ),
    }
    return Record(**(fields | changes))


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


def make_sittings(epochs: int, sittings: int) -> list[Sitting]:
    """The epochs divided evenly into sittings, a day apart."""
    ends = [round(epochs * (i + 1) / sittings) for i in range(sittings)]
    return [
        Sitting(
            commit="0123456789abcdef0123456789abcdef01234567",
            dirty=i == 0,
            diff_sha256=digest("diff") if i == 0 else None,
            first_epoch=first + 1,
            last_epoch=last,
            seconds=3.5,
            started=f"2024-05-{i + 1:02}T12:00:00Z",
        )
        for i, (first, last) in enumerate(zip([0, *ends], ends, strict=False))
    ]


def _split(images: int) -> Split:
    return Split(dataset="mnist", preprocessing="centered", images=images, digest=digest(images))
