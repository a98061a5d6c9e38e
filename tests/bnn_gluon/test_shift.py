"""BinaryNet's shift-based rules and stochastic activations against a float64 NumPy version of their formulas.

Nothing of bnn_gluon computes the expected values but the random draws, which are its own.
"""

from __future__ import annotations

from collections.abc import Callable

import numba
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.engine import open_engine
from benchmarks.engine.draws import draws_of
from benchmarks.engine.layers import layers_of
from benchmarks.engine.updates import RULES, clip_limits, lr_scales
from benchmarks.recipe import load_recipe
from benchmarks.recipe.architecture import Conv, LayerShape, Pool, layer_shapes, parse_architecture
from benchmarks.run.protocol import shuffled
from bnn_gluon import quantize
from bnn_gluon.kernels import fused
from bnn_gluon.kernels.ap2 import ap2
from bnn_gluon.update import NO_LIMIT, UPDATES
from data_prep import load

MNIST, CIFAR10, SVHN = (load_recipe(f"binarynet-torch7-{name}").model for name in ("mnist", "cifar10", "svhn"))
ADAMAX = UPDATES["shift_adamax"]


# -- the formulas, in float64 ----------------------------------------------------------------------------------------


def power_of_two(x: np.ndarray) -> np.ndarray:
    """AP2(x) = sign(x) * 2^round(log2|x|)."""
    x = np.asarray(x, np.float64)
    with np.errstate(divide="ignore"):
        return np.where(x == 0, 0.0, np.sign(x) * 2.0 ** np.floor(np.log2(np.abs(x)) + 0.5))


class ShiftNorm:
    """Shift-based batch normalization; with `rounded` the identity, the plain one."""

    def __init__(self, gamma, beta, epsilon: float, rounded: Callable = power_of_two) -> None:
        self.gamma, self.beta, self.epsilon, self.rounded = gamma, beta, epsilon, rounded

    def forward(self, x: np.ndarray) -> np.ndarray:
        """For x (values, channels)."""
        self.mean = x.mean(axis=0)
        c = x - self.mean
        self.c2 = self.rounded(c)
        self.spread = 1 / np.sqrt((c * self.c2).mean(axis=0) + self.epsilon)
        self.s = self.rounded(self.spread)
        self.x_hat2 = self.rounded(c * self.s)
        return self.rounded(self.gamma) * c * self.s + self.beta

    def backward(self, g: np.ndarray) -> np.ndarray:
        self.dgamma, self.dbeta = (g * self.x_hat2).sum(axis=0), g.sum(axis=0)
        inner = g - g.mean(axis=0) - self.c2 * self.s**2 * (self.c2 * g).mean(axis=0)
        return self.rounded(self.gamma) * self.s * inner

    def evaluate(self, x: np.ndarray, mean: np.ndarray, spread: np.ndarray) -> np.ndarray:
        return self.rounded(self.gamma) * (x - mean) * self.rounded(spread) + self.beta


class PlainNorm:
    """Batch normalization as Torch has it: the average is of the unbiased variance."""

    def __init__(self, gamma, beta, epsilon: float) -> None:
        self.gamma, self.beta, self.epsilon = gamma, beta, epsilon

    def forward(self, x: np.ndarray) -> np.ndarray:
        self.mean, self.spread = x.mean(axis=0), x.var(axis=0, ddof=1)
        self.inv_std = 1 / np.sqrt(x.var(axis=0) + self.epsilon)
        self.x_hat = (x - self.mean) * self.inv_std
        return self.gamma * self.x_hat + self.beta

    def backward(self, g: np.ndarray) -> np.ndarray:
        self.dgamma, self.dbeta = (g * self.x_hat).sum(axis=0), g.sum(axis=0)
        return self.gamma * self.inv_std * (g - g.mean(axis=0) - self.x_hat * (self.x_hat * g).mean(axis=0))

    def evaluate(self, x: np.ndarray, mean: np.ndarray, spread: np.ndarray) -> np.ndarray:
        return self.gamma * (x - mean) / np.sqrt(spread + self.epsilon) + self.beta


