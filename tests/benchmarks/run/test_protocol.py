"""The training protocol against the authors' own train(): tests/golden, H_train_log_A and G_units."""

from __future__ import annotations

import dataclasses
import math
import re
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.engine.augmentation import draw_crops
from benchmarks.recipe import Recipe, TrainSettings, load_recipe
from benchmarks.recipe.schedule import learning_rates
from benchmarks.run.protocol import (
    EVALUATION_BATCH,
    DivergenceError,
    TrainingState,
    evaluate,
    loss_terms,
    next_order,
    shuffled,
    train,
)
from data_prep import Dataset, Split
from results.record import Curve, columns, declared_epoch

GOLDEN = Path(__file__).parents[2] / "golden"
LOG = np.load(GOLDEN / "H_train_log_A.npz")


def replaced(curve: Curve, valid_wrong: list[int]) -> Curve:
    """A curve of so many epochs with these validation errors."""
    return msgspec.structs.replace(curve, epoch=list(range(1, len(valid_wrong) + 1)), valid_wrong=valid_wrong)


def schedule(epochs: int, start: float, final: float) -> TrainSettings:
    published = load_recipe("binaryconnect-mnist").train
    return msgspec.structs.replace(published, epochs=epochs, lr_start=start, lr_final=final)


def test_learning_rates_are_those_of_the_authors_log():
    """20 batches an epoch, 8 epochs; float32 is what their train function was given."""
    rates = np.array(list(learning_rates(schedule(8, 1e-3, 3e-6))))
    np.testing.assert_array_equal(LOG["train_batch_lr_loss"][::20, 0].astype(np.float32), rates.astype(np.float32))


@pytest.mark.parametrize("row", range(6))
def test_learning_rates_of_every_script(row):
    units = np.load(GOLDEN / "G_units.npz")
    published = {
        "BinaryConnect/mnist": (1e-3, 3e-6),
        "BinaryConnect/cifar10": (3e-3, 2e-6),
        "BinaryConnect/svhn": (1e-2, 3e-6),
        "BinaryNet/mnist": (3e-3, 3e-7),
        "BinaryNet/cifar10": (1e-3, 3e-7),
        "BinaryNet/svhn": (1e-3, 1e-6),
    }
    epochs, _, first, second, third, last = units["lr/epochs_decay_lr1_lr2_lr3_lrlast"][row]
    rates = list(learning_rates(schedule(int(epochs), *published[str(units["lr/names"][row])])))
    assert len(rates) == epochs
    np.testing.assert_allclose([*rates[:3], rates[-1]], [first, second, third, last], rtol=1e-12)


def test_learning_rates_that_are_halved():
    published = load_recipe("binarynet-torch7-mnist").train
    rates = list(learning_rates(published))
    assert len(rates) == published.epochs
    assert [rates[epoch - 1] for epoch in (1, 20, 21, 40, 41, 1000)] == [
        2**-6, 2**-6, 2**-7, 2**-7, 2**-8, 2.0 ** -(6 + 49)
    ]  # fmt: skip
    short = msgspec.structs.replace(published, epochs=5, lr_start=1.0, lr_halving_epochs=2)
    assert list(learning_rates(short)) == [1, 1, 0.5, 0.5, 0.25]


def test_ties_go_to_the_later_epoch_as_in_the_authors_log():
    """The log's best epoch after every epoch, from the log's own validation errors, as counts of 200 images."""
    text = str(LOG["log"])
    errors = [float(e) for e in re.findall(r"  validation error rate: +([\d.]+)%", text)]
    best = [int(e) for e in re.findall(r"best epoch: +(\d+)", text)]
    wrong = [round(error * 2) for error in errors]
    curve = TrainingState(order=np.arange(1)).as_curve()
    found = [declared_epoch(replaced(curve, wrong[: n + 1]), {}) for n in range(len(wrong))]
    assert found == best
    assert wrong[5] == wrong[7]  # the tie that epoch 8 wins
    assert best[7] == 8


@given(st.lists(st.integers(0, 5), min_size=1))
def test_the_declared_epoch_is_the_last_of_the_best(wrong):
    epoch = declared_epoch(replaced(TrainingState(order=np.arange(1)).as_curve(), wrong), {})
    assert wrong[epoch - 1] == min(wrong)
    assert min(wrong) not in wrong[epoch:]


