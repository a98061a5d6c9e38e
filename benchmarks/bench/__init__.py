"""How fast an engine trains and evaluates a benchmark, beside what the machine can do."""

from __future__ import annotations

from benchmarks.bench.measure import BASELINES, BenchResult, Speed, bench, to_text, update_bytes

__all__ = ["BASELINES", "BenchResult", "Speed", "bench", "to_text", "update_bytes"]
