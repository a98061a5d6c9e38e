"""The record of a run that is over: everything that happened, in the registry's terms."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from benchmarks.recipe import CLASSES, Recipe
from benchmarks.recipe.settings import full_settings
from benchmarks.run.digest import weights_digest
from benchmarks.run.folder import RunFolder
from benchmarks.run.state import Checkpoint
from benchmarks.version import harness_version
from data_prep import Dataset, Split
from results import record as schema
from results.record import Record
from results.weights import described


def make_record(
    recipe: Recipe,
    data: Dataset,
    seed: int,
    folder: RunFolder,
    checkpoint: Checkpoint,
    outcome: str,
    weights: bytes | None,
    unpublished: str,
) -> Record:
    """The sealed record of a run.

    Args:
        checkpoint: its last; the last sitting has its engine.
        outcome: "finished" or "diverged".
        weights: packed, that are published with it.
        unpublished: why weights that the recipe publishes are not; "" if they are, or there are none to publish.
    """
    progress = checkpoint.progress
    declared = progress.declared_epoch(recipe)
    content = {
        "harness": harness_version(),
        "benchmark": recipe.id,
        "paper": recipe.paper.name,
        "recipe": {
            "digest": recipe.digest,
            "version": recipe.version,
            "settings": full_settings(recipe.settings),
            "defaults": recipe.defaults,
            "scoring": recipe.scoring,
            "differences": recipe.differences,
        },
        "target": _target(recipe, data),
        "sittings": checkpoint.sittings,
        "data": {split.name: _split(recipe, data, split) for split in (data.train, data.valid, data.test)},
        "seed": seed,
        "curve": progress.as_curve(),
        "test_correct": None if progress.test_correct is None else schema.pack_bits(progress.test_correct),
        "weights_sha256": weights_digest(folder.load_weights(declared)) if declared else None,
        "times": {"train_seconds": progress.train_seconds, "evaluate_seconds": progress.evaluate_seconds},
        "peak_memory_mib": checkpoint.peak_memory_mib,
        "outcome": outcome,
    }
    if weights is not None:
        content["published_weights"] = described(weights)
    if unpublished:
        content["unpublished_reason"] = unpublished
    return schema.seal(msgspec.convert(msgspec.to_builtins(content), Record))


def _target(recipe: Recipe, data: Dataset) -> dict[str, Any]:
    target = recipe.target
    return {
        "test_error": None if target is None else target.percent,
        "decimals": 2 if target is None else target.decimals,
        "test_images": schema.counted_images(msgspec.to_builtins(recipe.settings), len(data.test.labels)),
        "source": "" if target is None else target.source,
        "kind": "read" if target is None else target.provenance,
    }


def _split(recipe: Recipe, data: Dataset, split: Split) -> dict[str, Any]:
    facts = {
        "dataset": data.name,
        "preprocessing": data.preprocessing,
        "images": len(split.labels),
        "digest": split.digest,
    }
    if recipe.protocol.evaluates_training and split is not data.valid:
        facts["class_images"] = np.bincount(split.labels, minlength=CLASSES).tolist()
    return facts