@given(st.integers(0, 2**63 - 1), st.integers(1, 1000), st.integers(1, 200))
def test_shuffling_is_a_permutation_of_the_last_order(seed, epoch, n):
    order = np.arange(n)[::-1] * 3
    again = shuffled(order, seed, epoch)
    assert sorted(again) == sorted(order)
    np.testing.assert_array_equal(again, shuffled(order, seed, epoch))
    np.testing.assert_array_equal(again, order[shuffled(np.arange(n), seed, epoch)])  # new[i] = old[permutation[i]]


def test_shuffling_is_cumulative_as_in_the_original():
    units = np.load(GOLDEN / "G_units.npz")
    generator = np.random.RandomState(1234)
    order = np.arange(10)
    for expected in ("shuffle/seed1234_n10_first", "shuffle/second_applied_cumulatively"):
        permutation = np.arange(10)
        generator.shuffle(permutation)
        order = order[permutation]
        np.testing.assert_array_equal(order, units[expected])


def test_learning_rates_that_fall_in_steps():
    """RWTH's VGGNet7: before epochs 80 and 120, by .1 each time."""
    published = load_recipe("binaryconnect-mnist").train
    steps = msgspec.structs.replace(
        published, epochs=130, lr_start=0.1, lr_final=None, lr_decay="steps", lr_milestones=(80, 120), lr_factor=0.1
    )
    rates = list(learning_rates(steps))
    assert len(rates) == 130
    assert rates[:79] == [0.1] * 79
    assert rates[79:119] == [0.1 * 0.1] * 40
    assert rates[119:] == [0.1 * 0.1 * 0.1] * 11
    at_once = msgspec.structs.replace(steps, epochs=2, lr_milestones=(1, 200))
    assert list(learning_rates(at_once)) == [0.1 * 0.1] * 2


def test_a_constant_learning_rate():
    published = load_recipe("binaryconnect-mnist").train
    constant = msgspec.structs.replace(published, epochs=3, lr_start=0.001, lr_final=None, lr_decay="constant")
    assert list(learning_rates(constant)) == [0.001] * 3


def test_fresh_orders_know_nothing_of_the_last():
    last = np.arange(50)[::-1]
    first, second = (next_order("fresh", last, 1, epoch) for epoch in (1, 2))
    assert sorted(first) == sorted(second) == list(range(50))
    assert list(first) != list(second)
    np.testing.assert_array_equal(first, next_order("fresh", np.arange(50), 1, 1))
    assert list(first) != list(next_order("fresh", last, 2, 1))


def test_without_shuffling_images_stay_where_they_are():
    np.testing.assert_array_equal(next_order("none", np.arange(5), 1, 7), np.arange(5))


def test_a_cumulative_order_is_the_last_one_shuffled():
    last = np.arange(9)[::-1]
    np.testing.assert_array_equal(next_order("cumulative", last, 1, 2), shuffled(last, 1, 2))


@given(st.integers(0, 2**32 - 1), st.floats(0.1, 100))
def test_losses_are_those_of_their_definitions(seed, scale):
    """Written out in float64, image by image and class by class."""
    generator = np.random.default_rng(seed)
    scores = (scale * generator.standard_normal((7, 10))).astype(np.float32)
    labels = generator.integers(0, 10, 7)
    hinge = [
        [max(0.0, 1 - (1 if c == label else -1) * float(y)) ** 2 for c, y in enumerate(row)]
        for row, label in zip(scores, labels, strict=True)
    ]
    entropy = []
    for row, label in zip(scores.astype(np.float64), labels, strict=True):
        top = row.max()
        entropy.append(top + math.log(sum(math.exp(y - top) for y in row)) - row[label])
    assert loss_terms(scores, labels, "squared_hinge").mean() == pytest.approx(np.mean(hinge), rel=1e-12)
    assert loss_terms(scores, labels, "squared_hinge_sum").mean() == pytest.approx(10 * np.mean(hinge), rel=1e-12)
    assert loss_terms(scores, labels, "cross_entropy").mean() == pytest.approx(np.mean(entropy), rel=1e-9, abs=1e-12)


def test_squared_hinge():
    scores = np.array([[2.0, -0.5], [0.0, 0.25]], np.float32)
    labels = np.array([0, 1])
    # image 1: max(0, 1 - 2)^2 = 0 and max(0, 1 - 0.5)^2 = 0.25; image 2: 1 and 0.75^2
    assert loss_terms(scores, labels, "squared_hinge").mean() == pytest.approx((0 + 0.25 + 1 + 0.5625) / 4)


