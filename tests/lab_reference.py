"""Loss-aware binarization's networks and training step in float64 NumPy, and both engines' comparison with it.

Written from houlu369/Loss-aware-Binarization@8a5bede, FNN/lab.py, mnist.py, batch_norm.py and optimizer.py, which need
Theano, and from arXiv 1611.01600; nothing of the engines computes what is expected. As in their code, the second moment
that the scale is made of is a buffer of its own beside Adam's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy_layers import correlate, correlate_backward, distance_to, gap_of_maxima, max_pool_backward, windows

from benchmarks.recipe import load_recipe

# (model, image shape, seed) -> an engine.
Opened = Callable[[Any, tuple[int, ...], int], Any]
BATCH, STEPS, LR, EPSILON, ALPHA = 12, 3, 0.01, 1e-4, 0.1
SEED = 3  # of images and gammas, with which no rounding error decides an activation or a maximum
# How near a value may come to where a decision is taken: float32 computes it five times as exactly.
MARGIN = 5e-6
DENSE, CONVOLUTIONAL = "2x16FC-10FC", "4C3-MP2-6C3-MP2-16FC-10FC"


class Case(NamedTuple):
    """A row of the paper's table.

    Attributes:
        benchmark: of ours.
        method: "FPN", "BinaryConnect", "BWN" or "LAB".
        binary: whether activations are.
    """

    benchmark: str
    method: str
    binary: bool = False

    @property
    def architecture(self) -> str:
        return DENSE if "mnist" in self.benchmark else CONVOLUTIONAL


CASES = {
    "full-precision": Case("lab-mnist-float", "FPN"),
    "BinaryConnect": Case("lab-mnist-binaryconnect", "BinaryConnect"),
    "BWN": Case("lab-mnist-bwn", "BWN"),
    "LAB": Case("lab-mnist", "LAB"),
    "BNN": Case("lab-mnist-bnn", "BinaryConnect", binary=True),
    "XNOR": Case("lab-mnist-xnor", "BWN", binary=True),
    "LAB2": Case("lab-mnist-lab2", "LAB", binary=True),
    "LAB, convolutional": Case("lab-cifar10", "LAB"),
    "LAB2, convolutional": Case("lab-svhn-lab2", "LAB", binary=True),
}


class Network:
    """Linear layers, the convolutions with 2x2 pooling, a batch normalization behind each.

    Attributes:
        values: parameters and running statistics by the house's names, without the scales.
        acc: of each layer's weights the moving average of the squared gradient: their acc_W.
        gradients: of the last step, those of weights with respect to the binary ones.
        nearest: how near a value has come to where a decision is taken.
    """

    def __init__(self, case: Case, values: Mapping[str, np.ndarray]) -> None:
        self.case, self.nearest, self.steps = case, np.inf, 0
        self.values = {name: v.astype(np.float64) for name, v in values.items() if not name.endswith(".scale")}
        self.names = [name.removesuffix(".weight") for name in self.values if name.endswith(".weight")]
        self.moments = {name: (np.zeros(v.shape), np.zeros(v.shape)) for name, v in self.values.items()}
        self.acc = {name: np.zeros(self.values[f"{name}.weight"].shape) for name in self.names}

    def scale(self, name: str) -> float:
        """The size of the layer's binary weights."""
        W = self.values[f"{name}.weight"]
        if self.case.method == "BinaryConnect":
            return 1.0
        L = np.ones(W.shape) if self.case.method == "BWN" else np.sqrt(self.acc[name]) + 1e-8
        return float(np.abs(L * W).sum() / L.sum())

    def used(self, name: str) -> np.ndarray:
        """The weights of the forward pass."""
        W = self.values[f"{name}.weight"]
        if self.case.method == "FPN":
            return W
        if self.steps:  # before, weights are the very same
            self.nearest = min(self.nearest, distance_to((0,), W) * 100)
        return self.scale(name) * np.where(W >= 0, 1.0, -1.0)

    def forward(self, x: np.ndarray, weights: Mapping[str, np.ndarray], running: bool = False) -> np.ndarray:
        """Scores, (N, 10), by the batch's statistics or the `running` ones; what backward needs is kept."""
        self.kept = []
        for number, name in enumerate(self.names, 1):
            W, b = weights[name], self.values[f"{name}.bias"]
            x = x if W.ndim == 4 else x.reshape(len(x), -1)
            if W.ndim == 4:
                # Sums of signs are whole numbers if activations are: they tie whatever the scale.
                size = self.scale(name)
                z = unpooled = size * correlate(x, W / size) + b[:, None, None]
                self.nearest = min(self.nearest, gap_of_maxima(z / size))
                z = windows(z).max(axis=-1)
            else:
                z = unpooled = x @ W.T + b
            axes, out = ((0, 2, 3), (-1, 1, 1)) if z.ndim == 4 else ((0,), (-1,))
            mean, std = z.mean(axis=axes), z.std(axis=axes)
            if running:
                mean, std = (self.values[f"bn{number}.running_{kind}"] for kind in ("mean", "std"))
            centered = z - mean.reshape(out)
            gamma, beta = (self.values[f"bn{number}.{kind}"].reshape(out) for kind in ("gamma", "beta"))
            y = centered * (gamma / (std.reshape(out) + EPSILON)) + beta
            self.kept.append((x, unpooled, centered, y, mean, std))
            if number < len(self.names):
                self.nearest = min(self.nearest, distance_to((-1, 0, 1) if self.case.binary else (0,), y))
                x = np.where(y >= 0, 1.0, -1.0) if self.case.binary else np.maximum(0, y)
        return y

    def loss(self, x: np.ndarray, labels: np.ndarray, weights: Mapping[str, np.ndarray]) -> float:
        scores = self.forward(x, weights)
        self.targets = np.where(labels[:, None] == np.arange(10), 1, -1)
        self.slack = np.maximum(0, 1 - self.targets * scores)
        return float(np.mean(self.slack**2))

    def step(self, x: np.ndarray, labels: np.ndarray) -> float:
        """One minibatch: returns the loss before the update."""
        weights = {name: self.used(name) for name in self.names}
        loss = self.loss(x, labels, weights)
        self.backward(-2 * self.targets * self.slack / self.slack.size, weights)
        self.update()
        return loss

    def backward(self, g: np.ndarray, weights: Mapping[str, np.ndarray]) -> None:
        self.gradients = {}
        for number, name in reversed(list(enumerate(self.names, 1))):
            W, (x, unpooled, centered, y, _, std) = weights[name], self.kept[number - 1]
            g = g.reshape(y.shape)
            if number < len(self.names):
                g = g * ((np.abs(y) <= 1) if self.case.binary else (y > 0))
            axes, out = ((0, 2, 3), (-1, 1, 1)) if y.ndim == 4 else ((0,), (-1,))
            std = std.reshape(out)
            inverse = 1 / (std + EPSILON)
            x_hat = centered * inverse
            self.gradients |= {f"bn{number}.gamma": (g * x_hat).sum(axis=axes), f"bn{number}.beta": g.sum(axis=axes)}
            # std = sqrt(mean(centered^2)), so its derivative with respect to an input is centered / (count std).
            through_std = centered * (g * centered).mean(axis=axes, keepdims=True) * inverse / std
            g = (g - g.mean(axis=axes, keepdims=True) - through_std) * inverse
            g = g * self.values[f"bn{number}.gamma"].reshape(out)
            if W.ndim == 4:
                g = max_pool_backward(unpooled, g)
            of_x, of_W = correlate_backward(x, W, g) if W.ndim == 4 else (g @ W, g.T @ x)
            self.gradients |= {f"{name}.weight": of_W, f"{name}.bias": g.sum(axis=axes)}
            g = of_x

    def update(self) -> None:
        """Lasagne's Adam of all parameters; binarized weights are clipped, and their squared gradients averaged."""
        self.steps += 1
        a = LR * np.sqrt(1 - 0.999**self.steps) / (1 - 0.9**self.steps)
        for name, g in self.gradients.items():
            m, v = self.moments[name]
            m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
            self.moments[name] = m, v
            self.values[name] = self.values[name] - a * m / (np.sqrt(v) + 1e-8)
            if name.endswith(".weight") and self.case.method != "FPN":
                self.values[name] = np.clip(self.values[name], -1, 1)
        for number, name in enumerate(self.names, 1):
            self.acc[name] = self.acc[name] * 0.999 + self.gradients[f"{name}.weight"] ** 2 * (1 - 0.999)
            *_, mean, std = self.kept[number - 1]
            for kind, of_batch in (("mean", mean), ("std", std)):
                average = f"bn{number}.running_{kind}"
                self.values[average] = (1 - ALPHA) * self.values[average] + ALPHA * of_batch


