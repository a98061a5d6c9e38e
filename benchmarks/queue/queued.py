"""A queued run: what is to be done, with which code. It is written once, and never changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta

from results.record.canonical import digest

if TYPE_CHECKING:
    from benchmarks.run.state import Manifest

SCHEMA = 1

# What files of a queue may say, which other machines and people wrote: names are parts of paths and of command lines.
_Name = Annotated[str, Meta(pattern=r"\A[a-z0-9]+([._-]+[a-z0-9]+)*\Z", max_length=200)]
_Text = Annotated[str, Meta(pattern=r"\A[^\x00-\x1f\x7f-\x9f]*\Z", max_length=4000)]
_Digest = Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}\Z")]
_Commit = Annotated[str, Meta(pattern=r"\A[0-9a-f]{40}([0-9a-f]{24})?\Z")]
_Time = Annotated[str, Meta(pattern=r"\A(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ)?\Z")]
_Seed = Annotated[int, Meta(ge=0, le=2**63 - 1)]
_Seconds = Annotated[float, Meta(ge=0, le=1e12)]


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
    name: _Name
    group: _Name
    benchmark: _Name
    seed: _Seed
    digest: _Digest
    engine: _Name
    device: _Name
    precision: _Name
    commit: _Commit
    arguments: Annotated[tuple[_Text, ...], Meta(max_length=1000)]
    scoring: bool
    registry: _Text
    registered: _Time = ""
    seconds: tuple[_Seconds, _Seconds] | None = None
    allow_change: bool = False
    executor: _Name = "local"

    def fits(self, manifest: Manifest) -> bool:
        """Whether a run that was begun is of the same recipe, engine and precision, with whichever seed."""
        what = (manifest.engine, manifest.precision, digest(manifest.settings))
        return what == (self.engine, self.precision, self.digest)


def group_of(benchmark: str, recipe_digest: str, engine: str, precision: str, commit: str) -> str:
    """The name of a group."""
    return f"{benchmark}-{digest([recipe_digest, engine, precision, commit])[:8]}"
