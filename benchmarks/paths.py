"""Where things are in this checkout."""

from __future__ import annotations

from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
CLI = REPOSITORY / "cli.py"
PYPROJECT = REPOSITORY / "pyproject.toml"
CATALOG = REPOSITORY / "benchmarks" / "catalog"
DATA, RUNS, QUEUE = REPOSITORY / "data", REPOSITORY / "runs", REPOSITORY / "queue"
REGISTRY = REPOSITORY / "results" / "runs"