class Prepared:
    """An engine and the reference with the same parameters, and what they are given."""

    def __init__(self, name: str, opened: Opened) -> None:
        self.case = case = CASES[name]
        recipe = load_recipe(case.benchmark, [f"model.architecture={case.architecture}"])
        self.engine = opened(recipe.model, recipe.image_shape, 1)
        self.generator = np.random.RandomState(SEED)
        self.before = {
            parameter: self._initial(parameter, v) for parameter, v in sorted(self.engine.parameters().items())
        }
        self.network = Network(case, {name: self.before[name] for name in self.engine.parameters()})
        for parameter in self.before:
            if parameter.endswith(".scale"):
                self.before[parameter] = np.float32([self.network.scale(parameter.removesuffix(".scale"))])
        self.engine.load_parameters(self.before)
        self.images = self.generator.uniform(-1, 1, (STEPS + 1, BATCH, *recipe.image_shape)).astype(np.float32)
        self.labels = self.generator.randint(0, 10, (STEPS + 1, BATCH))

    def _initial(self, parameter: str, value: np.ndarray) -> np.ndarray:
        """Gamma, beta and running statistics other than 1 and 0, at which a mistake in them could not be seen."""
        if parameter.endswith(".weight"):
            return value
        low, high = (0.5, 1.5) if parameter.endswith(("gamma", "std")) else (-0.2, 0.2)
        return self.generator.uniform(low, high, value.shape).astype(np.float32)


