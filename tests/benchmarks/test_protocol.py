"""The training protocol against the authors' own train(): tests/golden, H_train_log_A and G_units."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.protocol import DivergenceError, Progress, evaluate, learning_rates, shuffled, squared_hinge, train
from benchmarks.recipe import TrainSettings, load_recipe
from data_prep import Dataset, Split
from results.record import declared_epoch

GOLDEN = Path(__file__).parents[1] / "golden"
LOG = np.load(GOLDEN / "H_train_log_A.npz")


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
    curve = Progress(order=np.arange(1)).as_curve()
    found = [declared_epoch(msgspec.structs.replace(curve, valid_wrong=wrong[: n + 1])) for n in range(len(wrong))]
    assert found == best
    assert wrong[5] == wrong[7]  # the tie that epoch 8 wins
    assert best[7] == 8


@given(st.lists(st.integers(0, 5), min_size=1))
def test_the_declared_epoch_is_the_last_of_the_best(wrong):
    curve = msgspec.structs.replace(Progress(order=np.arange(1)).as_curve(), valid_wrong=wrong)
    epoch = declared_epoch(curve)
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


def test_squared_hinge():
    scores = np.array([[2.0, -0.5], [0.0, 0.25]], np.float32)
    labels = np.array([0, 1])
    # image 1: max(0, 1 - 2)^2 = 0 and max(0, 1 - 0.5)^2 = 0.25; image 2: 1 and 0.75^2
    assert squared_hinge(scores, labels) == pytest.approx((0 + 0.25 + 1 + 0.5625) / 4)


class CountingEngine:
    """Scores that a test can foresee: the first pixel of an image is its predicted class."""

    def __init__(self, losses: list[list[float]]) -> None:
        self.losses, self.orders, self.rates = losses, [], []

    def train_epoch(self, images, labels, order, batch_size, lr, on_batch=None):
        self.orders.append(order)
        self.rates.append(lr)
        return np.array(self.losses[len(self.orders) - 1], np.float32)

    def scores(self, images, batch_size):
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
    engine, progress = CountingEngine([[1.0, 0.5], [0.4, 0.2], [0.1, 0.1]]), Progress(order=np.arange(200))
    assert sum(1 for _ in train(engine, recipe, tiny_data, 5, progress)) == 3
    assert progress.curve["epoch"] == [1, 2, 3]
    assert progress.curve["train_loss"] == pytest.approx([0.75, 0.3, 0.1])
    assert progress.curve["valid_wrong"] == progress.curve["test_wrong"] == [7, 7, 7]
    assert progress.curve["test_error"] == [3.5] * 3
    assert progress.declared_epoch == 3
    assert np.count_nonzero(progress.test_correct) == 193
    assert engine.rates == list(learning_rates(recipe.train))
    np.testing.assert_array_equal(engine.orders[1], shuffled(engine.orders[0], 5, 2))


def test_training_goes_on_where_it_was(tiny_data):
    recipe = load_recipe("binaryconnect-mnist", ["train.epochs=3", "data.train_images=200", "data.valid_images=200"])
    losses = [[1.0], [0.4], [0.1]]
    whole, parts = CountingEngine(losses), CountingEngine(losses)
    all(True for _ in train(whole, recipe, tiny_data, 5, Progress(order=np.arange(200))))
    progress = Progress(order=np.arange(200))
    next(train(parts, recipe, tiny_data, 5, progress))
    assert progress.epoch == 1
    assert sum(1 for _ in train(parts, recipe, tiny_data, 5, progress)) == 2
    assert whole.rates == parts.rates
    np.testing.assert_array_equal(whole.orders, parts.orders)


def test_a_loss_that_is_no_number_is_divergence(tiny_data):
    recipe = load_recipe("binaryconnect-mnist", ["train.epochs=3"])
    progress = Progress(order=np.arange(200))
    with pytest.raises(DivergenceError, match="training loss is nan in epoch 2"):
        all(True for _ in train(CountingEngine([[1.0], [float("nan")]]), recipe, tiny_data, 5, progress))
    assert progress.epoch == 1


def test_scores_that_are_no_numbers_are_divergence(tiny_data):
    class Broken(CountingEngine):
        def scores(self, images, batch_size):
            return np.full((len(images), 10), np.inf, np.float32)

    with pytest.raises(DivergenceError, match="the loss on the test images is"):
        evaluate(Broken([]), tiny_data.test)
