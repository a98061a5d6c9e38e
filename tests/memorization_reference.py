"""The memorization experiments' networks and training step in float64 NumPy, and both engines' comparison with it.

Written from hockeybro12/BinaryNetGeneralizationExperiments@73ed87d, which needs Theano, where it differs from
BinaryNet, whose own code's outputs are in tests/golden: 0/1 activations, dropout behind dense layers, an l2 penalty,
stochastic weights and the batch's statistics in evaluation. Nothing of the engines computes what is expected, but for
the numbers of the tensors that are drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import draws
import numpy as np
import pytest
from numpy_layers import correlate, correlate_backward, distance_to, gap_of_maxima, max_pool_backward, windows

from benchmarks.engine.draws import EVALUATION_WEIGHTS, draws_of
from benchmarks.engine.layers import layers_of
from benchmarks.recipe import load_recipe

# (model, image shape, seed) -> an engine.
Opened = Callable[[Any, tuple[int, ...], int], Any]
BATCH, STEPS, SEED, LR = 12, 3, 2**33 + 7, 1e-3
ALPHA, EPSILON = 0.1, 1e-4
# How near a value may come to where a decision is taken: float32 computes it five times as exactly.
MARGIN = 5e-6


class Case(NamedTuple):
    """A script of theirs.

    Attributes:
        benchmark: of ours.
        zero_one: 0/1 activations, else +-1.
        stochastic: how weights are drawn, else they are +-1 by their sign.
        dropped: rates of dropout behind the dense layers, in front of their batch normalization.
        l2: factor of the sum of squares of dense weights.
        evaluation: with "binary", "real" or "stochastic" weights, of which the last goes with the batch's statistics.
        seed: of weights and images, with which no rounding error decides an activation or a maximum.
    """

    benchmark: str
    zero_one: bool = False
    stochastic: bool = False
    dropped: tuple[float, float, float] = (0, 0, 0)
    l2: float = 0
    evaluation: str = "binary"
    seed: int = 1


CASES = {
    "dropout": Case("memorization-cifar10-dropout", dropped=(0.5, 0.5, 0)),
    "dropout at the output": Case("memorization-svhn-dropout", dropped=(0.25, 0.5, 0.25), seed=3),
    "l2": Case("memorization-svhn-l2-acting", l2=0.0005),
    "sigmoid": Case("memorization-cifar10-stochastic-sigmoid", True, True, evaluation="real"),
    "sigmoid, evaluated as trained": Case("memorization-svhn-stochastic-sigmoid", True, True, evaluation="stochastic"),
}
ARCHITECTURE = "4C3-MP2-6C3-MP2-2x16FC-10FC"
POOLED = (True, True, False, False, False)


class Network:
    """Two convolutions with 2x2 pooling and three dense layers, a batch normalization behind each, H = 1.

    Attributes:
        values: parameters and running statistics by the house's names.
        gradients: of the last step, those of weights with respect to the binary ones.
        nearest: how near a value has come to where a decision is taken.
    """

    names = ("conv1", "conv2", "dense1", "dense2", "dense3")

    def __init__(self, case: Case, values: Mapping[str, np.ndarray]) -> None:
        self.case, self.nearest, self.steps = case, np.inf, 0
        self.values = {name: value.astype(np.float64) for name, value in values.items()}
        self.moments = {name: (np.zeros(v.shape), np.zeros(v.shape)) for name, v in self.values.items()}

    def binary(self, name: str, u: np.ndarray | None) -> np.ndarray:
        """Weights of +-1, by uniform draws u if they are stochastic."""
        W = self.values[f"{name}.weight"]
        if u is None:
            self.nearest = min(self.nearest, distance_to((0,), W) * 10)
            return np.where(W >= 0, 1.0, -1.0)
        return np.where(u < np.clip((W + 1) / 2, 0, 1), 1.0, -1.0)

    def forward(
        self,
        x: np.ndarray,
        weights: Mapping[str, np.ndarray],
        masks: Mapping[str, np.ndarray],
        running: bool = False,
    ) -> np.ndarray:
        """Scores, (N, 10), by the batch's statistics or the `running` ones; what backward needs is kept."""
        self.kept = []
        for number, name in enumerate(self.names, 1):
            W, b = weights[name], self.values[f"{name}.bias"]
            x = x if W.ndim == 4 else x.reshape(len(x), -1)
            z = correlate(x, W) + b[:, None, None] if W.ndim == 4 else x @ W.T + b
            unpooled = z = z * masks.get(name, 1.0)
            if POOLED[number - 1]:
                self.nearest = min(self.nearest, gap_of_maxima(z))
                z = windows(z).max(axis=-1)
            axes = (0, 2, 3) if z.ndim == 4 else (0,)
            spread_out = (-1, 1, 1) if z.ndim == 4 else (-1,)
            mean, inv_std = z.mean(axis=axes), 1 / np.sqrt(z.var(axis=axes) + EPSILON)
            if running:
                mean, inv_std = (self.values[f"bn{number}.running_{kind}"] for kind in ("mean", "inv_std"))
            x_hat = (z - mean.reshape(spread_out)) * inv_std.reshape(spread_out)
            gamma, beta = (self.values[f"bn{number}.{kind}"].reshape(spread_out) for kind in ("gamma", "beta"))
            y = gamma * x_hat + beta
            self.kept.append((x, unpooled, x_hat, y, mean, inv_std))
            x = np.where(y >= 0, 1.0, 0.0 if self.case.zero_one else -1.0)
            if number < len(self.names):
                self.nearest = min(self.nearest, distance_to((-1, 0, 1), y))
        return y

    def step(
        self, x: np.ndarray, labels: np.ndarray, masks: Mapping[str, np.ndarray], u: Mapping[str, np.ndarray] | None
    ) -> float:
        """One minibatch: returns the loss before the update."""
        weights = {name: self.binary(name, None if u is None else u[f"{name}.weight"]) for name in self.names}
        scores = self.forward(x, weights, masks)
        targets = np.where(labels[:, None] == np.arange(10), 1, -1)
        slack = np.maximum(0, 1 - targets * scores)
        self.backward(-2 * targets * slack / slack.size, weights, masks)
        self.update()
        return float(np.mean(slack**2))

    def backward(self, g: np.ndarray, weights: Mapping[str, np.ndarray], masks: Mapping[str, np.ndarray]) -> None:
        self.gradients = {}
        for number, name in reversed(list(enumerate(self.names, 1))):
            W, (x, unpooled, x_hat, y, mean, inv_std) = weights[name], self.kept[number - 1]
            g = g.reshape(y.shape)
            if number < len(self.names):  # of hard_sigmoid, or of 2 hard_sigmoid - 1
                g = g * (np.abs(y) <= 1) * (0.5 if self.case.zero_one else 1)
            axes = (0, 2, 3) if y.ndim == 4 else (0,)
            spread_out = (-1, 1, 1) if y.ndim == 4 else (-1,)
            self.gradients |= {f"bn{number}.gamma": (g * x_hat).sum(axis=axes), f"bn{number}.beta": g.sum(axis=axes)}
            g = g - g.mean(axis=axes, keepdims=True) - x_hat * (g * x_hat).mean(axis=axes, keepdims=True)
            g = g * (self.values[f"bn{number}.gamma"] * inv_std).reshape(spread_out)
            if POOLED[number - 1]:
                g = max_pool_backward(unpooled, g)
            g = g * masks.get(name, 1.0)
            of_x, of_W = correlate_backward(x, W, g) if W.ndim == 4 else (g @ W, g.T @ x)
            self.gradients |= {f"{name}.weight": of_W, f"{name}.bias": g.sum(axis=axes)}
            for kind, of_batch in (("mean", mean), ("inv_std", inv_std)):
                average = f"bn{number}.running_{kind}"
                self.values[average] = (1 - ALPHA) * self.values[average] + ALPHA * of_batch
            g = of_x

    def update(self) -> None:
        """Lasagne's Adam; BinaryNet scales the steps of weights by Glorot's coefficient and clips them."""
        self.steps += 1
        a = LR * np.sqrt(1 - 0.999**self.steps) / (1 - 0.9**self.steps)
        for name, gradient in self.gradients.items():
            value, penalized = self.values[name], name.startswith("dense") and name.endswith(".weight")
            g = gradient + 2 * self.case.l2 * value if penalized else gradient
            m, v = self.moments[name]
            m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
            self.moments[name] = m, v
            step = -a * m / (np.sqrt(v) + 1e-8)
            if name.endswith(".weight"):
                pixels = 9 if value.ndim == 4 else 1
                scale = 1 / np.sqrt(1.5 / (pixels * (value.shape[0] + value.shape[1])))
                self.values[name] = np.clip(value + scale * step, -1, 1)
            else:
                self.values[name] = value + step