def check_three_steps(name: str, opened: Opened) -> None:
    """Losses, first gradients, parameters and scales after each step, and scores in evaluation with the reference's.

    Left out are parameters whose gradient is so small that float32 holds little of it, of which Adam makes a whole step
    none the less: some weights, and biases, whose true gradient is zero.
    """
    run = Prepared(name, opened)
    held = {parameter: np.ones(value.shape, bool) for parameter, value in run.before.items()}
    for step in range(1, STEPS + 1):
        given = run.images[step - 1], run.labels[step - 1]
        loss = run.network.step(*given)
        assert run.engine.train_step(*given, LR) == pytest.approx(loss, rel=1e-5)
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
                assert difference.max() <= 3e-3 * way + STEPS * last_place, parameter
                assert held[parameter].mean() > 0.75, parameter
        biases = {name: np.float32(v) for name, v in run.network.values.items() if name.endswith(".bias")}
        run.engine.load_parameters(parameters | biases)  # theirs are noise, which would move the running means
        for layer in run.network.names if run.case.method in ("BWN", "LAB") else ():
            weight, scale = f"{layer}.weight", run.network.scale(layer)
            left_out = np.abs(parameters[weight] - run.network.values[weight])[~held[weight]]
            # The scale is a mean of these too, weighed by their curvature.
            moved = 2 * left_out.sum() / held[weight].size
            assert abs(parameters[f"{layer}.scale"] - scale) <= 1e-5 * scale + moved, layer
    check_evaluation(run)
    assert run.network.nearest > MARGIN


def check_gradients(run: Prepared) -> None:
    gradients = run.engine.gradients()
    assert gradients.keys() == run.network.gradients.keys()
    for parameter, expected in run.network.gradients.items():
        # A bias has a true gradient of zero; what is left of it is rounded as the terms of its sum are.
        size = np.abs(run.network.gradients[parameter.replace(".bias", ".weight")]).max()
        assert np.abs(gradients[parameter] - expected).max() <= 1e-7 + 1e-5 * size, parameter


def check_evaluation(run: Prepared) -> None:
    """With binary weights of the scale that the last step left."""
    weights = {name: run.network.used(name) for name in run.network.names}
    expected = run.network.forward(run.images[STEPS], weights, running=True)
    scales = {
        name: np.float32([run.network.scale(name.removesuffix(".scale"))]) for name in run.before if "scale" in name
    }
    run.engine.load_parameters({n: np.float32(v) for n, v in run.network.values.items()} | scales)
    scores = run.engine.scores(run.images[STEPS], BATCH)
    assert np.abs(scores - expected).max() <= 1e-5 * np.abs(expected).max()