def adamax(theta, g, m, v, lr: float, step: int, scale=1.0, limit=np.inf):
    """One step of shift-based AdaMax: theta, m and v after it."""
    m = 0.9 * m + 0.1 * g
    v = power_of_two(np.maximum(0.999 * v, np.abs(g))) + 2.0**-27
    theta = theta - power_of_two(lr / (1 - 0.9**step)) * scale * m / v
    return np.clip(theta, -limit, limit), m, v


def patches(x: np.ndarray) -> np.ndarray:
    """3x3 neighborhoods of x (N, C, H, W), zero-padded: (N, H, W, C, 3, 3)."""
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
    return windows.transpose(0, 2, 3, 1, 4, 5)


class Linear:
    """A fully connected layer or a 3x3 convolution with its pooling; values leave it as (values, channels)."""

    def __init__(self, shape: LayerShape, pooled: bool, weight: np.ndarray, bias: np.ndarray) -> None:
        self.conv, self.pooled, self.weight, self.bias = isinstance(shape.layer, Conv), pooled, weight, bias

    def forward(self, x: np.ndarray) -> np.ndarray:
        self.input_shape = x.shape
        if not self.conv:
            self.x = x.reshape(len(x), -1)
            return self.x @ self.weight.T + self.bias
        self.x = patches(x)
        y = np.einsum("nhwcij,ocij->nohw", self.x, self.weight) + self.bias[:, None, None]
        if self.pooled:
            n, c, h, w = y.shape
            windows = y.reshape(n, c, h // 2, 2, w // 2, 2).transpose(0, 1, 2, 4, 3, 5).reshape(n, c, h // 2, w // 2, 4)
            self.winner = np.eye(4)[windows.argmax(axis=-1)]  # the first of tied maxima
            y = windows.max(axis=-1)
        self.map_shape = y.shape
        return y.transpose(0, 2, 3, 1).reshape(-1, y.shape[1])

    def spatial(self, values: np.ndarray) -> np.ndarray:
        """Values (values, channels) as the next layer reads them."""
        if not self.conv:
            return values
        n, c, h, w = self.map_shape
        return values.reshape(n, h, w, c).transpose(0, 3, 1, 2)

    def backward(self, g: np.ndarray) -> np.ndarray:
        """Gradient of the input; g is that of the output, shaped as `spatial` gives it."""
        if not self.conv:
            self.dweight, self.dbias = g.T @ self.x, g.sum(axis=0)
            return (g @ self.weight).reshape(self.input_shape)
        if self.pooled:
            n, c, h, w = g.shape
            spread = (g[..., None] * self.winner).reshape(n, c, h, w, 2, 2)
            g = spread.transpose(0, 1, 2, 4, 3, 5).reshape(n, c, 2 * h, 2 * w)
        self.dweight, self.dbias = np.einsum("nohw,nhwcij->ocij", g, self.x), g.sum(axis=(0, 2, 3))
        return np.einsum("nhwoij,ocij->nchw", patches(g), self.weight[:, :, ::-1, ::-1])


class Reference:
    """A network trained by the formulas, starting from an engine's parameters."""

    def __init__(self, architecture: str, image_shape: tuple[int, ...], parameters: dict[str, np.ndarray]) -> None:
        self.shapes = layer_shapes(parse_architecture(architecture), image_shape)
        self.values = {name: value.astype(np.float64) for name, value in parameters.items()}
        self.moments = {name: (np.zeros(v.shape), np.zeros(v.shape)) for name, v in self.values.items()}
        self.linear = [shape for shape in self.shapes if not isinstance(shape.layer, Pool)]
        self.names, counts = [], {"conv": 0, "dense": 0}
        for shape in self.linear:
            kind = "conv" if isinstance(shape.layer, Conv) else "dense"
            counts[kind] += 1
            self.names.append(f"{kind}{counts[kind]}")
        self.pooled = [isinstance(after.layer, Pool) for after in [*self.shapes[1:], self.shapes[-1]]]
        self.pooled = [p for p, s in zip(self.pooled, self.shapes, strict=True) if not isinstance(s.layer, Pool)]

    def build(self) -> tuple[list[Linear], list[ShiftNorm | PlainNorm]]:
        v, linear, norms = self.values, [], []
        for i, (name, shape) in enumerate(zip(self.names, self.linear, strict=True)):
            binary = np.where(v[f"{name}.weight"] >= 0, 1.0, -1.0)
            linear.append(Linear(shape, self.pooled[i], binary, v[f"{name}.bias"]))
            norm = PlainNorm if shape is self.linear[-1] else ShiftNorm
            norms.append(norm(v[f"bn{i + 1}.gamma"], v[f"bn{i + 1}.beta"], 1e-5))
        return linear, norms

    def gradients(self, x: np.ndarray, labels: np.ndarray, thresholds: list[np.ndarray]) -> float:
        """Set self.gradient; return the loss."""
        self.built = linear, norms = self.build()
        passes, hidden = [], len(linear) - 1
        for i in range(len(linear)):
            y = linear[i].spatial(norms[i].forward(linear[i].forward(x)))
            if i < hidden:
                passes.append(np.abs(y) <= 1)
                x = np.sign(np.clip(y, -1, 1) - thresholds[i].reshape(y.shape))
        targets = np.where(labels[:, None] == np.arange(y.shape[1]), 1, -1)
        slack = np.maximum(0, 1 - targets * y)
        g = -2 * targets * slack / slack.size
        self.gradient = {}
        for i in reversed(range(len(linear))):
            if i < hidden:
                g = g * passes[i]
            flat = g.transpose(0, 2, 3, 1).reshape(-1, g.shape[1]) if g.ndim == 4 else g
            g = linear[i].backward(linear[i].spatial(norms[i].backward(flat)))
            self.gradient |= {
                f"{self.names[i]}.weight": linear[i].dweight,
                f"{self.names[i]}.bias": linear[i].dbias,
                f"bn{i + 1}.gamma": norms[i].dgamma,
                f"bn{i + 1}.beta": norms[i].dbeta,
            }
        return float(np.mean(slack**2))

    def update(self, lr: float, step: int, scales: dict[str, float], limits: dict[str, float]) -> None:
        for i, norm in enumerate(self.built[1], 1):
            momentum = 0.1 if isinstance(norm, PlainNorm) else 0.125
            name = "var" if isinstance(norm, PlainNorm) else "inv_std"
            for key, value in ((f"bn{i}.running_mean", norm.mean), (f"bn{i}.running_{name}", norm.spread)):
                self.values[key] = (1 - momentum) * self.values[key] + momentum * value
        for name, g in self.gradient.items():
            scale, limit = scales.get(name, 1.0), limits.get(name, np.inf)
            theta, *moments = adamax(self.values[name], g, *self.moments[name], lr, step, scale, limit)
            self.values[name], self.moments[name] = theta, tuple(moments)

    def scores(self, x: np.ndarray) -> np.ndarray:
        linear, norms = self.build()
        for i in range(len(linear)):
            name = "var" if isinstance(norms[i], PlainNorm) else "inv_std"
            mean, spread = self.values[f"bn{i + 1}.running_mean"], self.values[f"bn{i + 1}.running_{name}"]
            y = linear[i].spatial(norms[i].evaluate(linear[i].forward(x), mean, spread))
            x = np.sign(y)
        return y


# -- AP2 -------------------------------------------------------------------------------------------------------------

NORMAL = st.floats(2.0**-100, 2.0**100, width=32).flatmap(lambda x: st.sampled_from([np.float32(x), np.float32(-x)]))


def test_ap2_of_every_mantissa_is_the_logarithms():
    """All 2^23 float32 of [1, 2): the power changes exactly at sqrt(2)."""
    x = (np.arange(2**23, dtype=np.uint32) + np.uint32(127 << 23)).view(np.float32)
    np.testing.assert_array_equal(ap2(x), np.where(x.astype(np.float64) > np.sqrt(2), 2, 1))
    np.testing.assert_array_equal(ap2(-x), -ap2(x))


@given(NORMAL)
def test_ap2_is_the_nearest_power_of_two_on_a_logarithmic_scale(x):
    y = ap2(x)
    assert y == power_of_two(x)
    assert np.frexp(abs(y))[0] == 0.5  # a power of two
    assert ap2(y) == y
    assert 2**-0.5 <= float(y) / float(x) <= 2**0.5 * (1 + 1e-12)


@given(st.floats(1, 2, exclude_max=True, width=32), st.integers(-125, 99))
def test_ap2_commutes_with_shifts(x, k):
    assert ap2(np.float32(x * 2.0**k)) == ap2(np.float32(x)) * 2.0**k


@given(NORMAL, NORMAL)
def test_ap2_keeps_the_order(x, y):
    assert (ap2(x) <= ap2(y)) >= (x <= y)


def test_ap2_is_the_same_in_numpy_mxnet_and_numba(mx):
    generator = np.random.default_rng(0)
    x = (generator.normal(size=100_000) * 2.0 ** generator.integers(-60, 60, 100_000)).astype(np.float32)
    x[:6] = [0, -0.0, 1, -1, 2.0**-100, 2.0**100]
    compiled = numba.vectorize(["float32(float32)"])(numba.njit(ap2))
    np.testing.assert_array_equal(ap2(x), power_of_two(x))
    np.testing.assert_array_equal(compiled(x), ap2(x))
    np.testing.assert_array_equal(ap2(mx.nd.array(x)).asnumpy(), ap2(x))


# -- shift-based batch normalization -----------------------------------------------------------------------------------

SHAPES = {"rows": (50, 7), "pixels": (6, 5, 4, 3)}


def values_of(x: np.ndarray) -> np.ndarray:
    """(N, channels) or (N, channels, rows, columns) as (values, channels)."""
    return x if x.ndim == 2 else x.transpose(0, 2, 3, 1).reshape(-1, x.shape[1])


def norm_case(normalized, kind: str, shape: tuple[int, ...], seed: int = 1):
    """The engine's batch normalization, the NumPy version with the same gamma and beta, an input, and a gradient of the
    output."""
    generator = np.random.default_rng(seed)
    gamma, beta = generator.normal(size=shape[1]), generator.normal(size=shape[1])
    x, g = 9 * generator.normal(size=shape) + 4, generator.normal(size=shape)
    gamma, beta, x, g = (array.astype(np.float32).astype(np.float64) for array in (gamma, beta, x, g))
    reference = {"shift": ShiftNorm, "torch": PlainNorm}[kind](gamma, beta, 1e-5)
    return normalized(kind, gamma, beta, 1e-5, 1), reference, x, g  # alpha 1: the averages are the batch's values


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("kind", ["shift", "torch"])
def test_batch_norm_forward_and_gradient(normalized, kind, shape):
    norm, reference, x, g = norm_case(normalized, kind, shape)
    y, dx, dgamma, dbeta = norm.train(x, g)
    np.testing.assert_allclose(values_of(y), reference.forward(values_of(x)), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(values_of(dx), reference.backward(values_of(g)), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(dgamma, reference.dgamma, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(dbeta, reference.dbeta, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(norm.stage.running_mean, reference.mean, rtol=1e-6)
    np.testing.assert_allclose(norm.stage.running_spread, reference.spread, rtol=1e-6)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("kind", ["shift", "torch"])
def test_batch_norm_in_evaluation(normalized, kind, shape):
    norm, reference, x, _ = norm_case(normalized, kind, shape)
    generator = np.random.default_rng(2)
    mean, spread = generator.normal(size=shape[1]), generator.uniform(0.01, 3, shape[1])
    expected = reference.evaluate(values_of(x), mean, spread)
    np.testing.assert_allclose(values_of(norm.evaluate(x, mean, spread)), expected, rtol=1e-5, atol=1e-5)


def test_a_channel_without_variance_gives_beta_and_finite_gradients(normalized):
    norm, reference, x, g = norm_case(normalized, "shift", (50, 7))
    x[:, 3] = 5
    y, dx, dgamma, _ = norm.train(x, g)
    np.testing.assert_array_equal(y[:, 3], np.float32(reference.beta[3]))
    assert np.isfinite(dx).all()
    assert dgamma[3] == 0


def difference_quotients(f: Callable[[np.ndarray], float], x: np.ndarray, h: float = 1e-6) -> np.ndarray:
    """Central differences of f by every element of x, float64."""
    quotients = np.empty(x.shape)
    for i in np.ndindex(*x.shape):
        up, down = x.copy(), x.copy()
        up[i] += h
        down[i] -= h
        quotients[i] = (f(up) - f(down)) / (2 * h)
    return quotients


def exactly(x):
    return x


@pytest.mark.parametrize("make", [lambda *a: ShiftNorm(*a, rounded=exactly), PlainNorm], ids=["shift", "torch"])
def test_gradients_of_batch_norm_by_finite_differences(make):
    """Of the plain one; that of the shift-based one with exact factors instead of powers of two is the same."""
    generator = np.random.default_rng(3)
    x, g = 3 * generator.normal(size=(12, 4)), generator.normal(size=(12, 4))
    gamma, beta = generator.normal(size=4), generator.normal(size=4)

    def loss(x: np.ndarray, gamma: np.ndarray, beta: np.ndarray) -> float:
        return float((g * make(gamma, beta, 1e-5).forward(x)).sum())

    norm = make(gamma, beta, 1e-5)
    norm.forward(x)
    np.testing.assert_allclose(norm.backward(g), difference_quotients(lambda v: loss(v, gamma, beta), x), atol=1e-7)
    np.testing.assert_allclose(norm.dgamma, difference_quotients(lambda v: loss(x, v, beta), gamma), atol=1e-7)
    np.testing.assert_allclose(norm.dbeta, difference_quotients(lambda v: loss(x, gamma, v), beta), atol=1e-7)


def test_gradient_of_shift_batch_norm_where_its_factors_are_constant():
    """Between two jumps of AP2 the forward is linear: its slope is the gradient without the part through s."""
    generator = np.random.default_rng(4)
    x, g = 3 * generator.normal(size=(12, 4)), generator.normal(size=(12, 4))
    gamma, beta = generator.normal(size=4), generator.normal(size=4)
    norm = ShiftNorm(gamma, beta, 1e-5)
    norm.forward(x)
    gradient = norm.backward(g)
    through_s = power_of_two(gamma) * norm.s**3 * norm.c2 * (norm.c2 * g).mean(axis=0)
    quotients = difference_quotients(lambda v: float((g * ShiftNorm(gamma, beta, 1e-5).forward(v)).sum()), x)
    np.testing.assert_allclose(gradient + through_s, quotients, atol=1e-7)


# -- stochastic binary activations -------------------------------------------------------------------------------------


def draw(n: int, tensor: int = 0, step: int = 1, seed: int = 7) -> np.ndarray:
    thresholds = np.empty(n, np.float32)
    quantize.draw_thresholds(np.uint32(tensor), np.uint32(step), np.uint32(seed), np.uint32(0), thresholds)
    return thresholds


def test_thresholds_are_uniform_odd_multiples_of_two_to_the_minus_24():
    n = 400_000
    thresholds = draw(n).astype(np.float64)
    assert np.all(thresholds * 2**24 % 2 == 1)
    assert -1 < thresholds.min() < -0.9999 < 0.9999 < thresholds.max() < 1
    assert abs(thresholds.mean()) < 5 / np.sqrt(3 * n)
    counts = np.histogram(thresholds, 20, (-1, 1))[0]
    assert np.all(np.abs(counts - n / 20) < 5 * np.sqrt(n / 20))


def test_thresholds_of_steps_tensors_and_seeds_differ_and_are_those_of_their_index():
    base = draw(10_000)
    for other in (draw(10_000, tensor=1), draw(10_000, step=2), draw(10_000, seed=8)):
        assert abs(np.mean(base * other)) < 5 / 3 / 100
    np.testing.assert_array_equal(draw(5000), base[:5000])


@pytest.mark.threads
def test_thresholds_do_not_depend_on_the_number_of_threads():
    base = draw(50_003)
    threads = numba.get_num_threads()
    try:
        numba.set_num_threads(1)
        np.testing.assert_array_equal(draw(50_003), base)
    finally:
        numba.set_num_threads(threads)


@pytest.mark.parametrize("x", [-3.0, -1.0, -0.5, 0.0, 0.3, 1.0, 2.0])
def test_stochastic_sign_has_the_probability_and_the_gradient_of_the_hardtanh(x):
    n = 200_000
    values, zero, one = np.full((n, 1, 1), x, np.float32), np.zeros(1, np.float32), np.ones(1, np.float32)
    y, g = np.empty_like(values), np.ones_like(values)
    fused.normalize(values, zero, one, zero, fused.STOCHASTIC_SIGN, y, draw(n))
    fused.gradient_sums(values, g, zero, one, zero, fused.STOCHASTIC_SIGN)
    assert set(np.unique(y)) <= {-1, 1}
    p = np.clip((x + 1) / 2, 0, 1)
    assert abs(np.mean(y == 1) - p) <= 5 * np.sqrt(p * (1 - p) / n)
    # In the mean it is hardtanh(x), whose slope this is; at +-1 Torch has that of the inside.
    assert np.all(g == (abs(x) <= 1))


def test_stochastic_sign_in_evaluation_is_torchs_sign():
    x = np.array([-2, -1e-30, 0, 1e-30, 0.5], np.float32).reshape(-1, 1, 1)
    zero, one = np.zeros(1, np.float32), np.ones(1, np.float32)
    fused.normalize(x, zero, one, zero, fused.TORCH_SIGN, x)
    np.testing.assert_array_equal(x.ravel(), [-1, -1, 0, 1, 1])


# -- shift-based AdaMax ------------------------------------------------------------------------------------------------


def adamax_size(lr: float, step: int) -> np.float32:
    (size,) = RULES["shift_adamax"].sizes(lr, step)
    return size


def test_adamax_is_the_formula():
    generator = np.random.default_rng(5)
    gradients = (generator.normal(size=(30, 200)) * 2.0 ** generator.integers(-12, 3, 200)).astype(np.float32)
    theta = generator.uniform(-1, 1, 200).astype(np.float32)
    moments = (np.zeros(200, np.float32), np.zeros(200, np.float32))
    expected = theta.astype(np.float64), np.zeros(200), np.zeros(200)
    scale = np.float32(32)
    for step, gradient in enumerate(gradients, 1):
        ADAMAX(theta, gradient, *moments, np.float32(1), scale * adamax_size(2**-6, step))
        expected = adamax(expected[0], gradient, *expected[1:], 2**-6, step, 32, 1)
        np.testing.assert_allclose(theta, expected[0], rtol=0, atol=3e-6)
        np.testing.assert_allclose(moments[0], expected[1], rtol=1e-5, atol=1e-6 * np.abs(gradients).max())
        np.testing.assert_array_equal(moments[1], expected[2].astype(np.float32))


def test_adamax_steps_are_powers_of_two():
    sizes = [adamax_size(2**-6, step) for step in (1, 2, 10, 50, 1000)]
    assert sizes == [2**-3, 2**-4, 2**-5, 2**-6, 2**-6]
    assert adamax_size(2.0**-55, 10**6) == 2.0**-55


@given(st.lists(st.floats(-4, 4, width=32), min_size=1, max_size=40), st.integers(0, 200))
def test_the_stored_maximum_never_decays(gradients, silent):
    """.999 * 2^k rounds back up to 2^k, so without gradients it stays; epsilon makes that of a dead weight grow."""
    theta, moments = np.zeros(1, np.float32), (np.zeros(1, np.float32), np.zeros(1, np.float32))
    before = np.float32(0)
    for step, gradient in enumerate(gradients + [0.0] * silent, 1):
        ADAMAX(theta, np.array([gradient], np.float32), *moments, NO_LIMIT, adamax_size(2**-6, step))
        assert moments[1][0] >= before
        before = moments[1][0]
    largest = np.abs(np.array(gradients, np.float32)).max()
    assert moments[1][0] == pytest.approx(max(ap2(largest), 0), rel=1e-3, abs=2.0**-24)


def linear_layers(architecture: str, image_shape: tuple[int, ...]) -> list[LayerShape]:
    shapes = layer_shapes(parse_architecture(architecture), image_shape)
    return [shape for shape in shapes if not isinstance(shape.layer, Pool)]


# -- whole steps -------------------------------------------------------------------------------------------------------

NETWORKS = {
    "mnist": ("binarynet-torch7-mnist", "2x40FC-10FC", (1, 28, 28)),
    "cifar10": ("binarynet-torch7-cifar10", "2x6C3-MP2-8C3-MP2-20FC-10FC", (3, 8, 8)),
    "svhn": ("binarynet-torch7-svhn", "5C3-MP2-7C3-16FC-10FC", (3, 8, 8)),
}


def thresholds_of(model, image_shape: tuple[int, ...], batch: int, step: int, seed: int) -> list[np.ndarray]:
    """What the engine draws for a step."""
    drawn = [draws.thresholds for draws in draws_of(layers_of(model, image_shape), model)]
    return [draw(batch * int(np.prod(t.shape)), t.tensor, step, seed).astype(np.float64) for t in drawn if t]


@pytest.mark.parametrize("name", NETWORKS)
def test_training_steps_and_evaluation_are_the_formulas(name):
    """Three steps from the same parameters. The updates are compared for the engine's gradients: where the true one is
    zero, as of the last biases, AdaMax divides rounding noise by itself."""
    benchmark, architecture, image_shape = NETWORKS[name]
    model = load_recipe(benchmark, [f"model.architecture={architecture}"]).model
    engine = open_engine("gluon", model, image_shape, seed=11)
    reference = Reference(architecture, image_shape, engine.parameters())
    layers = layers_of(model, image_shape)
    scales, limits = lr_scales(layers, model), clip_limits(layers, model)
    generator = np.random.default_rng(6)
    for step in (1, 2, 3):
        images = generator.normal(size=(30, *image_shape)).astype(np.float32)
        labels = generator.integers(0, 10, 30)
        loss = engine.train_step(images, labels, 2**-6)
        expected_loss = reference.gradients(images, labels, thresholds_of(model, image_shape, 30, step, 11))
        assert loss == pytest.approx(expected_loss, rel=1e-6)
        gradients = engine.gradients()
        for key, gradient in gradients.items():
            tolerance = 1e-5 * np.abs(reference.gradient[key]).max() + 1e-8
            np.testing.assert_allclose(gradient, reference.gradient[key], rtol=0, atol=tolerance, err_msg=key)
        reference.gradient = gradients
        reference.update(2**-6, step, scales, limits)
    state = engine.state()
    for key, value in reference.values.items():
        np.testing.assert_allclose(state[f"parameters/{key}"], value, rtol=1e-5, atol=1e-5, err_msg=key)
        for moment, expected in zip(("mean", "maximum"), reference.moments[key], strict=True):
            if ".running_" not in key:
                found = state[f"shift_adamax_{moment}/{key}"].reshape(value.shape)
                np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-8, err_msg=key)
    images = generator.normal(size=(40, *image_shape)).astype(np.float32)
    np.testing.assert_allclose(engine.scores(images, 15), reference.scores(images), rtol=1e-4, atol=1e-4)


def test_it_learns_mnist(small_data_root):
    """2,000 images, 4 epochs, 3x128 units: measured 13.5 % test error."""
    recipe = load_recipe("binarynet-torch7-mnist", ["model.architecture=3x128FC-10FC"])
    data = load("mnist-small", small_data_root, recipe.data.preprocessing, 2000, 200)
    engine = open_engine("gluon", recipe.model, recipe.image_shape, seed=1)
    order = np.arange(2000)
    for epoch in (1, 2, 3, 4):
        order = shuffled(order, 1, epoch)
        engine.train_epoch(data.train.images, data.train.labels, order, recipe.train.batch_size, recipe.train.lr_start)
    wrong = engine.scores(data.test.images, 100).argmax(axis=1) != data.test.labels
    assert np.mean(wrong) < 0.2
