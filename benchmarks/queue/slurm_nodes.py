"""Which nodes fail at once: files in the queue's folder, an empty one a failure, so that jobs need no server to ask.

A node is excluded after FAILURES failures, of runs that have failed on no other node: a run that fails everywhere
accuses nobody. A run that comes through clears its node.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

FAILURES = 2
_APART = "~"  # which neither names of nodes nor those of runs have


class Nodes:
    """The failures, by the folder that holds them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def failed(self, node: str, run: str, start: str) -> None:
        """A run has failed at once; `start` tells this start of its job from all others."""
        self._folder.mkdir(parents=True, exist_ok=True)
        (self._folder / _APART.join((node, run, start))).touch()

    def works(self, node: str) -> None:
        """A run has come through."""
        for path in self._folder.glob(f"{node}{_APART}*"):
            path.unlink(missing_ok=True)

    def failures(self, node: str, run: str) -> int:
        """How often a run has failed at once on a node."""
        return sum((there, one) == (node, run) for there, one in self._all())

    def excluded(self) -> list[str]:
        """The nodes that are not to be used."""
        found, places = self._all(), defaultdict[str, set[str]](set)
        for node, run in found:
            places[run].add(node)
        accused = [node for node, run in found if len(places[run]) == 1]
        return sorted(node for node in set(accused) if accused.count(node) >= FAILURES)

    def _all(self) -> list[tuple[str, str]]:
        """Node and run of each failure."""
        if not self._folder.is_dir():
            return []
        names = [path.name.split(_APART) for path in self._folder.iterdir()]
        return [(name[0], name[1]) for name in names if len(name) == 3]
