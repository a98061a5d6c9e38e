"""What an evaluation found beside what was recorded, in words and as files."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.errors import RunError
from results.files import write_atomically

# Of an engine's description: what decides the last bits.
COMPUTED_BY = ("name", "device", "device_name", "threads", "precision", "versions", "driver", "features", "determinism")
WORDS = {"device_name": "processor or GPU"}


def accepted_images(images: int) -> int:
    """How many images may come out otherwise than recorded where something else computes them."""
    return max(2, images // 1000)


@dataclass(frozen=True)
class Recorded:
    """What was recorded of a declared epoch.

    Attributes:
        error: on the test images, in percent.
        correct: bool (test images,), which of them were classified correctly.
        engine: the description of what measured it; None if that is not known.
    """

    epoch: int
    error: float
    correct: np.ndarray
    engine: Mapping[str, Any] | None


@dataclass(frozen=True)
class Evaluated:
    """An error measured again, beside the recorded one where the same was recorded; errors in percent.

    Attributes:
        run: a run, or the record whose weights were published.
        epoch: the declared epoch, whose weights these are.
        split: "test" or "train".
        weights: "binary", "real" or "stochastic".
        predicted, labels: int (images,).
        computed_by: the engine's description.
        recorded_error: None if nothing was recorded to compare with.
        differing_images: how many images are classified correctly now and not then, or then and not now.
        otherwise: what is not as when it was recorded, a phrase each; empty: all is, and no image may differ.
    """

    run: str
    epoch: int
    split: str
    weights: str
    loss: float
    error: float
    wrong: int
    images: int
    predicted: np.ndarray
    labels: np.ndarray
    computed_by: Mapping[str, Any]
    recorded_error: float | None = None
    differing_images: int | None = None
    otherwise: list[str] = field(default_factory=list)

    @property
    def accepted(self) -> int:
        """How many images may differ."""
        return accepted_images(self.images) if self.otherwise else 0

    @property
    def agrees(self) -> bool:
        """Whether it is as recorded, as far as it was recorded, within what is accepted."""
        if self.differing_images is None:
            return True
        same_error = self.error == self.recorded_error
        return self.differing_images <= self.accepted and (same_error or self.differing_images > 0)

    @property
    def kind(self) -> str:
        return {"train": "training", "test": "test"}[self.split]

    @property
    def comparison(self) -> str:
        """What the record says of it, in words."""
        if self.differing_images is None:
            return "nothing is recorded to compare it with"
        how = f"; computed otherwise than recorded: {', '.join(self.otherwise)}" if self.otherwise else ""
        if self.agrees and not self.differing_images:
            return f"as recorded, image by image{how}"
        rule = f"at most {self.accepted} are accepted" if self.otherwise else "on the recorded engine, where none may"
        found = f"{self.differing_images:,} of {self.images:,} images come out otherwise, {rule}"
        return f"recorded: {self.recorded_error:.3f} %: {'nearly so' if self.agrees else 'differs'}: {found}{how}"

    def wrong_images(self) -> list[dict[str, int]]:
        """The images that are not classified correctly, by their number from 0 in the split."""
        return [
            {"index": int(index), "label": int(self.labels[index]), "predicted": int(self.predicted[index])}
            for index in np.flatnonzero(self.predicted != self.labels)
        ]

    def as_json(self) -> dict[str, Any]:
        """The result for programs: "test_error", "test_wrong", ..., or "train_error", ..."""
        facts = vars(self)
        named = {f"{self.split}_{name}": facts[name] for name in ("error", "wrong", "images", "loss")}
        rest = {name: facts[name] for name in ("run", "epoch", "split", "weights")}
        same = None if self.differing_images is None else self.differing_images == 0
        compared = {
            "recorded_error": self.recorded_error,
            "same_images_right": same,
            "differing_images": self.differing_images,
            "accepted_images": None if same is None else self.accepted,
            "computed_otherwise": self.otherwise,
        }
        engine = {name: self.computed_by[name] for name in ("name", "device", "threads", "precision")}
        return rest | named | compared | {"engine": engine}


def check_folder(path: Path) -> None:
    """Raise RunError, before there is anything to write, unless the folder of a file is there."""
    if not path.parent.is_dir():
        raise RunError(f"cannot write {path}: there is no folder {path.parent}: make it, or name another one")


def write_wrong_images(evaluated: Evaluated, path: Path) -> None:
    """Write `wrong_images` as CSV: index, label, predicted.

    Raises:
        RegistryFileError: it cannot be written.
    """
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, ["index", "label", "predicted"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(evaluated.wrong_images())
    write_atomically(path, text.getvalue().encode())


def differences(recorded: Mapping[str, Any] | None, found: Mapping[str, Any]) -> list[str]:
    """A phrase for each field of COMPUTED_BY in which the two differ; what was not recorded is no difference."""
    if recorded is None:
        return ["it is not known by which engine"]
    if recorded["name"] != found["name"]:
        return [f"engine {found['name']} on {found['device']}, not {recorded['name']} on {recorded['device']}"]
    phrases = []
    for name in COMPUTED_BY:
        then, now = recorded.get(name), found.get(name)
        if isinstance(then, dict) and isinstance(now, dict):
            shared = sorted(then.keys() & now.keys())
            phrases += [f"{key} {now[key]}, not {then[key]}" for key in shared if then[key] != now[key]]
        elif then != now:
            plain = not isinstance(then, list)
            phrases.append(f"{WORDS.get(name, name)} {now}, not {then}" if plain else f"other {name}")
    return phrases