class CountingEngine:
    """Scores that a test can foresee: the first pixel of an image is its predicted class."""

    def __init__(self, losses: list[list[float]]) -> None:
        self.losses, self.orders, self.rates = losses, [], []
        self.options: list[dict[str, Any]] = []
        self.evaluated: list[tuple[np.ndarray, int]] = []

    def train_epoch(self, images, labels, order, batch_size, lr, on_batch=None, **options):
        self.orders.append(order)
        self.rates.append(lr)
        self.options.append(options)
        return np.array(self.losses[len(self.orders) - 1], np.float32)

    def parameters(self):
        return {"dense1.weight": np.ones((2, 3), np.float32), "bn1.mean": np.zeros(2, np.float32)}

    def scores(self, images, batch_size):
        self.evaluated.append((images, batch_size))
        return np.eye(10, dtype=np.float32)[images[:, 0, 0, 0].astype(int)]


@pytest.fixture
def tiny_data() -> Dataset:
    labels = np.arange(200) % 10
    images = np.zeros((200, 1, 28, 28), np.float32)
    images[:, 0, 0, 0] = labels
    images[:7, 0, 0, 0] = (labels[:7] + 1) % 10  # seven images are misclassified
    splits = [Split(name, images, labels, "") for name in ("train", "valid", "test")]
    return Dataset("tiny", "none", *splits)


def test_what_is_measured_after_every_epoch(tiny_data):
    recipe = load_recipe("binaryconnect-mnist", ["train.epochs=3", "data.train_images=200", "data.valid_images=200"])
    engine, progress = CountingEngine([[1.0, 0.5], [0.4, 0.2], [0.1, 0.1]]), TrainingState(order=np.arange(200))
    assert sum(1 for _ in train(engine, recipe, tiny_data, 5, progress)) == 3
    assert progress.curve["epoch"] == [1, 2, 3]
    assert progress.curve["train_loss"] == pytest.approx([0.75, 0.3, 0.1])
    assert progress.curve["valid_wrong"] == progress.curve["test_wrong"] == [7, 7, 7]
    assert progress.curve["test_error"] == [3.5] * 3
    assert progress.declared_epoch(recipe) == 3
    assert np.count_nonzero(progress.test_correct) == 193
    assert engine.rates == list(learning_rates(recipe.train))
    np.testing.assert_array_equal(engine.orders[1], shuffled(engine.orders[0], 5, 2))


def test_training_goes_on_where_it_was(tiny_data):
    recipe = load_recipe("binaryconnect-mnist", ["train.epochs=3", "data.train_images=200", "data.valid_images=200"])
    losses = [[1.0], [0.4], [0.1]]
    whole, parts = CountingEngine(losses), CountingEngine(losses)
    all(True for _ in train(whole, recipe, tiny_data, 5, TrainingState(order=np.arange(200))))
    progress = TrainingState(order=np.arange(200))
    next(train(parts, recipe, tiny_data, 5, progress))
    assert progress.epoch == 1
    assert sum(1 for _ in train(parts, recipe, tiny_data, 5, progress)) == 2
    assert whole.rates == parts.rates
    np.testing.assert_array_equal(whole.orders, parts.orders)


def test_a_loss_that_is_no_number_is_divergence(tiny_data):
    recipe = load_recipe("binaryconnect-mnist", ["train.epochs=3"])
    progress = TrainingState(order=np.arange(200))
    with pytest.raises(DivergenceError, match="training loss is nan in epoch 2"):
        all(True for _ in train(CountingEngine([[1.0], [float("nan")]]), recipe, tiny_data, 5, progress))
    assert progress.epoch == 1


@pytest.mark.parametrize("name", ["dense1.weight", "bn1.mean"])
def test_a_parameter_that_is_no_number_is_divergence_though_every_loss_is_finite(tiny_data, name):
    """NaN has a sign: a binarized network computes with it as with any other weight."""

    class Broken(CountingEngine):
        def parameters(self):
            found = super().parameters()
            if len(self.orders) == 2:
                found[name].flat[1] = np.nan
            return found

    progress = TrainingState(order=np.arange(200))
    with pytest.raises(DivergenceError, match=rf"1 of \d values of {name} are not finite in epoch 2"):
        all(True for _ in train(Broken([[1.0], [0.5]]), load_recipe("binaryconnect-mnist"), tiny_data, 5, progress))
    assert progress.epoch == 1


