"""A badge for somebody's README: the claim, what was measured, and the verdict, as one small SVG file."""

from __future__ import annotations

from results.views.html.svg import element
from results.views.leaderboard import Benchmark

_COLORS = {"reproduced": "#1a7f37", "not reproduced": "#b42318", "suspiciously good": "#9a6700"}
_OTHER = "#57606a"
_PER_CHARACTER, _PADDING, _HEIGHT = 6.6, 8, 20


def draw(benchmark: Benchmark) -> str:
    """The file's text; colors are its own, for it stands in foreign pages."""
    word = benchmark.word
    color = next((color for name, color in _COLORS.items() if word.split(",")[0] == name), _OTHER)
    group, claim = benchmark.group, benchmark.claim
    measured = ""
    if group is not None and group.mean is not None:
        decimals = 2 if claim is None else claim.decimals
        measured = f" {group.mean:.{decimals + 1}f}{f' / {claim.text}' if claim else ''} %"
    texts = [benchmark.id, f"{word}{measured}"]
    widths = [round(len(text) * _PER_CHARACTER + 2 * _PADDING) for text in texts]
    total, corner = sum(widths), _HEIGHT - 3
    left = f"M3 0H{widths[0]}V{_HEIGHT}H3A3 3 0 0 1 0 {corner}V3A3 3 0 0 1 3 0Z"
    middles = (widths[0] / 2, widths[0] + widths[1] / 2)
    words = [
        element("text", text, x=middle, y=14, textLength=width - 2 * _PADDING)
        for text, middle, width in zip(texts, middles, widths, strict=True)
    ]
    font = {"font_family": "Verdana,DejaVu Sans,sans-serif", "font_size": 11, "text_anchor": "middle"}
    said = ": ".join(texts)
    drawn = element(
        "svg",
        element("title", said),
        element("rect", width=total, height=_HEIGHT, rx=3, fill=color),
        element("path", d=left, fill="#333"),
        element("g", *words, fill="#fff", **font),
        xmlns="http://www.w3.org/2000/svg", width=total, height=_HEIGHT, role="img", aria_label=said,
    )  # fmt: skip
    return f"{drawn}\n"
