from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from record_factory import make_record

from results.statistics import binomial_standard_error
from results.views.reference import Band, ReferenceCurve


def test_the_band_holds_every_earlier_run_and_ends_where_they_end() -> None:
    records = [make_record(seed=seed, epochs=epochs) for seed, epochs in ((1, 6), (2, 6))]
    reference = ReferenceCurve(records, records[0].recipe.digest)
    for epoch in range(1, 7):
        band = reference.band(epoch)
        assert band is not None
        assert band.runs == 2
        assert all(band.place(record.curve.valid_error[epoch - 1]) == "within" for record in records)
    assert reference.band(7) is None


def test_one_run_gives_two_standard_errors_around_it() -> None:
    record = make_record()
    band = ReferenceCurve([record], record.recipe.digest).band(3)
    margin = 2 * binomial_standard_error(record.curve.valid_wrong[2], record.data.valid.images)
    error = record.curve.valid_error[2]
    assert band == Band(max(0.0, error - margin), error + margin, 1)


def test_without_validation_images_there_is_no_band() -> None:
    record = make_record(validates=False)
    assert ReferenceCurve([record], record.recipe.digest).band(1) is None


def test_the_authors_own_run_counts_as_one_more() -> None:
    record = make_record(epochs=2)
    images = record.data.valid.images
    theirs = [100 * wrong / images for wrong in (150, 1, 20)]
    alone = ReferenceCurve([], record.recipe.digest, theirs, images)
    margin = 2 * binomial_standard_error(20, images)
    assert alone.band(3) == Band(theirs[2] - margin, theirs[2] + margin, 0, True)
    assert alone.band(4) is None
    both = ReferenceCurve([record], record.recipe.digest, theirs, images)
    for epoch in (1, 2):
        band = both.band(epoch)
        assert band is not None
        assert {band.place(theirs[epoch - 1]), band.place(record.curve.valid_error[epoch - 1])} == {"within"}
    assert both.band(3) == alone.band(3)
    whose = [band.whose for band in (alone.band(1), both.band(1), Band(0, 1, 2), Band(0, 1, 1)) if band]
    assert whose == ["the authors' run", "1 earlier run and the authors' run", "2 earlier runs", "1 earlier run"]


def test_other_recipes_and_repetitions_do_not_count() -> None:
    record = make_record()
    other = msgspec.structs.replace(record, recipe=msgspec.structs.replace(record.recipe, digest="0" * 64))
    assert ReferenceCurve([other], record.recipe.digest).band(1) is None
    band = ReferenceCurve([record, record], record.recipe.digest).band(1)
    assert band is not None
    assert band.runs == 1


@given(st.floats(0, 100), st.floats(0, 100), st.floats(0, 100))
def test_an_error_is_within_above_or_below(low: float, high: float, error: float) -> None:
    low, high = sorted((low, high))
    place = Band(low, high, 1).place(error)
    assert (place == "above") == (error > high)
    assert (place == "below") == (error < low)