class Prepared:
    """An engine and the reference with the same parameters, and what they are given."""

    def __init__(self, name: str, opened: Opened) -> None:
        self.case = case = CASES[name]
        recipe = load_recipe(case.benchmark, [f"model.architecture={ARCHITECTURE}"])
        self.engine = opened(recipe.model, recipe.image_shape, SEED)
        self.layers = layers_of(recipe.model, recipe.image_shape)
        self.draws = draws_of(self.layers, recipe.model)
        self.generator = np.random.RandomState(case.seed)
        self.before = {
            parameter: self._initial(parameter, v.shape) for parameter, v in self.engine.parameters().items()
        }
        self.engine.load_parameters(self.before)
        self.network = Network(case, self.before)
        self.images = self.generator.uniform(-1, 1, (STEPS + 1, BATCH, *recipe.image_shape)).astype(np.float32)
        self.labels = self.generator.randint(0, 10, (STEPS + 1, BATCH))

    def _initial(self, parameter: str, shape: tuple[int, ...]) -> np.ndarray:
        """Gamma, beta and running statistics other than 1 and 0, at which a mistake in them could not be seen."""
        low, high = (0.5, 1.5) if parameter.endswith(("gamma", "inv_std")) else (-1, 1)
        small = parameter.endswith(("bias", "beta", "mean"))
        return (self.generator.uniform(low, high, shape) * (0.2 if small else 1)).astype(np.float32)

    def masks(self, step: int) -> dict[str, np.ndarray]:
        """Of the dense layers' outputs: 0, or 1 / (1 - rate), by the engine's uniform draws."""
        found = {}
        for number, rate in zip((2, 3, 4), self.case.dropped, strict=True):
            if rate:
                shape = (BATCH, self.layers[number].channels)
                u = draws.uniforms(shape, self.draws[number].output_mask.tensor, step, SEED)
                found[self.layers[number].name] = np.where(u < np.float32(1 - rate), 1 / (1 - rate), 0)
        return found

    def uniforms(self) -> dict[str, np.ndarray] | None:
        """Draws of all weights for a step, if they are drawn."""
        shapes = {name: value.shape for name, value in self.before.items() if name.endswith(".weight")}
        drawn = {name: self.generator.uniform(size=shape).astype(np.float32) for name, shape in shapes.items()}
        return drawn if self.case.stochastic else None

    def expected_scores(self, images: np.ndarray, batch_number: int) -> np.ndarray:
        """In evaluation."""
        if self.case.evaluation == "real":
            weights = {name: self.network.values[f"{name}.weight"] for name in self.network.names}
            return self.network.forward(images, weights, {}, running=True)
        stochastic = self.case.evaluation == "stochastic"
        weights = {}
        for number, name in enumerate(self.network.names):
            shape = self.before[f"{name}.weight"].shape
            u = draws.uniforms(shape, EVALUATION_WEIGHTS + number, batch_number, SEED) if stochastic else None
            weights[name] = self.network.binary(name, u)
        return self.network.forward(images, weights, {}, running=not stochastic)


