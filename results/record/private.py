"""Text that nothing published may have: what leads to a person, and what opens a door."""

from __future__ import annotations

import re

_KINDS = {
    # A path into somebody's home names a user, or a machine's layout. "example.org/home/x" in a URL is neither.
    "a place in a home folder": r"(?i:(?<![\w-])/(?:home|root|Users)(?![\w.-])|[A-Za-z]:[\\/]+Users(?!\w))",
    "an e-mail address": r"[\w.+-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*\.[A-Za-z]{2,}\b",
    "a key": (
        r"-----BEGIN [A-Z ]*PRIVATE KEY-----|://[^/\s:@]+:[^/\s@]+@|eyJ[\w-]{10,}\.[\w-]{10,}\.[\w-]{5,}"
        r"|\b(?:gh[pousr]_|github_pat_|glpat-|hf_|npm_|pypi-|sk-|xox[a-z]-)[\w-]{16,}|\bAKIA[0-9A-Z]{16}\b"
    ),
}
_ANY = re.compile("|".join(f"({pattern})" for pattern in _KINDS.values()))


def private(text: str) -> str:
    """What a text has that nothing published may have, as "a key (ghp_...)"; "" if nothing."""
    found = _ANY.search(text)
    if found is None:
        return ""
    kind = list(_KINDS)[(found.lastindex or 1) - 1]
    return f"{kind} ({found[0] if kind != 'a key' else found[0][:4]}...)"
