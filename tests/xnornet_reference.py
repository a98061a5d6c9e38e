"""One training step of XNOR-Net-PyTorch's LeNet-5 in float64 NumPy, forward and backward, and both engines beside it.

Written from jiecaoyu/XNOR-Net-PyTorch@ebccb50, MNIST/util.py and models/LeNet_5.py, without autograd; nothing of the
engines, and nothing of tests/xnornet_runs.py, computes what is expected.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
import xnornet_cases as cases

EPSILON, DECAY = 1e-4, 1e-5


class Step:
    """LeNet-5, with `values` by the house's names: the loss and its gradients.

    Attributes:
        gradients: with respect to what products use.
        kept: what the backward pass needs of the forward pass.
    """

    def __init__(self, values: Mapping[str, np.ndarray]) -> None:
        self.values = {name: value.astype(np.float64) for name, value in values.items()}
        self.gradients: dict[str, np.ndarray] = {}

    def used(self, layer: str) -> np.ndarray:
        """The weights of products: binary ones of each filter's own size in the middle layers."""
        w = self.values[f"{layer}.weight"]
        if layer in ("conv1", "dense2"):
            return w
        return np.sign(w) * np.abs(w).mean(axis=tuple(range(1, w.ndim)), keepdims=True)

    def loss(self, x: np.ndarray, labels: np.ndarray, used: Mapping[str, np.ndarray]) -> float:
        value, keep = self.values, {}
        keep["x1"], keep["z1"] = x, convolved(x, used["conv1"]) + value["conv1.bias"][:, None, None]
        keep["n1"], keep["y1"] = normalized(keep["z1"], 1.0, 0.0)
        keep["r1"] = np.maximum(keep["y1"], 0)
        keep["p1"] = pooled(keep["r1"])
        keep["n2"], keep["y2"] = normalized(keep["p1"], value["bn1.gamma"], value["bn1.beta"])
        keep["x2"] = np.sign(keep["y2"])
        keep["z2"] = whole_sums(keep["x2"], used["conv2"]) + value["conv2.bias"][:, None, None]
        keep["r2"] = np.maximum(keep["z2"], 0)
        keep["p2"] = pooled(keep["r2"])
        keep["n3"], keep["y3"] = normalized(keep["p2"], value["bn2.gamma"], value["bn2.beta"])
        keep["x3"] = np.sign(keep["y3"]).reshape(len(x), -1)
        keep["z3"] = keep["x3"] @ used["dense1"].T + value["dense1.bias"]
        keep["r3"] = np.maximum(keep["z3"], 0)
        scores = keep["r3"] @ used["dense2"].T + value["dense2.bias"]
        powers = np.exp(scores - scores.max(axis=1, keepdims=True))
        keep["shares"] = powers / powers.sum(axis=1, keepdims=True)
        self.kept = keep
        return float(-np.log(keep["shares"][np.arange(len(x)), labels]).mean())

    def step(self, x: np.ndarray, labels: np.ndarray) -> float:
        """The loss; the gradients are set."""
        used = {layer: self.used(layer) for layer in ("conv1", "conv2", "dense1", "dense2")}
        loss, keep, found = self.loss(x.astype(np.float64), labels, used), self.kept, self.gradients
        g = (keep["shares"] - (labels[:, None] == np.arange(10))) / len(x)
        found |= {"dense2.weight": g.T @ keep["r3"], "dense2.bias": g.sum(axis=0)}
        g = (g @ used["dense2"]) * (keep["z3"] > 0)
        found |= {"dense1.weight": g.T @ keep["x3"], "dense1.bias": g.sum(axis=0)}
        g = (g @ used["dense1"]).reshape(keep["y3"].shape) * (np.abs(keep["y3"]) < 1)
        g = self._normalized_backward(g, keep["n3"], "bn2")
        g = pooled_backward(keep["r2"], g) * (keep["z2"] > 0)
        found |= {"conv2.bias": g.sum(axis=(0, 2, 3)), "conv2.weight": of_kernels(keep["x2"], g)}
        g = of_input(used["conv2"], g) * (np.abs(keep["y2"]) < 1)
        g = self._normalized_backward(g, keep["n2"], "bn1")
        g = pooled_backward(keep["r1"], g) * (keep["y1"] > 0)
        g = self._normalized_backward(g, keep["n1"], "")
        found |= {"conv1.bias": g.sum(axis=(0, 2, 3)), "conv1.weight": of_kernels(keep["x1"], g)}
        return loss

    def _normalized_backward(self, g: np.ndarray, kept: tuple[np.ndarray, np.ndarray], norm: str) -> np.ndarray:
        x_hat, spread = kept
        axes = (0, 2, 3)
        if norm:
            self.gradients |= {f"{norm}.gamma": (g * x_hat).sum(axis=axes), f"{norm}.beta": g.sum(axis=axes)}
            g = g * self.values[f"{norm}.gamma"][:, None, None]
        means = g.mean(axis=axes, keepdims=True), (g * x_hat).mean(axis=axes, keepdims=True)
        return (g - means[0] - x_hat * means[1]) / spread

    def of_real(self, layer: str) -> np.ndarray:
        """The gradient that the authors give to Adam, in the form of README.md, Notes, times n (1 - 1 / c)."""
        w, g = self.values[f"{layer}.weight"], self.gradients[f"{layer}.weight"]
        found = np.empty_like(w)
        for of_filter, of_w, of_g in zip(found, w, g, strict=True):
            n = of_w.size
            through_size = np.sign(of_w) / n * sum((of_g * np.sign(of_w)).flat)
            of_filter[...] = (through_size + of_g * np.abs(of_w).sum() / n) * (1 - 1 / w.shape[1]) * n
        return found

    def after(self) -> dict[str, np.ndarray]:
        """All parameters after Adam's first step, whose size is the learning rate wherever there is a gradient."""
        moved = {}
        binary = {f"{layer}.weight": self.of_real(layer) for layer in ("conv2", "dense1")}
        for name, of_loss in (self.gradients | binary).items():
            value = self.values[name]
            gradient = of_loss + DECAY * value
            corrected = np.sqrt(1 - 0.999) / (1 - 0.9) * 0.1 * gradient
            moved[name] = value - cases.LR * corrected / (np.sqrt(0.001 * gradient**2) + 1e-8)
        for name in binary:
            moved[name] = np.clip(moved[name] - moved[name].mean(axis=1, keepdims=True), -1, 1)
        return moved | {name: np.maximum(moved[name], 0.01) for name in moved if name.endswith(".gamma")}


