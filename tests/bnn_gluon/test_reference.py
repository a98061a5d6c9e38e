"""The Gluon engine against the authors' own Theano code, step by step (tests/golden)."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest
import reference_cases as cases

from benchmarks.engine import open_engine
from benchmarks.recipe import load_recipe
from bnn_gluon.kernels import pooling

OPENED: cases.Opened = functools.partial(open_engine, "gluon")
IsPlus = Callable[[str, np.ndarray], np.ndarray]  # which weights of a parameter are +1


class Undecided(NamedTuple):
    """A window of a max pooling whose two largest sums differ by less than the last place of the largest in the layer.

    The original found that greater which is so in double precision, MXNet's convolution, which adds in another order,
    on some machines the other.
    """

    layer: int  # the convolution, counted from 1
    window: tuple[int, int, int, int]  # image of the batch, filter, row, column
    greater: tuple[int, int]  # row and column of the sums
    other: tuple[int, int]


IN_THE_FIRST_STEP = {"C stoch": Undecided(2, (15, 5, 3, 8), (7, 16), (6, 17))}
IN_THE_LAST_STEP = {"C det": Undecided(4, (48, 6, 3, 2), (7, 4), (7, 5))}


@pytest.fixture(params=cases.CASES)
def reference(request, small_data_root) -> cases.Reference:
    return cases.Reference(request.param, small_data_root, OPENED)


def test_first_loss_and_gradients(reference, monkeypatch):
    give_the_undecided_gradient_to_the_greater_sum(monkeypatch, IN_THE_FIRST_STEP.get(reference.name))
    cases.check_first_loss_and_gradients(reference)


def give_the_undecided_gradient_to_the_greater_sum(monkeypatch, undecided: Undecided | None) -> None:
    compute = pooling.gradient_of_max_pool

    def gradient_of_max_pool(x, y, dy, size, every, dx) -> None:
        compute(x, y, dy, size, every, dx)
        if undecided is not None and x.shape[2] == 32 >> (undecided.layer // 2 - 1):
            image, channel, *window = undecided.window
            dx[image, channel][undecided.other] = 0
            dx[image, channel][undecided.greater] = dy[image, channel][tuple(window)]

    monkeypatch.setattr(pooling, "gradient_of_max_pool", gradient_of_max_pool)


def test_the_undecided_windows_are_decided_by_less_than_a_rounding_error(small_data_root):
    stochastic = cases.Reference("C stoch", small_data_root, OPENED)
    uniforms = stochastic.group("u1")

    def drawn(name: str, weight: np.ndarray) -> np.ndarray:
        return uniforms[name].reshape(weight.shape) < (weight + 1) / 2

    deterministic = cases.Reference("C det", small_data_root, OPENED)
    check_undecided(stochastic, 1, drawn, IN_THE_FIRST_STEP["C stoch"])
    last = deterministic.last_step
    check_undecided(deterministic, last, lambda name, weight: weight > 0, IN_THE_LAST_STEP["C det"])


def check_undecided(reference: cases.Reference, step: int, is_plus: IsPlus, undecided: Undecided) -> None:
    found = sums_in_double_precision(reference, step, is_plus, undecided.layer)
    image, channel, row, column = undecided.window
    sums = found[image, channel]
    window = sums[2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
    assert sums[undecided.greater] == window.max()
    assert sums[undecided.other] == np.sort(window.ravel())[-2]
    assert sums[undecided.greater] - sums[undecided.other] < np.spacing(np.float32(np.abs(found).max()))


def sums_in_double_precision(reference: cases.Reference, step: int, is_plus: IsPlus, layer: int) -> np.ndarray:
    """What convolution `layer` gives, in the authors' step, before the pooling that follows every second one."""
    values = {k: v.astype(np.float64) for k, v in reference.group(f"step{step - 1}" if step > 1 else "init").items()}
    epsilon = load_recipe("binaryconnect-cifar10").model.batch_norm_epsilon
    x = reference.images[reference.arrays["batch_idx"][step - 1]].astype(np.float64)
    for number in range(1, layer + 1):
        name = f"conv{number}.weight"
        padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
        patches = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
        signs = np.where(is_plus(name, values[name]), 1.0, -1.0)
        x = sums = np.einsum("nchwij,ocij->nohw", patches, signs, optimize=True)
        x = x + values[f"conv{number}.bias"].reshape(-1, 1, 1)
        if number % 2 == 0:
            x = x.reshape(*x.shape[:2], x.shape[2] // 2, 2, x.shape[3] // 2, 2).max(axis=(3, 5))
        axes = {"axis": (0, 2, 3), "keepdims": True}
        gamma, beta = (values[f"bn{number}.{which}"].reshape(-1, 1, 1) for which in ("gamma", "beta"))
        x = np.maximum((x - x.mean(**axes)) / (x.std(**axes) + epsilon) * gamma + beta, 0)
    return sums


def test_losses_until_a_rounding_error_turns_a_sign(reference):
    cases.check_losses_until_a_rounding_error_turns_a_sign(reference)


@pytest.mark.parametrize("case", [name for name, case in cases.CASES.items() if not case.stochastic])
def test_parameters_after_the_forced_last_step(case, small_data_root, monkeypatch):
    give_the_undecided_gradient_to_the_greater_sum(monkeypatch, IN_THE_LAST_STEP.get(case))
    cases.check_parameters_after_the_forced_last_step(cases.Reference(case, small_data_root, OPENED))


def test_evaluation_after_the_last_step(reference):
    cases.check_evaluation_after_the_last_step(reference)


def test_the_authors_training_loop(small_data_root):
    cases.check_the_authors_training_loop(cases.Reference("A det", small_data_root, OPENED))


def test_the_authors_initialization():
    cases.check_the_authors_initialization(OPENED)
