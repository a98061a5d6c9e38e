"""Activations, batch normalizations, pooling, padding and losses of the PyTorch engine.

Against the authors' own numbers (tests/golden, G_units), NumPy in double precision, finite differences, and autograd.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
from benchmarks.engine.layers import layers_of  # noqa: E402
from benchmarks.recipe import load_recipe  # noqa: E402
from benchmarks.recipe.architecture import Pool  # noqa: E402
from bnn_torch import activations, batch_norm, losses  # noqa: E402
from bnn_torch.kernels import convolution, padding, pooling  # noqa: E402

pytestmark = pytest.mark.torch
UNITS = np.load(Path(__file__).parents[1] / "golden" / "G_units.npz")


def tensor(values, kind=torch.float32):
    return torch.from_numpy(np.array(values)).to(kind)


def random(shape: tuple[int, ...], seed: int = 1, kind=torch.float32):
    return tensor(np.random.default_rng(seed).normal(size=shape), kind)


def activation(word: str, gradient: str = "hardtanh", beta: float | None = None) -> activations.Activation:
    @dataclasses.dataclass
    class Model:
        activation_gradient: str = gradient
        swish_beta: float | None = beta

    return activations.activation(word, Model())


# -- activations -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "values", "slope"),
    [
        ("binary_tanh", UNITS["special/binary_tanh_unit"], UNITS["special/binary_tanh_unit_grad"]),
        ("binary_sigmoid", UNITS["special/hard_sigmoid"] >= 0.5, UNITS["special/binary_tanh_unit_grad"] / 2),
        ("relu", np.maximum(UNITS["special/x"], 0), UNITS["special/rectify_grad"]),
    ],
)
def test_on_the_edge_cases_of_the_original(word, values, slope):
    x, found = tensor(UNITS["special/x"]), activation(word)
    np.testing.assert_array_equal(found.forward(x), values.astype(np.float32))
    np.testing.assert_array_equal(found.slope(x), slope)


EDGES = [-np.inf, -2.0, -1.0, -0.3, -1e-30, -0.0, 0.0, 1e-30, 0.3, 1.0, 2.0, np.inf]


@pytest.mark.parametrize(("gradient", "beta"), [("hardtanh", None), ("identity", None), ("bireal", None), ("swish", 5)])
def test_sign_is_minus_at_zero(gradient, beta):
    found = activation("sign", gradient, beta).forward(tensor(EDGES))
    np.testing.assert_array_equal(found, [-1, -1, -1, -1, -1, -1, -1, 1, 1, 1, 1, 1])


def test_stochastic_sign_in_evaluation_is_torchs():
    np.testing.assert_array_equal(activation("stochastic_sign").forward(tensor(EDGES)), np.sign(EDGES))


def test_two_bits_round_halves_to_even_and_pass_gradients_on_below_three_halves():
    x, found = tensor([-1.6, -1.5, -1.4, -0.6, -0.5, 0, 0.5, 0.6, 1.4, 1.5, 1.6]), activation("int2")
    np.testing.assert_array_equal(found.forward(x), [-1, -1, -1, -1, 0, 0, 0, 1, 1, 1, 1])
    np.testing.assert_array_equal(found.slope(x), [0, 0, 1, 1, 1, 1, 1, 1, 1, 0, 0])


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def swish(x: np.ndarray, beta: float) -> np.ndarray:
    return 2 * sigmoid(beta * x) * (1 + beta * x * (1 - sigmoid(beta * x))) - 1


# What each estimator acts on, x float64, and where that has a kink.
ESTIMATORS = {
    "hardtanh": (None, lambda x: np.clip(x, -1, 1)),
    "identity": (None, lambda x: x),
    "bireal": (None, lambda x: np.where(np.abs(x) < 1, 2 * x - np.sign(x) * x**2, np.sign(x))),
    "swish": (3.0, lambda x: swish(x, 3.0)),
    "steep swish": (10.0, lambda x: swish(x, 10.0)),
}


@pytest.mark.parametrize("name", ESTIMATORS)
def test_slopes_are_derivatives(name):
    beta, f = ESTIMATORS[name]
    x = np.random.default_rng(4).uniform(-2.5, 2.5, 400)
    x = x[np.abs(np.abs(x) - 1) > 1e-3]
    derivative = (f(x + 1e-6) - f(x - 1e-6)) / 2e-6
    slope = activation("sign", name.split()[-1], beta).slope(tensor(x, torch.float64))
    np.testing.assert_allclose(slope, derivative, atol=1e-7)


def test_slopes_at_the_kinks():
    at = tensor([-1.0, 0.0, 1.0])
    np.testing.assert_array_equal(activation("sign").slope(at), [0, 1, 0])
    np.testing.assert_array_equal(activation("ternary", "bireal").slope(at), [0, 2, 0])


@pytest.mark.parametrize("name", ESTIMATORS)
def test_ternary_activation(name):
    beta, f = ESTIMATORS[name]
    x = np.random.default_rng(5).normal(size=(6, 5, 4)).astype(np.float32)
    y = f(x.astype(np.float64))
    threshold = 0.4 * np.abs(y).mean()
    assert np.abs(np.abs(y) - threshold).min() > 1e-6  # none is undecided
    found = activation("ternary", name.split()[-1], beta).forward(tensor(x))
    np.testing.assert_array_equal(found, (y > threshold).astype(int) - (y < -threshold))
    assert set(np.unique(found)) == {-1, 0, 1}


def test_a_ternary_threshold_itself_is_zero():
    """Of 2.5 and four zeros: t = .4 * .5 = .2, and what is not greater is 0."""
    x = tensor([2.3, 0.2, 0, 0, 0])
    np.testing.assert_array_equal(activation("ternary", "identity").forward(x), [1, 0, 0, 0, 0])


def test_small_swish_values_keep_their_sign():
    """In float32 the formula gives 0 for them, which the original replaces by x."""
    x = tensor([-1e-9, 1e-9])
    assert (activations._swish(5.0).f(x) == x).all()


# -- batch normalization -----------------------------------------------------------------------------------------------

CASES = [
    ("bn_bc_2d", "binaryconnect", 0.15, "std"),
    ("bn_bc_4d", "binaryconnect", 0.15, "std"),
    ("bn_lasagne_2d", "lasagne", 0.1, "inv_std"),
    ("bn_lasagne_4d", "lasagne", 0.1, "inv_std"),
]


@pytest.mark.parametrize(("name", "kind", "alpha", "spread"), CASES)
def test_normalization_and_gradients_are_the_originals(name, kind, alpha, spread):
    golden = {key.removeprefix(f"{name}/"): UNITS[key] for key in UNITS.files if key.startswith(f"{name}/")}
    norm, x = batch_norm.BATCH_NORMS[kind], tensor(golden["x"])
    gamma, beta = tensor(golden["gamma"]).reshape(-1), tensor(golden["beta"]).reshape(-1)
    y, moments = norm.forward(x, gamma, beta, 1e-4)
    np.testing.assert_allclose(y, golden["y"], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(norm.output(x, moments, beta), y, rtol=1e-6, atol=1e-6)
    for found, expected in zip(norm.backward(x, tensor(golden["gy"]), moments), ("dx", "dgamma", "dbeta"), strict=True):
        tolerance = 1e-5 + 1e-3 * np.abs(golden[expected]).max()
        np.testing.assert_allclose(found.ravel(), golden[expected].ravel(), rtol=0, atol=tolerance)
    np.testing.assert_allclose(alpha * moments.mean, golden["run_mean_1"].ravel(), rtol=2e-5, atol=1e-6)
    average = 1 - alpha + alpha * moments.spread
    np.testing.assert_allclose(average, golden[f"run_{spread}_1"].ravel(), rtol=2e-5, atol=1e-6)
    averages = tensor(golden["run_mean_3"]).reshape(-1), tensor(golden[f"run_{spread}_3"]).reshape(-1)
    np.testing.assert_allclose(norm.evaluate(x, gamma, beta, *averages, 1e-4), golden["y_eval"], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", [(12, 5), (4, 5, 3, 3)])
@pytest.mark.parametrize("kind", ["torch", "torch_no_affine"])
def test_torchs_normalization_is_pytorchs(kind, shape):
    norm, affine = batch_norm.BATCH_NORMS[kind], kind == "torch"
    module = (torch.nn.BatchNorm1d if len(shape) == 2 else torch.nn.BatchNorm2d)(5, 1e-3, 0.3, affine=affine).double()
    gamma, beta = torch.ones(5, dtype=torch.float64), torch.zeros(5, dtype=torch.float64)
    if affine:
        gamma, beta = random((5,), 6, torch.float64), random((5,), 7, torch.float64)
        module.load_state_dict({"weight": gamma, "bias": beta}, strict=False)
    x, g = random(shape, 8, torch.float64).requires_grad_(), random(shape, 9, torch.float64)
    expected = module(x)
    expected.backward(g)
    y, moments = norm.forward(x.detach(), gamma, beta, 1e-3)
    dx, dgamma, dbeta = norm.backward(x.detach(), g, moments)
    np.testing.assert_allclose(y, expected.detach(), atol=1e-12)
    np.testing.assert_allclose(dx, x.grad, atol=1e-12)
    if affine:
        np.testing.assert_allclose(dgamma, module.weight.grad, atol=1e-12)
        np.testing.assert_allclose(dbeta, module.bias.grad, atol=1e-12)
    averages = 0.3 * moments.mean, 0.7 + 0.3 * moments.spread
    np.testing.assert_allclose(averages[0], module.running_mean, atol=1e-12)
    np.testing.assert_allclose(averages[1], module.running_var, atol=1e-12)
    module.eval()
    evaluated = norm.evaluate(x.detach(), gamma, beta, *averages, 1e-3)
    np.testing.assert_allclose(evaluated, module(x).detach(), atol=1e-12)


def test_one_normalization_of_the_whole_tensor_is_that_of_one_channel():
    """Gradients against autograd, in float64; the formula is that of Brevitas' tensor_norm.py."""
    from bnn_torch.linear import Given
    from bnn_torch.stages import WholeNormalized

    recipe = load_recipe("finn-tfc-mnist-1w1a")
    layer = layers_of(recipe.model, recipe.image_shape)[-1]
    part = WholeNormalized(layer.norm, layer.norm_kind, None, layer, recipe.model)
    x, g = random((7, 10), 1, torch.float64), random((7, 10), 2, torch.float64)
    names = ("gamma", "beta", "running_mean", "running_var")
    values = {f"bn4.{n}": tensor([v], torch.float64) for n, v in zip(names, (0.7, 0.3, 0.2, 1.5), strict=True)}
    gamma, beta = (values[f"bn4.{n}"].clone().requires_grad_() for n in names[:2])
    of_x = x.clone().requires_grad_()
    expected = gamma * (of_x - of_x.mean()) / (of_x.var(correction=0) + 1e-4).sqrt() + beta
    expected.backward(g)
    given = Given(x, torch.ones(()), values)
    y, taped = part.forward(x, given)
    found, of_parameters = part.backward(g, given, taped)
    np.testing.assert_allclose(y, expected.detach(), atol=1e-12)
    np.testing.assert_allclose(found, of_x.grad, atol=1e-12)
    np.testing.assert_allclose(of_parameters["bn4.gamma"], gamma.grad, atol=1e-12)
    np.testing.assert_allclose(of_parameters["bn4.beta"], beta.grad, atol=1e-12)
    statistics = part.statistics(taped)
    np.testing.assert_allclose(statistics["bn4.running_mean"], [x.mean()], atol=1e-12)
    np.testing.assert_allclose(statistics["bn4.running_var"], [x.var()], atol=1e-12)
    evaluated = part.evaluate(x, given)
    np.testing.assert_allclose(evaluated, 0.7 * (x - 0.2) / np.sqrt(1.5 + 1e-4) + 0.3, atol=1e-12)


