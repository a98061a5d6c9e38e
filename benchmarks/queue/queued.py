"""A queued run: what is to be done, with which code. It is written once, and never changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from results.record.canonical import digest

if TYPE_CHECKING:
    from benchmarks.run.state import Manifest

SCHEMA = 1


class QueuedRun(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One run of one seed.

    Attributes:
        name: of the run in its queue, `<group>-s<seed>`: letters, digits, hyphens. Two that would be the same run of
            the same code have the same name.
        group: `<benchmark>-<8 hexadecimal digits>`: runs of the same recipe, engine, precision and commit.
        digest: of the recipe.
        commit: of the code that is to compute it, wherever and whenever it is.
        arguments: after `python cli.py`, of the command that begins it, without folders.
        scoring: whether its settings are the published ones, so that its record goes to the registry.
        registered: before when it may not begin, lest it would not count: when its group was registered, by the clock
            that wrote that down; "" if it is of none.
        registry: folder of the records, from the queue's folder.
        seconds: how long it takes, least and most, as it was known or projected when it was queued; None: not known.
        allow_change: whether another machine, or other versions, may go on with it; its record tells it.
        executor: which one it was submitted to.
    """

    schema: int = SCHEMA
    name: str
    group: str
    benchmark: str
    seed: int
    digest: str
    engine: str
    device: str
    precision: str
    commit: str
    arguments: tuple[str, ...]
    scoring: bool
    registry: str
    registered: str = ""
    seconds: tuple[float, float] | None = None
    allow_change: bool = False
    executor: str = "local"

    def fits(self, manifest: Manifest) -> bool:
        """Whether a run that was begun is of the same recipe, engine and precision, with whichever seed."""
        what = (manifest.engine, manifest.precision, digest(manifest.settings))
        return what == (self.engine, self.precision, self.digest)


def group_of(benchmark: str, recipe_digest: str, engine: str, precision: str, commit: str) -> str:
    """The name of a group."""
    return f"{benchmark}-{digest([recipe_digest, engine, precision, commit])[:8]}"
