"""The data of a run, and whether they are those that it began with."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path

from benchmarks.recipe import Recipe
from benchmarks.recipe.settings import setting_text
from data_prep import Dataset, load, variants
from data_prep.memorization import memorized


def load_data(recipe: Recipe, root: Path, seed: int) -> Dataset:
    """The recipe's data; what of them is drawn at random is a function of the run's seed."""
    settings = recipe.data
    data = load(
        settings.dataset,
        root,
        settings.preprocessing,
        settings.train_images,
        settings.valid_images,
        split_seed=seed if settings.split == "random" else None,
        subset=settings.subset,
    )
    return memorized(data, settings.labels, settings.inputs, seed)


def digests(data: Dataset) -> dict[str, str]:
    """The digest of each split."""
    return {split.name: split.digest for split in (data.train, data.valid, data.test)}


def is_computed_on_the_machine(recipe: Recipe) -> bool:
    """Whether the recipe's preprocessing is computed in floating point when the data are prepared.

    Its last bits, and so the digests, may be others on another machine. All other data have the same bits everywhere.
    """
    return recipe.data.preprocessing.partition(",")[0] in variants(recipe.data.dataset)


def begin_anew(recipe: Recipe, seed: str) -> str:
    """The command that begins a run of this recipe."""
    changes = "".join(f" --set {shlex.quote(f'{d.key}={setting_text(d.value)}')}" for d in recipe.differences)
    return f"`python cli.py reproduce {recipe.id} --seed {seed}{changes}`"


def other_data(recipe: Recipe, seed: int, expected: Mapping[str, str], found: Mapping[str, str]) -> str:
    """A message: the data have other digests than expected, why that may be, and what mends it."""
    anew = begin_anew(recipe, str(seed))
    splits = [name for name in expected if expected[name] != found[name]]
    differing = ", ".join(f"{name} {found[name][:16]}, not {expected[name][:16]}" for name in splits)
    dataset, preprocessing = recipe.data.dataset, recipe.data.preprocessing
    if is_computed_on_the_machine(recipe):
        return (
            f"found digests {differing}; {preprocessing} was computed by another machine or version, with other last"
            f" bits, and to train on with them would be another run: copy {dataset}-{preprocessing}.h5 from where the"
            f" run began and name its folder with --data, or begin anew: {anew};"
            " `evaluate` accepts them"
        )
    return f"found digests {differing}: name the folder of its data with --data, or `python cli.py prepare {dataset}`"