# -- layers ------------------------------------------------------------------------------------------------------------


def patches(x: np.ndarray, size: int) -> np.ndarray:
    """(N, channels, rows, columns, size, size)."""
    return np.lib.stride_tricks.sliding_window_view(x, (size, size), axis=(2, 3))


def convolved(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    return np.einsum("ncyxij,ocij->noyx", patches(x, w.shape[2]), w, optimize=True)


def whole_sums(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    """As `convolved`, of signs x and weights of one size a filter: equal sums of signs give equal values."""
    size = np.abs(w[:, 0, 0, 0])[:, None, None]
    return np.rint(convolved(x, np.sign(w))) * size


def of_kernels(x: np.ndarray, g: np.ndarray) -> np.ndarray:
    return np.einsum("noyx,ncyxij->ocij", g, patches(x, x.shape[2] - g.shape[2] + 1), optimize=True)


def of_input(w: np.ndarray, g: np.ndarray) -> np.ndarray:
    around = w.shape[2] - 1
    padded = np.pad(g, ((0, 0), (0, 0), (around, around), (around, around)))
    return convolved(padded, w.transpose(1, 0, 2, 3)[:, :, ::-1, ::-1])


def normalized(z: np.ndarray, gamma: object, beta: object) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray]:
    """What is centered and scaled with what it was divided by, and the output."""
    mean, spread = z.mean(axis=(0, 2, 3), keepdims=True), np.sqrt(z.var(axis=(0, 2, 3), keepdims=True) + EPSILON)
    x_hat, of_channel = (z - mean) / spread, (-1, 1, 1)
    return (x_hat, spread), x_hat * np.reshape(gamma, of_channel) + np.reshape(beta, of_channel)


def _windows(x: np.ndarray) -> np.ndarray:
    n, c, h, w = x.shape
    return x.reshape(n, c, h // 2, 2, w // 2, 2).transpose(0, 1, 2, 4, 3, 5).reshape(n, c, h // 2, w // 2, 4)


def pooled(x: np.ndarray) -> np.ndarray:
    return _windows(x).max(axis=-1)


def pooled_backward(x: np.ndarray, g: np.ndarray) -> np.ndarray:
    """The first of tied maxima gets the gradient."""
    n, c, h, w = g.shape
    spread = np.eye(4)[_windows(x).argmax(axis=-1)] * g[..., None]
    return spread.reshape(n, c, h, w, 2, 2).transpose(0, 1, 2, 4, 3, 5).reshape(x.shape)


# -- comparisons -------------------------------------------------------------------------------------------------------


class Prepared:
    """An engine, and the reference with the same parameters."""

    def __init__(self, opened: cases.Opened) -> None:
        case = cases.CASES["lenet5"]
        recipe, data = case.recipe, cases.batches(case)
        self.engine = opened(recipe.model, recipe.image_shape, 0)
        values = self.engine.parameters()
        drawn = cases.initial({n: v.shape for n, v in values.items() if not n.endswith(".scale")}, seed=5)
        self.before = cases.as_binarized(values | drawn)
        self.engine.load_parameters(self.before)
        self.step = Step(self.before)
        self.given = data.images[: case.batch], data.labels[: case.batch]


def check_one_step(opened: cases.Opened) -> None:
    """Loss, gradients and parameters."""
    run = Prepared(opened)
    loss = run.step.step(*run.given)
    assert run.engine.train_step(*run.given, cases.LR) == pytest.approx(loss, rel=1e-5)
    gradients, parameters = run.engine.gradients(), run.engine.parameters()
    assert gradients.keys() == run.step.gradients.keys()
    for name, expected in run.step.after().items():
        gradient = run.step.gradients[name]
        assert np.abs(gradients[name] - gradient).max() <= 1e-6 + 2e-5 * np.abs(gradient).max(), name
        if name != "conv1.bias":  # in front of a normalization: its gradient is rounding noise
            axes = tuple(range(1, gradient.ndim)) or None
            held = np.abs(gradient) > 1e-3 * np.abs(gradient).max(axis=axes, keepdims=True)
            if f"{name.removesuffix('weight')}scale" in parameters:
                held &= held.all(axis=1, keepdims=True)  # the mean of these is taken off
            assert (np.abs(parameters[name] - expected) <= 1e-5)[held].all(), name
            assert held.mean() > 0.4 or held.ndim == 1, name


def check_finite_differences(opened: cases.Opened) -> None:
    """The reference's gradients of what products use; and through the size of a filter's binary weights."""
    run = Prepared(opened)
    layers = ("conv1", "conv2", "dense1", "dense2")
    images, labels = run.given[0].astype(np.float64), run.given[1]
    run.step.step(*run.given)
    used, generator = {layer: run.step.used(layer) for layer in layers}, np.random.RandomState(1)
    for layer in ("dense1", "dense2"):  # those in front of a sign have a straight-through gradient, not a true one
        for _ in range(5):
            index = tuple(generator.randint(0, side) for side in used[layer].shape)
            slope = _slope(
                lambda moved, layer=layer: run.step.loss(images, labels, used | {layer: moved}), used[layer], index
            )
            assert run.step.gradients[f"{layer}.weight"][index] == pytest.approx(slope, rel=1e-4, abs=1e-8)
    # With signs fixed, a weight changes the loss through the size of its filter alone: the formula's first part.
    real, g = run.step.values["dense1.weight"], run.step.gradients["dense1.weight"]
    n, channels = real[0].size, real.shape[1]
    formula = run.step.of_real("dense1") / ((1 - 1 / channels) * n) - np.abs(real).mean(axis=1, keepdims=True) * g

    def loss_of(moved: np.ndarray) -> float:
        binary = np.sign(real) * np.abs(moved).mean(axis=1, keepdims=True)
        return run.step.loss(images, labels, used | {"dense1": binary})

    for _ in range(5):
        index = tuple(generator.randint(0, side) for side in real.shape)
        assert formula[index] == pytest.approx(_slope(loss_of, real, index), rel=1e-3, abs=1e-9)


def _slope(loss_of: object, values: np.ndarray, index: tuple[int, ...]) -> float:
    losses = []
    for change in (1e-6, -1e-6):
        moved = values.copy()
        moved[index] += change
        losses.append(loss_of(moved))
    return (losses[0] - losses[1]) / 2e-6
