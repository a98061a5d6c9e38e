"""The updates against Lasagne's and BinaryConnect's own (tests/golden, F_optimisers), PyTorch's, and NumPy."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from benchmarks.engine.updates import RULES, update_of  # noqa: E402
from benchmarks.recipe import load_recipe  # noqa: E402
from bnn_torch.update import UPDATES, Update  # noqa: E402

pytestmark = pytest.mark.torch


def momentum(momentum: float, *, nesterov: bool) -> Update:
    return functools.partial(UPDATES["momentum"], momentum, nesterov)


GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "F_optimisers.npz")
UNITS = np.load(Path(__file__).parents[1] / "golden" / "G_units.npz")


class Trained:
    """A parameter that a rule updates, in float32 or float64."""

    def __init__(self, rule: str, start: np.ndarray, kind=torch.float32, update: Update | None = None) -> None:
        self.rule, self.kind, self.step = RULES[rule], kind, 0
        self.apply = update or UPDATES[rule]
        self.parameter = torch.from_numpy(np.array(start)).to(kind)
        self.moments = tuple(torch.zeros_like(self.parameter) for _ in self.rule.moments)

    def update(self, gradient: np.ndarray, lr: float, scale: float = 1, limit: float = np.inf) -> None:
        self.step += 1
        size, *more = (torch.tensor(float(size)) for size in self.rule.sizes(lr, self.step))
        g = torch.from_numpy(np.array(gradient)).to(self.kind)
        updated = self.apply(self.parameter, g, self.moments, size * scale, *more)
        self.parameter, self.moments = updated.parameter.clamp(-limit, limit), updated.moments


@pytest.mark.parametrize("schedule", ["const", "decay"])
def test_adam_is_lasagnes(schedule):
    rates = GOLDEN["lr_decay_seq"] if schedule == "decay" else np.full(30, 1e-3)
    trained = Trained("adam", GOLDEN["p0"])
    tolerance = 2 * np.abs(GOLDEN[f"pinned_f64/adam_{schedule}/param"] - GOLDEN[f"adam_{schedule}/param"]).max()
    for step, (gradient, lr) in enumerate(zip(GOLDEN["grads"], rates, strict=True)):
        trained.update(gradient, float(lr))
        mean, square = trained.moments
        np.testing.assert_allclose(trained.parameter, GOLDEN[f"adam_{schedule}/param"][step], rtol=0, atol=tolerance)
        # Gradients of both signs cancel in the mean: its rounding is that of the largest of them.
        mean_error = np.abs(mean.numpy() - GOLDEN[f"adam_{schedule}/m"][step])
        assert np.all(mean_error <= 1e-6 * np.abs(GOLDEN["grads"]).max(axis=0))
        np.testing.assert_allclose(square, GOLDEN[f"adam_{schedule}/v"][step], rtol=1e-6, atol=1e-20)


def test_scaled_and_clipped_adam_is_binaryconnects():
    expected = GOLDEN["adam_scaled_clipped/param"]
    tolerance = 2 * np.abs(GOLDEN["pinned_f64/adam_scaled_clipped/param"] - expected).max()
    trained = Trained("adam", GOLDEN["p0"])
    for step, gradient in enumerate(GOLDEN["grads"]):
        trained.update(gradient, 1e-3, scale=float(GOLDEN["W_LR_scale"]), limit=1)
        np.testing.assert_allclose(trained.parameter, expected[step], rtol=0, atol=tolerance)


def test_small_steps_are_not_lost():
    """W - s * step as Theano compiles it; the literal W + s * ((W - step) - W) freezes weights late in training."""
    for lr, after in zip(UNITS["canon/lr"], UNITS["canon/W_after_one_step_grad1"], strict=True):
        trained = Trained("adam", np.array([UNITS["canon/W_before"]]))
        trained.update(np.ones(1), float(lr), scale=float(UNITS["canon/scale"]), limit=1)
        assert float(trained.parameter) == pytest.approx(float(after), abs=6e-8)


def gradients(count: int = 25) -> np.ndarray:
    """Float64 (count, 40), of very different sizes."""
    generator = np.random.default_rng(8)
    return generator.normal(size=(count, 40)) * 10.0 ** generator.uniform(-6, 1, 40)


@pytest.mark.parametrize(
    ("rule", "update", "theirs"),
    [
        ("torch_adam", None, lambda p: torch.optim.Adam([p], lr=1e-2)),
        ("sgd", None, lambda p: torch.optim.SGD([p], lr=1e-2)),
        ("momentum", momentum(0.9, nesterov=False), lambda p: torch.optim.SGD([p], lr=1e-2, momentum=0.9)),
        (
            "momentum",
            momentum(0.9, nesterov=True),
            lambda p: torch.optim.SGD([p], lr=1e-2, momentum=0.9, nesterov=True),
        ),
    ],
    ids=["Adam", "SGD", "momentum", "Nesterov's momentum"],
)
def test_pytorchs_optimizers(rule, update, theirs):
    start = np.random.default_rng(9).normal(size=40)
    trained = Trained(rule, start, update=update)
    parameter = torch.nn.Parameter(torch.from_numpy(start.copy()))
    optimizer = theirs(parameter)
    for number, gradient in enumerate(gradients()):
        rate = 1e-2 if number < 10 else 1e-3  # as after a milestone
        trained.update(gradient, rate)
        optimizer.param_groups[0]["lr"] = rate
        parameter.grad = torch.from_numpy(gradient)
        optimizer.step()
        np.testing.assert_allclose(trained.parameter, parameter.detach(), rtol=1e-5, atol=1e-6)


def test_momentum_in_double_precision():
    rate, lr = 0.75, 0.125
    for nesterov in (False, True):
        trained = Trained("momentum", np.zeros(40), torch.float64, momentum(rate, nesterov=nesterov))
        parameter, velocity = np.zeros(40), np.zeros(40)
        for gradient in gradients():
            trained.update(gradient, lr)
            velocity = rate * velocity + gradient
            parameter -= lr * (gradient + rate * velocity if nesterov else velocity)
            np.testing.assert_allclose(trained.moments[0], velocity, rtol=1e-12, atol=1e-15)
            np.testing.assert_allclose(trained.parameter, parameter, rtol=1e-12, atol=1e-15)


def test_which_update_a_recipe_has():
    assert update_of(load_recipe("chawla-mlp-mnist-float").model, UPDATES) is UPDATES["sgd"]
    assert update_of(load_recipe("rwth-vgg7-cifar10-binary").model, UPDATES) is UPDATES["torch_adam"]
    model = load_recipe("rwth-lenet5-mnist-binary").model
    half = torch.full((1,), 0.5)
    updated = update_of(model, UPDATES)(torch.ones(1), torch.ones(1), (half,), torch.tensor(0.25))
    assert float(updated.parameter) == pytest.approx(1 - 0.25 * (0.99 * 0.5 + 1))