def test_scores_that_are_no_numbers_are_divergence(tiny_data):
    class Broken(CountingEngine):
        def scores(self, images, batch_size):
            return np.full((len(images), 10), np.inf, np.float32)

    with pytest.raises(DivergenceError, match="the loss on the test images is"):
        evaluate(Broken([]), tiny_data.test, load_recipe("binaryconnect-mnist"))


# -- what not every recipe has ----------------------------------------------------------------------------------------


def recipe_with(**changes: Any) -> Recipe:
    """Three epochs of 200 images, with settings changed by group and name, "data__split"; no consistency is asked."""
    recipe = load_recipe("binaryconnect-mnist", ["train.epochs=3", "data.train_images=200", "data.valid_images=200"])
    settings = recipe.settings
    for key, value in changes.items():
        group, name = key.split("__")
        part = msgspec.structs.replace(getattr(settings, group), **{name: value})
        settings = msgspec.structs.replace(settings, **{group: part})
    return msgspec.structs.replace(recipe, settings=settings)


def trained(recipe: Recipe, data: Dataset, seed: int = 5) -> tuple[CountingEngine, TrainingState]:
    engine = CountingEngine([[1.0, 0.5], [0.4, 0.2], [0.1, 0.1]])
    progress = TrainingState(order=np.arange(200))
    assert sum(1 for _ in train(engine, recipe, data, seed, progress)) == 3
    return engine, progress


def test_an_engine_is_told_of_nothing_that_a_recipe_has_not(tiny_data):
    assert trained(recipe_with(), tiny_data)[0].options == [{}] * 3


def test_a_last_smaller_batch_is_kept_where_the_recipe_says_so(tiny_data):
    engine, _ = trained(recipe_with(protocol__remainder="kept"), tiny_data)
    assert engine.options == [{"keep_remainder": True}] * 3


def test_crops_are_those_of_seed_and_epoch_and_the_validation_images_stay(tiny_data):
    engine, _ = trained(recipe_with(data__augmentation="flip_edge_crop"), tiny_data, seed=9)
    for epoch, options in enumerate(engine.options, 1):
        expected = draw_crops(200, "flip_edge_crop", 9, epoch, "train")
        np.testing.assert_array_equal(options["crops"].down, expected.down)
        np.testing.assert_array_equal(options["crops"].right, expected.right)
        np.testing.assert_array_equal(options["crops"].mirrored, expected.mirrored)
    assert all(images is tiny_data.valid.images or images is tiny_data.test.images for images, _ in engine.evaluated)


def test_validation_images_are_augmented_where_the_recipe_says_so_and_test_images_never(tiny_data):
    recipe = recipe_with(data__augmentation="flip_zero_crop", data__augmented="train_valid")
    engine, _ = trained(recipe, tiny_data, seed=9)
    valid, test = [images for images, _ in engine.evaluated[::2]], [images for images, _ in engine.evaluated[1::2]]
    assert all(images is tiny_data.test.images for images in test)
    for epoch, images in enumerate(valid, 1):
        drawn = draw_crops(200, "flip_zero_crop", 9, epoch, "valid")
        np.testing.assert_array_equal(images, drawn.apply(tiny_data.valid.images))
    assert not np.array_equal(valid[0], valid[1])


def test_the_training_images_are_evaluated_where_the_recipe_says_so(tiny_data):
    _, progress = trained(recipe_with(protocol__evaluates_training=True), tiny_data)
    curve = progress.as_curve()
    assert curve.train_wrong == [7, 7, 7]
    assert curve.train_error == [3.5] * 3
    assert curve.train_evaluation_loss == curve.test_loss
    assert curve.train_class_wrong == curve.test_class_wrong == [[1] * 7 + [0] * 3] * 3
    losses = curve.train_class_loss[0]
    assert np.mean(losses) == pytest.approx(curve.train_evaluation_loss[0], rel=1e-5)  # 20 images of each class
    assert losses[0] > losses[9]
    assert trained(recipe_with(), tiny_data)[1].as_curve().train_wrong is msgspec.UNSET