def test_a_channel_of_a_single_value_is_normalized_to_beta():
    """As of a last batch of one image, for which PyTorch refuses to normalize."""
    y, moments = batch_norm.BATCH_NORMS["torch"].forward(random((1, 3)), torch.ones(3), tensor([1.0, 2.0, 3.0]), 1e-5)
    np.testing.assert_array_equal(y, [[1, 2, 3]])
    np.testing.assert_array_equal(moments.spread, 0)


# -- pooling and padding -----------------------------------------------------------------------------------------------


def test_pooling_is_the_originals():
    x, g = tensor(UNITS["pool/x"]), tensor(UNITS["pool/g"])
    y, places = pooling.max_pool(x, 2)
    np.testing.assert_array_equal(y, UNITS["pool/y"])
    np.testing.assert_array_equal(pooling.gradient_to_all(g, x, y, places, 2), UNITS["pool/dx_cpu"])


@given(rows=st.integers(2, 7), columns=st.integers(2, 7), size=st.integers(1, 3), seed=st.integers(0, 2**32 - 1))
def test_the_gradient_of_pooling_goes_to_the_first_of_ties(rows, columns, size, seed):
    size = min(size, rows, columns)
    x = tensor(np.random.default_rng(seed).integers(-2, 3, (2, 3, rows, columns))).requires_grad_()
    expected = torch.nn.functional.max_pool2d(x, size)
    g = random(expected.shape, seed)
    expected.backward(g)
    y, places = pooling.max_pool(x.detach(), size)
    np.testing.assert_array_equal(pooling.gradient_to_first(g, x.detach(), y, places, size), x.grad)
    np.testing.assert_array_equal(pooling.spread_to_places(g, x.detach(), places, size), x.grad)


