"""How fast an engine trains and evaluates a benchmark, beside what the machine can do."""

from __future__ import annotations

from benchmarks.bench.measure import BASELINES, bench, update_bytes
from benchmarks.bench.model import BenchResult, Speed
from benchmarks.bench.report import to_text

__all__ = ["BASELINES", "BenchResult", "Speed", "bench", "to_text", "update_bytes"]