def check_three_steps(name: str, opened: Opened) -> None:
    """Losses, the first gradients, parameters after each step, and scores in evaluation with the reference's.

    Left out are parameters whose gradient is so small that float32 holds little of it, of which Adam makes a whole step
    none the less: some weights, and biases, whose true gradient is zero but behind dropout.
    """
    run = Prepared(name, opened)
    held = {parameter: np.ones(value.shape, bool) for parameter, value in run.before.items()}
    for step in range(1, STEPS + 1):
        given, u = (run.images[step - 1], run.labels[step - 1]), run.uniforms()
        loss = run.network.step(*given, run.masks(step), u)
        assert run.engine.train_step(*given, LR, u) == pytest.approx(loss, rel=1e-5)
        if step == 1:
            check_gradients(run)
        parameters = run.engine.parameters()
        for parameter, gradient in run.network.gradients.items():
            held[parameter] &= np.abs(gradient) > 1e-3 * np.abs(gradient).max()
        for parameter, expected in run.network.values.items():
            if not parameter.endswith(".bias"):
                way = np.abs(expected - run.before[parameter]).max()
                last_place = np.spacing(np.float32(np.abs(expected).max()))
                difference = np.abs(parameters[parameter] - expected)[held[parameter]]
                assert difference.max() <= 1e-3 * way + STEPS * last_place, parameter
                assert held[parameter].mean() > 0.75, parameter
    run.engine.load_parameters({parameter: np.float32(value) for parameter, value in run.network.values.items()})
    images = run.images[STEPS]
    scores = run.engine.scores(np.concatenate([images, images]), BATCH)
    expected = np.concatenate([run.expected_scores(images, number) for number in (1, 2)])
    assert np.abs(scores - expected).max() <= 1e-5 * np.abs(expected).max()
    assert run.network.nearest > MARGIN


def check_gradients(run: Prepared) -> None:
    gradients = run.engine.gradients()
    for parameter, expected in run.network.gradients.items():
        assert np.abs(gradients[parameter] - expected).max() <= 1e-7 + 1e-5 * np.abs(expected).max(), parameter