@given(side=st.integers(4, 8), size=st.integers(2, 4), stride=st.integers(1, 3), seed=st.integers(0, 2**32 - 1))
def test_pooling_of_windows_that_overlap(side, size, stride, seed):
    x = tensor(np.random.default_rng(seed).integers(-2, 3, (2, 3, side, side + 1))).requires_grad_()
    for windows in (Pool(size, stride, size // 2), Pool(size, stride, 0)):
        numbers = size, stride, windows.padding
        expected = torch.nn.functional.max_pool2d(x, *numbers)
        g = torch.from_numpy(np.random.default_rng(seed).integers(-4, 5, expected.shape)).to(torch.float32)
        (of_x,) = torch.autograd.grad(expected, x, g)
        largest, places = pooling.window_max_pool(x.detach(), windows)
        np.testing.assert_array_equal(largest, expected.detach())
        np.testing.assert_array_equal(pooling.gradient_to_places(g, x.detach(), places, windows), of_x)
        np.testing.assert_array_equal(pooling.add_to_places(g, x.detach(), places, windows), of_x)
        expected = torch.nn.functional.avg_pool2d(x, *numbers)
        (of_x,) = torch.autograd.grad(expected, x, g)
        np.testing.assert_array_equal(pooling.mean_pool(x.detach(), windows), expected.detach())
        np.testing.assert_array_equal(pooling.gradient_of_mean_pool(g, x.detach(), windows), of_x)


@given(rows=st.integers(1, 5), columns=st.integers(1, 5), around=st.integers(1, 3), seed=st.integers(0, 2**32 - 1))
def test_copies_of_the_edge_and_their_gradient(rows, columns, around, seed):
    x = random((2, 3, rows, columns), seed).requires_grad_()
    found = padding.pad_edge(x.detach(), around)
    np.testing.assert_array_equal(
        found, np.pad(x.detach(), ((0, 0), (0, 0), (around, around), (around, around)), "edge")
    )
    g = random(found.shape, seed)
    torch.nn.functional.pad(x, (around,) * 4, mode="replicate").backward(g)
    np.testing.assert_allclose(padding.fold_edge(g, around), x.grad, atol=1e-5)


# -- gradients of convolutions -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format], ids=["channels last", "planes"])
@given(
    n=st.integers(1, 5),
    channels=st.integers(1, 3),
    filters=st.integers(1, 3),
    kernel=st.sampled_from([1, 3, 5]),
    padding=st.integers(0, 2),
    rows=st.integers(5, 7),
    columns=st.integers(5, 7),
    block=st.sampled_from([1, 20_000, 10**9]),  # bytes: an image at a time, some, all
    seed=st.integers(0, 2**32 - 1),
)
def test_the_gradient_of_convolutions_weights_is_autograds(
    layout, n, channels, filters, kernel, padding, rows, columns, block, seed
):
    """Of whole numbers, whose sums are exact in any order."""
    generator = np.random.default_rng(seed)
    x = tensor(generator.integers(-3, 4, (n, channels, rows, columns))).to(memory_format=layout)
    weight = torch.zeros((filters, channels, kernel, kernel), requires_grad=True)
    y = torch.nn.functional.conv2d(x, weight, padding=padding)
    g = tensor(generator.integers(-3, 4, y.shape)).to(memory_format=layout)
    y.backward(g)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(convolution, "BLOCK_BYTES", block)
        found = convolution.conv_weight_gradient(g, x, kernel, padding)
    np.testing.assert_array_equal(found, weight.grad)


def test_the_gradient_of_convolutions_weights_can_be_compiled():
    g, x = random((4, 3, 6, 5)), random((4, 2, 6, 5), 2)
    torch.library.opcheck(convolution.conv_weight_gradient, (g, x, 3, 1), test_utils=("test_schema", "test_faketensor"))


# -- losses ------------------------------------------------------------------------------------------------------------


def squared_hinge(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    targets = np.where(np.arange(scores.shape[1]) == labels[:, None], 1.0, -1.0)
    return np.maximum(0, 1 - targets * scores) ** 2


def cross_entropy(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return np.log(np.exp(scores).sum(axis=1)) - scores[np.arange(len(labels)), labels]


LOSSES = {
    "squared_hinge": lambda *x: squared_hinge(*x).mean(),
    "squared_hinge_sum": lambda *x: squared_hinge(*x).sum(axis=1).mean(),
    "cross_entropy": lambda *x: cross_entropy(*x).mean(),
}


@pytest.mark.parametrize("divisor", [1, 7])
@pytest.mark.parametrize("kind", LOSSES)
def test_losses_and_their_gradients(kind, divisor):
    generator = np.random.default_rng(3)
    scores, labels = generator.normal(size=(5, 10)), generator.integers(0, 10, 5)
    loss, gradient = losses.loss_and_gradient(kind, tensor(scores, torch.float64), tensor(labels), divisor)
    assert float(loss) == pytest.approx(LOSSES[kind](scores, labels) / divisor, rel=1e-12)
    for place in np.ndindex(scores.shape):
        step = np.zeros_like(scores)
        step[place] = 1e-6
        difference = LOSSES[kind](scores + step, labels) - LOSSES[kind](scores - step, labels)
        assert float(gradient[place]) == pytest.approx(difference / 2e-6 / divisor, abs=1e-8)


def test_cross_entropy_of_huge_scores_is_finite():
    """The stochastic networks without batch normalization begin with scores of tens of thousands."""
    loss, gradient = losses.loss_and_gradient("cross_entropy", tensor([[1e5, 0.0], [-3e38, 3e38]]), tensor([1, 1]))
    assert float(loss) == 5e4
    np.testing.assert_array_equal(gradient, [[0.5, -0.5], [0, 0]])


def test_the_hinge_gradient_is_the_originals():
    """(max(0, 1 - x))^2 of one image and one class."""
    x = UNITS["special/x"][np.isfinite(UNITS["special/x"])]
    for value, expected in zip(x, UNITS["special/sqhinge_grad_of_y"][np.isfinite(UNITS["special/x"])], strict=True):
        _, gradient = losses.loss_and_gradient("squared_hinge", tensor([[value]]), tensor([0]))
        assert float(gradient) == pytest.approx(float(expected), rel=1e-6)


def test_convolution_is_the_originals_with_rotated_kernels():
    from benchmarks.engine.layers import layers_of
    from bnn_torch.linear import Given, Linear

    model = load_recipe("binaryconnect-mnist", ["model.architecture=3C3-10FC"]).model
    layer = layers_of(model, (2, 5, 5))[0]
    kernels = np.ascontiguousarray(UNITS["conv/w"][:, :, ::-1, ::-1])
    given = Given(tensor(kernels), torch.ones(()), {layer.bias: torch.zeros(3)})
    found = Linear(layer, model, torch.float32).evaluate(tensor(UNITS["conv/x"]), given)
    np.testing.assert_allclose(found, UNITS["conv/y"], atol=1e-5)
