"""Numbers as text, as pages and pictures show them."""

from __future__ import annotations

from results.views.leaderboard import Benchmark


def percent(value: float | None, benchmark: Benchmark) -> str:
    """A percentage with one more decimal than the paper gives."""
    decimals = 2 if benchmark.claim is None else benchmark.claim.decimals
    return "" if value is None else f"{value:.{decimals + 1}f}"


def count(value: float) -> str:
    """ "6.57 M": three digits, by powers of a thousand."""
    for unit, factor in (("E", 1e18), ("P", 1e15), ("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= factor:
            return f"{value / factor:.3g} {unit}"
    return f"{value:g}"


def size(bytes_: int) -> str:
    """ "1.2 MB": of a thousand kB each of a thousand bytes."""
    return f"{count(bytes_)}B" if bytes_ >= 1000 else f"{bytes_} bytes"


def hours(value: float) -> str:
    """ "12 min", "3.5 h", "8.1 days"."""
    if value < 1:
        return f"{60 * value:.0f} min"
    return f"{value:.1f} h" if value < 48 else f"{value / 24:.1f} days"
