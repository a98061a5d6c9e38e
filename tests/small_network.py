"""A benchmark of tests: a small binary network on the images that ship with data_prep, trained in a second."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

SETTINGS: dict[str, dict[str, Any]] = {
    "data": {"dataset": "mnist-small", "preprocessing": "signed", "train_images": 2000, "valid_images": 200},
    "model": {
        "architecture": "64FC-10FC", "activation": "binary_tanh", "weights": "deterministic",
        "evaluation_weights": "binary", "weight_limit": 1.0, "lr_scale": "glorot", "batch_norm": "lasagne",
        "batch_norm_alpha": 0.1, "batch_norm_epsilon": 1e-4, "loss": "squared_hinge", "optimizer": "adam",
    },
    "train": {"epochs": 3, "batch_size": 100, "lr_start": 3e-3, "lr_decay": "constant", "shuffle": "cumulative"},
    "protocol": {"selection": "best_validation", "remainder": "dropped"},
}  # fmt: skip


def catalog_file(name: str, changes: Mapping[str, Mapping[str, Any]], target: Mapping[str, Any] | None = None) -> str:
    """The file of a benchmark with these settings and changes to them, by group and key."""
    groups = {
        group: {key: {"value": value, "source": "a test"} for key, value in (values | changes.get(group, {})).items()}
        for group, values in SETTINGS.items()
    }
    paper = {"name": "Tests", "title": "Tests", "url": "https://example.org", "code": "https://example.org"}
    entry = {"id": name, "title": name, "paper": paper, "target": target, **groups}
    return yaml.safe_dump(entry, sort_keys=False)
