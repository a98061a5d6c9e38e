"""akshaychawla's networks and training step in float64 NumPy, and both engines' comparison with it.

Written from akshaychawla/Binary-Neural-Networks, which needs Theano: mnist_baseline.py, mnist_binary.py,
cifar_conv_baseline.py, cifar_conv_binary.py@758a94b, layers.py@4fc39ad and the later one that has BinaryConv2D. Nothing
of the engines computes what is expected, but for the numbers of the tensors that are drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import draws
import numpy as np
import pytest
from numpy_layers import correlate, correlate_backward, distance_to, gap_of_maxima, max_pool_backward, windows

from benchmarks.engine.draws import draws_of
from benchmarks.engine.layers import layers_of
from benchmarks.recipe import load_recipe

# (model, image shape, seed) -> an engine.
Opened = Callable[[Any, tuple[int, ...], int], Any]
BATCH, STEPS, SEED = 12, 3, 2**33 + 7  # a seed of more than 32 bits
# How near a value may come to where a decision is taken, in its tensor's mean size: float32 computes it five times as
# exactly.
MARGIN = 5e-6


class Case(NamedTuple):
    """A script of theirs with smaller layers.

    Attributes:
        benchmark, architecture: of ours.
        binary: BinaryDense and BinaryConv2D, and clip_weights in the updates.
        dropout: in front of which layers, counted from 0.
        updated: how many layers, from the first, are in the list of updates.
        divided: the cost is xent.mean() / batch_size.
        eta: the learning rate, such that three steps can be seen.
        deviation, brightest: of the weights and of the images; where they are not theirs, 1 and 1, they make the
            softmax more than a maximum.
        seed: of weights and images, with which no rounding error decides a ReLU or a maximum.
    """

    benchmark: str
    architecture: str
    binary: bool
    dropout: tuple[int, ...]
    updated: int
    divided: bool
    eta: float
    deviation: float
    brightest: float
    seed: int


MLP, CNN = "3x16FC-10FC", "4C3-MP2-6C3-MP2-8C3-MP2-16FC-10FC"
CASES = {
    "mlp float": Case("chawla-mlp-mnist-float", MLP, False, (1, 2, 3), 3, True, 1, 0.3, 0.2, 1),
    "mlp binary": Case("chawla-mlp-mnist-binary", MLP, True, (), 3, True, 1, 1, 0.01, 1),
    "cnn float": Case("chawla-cnn-cifar10-float", CNN, False, (3, 4), 5, False, 0.01, 0.2, 1, 20),
    "cnn binary": Case("chawla-cnn-cifar10-binary", CNN, True, (), 5, False, 1e-5, 1, 1, 11),
}


class Network:
    """Layers as theirs: convolutions, each with ReLU and 2x2 pooling, then dense layers with ReLU, then softmax.

    Attributes:
        W: dense (n_in, n_out); filters (filters, channels, 3, 3) of a true convolution, which T.nnet.conv2d is.
        b: biases.
        gradients: of the last step, of each layer's (Wb or W, b).
        nearest: how near a value has come to 0 in front of a ReLU, or the second largest of a window to its maximum.
    """

    def __init__(self, case: Case, parameters: Mapping[str, np.ndarray]) -> None:
        self.case, self.nearest = case, np.inf
        names = [name for name in parameters if name.endswith(".weight")]
        self.W = [_turned(parameters[name].astype(np.float64)) for name in names]
        self.b = [parameters[name.replace(".weight", ".bias")].astype(np.float64) for name in names]
        self.names = [name.removesuffix(".weight") for name in names]

    def parameters(self) -> dict[str, np.ndarray]:
        weights = {f"{n}.weight": _turned(W) for n, W in zip(self.names, self.W, strict=True)}
        return weights | {f"{n}.bias": b for n, b in zip(self.names, self.b, strict=True)}

    def named_gradients(self) -> dict[str, np.ndarray]:
        weights = {f"{n}.weight": _turned(g) for n, (g, _) in zip(self.names, self.gradients, strict=True)}
        return weights | {f"{n}.bias": g for n, (_, g) in zip(self.names, self.gradients, strict=True)}

    def forward(self, x: np.ndarray, masks: Mapping[int, np.ndarray]) -> np.ndarray:
        """What softmax is applied to, (N, 10); the inputs and outputs of the layers are kept for `step`."""
        self.used = [np.where(W >= 0, 1.0, -1.0) if self.case.binary else W for W in self.W]
        self.inputs, self.sums = [], []
        for number, (W, b) in enumerate(zip(self.used, self.b, strict=True)):
            x = x.reshape(len(x), -1) if W.ndim == 2 else x
            x = x * masks.get(number, 1.0)
            z = x @ W + b if W.ndim == 2 else correlate(x, _turned(W)) + b[:, None, None]
            self.inputs.append(x)
            self.sums.append(z)
            x = np.maximum(z, 0)
            if number < len(self.W) - 1:
                self.nearest = min(self.nearest, distance_to((0,), z / np.abs(z).mean()))
            if W.ndim == 4:
                self.nearest = min(self.nearest, gap_of_maxima(x / np.abs(z).mean()))
                x = windows(x).max(axis=-1)
        return z

    def step(
        self, x: np.ndarray, y: np.ndarray, masks: Mapping[int, np.ndarray], batch_size: int | None = None
    ) -> float:
        """One call of their train function: returns the cost."""
        scores = self.forward(x, masks)
        logs = scores - np.logaddexp.reduce(scores, axis=1, keepdims=True)  # of the softmax
        divisor = (batch_size or len(x)) if self.case.divided else 1
        cost = float(-logs[np.arange(len(y)), y].mean() / divisor)
        g = (np.exp(logs) - np.eye(10)[y]) / len(y) / divisor
        self.gradients = []
        for number in reversed(range(len(self.W))):
            W, x, z = self.used[number], self.inputs[number], self.sums[number]
            if number < len(self.W) - 1:
                g = max_pool_backward(np.maximum(z, 0), g.reshape(windows(z).shape[:-1])) if W.ndim == 4 else g
                g = g * (z > 0)
            if W.ndim == 2:
                of_x, of_W, of_b = g @ W.T, x.T @ g, g.sum(axis=0)
            else:
                of_x, of_turned = correlate_backward(x, _turned(W), g)
                of_W, of_b = _turned(of_turned), g.sum(axis=(0, 2, 3))
            self.gradients.insert(0, (of_W, of_b))
            g = of_x * masks.get(number, 1.0)
        for number in range(self.case.updated):
            for held, of_held in zip((self.W, self.b), self.gradients[number], strict=True):
                held[number] = held[number] - self.case.eta * of_held
                if self.case.binary:
                    held[number] = np.clip(held[number], -1.0, 1.0)
        return cost


def _turned(W: np.ndarray) -> np.ndarray:
    """Theirs as ours, or ours as theirs: dense weights (out, in), kernels of a correlation."""
    return np.ascontiguousarray(W.T if W.ndim == 2 else W[:, :, ::-1, ::-1])


class Prepared:
    """An engine and the reference with the same parameters, and what they are given."""

    def __init__(self, name: str, opened: Opened) -> None:
        self.case = case = CASES[name]
        recipe = load_recipe(case.benchmark, [f"model.architecture={case.architecture}"])
        self.engine = opened(recipe.model, recipe.image_shape, SEED)
        self.draws = draws_of(layers_of(recipe.model, recipe.image_shape), recipe.model)
        generator = np.random.RandomState(case.seed)
        self.before = {
            name: generator.normal(size=value.shape).astype(np.float32) * np.float32(case.deviation)
            for name, value in self.engine.parameters().items()
        }
        for parameter in (parameter for parameter in self.before if parameter.endswith(".bias")):
            self.before[parameter] *= np.float32(case.brightest)
        self.engine.load_parameters(self.before)
        self.network = Network(case, self.before)
        shape = (STEPS + 1, BATCH, *recipe.image_shape)
        self.images = generator.uniform(0, case.brightest, shape).astype(np.float32)
        self.labels = generator.randint(0, 10, (STEPS + 1, BATCH))

    def masks(self, step: int, batch: int = BATCH) -> dict[int, np.ndarray]:
        """(n < p) / p with n ~ N(0, 1) and p = .5, by the engine's uniform draws u: n < p where u < P(n < p) = .69146.

        RandomStreams(seed=234) of each Dropout begins anew, so the masks of inputs of one shape are equal.
        """
        widths = {number: self.network.W[number].shape[0] for number in self.case.dropout}
        found = {}
        for number, width in widths.items():
            first = self.draws[next(n for n in widths if widths[n] == width)].mask
            u = draws.uniforms((batch, width), first.tensor, step, SEED)
            found[number] = np.where(u < 0.69146246, 2.0, 0.0)
        return found


def check_three_steps(name: str, opened: Opened) -> None:
    """Costs, the first gradients, parameters after each step, and scores in evaluation."""
    run = Prepared(name, opened)
    for step in range(1, STEPS + 1):
        given = run.images[step - 1], run.labels[step - 1]
        cost = run.network.step(*given, run.masks(step))
        assert run.engine.train_step(*given, run.case.eta) == pytest.approx(cost, rel=1e-5)
        if step == 1:
            check_gradients(run)
        for parameter, expected in run.network.parameters().items():
            found = run.engine.parameters()[parameter]
            way = np.abs(expected - run.before[parameter]).max()
            last_place = np.spacing(np.float32(np.abs(expected).max()))
            assert np.abs(found - expected).max() <= 1e-4 * way + STEPS * last_place, (step, parameter)
    scores, expected = run.engine.scores(run.images[STEPS], BATCH), run.network.forward(run.images[STEPS], {})
    assert np.abs(scores - expected).max() <= 1e-5 * np.abs(expected).max()
    assert run.network.nearest > MARGIN


def check_gradients(run: Prepared) -> None:
    gradients = run.engine.gradients()
    for parameter, expected in run.network.named_gradients().items():
        assert np.abs(gradients[parameter] - expected).max() <= 1e-5 * np.abs(expected).max(), parameter


def check_output_layer_stays(name: str, opened: Opened) -> None:
    """Its parameters are not in their list of updates, so they are not clipped either, though some are beyond +-1."""
    run = Prepared(name, opened)
    run.engine.train_step(run.images[0], run.labels[0], run.case.eta)
    for parameter in (f"dense4.{kind}" for kind in ("weight", "bias")):
        np.testing.assert_array_equal(run.engine.parameters()[parameter], run.before[parameter])


def check_last_smaller_batch(opened: Opened) -> None:
    """Its cost is divided by the batch size that the script was started with."""
    run = Prepared("mlp binary", opened)
    images, labels = run.images.reshape(-1, *run.images.shape[2:])[:20], run.labels.ravel()[:20]
    found = run.engine.train_epoch(images, labels, np.arange(20), BATCH, run.case.eta, keep_remainder=True)
    expected = [run.network.step(images[part], labels[part], {}, BATCH) for part in (slice(0, 12), slice(12, 20))]
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert run.network.nearest > MARGIN