def test_without_validation_images_only_the_test_images_are_evaluated(tiny_data):
    nothing = Split("valid", tiny_data.valid.images[:0], tiny_data.valid.labels[:0], "")
    recipe = recipe_with(data__valid_images=0, protocol__selection="last")
    engine, progress = trained(recipe, dataclasses.replace(tiny_data, valid=nothing))
    assert all(images is tiny_data.test.images for images, _ in engine.evaluated)
    assert progress.curve.keys() == set(columns({})) - {"valid_loss", "valid_error", "valid_wrong"}
    assert progress.as_curve().valid_error is msgspec.UNSET
    assert progress.declared_epoch(recipe) == 3
    assert progress.curve["test_error"] == [3.5] * 3


def test_a_class_without_images_has_no_loss(tiny_data):
    few = Split("train", tiny_data.train.images[:5], tiny_data.train.labels[:5], "")
    found = evaluate(CountingEngine([]), few, recipe_with())
    assert [loss is None for loss in found.class_loss] == [False] * 5 + [True] * 5
    assert found.class_wrong == [1] * 5 + [0] * 5


@pytest.mark.parametrize(("loss", "factor"), [("squared_hinge", 1), ("squared_hinge_sum", 10)])
def test_the_loss_of_an_evaluation_is_the_recipes(tiny_data, loss, factor):
    plain = evaluate(CountingEngine([]), tiny_data.test, recipe_with())
    other = evaluate(CountingEngine([]), tiny_data.test, recipe_with(model__loss=loss))
    assert other.loss == pytest.approx(factor * plain.loss)
    divided = evaluate(
        CountingEngine([]), tiny_data.test, recipe_with(model__loss=loss, model__loss_divisor="batch_size")
    )
    assert divided.loss == other.loss / 100
    assert divided.class_loss[0] == pytest.approx(other.class_loss[0] / 100, rel=1e-5)


def test_images_are_evaluated_so_many_at_a_time_as_the_recipe_says(tiny_data):
    for size, expected in ((None, EVALUATION_BATCH), (50, 50)):
        engine, _ = trained(recipe_with(protocol__evaluation_batch_size=size), tiny_data)
        assert {batch for _, batch in engine.evaluated} == {expected}


@pytest.mark.parametrize(("selection", "epoch"), [("best_validation", 3), ("first_best_validation", 2), ("last", 4)])
def test_which_epoch_is_declared(selection, epoch):
    curve = replaced(TrainingState(order=np.arange(1)).as_curve(), [5, 3, 3, 4])
    assert declared_epoch(curve, {"protocol": {"selection": selection}}) == epoch
    assert declared_epoch(replaced(curve, []), {"protocol": {"selection": selection}}) == 0


def test_the_images_that_are_right_are_those_of_the_declared_epoch(tiny_data):
    class Improving(CountingEngine):
        def scores(self, images, batch_size):
            scores = super().scores(images, batch_size)
            if len(self.evaluated) > 2:  # worse from the second epoch on
                scores[7:17] = -1
            return scores

    for selection, right in (("best_validation", 193), ("last", 184), ("best_test", 193)):
        progress = TrainingState(order=np.arange(200))
        engine = Improving([[1.0]] * 3)
        all(True for _ in train(engine, recipe_with(protocol__selection=selection), tiny_data, 5, progress))
        assert np.count_nonzero(progress.test_correct) == right


def test_resumed_with_everything_drawn_it_goes_the_same_way(tiny_data):
    recipe = recipe_with(
        data__augmentation="flip_edge_crop", data__augmented="train_valid", train__shuffle="fresh",
        protocol__evaluates_training=True,
    )  # fmt: skip
    whole, _ = trained(recipe, tiny_data)
    parts, progress = CountingEngine([[1.0, 0.5], [0.4, 0.2], [0.1, 0.1]]), TrainingState(order=np.arange(200))
    next(train(parts, recipe, tiny_data, 5, progress))
    again = TrainingState(order=progress.order, curve=progress.curve, test_correct=progress.test_correct)
    all(True for _ in train(parts, recipe, tiny_data, 5, again))
    np.testing.assert_array_equal(whole.orders, parts.orders)
    for ours, theirs in zip(whole.options, parts.options, strict=True):
        np.testing.assert_array_equal(ours["crops"].down, theirs["crops"].down)
    for (ours, _), (theirs, _) in zip(whole.evaluated, parts.evaluated, strict=True):
        np.testing.assert_array_equal(ours, theirs)
