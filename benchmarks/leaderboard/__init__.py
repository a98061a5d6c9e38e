"""What the leaderboard shows: the catalog beside the registry, as plain values (`results.views.leaderboard`)."""

from __future__ import annotations

from benchmarks.leaderboard.collect import leaderboard

__all__ = ["leaderboard"]
