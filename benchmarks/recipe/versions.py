"""What every version of every catalog entry was: benchmarks/catalog/versions.csv.

An entry's version goes up when its settings or its target are corrected. Lines are added, never changed: so records of
an earlier version stay verifiable, and are marked where the settings have changed since. Columns: id, version, the
digest of the settings, and the published test error (percent, as printed there; empty without one).
"""

from __future__ import annotations

import csv
import functools
from typing import NamedTuple

from benchmarks.errors import RecipeError
from benchmarks.paths import CATALOG
from benchmarks.recipe.loading import Recipe
from results.files import restoring

VERSIONS = CATALOG / "versions.csv"
COLUMNS = ("id", "version", "digest", "test_error")


class Version(NamedTuple):
    """One version of an entry."""

    benchmark: str
    version: int
    digest: str
    test_error: str


@functools.cache
def versions() -> dict[tuple[str, int], Version]:
    """All, by id and version.

    Raises:
        RecipeError: the file is not what it must be.
    """
    try:
        with VERSIONS.open(newline="") as file:
            reader = csv.DictReader(file)
            if tuple(reader.fieldnames or ()) != COLUMNS:
                raise ValueError(f"expected the columns {','.join(COLUMNS)}")
            lines = list(reader)
        rows = [Version(line["id"], int(line["version"]), line["digest"], line["test_error"]) for line in lines]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RecipeError(f"catalog file {VERSIONS.name}: {error!r}; {restoring(VERSIONS)}") from error
    return {(row.benchmark, row.version): row for row in rows}


def current(benchmark: str) -> Version | None:
    """The latest version of an entry; None of one that is not in the list, such as a user's own."""
    of_benchmark = [row for row in versions().values() if row.benchmark == benchmark]
    return max(of_benchmark, key=lambda row: row.version, default=None)


def version_of(recipe: Recipe) -> Version:
    """What the list must say of an entry as it is published now."""
    error = "" if recipe.target is None else recipe.target.test_error
    return Version(recipe.id, recipe.version, recipe.published_digest, error)
