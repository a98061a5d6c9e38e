"""The PyTorch engine against the authors' own Theano code, step by step (tests/golden)."""

from __future__ import annotations

import pytest
import reference_cases as cases

pytestmark = pytest.mark.torch
# What lies below a pooling of which one window is decided by less than a float32 holds, differently on some devices:
# tests/bnn_gluon/test_reference.py proves it.
GRADIENTS_OF_THE_FIRST_STEP = {"C stoch": {"conv1.weight": 5e-3, "conv2.weight": 5e-3}}
PARAMETERS_AFTER_THE_LAST_STEP = {
    "C det": {f"conv{layer}.weight": 5e-4 for layer in (1, 2, 3, 4)}
    | {f"bn{layer}.{parameter}": 2e-5 for layer in (1, 2, 3) for parameter in ("gamma", "beta")}
}


@pytest.fixture(params=cases.CASES)
def reference(request, small_data_root, opened) -> cases.Reference:
    return cases.Reference(request.param, small_data_root, opened)


def test_first_loss_and_gradients(reference):
    cases.check_first_loss_and_gradients(reference, GRADIENTS_OF_THE_FIRST_STEP.get(reference.name))


def test_losses_until_a_rounding_error_turns_a_sign(reference):
    cases.check_losses_until_a_rounding_error_turns_a_sign(reference)


def test_parameters_after_the_forced_last_step(reference):
    if reference.case.stochastic:
        pytest.skip("the optimizer's state before their last step is recorded for deterministic weights only")
    cases.check_parameters_after_the_forced_last_step(reference, PARAMETERS_AFTER_THE_LAST_STEP.get(reference.name))


def test_evaluation_after_the_last_step(reference):
    cases.check_evaluation_after_the_last_step(reference)


def test_the_authors_training_loop(small_data_root, opened):
    cases.check_the_authors_training_loop(cases.Reference("A det", small_data_root, opened))


def test_the_authors_initialization(opened):
    cases.check_the_authors_initialization(opened)
