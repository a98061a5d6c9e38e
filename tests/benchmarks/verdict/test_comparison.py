"""Two sides beside each other: by hand on small records, by invariants on drawn ones, and on the published records."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from record_factory import TEST_IMAGES, make_record
from scipy.stats import binomtest

from benchmarks.errors import RunError
from benchmarks.paths import REGISTRY
from benchmarks.run.selection import select
from benchmarks.verdict.comparison import compare
from results import registered, registry
from results.groups import key_of
from results.index import entries
from results.record import Record, pack_bits, seal

NAMES = ("A", "B")


def with_right(right: np.ndarray, seed: int = 1, **changes) -> Record:
    """A record whose network gets these images right."""
    record = make_record(seed, **changes)
    wrong = int((~right).sum())
    curve = msgspec.structs.replace(
        record.curve,
        test_wrong=[wrong] * len(record.curve.epoch),
        test_error=[100 * wrong / TEST_IMAGES] * len(record.curve.epoch),
    )
    return msgspec.structs.replace(record, curve=curve, test_correct=pack_bits(right))


def outcomes(*wrong: int) -> np.ndarray:
    right = np.ones(TEST_IMAGES, bool)
    right[list(wrong)] = False
    return right


def test_image_by_image():
    found = compare(NAMES, [with_right(outcomes(0, 5, 7))], [with_right(outcomes(5, 9, 398, 399))])
    (pair,) = found.pairs
    assert (pair.first_alone, pair.second_alone) == ([9, 398, 399], [0, 7])
    assert (pair.both_right, pair.both_wrong) == (TEST_IMAGES - 6, 1)
    assert pair.p_value == pair.adjusted_p_value == pytest.approx(binomtest(2, 5).pvalue)
    assert pair.difference == pytest.approx(100 * (3 - 4) / TEST_IMAGES)
    assert pair.interval.lower < pair.difference < pair.interval.upper
    assert (found.first.errors, found.images, found.obstacles) == ([0.75], TEST_IMAGES, [])


bits = st.lists(st.booleans(), min_size=TEST_IMAGES, max_size=TEST_IMAGES).map(np.array)


@pytest.mark.slow
@given(bits, bits)
def test_the_sides_may_be_exchanged(one, other):
    there = compare(NAMES, [with_right(one)], [with_right(other)])
    back = compare(NAMES, [with_right(other)], [with_right(one)])
    assert there.pairs[0].p_value == back.pairs[0].p_value
    assert there.pairs[0].first_alone == back.pairs[0].second_alone
    assert there.pairs[0].difference == pytest.approx(-back.pairs[0].difference)
    assert there.speed_ratio == pytest.approx(1 / back.speed_ratio)


def test_a_run_is_equal_to_itself():
    record = make_record()
    found = compare(NAMES, [record], [record])
    assert (found.settings, found.computing, found.data) == ([], [], [])
    assert (found.pairs[0].p_value, found.pairs[0].difference, found.speed_ratio) == (1.0, 0.0, 1.0)
    assert "both sides have a run in common: it is compared with itself" in found.notes


def test_groups_are_compared_by_seed_and_by_their_means():
    rng = np.random.default_rng(1)
    first = [with_right(rng.random(TEST_IMAGES) > 0.1, seed) for seed in (1, 2, 3)]
    second = [with_right(rng.random(TEST_IMAGES) > 0.4, seed) for seed in (3, 1)]
    found = compare(NAMES, first, second)
    assert [pair.seeds for pair in found.pairs] == [(1, 1), (3, 3)]
    assert max(pair.p_value for pair in found.pairs) == max(pair.adjusted_p_value for pair in found.pairs)
    assert min(pair.p_value for pair in found.pairs) < min(pair.adjusted_p_value for pair in found.pairs)
    assert found.mean_difference is not None
    assert found.mean_difference.interval.upper < 0
    assert found.mean_difference.value == pytest.approx(found.first.mean - found.second.mean)


def test_one_run_has_no_noise_of_its_own():
    assert compare(NAMES, [make_record(1), make_record(2)], [make_record(3)]).mean_difference is None


def test_what_differs_is_named():
    engine = make_record().sittings[-1].engine
    assert engine is not None
    threads = msgspec.structs.replace(engine, threads=77)
    changed = [msgspec.structs.replace(sitting, engine=threads) for sitting in make_record().sittings]
    other = msgspec.structs.replace(make_record(), sittings=changed)
    (change,) = compare(NAMES, [make_record()], [other]).computing
    assert (change.key, change.first, change.second) == ("threads", str(engine.threads), "77")


def test_other_images_and_other_rules_are_not_compared():
    record = make_record()
    test = msgspec.structs.replace(record.data.test, dataset="cifar10")
    elsewhere = msgspec.structs.replace(record, data=msgspec.structs.replace(record.data, test=test))
    found = compare(NAMES, [record], [elsewhere])
    assert found.obstacles == ["they were tested on other images: 400 images of mnist, and 400 images of cifar10"]
    assert (found.pairs, found.mean_difference) == ([], None)
    last = compare(NAMES, [record], [make_record(validates=False)])
    (obstacle,) = last.obstacles
    assert obstacle == "their epochs were selected by different rules: best_validation, and last (protocol.selection)"
    drawn = compare(NAMES, [make_record(1, evaluates=True)], [make_record(2, evaluates=True)])
    assert len(drawn.obstacles) == 1
    assert "other labels" in drawn.obstacles[0]


# -- which runs are meant ----------------------------------------------------------------------------------------------


def meant(text: str, root: Path) -> list[Record]:
    return select(text, entries(root, pytest.fail), root, root)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for seed in (1, 2):
        registry.write(make_record(seed), tmp_path / "runs")
    return tmp_path / "runs"


def test_a_benchmark_means_its_group(root):
    assert [record.seed for record in meant("binaryconnect-mnist", root)] == [
        2,
        1,
    ]  # by id: they began at the same moment
    one = seal(make_record(2))
    assert meant(one.id[:10], root) == [one]
    assert meant(str(root / "binaryconnect-mnist" / f"{one.id}.json"), root) == [one]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("binaryconnect-mnist@torch", r"no group has all of these words: there are \S+,\w{8} \(seeds 2,1\)$"),
        ("binarynet-mnist", r"no scoring run is recorded: `python cli.py reproduce binarynet-mnist` makes one$"),
    ],
)
def test_what_means_no_run_is_refused(root, text, message):
    with pytest.raises(RunError, match=message):
        meant(text, root)


def test_several_groups_must_be_told_apart(root):
    record = make_record(1)
    engine = record.engine
    other = [msgspec.structs.replace(s, engine=msgspec.structs.replace(engine, name="torch")) for s in record.sittings]
    registry.write(msgspec.structs.replace(record, sittings=other), root)
    with pytest.raises(RunError, match=r"^binaryconnect-mnist: 2 groups: name one by words behind @"):
        meant("binaryconnect-mnist", root)
    assert len(meant("binaryconnect-mnist@torch", root)) == 1
    assert len(meant("binaryconnect-mnist@gluon,float32", root)) == 2


# -- the command -------------------------------------------------------------------------------------------------------


def test_the_command_on_published_records(cli, tmp_path):
    plot = tmp_path / "curves.png"
    result = cli("compare", "0b502990", "76827fca", "--plot", str(plot), BNN_REGISTRY=str(REGISTRY))
    assert result.returncode == 0, result.stderr
    assert "seed 1234: both right 9,270, A alone 440, B alone 97, both wrong 193" in result.stdout
    assert "model.weights             A real              B deterministic" in result.stdout
    with Image.open(plot) as image:
        assert image.size == (960, 600)


def test_of_a_registered_group_its_own_runs_are_meant(root):
    before, after = make_record(1), make_record(2)
    registered.register(root, key_of(before), 1, None, time="2024-05-01T00:00:00Z")
    early = [msgspec.structs.replace(sitting, started="2024-04-01T12:00:00Z") for sitting in after.sittings]
    registry.write(msgspec.structs.replace(after, sittings=early, seed=1), root)
    assert [record.seed for record in meant("binaryconnect-mnist", root)] == [1, 2]
    assert all(record.sittings[0].started > "2024-05" for record in meant("binaryconnect-mnist", root))
