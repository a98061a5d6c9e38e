"""What is published about an experiment: the catalog, its settings, and what follows from them alone."""

from __future__ import annotations

from benchmarks.recipe.loading import (
    CLASSES,
    DATASETS,
    DataSettings,
    Difference,
    ModelSettings,
    Paper,
    ProtocolSettings,
    PublishedErrors,
    Recipe,
    Settings,
    Summary,
    Target,
    TrainSettings,
    apply_overrides,
    benchmark_ids,
    catalog_files,
    catalog_folder,
    flatten,
    load_recipe,
    other_file,
    read_catalog_file,
    recipe_from_settings,
    summaries,
    usable_summaries,
)

__all__ = [
    "CLASSES", "DATASETS", "DataSettings", "Difference", "ModelSettings", "Paper", "ProtocolSettings",
    "PublishedErrors", "Recipe", "Settings", "Summary", "Target", "TrainSettings", "apply_overrides", "benchmark_ids",
    "catalog_files", "catalog_folder", "flatten", "load_recipe", "other_file", "read_catalog_file",
    "recipe_from_settings", "summaries", "usable_summaries",
]  # fmt: skip
