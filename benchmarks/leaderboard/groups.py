"""A group of runs as the leaderboard shows it, and how far its claim was tested."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from benchmarks.leaderboard.images import TestImages
from benchmarks.leaderboard.runs import device_of
from benchmarks.verdict.group import GroupVerdict
from benchmarks.verdict.report import lines, meaning, short
from results import reevaluations
from results.record import Record, packed_bytes
from results.views.leaderboard import Group, Seed

COMPLETE = (
    "reproduced",
    "reproduced, and better",
    "suspiciously good",
    "not reproduced",
    "inconclusive",
    "no published target",
)


def group(verdict: GroupVerdict, records: Sequence[Record], digest: str, images: TestImages | None) -> Group:
    """Of the verdict on it; `records`: of its benchmark; digest: of the recipe today; images: where there are any."""
    by_id = {record.id: record for record in records}
    own = [by_id[seed.record] for seed in verdict.seeds if seed.record in by_id]
    found, wrong = verdict.estimate, always_wrong(own)
    return Group(
        engine=verdict.engine,
        device=", ".join(sorted({device_of(record) for record in own})),
        precision=verdict.precision,
        registered=verdict.registered,
        is_current=verdict.digest == digest,
        word=short(verdict),
        meaning=meaning(verdict),
        lines=[line.strip() for line in lines(verdict)][1:],
        mean=None if found is None else found.mean,
        deviation=None if found is None else found.deviation,
        standard_error=None if found is None or found.variance is None else (found.variance / found.runs) ** 0.5,
        interval=None if verdict.interval is None else (verdict.interval[0], verdict.interval[1]),
        runs=sum(seed.record is not None for seed in verdict.seeds),
        wanted=len(verdict.seeds),
        seeds=[
            Seed(seed=seed.seed, state=seed.state, test_error=seed.test_error, record=seed.record)
            for seed in verdict.seeds
        ],
        last_run=max((sitting.started[:10] for record in own for sitting in record.sittings), default=""),
        always_wrong=wrong,
        class_errors=[] if images is None or wrong is None else images.class_errors(own),
        pictures=[] if images is None else images.pictures(wrong or []),
    )


def rank(group: Group, index: int) -> tuple[object, ...]:
    """The lowest is what the leaderboard's row shows: judged before running, many runs before few."""
    is_judged = group.registered is not None and group.runs == group.wanted
    return not group.is_current, not is_judged, group.runs == 0, -group.runs, group.registered is None, index


def tier(group: Group | None, again: Collection[str]) -> str:
    """A key of `results.views.leaderboard.TIERS`; again: see `measured_elsewhere`."""
    if group is None or group.runs == 0:
        return "claimed"
    if not group.is_current or group.registered is None or group.word not in COMPLETE:
        return "ran"
    return "judged, weights" if any(seed.record in again for seed in group.seeds) else "judged"


def measured_elsewhere(records: Collection[Record], root: Path) -> set[str]:
    """Ids of records whose published weights gave the same outcome on another device than the run's."""
    devices = {record.id: {s.engine.device_name for s in record.sittings if s.engine is not None} for record in records}
    return {
        one.record
        for benchmark in {record.benchmark for record in records}
        for one in reevaluations.read(root, benchmark)
        if one.record in devices and one.device not in devices[one.record]
    }


def always_wrong(records: Sequence[Record]) -> list[int] | None:
    """The test images that every finished run gets wrong; None if the runs have other images, or there is none."""
    finished = [record for record in records if record.outcome == "finished" and record.test_correct is not None]
    if not finished or len({record.data.test.digest for record in finished}) > 1:
        return None
    images = finished[0].data.test.images
    ever_right = 0
    for record in finished:
        ever_right |= int.from_bytes(packed_bytes(record.test_correct or "", images), "big")
    bits = f"{ever_right:0{-(-images // 8) * 8}b}"
    return [index for index in range(images) if bits[index] == "0"]
