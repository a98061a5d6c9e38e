from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from benchmarks.engine.draws import keep_and_scale  # noqa: E402
from bnn_torch import quantize  # noqa: E402

pytestmark = pytest.mark.torch
KEY = (7, 3)
DEVICES = [pytest.param("cpu", id="cpu"), pytest.param("cuda", id="gpu", marks=pytest.mark.gpu)]
UNITS = np.load(Path(__file__).parents[1] / "golden" / "G_units.npz")


def words(values: list[int], kind) -> list:
    signed = np.array(values, np.uint32).view(np.int32).tolist() if kind == torch.int32 else values
    return [torch.tensor([value], dtype=kind) for value in signed]


@pytest.mark.parametrize("kind", [torch.int32, torch.int64])
@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ([0] * 4, [0] * 2, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
        ([0xFFFFFFFF] * 4, [0xFFFFFFFF] * 2, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            [0xA4093822, 0x299F31D0],
            [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
        ),
    ],
)
def test_philox_known_answers(counter, key, expected, kind):
    """The known answers of the authors' Random123 library, file kat_vectors, philox4x32-10."""
    assert [int(w) & 0xFFFFFFFF for w in quantize.philox4x32(words(counter, kind), tuple(key))] == expected


def step(number: int):
    return torch.tensor(number)


def test_draws_are_a_function_of_seed_tensor_step_and_index():
    base = quantize.uniforms((5000,), 2, step(3), KEY)
    assert torch.equal(base, quantize.uniforms((5000,), 2, step(3), KEY))
    assert torch.equal(base[:300], quantize.uniforms((3, 100), 2, step(3), KEY).reshape(-1))
    for other in (
        quantize.uniforms((5000,), 3, step(3), KEY),
        quantize.uniforms((5000,), 2, step(4), KEY),
        quantize.uniforms((5000,), 2, step(3), (7, 4)),
    ):
        assert not torch.equal(base, other)
    assert 0 <= base.min() < base.max() < 1
    assert abs(float(base.mean()) - 0.5) < 5 / np.sqrt(12 * 5000)


@pytest.mark.parametrize("device", DEVICES)
def test_compiled_draws_are_the_same(device):
    """To the bit, of so many numbers that a product of 32 bits would wrap around."""
    from bnn_torch.device import compiler

    if compiler.complaint(device) is not None:
        pytest.skip(f"nothing can be compiled here: {compiler.complaint(device)}")
    draw = compiler.compiled(lambda number: torch.stack(quantize.uniform_lanes(70, 2, number, KEY)))
    expected = torch.stack(quantize.uniform_lanes(70, 2, step(3), KEY))
    assert torch.equal(draw(step(3).to(device)).cpu(), expected)


@pytest.mark.skipif(importlib.util.find_spec("numba") is None, reason="the gluon engine's draws need numba")
def test_draws_are_those_of_the_gluon_engine():
    from bnn_gluon import quantize as gluon

    key = (np.uint32(KEY[0]), np.uint32(KEY[1]))
    weights = np.random.default_rng(1).uniform(-1.1, 1.1, 9000).astype(np.float32)
    binary = np.empty_like(weights)
    gluon.binarize_stochastic(weights, np.float32(1), np.uint32(4), np.uint32(9), *key, binary)
    chunks = quantize.in_chunks(torch.from_numpy(weights))
    ours = quantize.from_chunks(quantize.binarize_stochastic(chunks, 1.0, 4, step(9), KEY), weights.shape)
    np.testing.assert_array_equal(ours.numpy(), binary)
    mask, thresholds = np.empty(7000, np.float32), np.empty(7000, np.float32)
    keep = keep_and_scale(0.2, "rescaled")
    gluon.draw_dropout_mask(*keep, np.uint32(1 << 16), np.uint32(9), *key, mask)
    gluon.draw_thresholds(np.uint32(1 << 17), np.uint32(9), *key, thresholds)
    ours = quantize.dropout_mask((70, 100), *map(float, keep), 1 << 16, step(9), KEY)
    np.testing.assert_array_equal(ours.reshape(-1), mask)
    np.testing.assert_array_equal(quantize.thresholds((7000,), 1 << 17, step(9), KEY), thresholds)


def test_chunks_are_a_detour():
    for size in (1, 4095, 4096, 4097):
        values = torch.arange(1, size + 1, dtype=torch.float32)
        chunks = quantize.in_chunks(values)
        assert chunks.shape == (quantize.chunks_of(size), 4, 1024)
        assert torch.equal(quantize.from_chunks(chunks, (size,)), values)
        assert float(chunks.sum()) == float(values.sum())  # zeros at the end


def test_deterministic_weights():
    weights = torch.tensor([-1.0, -0.5, -0.0, 0.0, 1e-30, 0.5, 1.0, -3e-8])
    expected = torch.tensor([-1.0, -1.0, 1.0, 1.0, 1.0, 1.0, 1.0, -1.0])
    assert torch.equal(quantize.binarize_deterministic(weights, 1.0), expected)
    assert torch.equal(quantize.binarize_deterministic(weights / 2, 0.5), expected / 2)


def test_weights_of_two_bits():
    weights = torch.tensor([-2.0, -0.51, -0.5, -0.0, 0.5, 0.51, 1.5])
    expected = torch.tensor([-1.0, -1.0, 0.0, 0.0, 0.0, 1.0, 1.0])
    assert torch.equal(quantize.round_to_int2(weights, 1.0), expected)
    assert torch.equal(quantize.round_to_int2(weights / 2, 0.5), expected / 2)


@pytest.mark.parametrize(
    ("kind", "of_level"),
    [
        ("sign", lambda level: np.where(level >= 128, 1, -1)),
        ("int2", lambda level: np.where(level <= 63, -1, np.where(level <= 191, 0, 1))),
        ("int8", lambda level: np.minimum(np.rint(level * 256 / 255 - 128), 127) / 128),
    ],
)
def test_gray_levels_are_quantized(kind, of_level):
    from bnn_torch.quantized_images import quantize_images

    level = np.arange(256)
    images = torch.from_numpy(level.astype(np.float32) / np.float32(255))
    np.testing.assert_array_equal(quantize_images(kind, images), of_level(level))


def test_probabilities_of_stochastic_weights():
    weights = torch.linspace(-1, 1, 5).repeat_interleave(20_000)
    chunks = quantize.binarize_stochastic(quantize.in_chunks(weights), 1.0, 0, step(1), KEY)
    share = (quantize.from_chunks(chunks, (5, 20_000)) > 0).to(torch.float64).mean(dim=1)
    np.testing.assert_allclose(share, [0, 0.25, 0.5, 0.75, 1], atol=4 * np.sqrt(0.25 / 20_000))
    assert share[0] == 0
    assert share[4] == 1


def test_on_the_edge_cases_of_the_original():
    finite = np.isfinite(UNITS["special/x"])
    x = torch.from_numpy(UNITS["special/x"][finite])
    np.testing.assert_array_equal(quantize.probability_of_plus(x, 1.0), UNITS["special/hard_sigmoid"][finite])
    np.testing.assert_array_equal(quantize.binarize_deterministic(x, 1.0), UNITS["special/Wb_det_away"][finite])
    # Rounding half to even, as a Theano of today does, gives -1 at 0.
    np.testing.assert_array_equal(quantize.binarize_zero_to_minus(x, 1.0), UNITS["special/Wb_det_theano1_even"][finite])


def test_comparison_with_uniforms_is_strict_as_in_the_original():
    weights = torch.from_numpy((2 * UNITS["stoch/p"] - 1).astype(np.float32))
    binary = quantize.compare_with_uniforms(weights, 1.0, torch.from_numpy(UNITS["stoch/u"]))
    np.testing.assert_array_equal((binary + 1) / 2, UNITS["stoch/bit"])


@pytest.mark.parametrize("limit", [1.0, 0.25])
@pytest.mark.parametrize("size", [7, 4096, 5000])
def test_ternary_weights(size, limit):
    """The zeros at the end of the last chunk, and what training makes of them, do not count."""
    weights = np.random.default_rng(2).normal(size=size).astype(np.float32)
    chunks = quantize.in_chunks(torch.from_numpy(weights))
    chunks.reshape(-1)[size:] = 9.0
    threshold = 0.7 * np.abs(weights.astype(np.float64)).mean()
    ternary = quantize.from_chunks(quantize.ternarize(chunks, limit, size), (size,))
    np.testing.assert_array_equal(ternary, limit * (np.sign(weights) * (np.abs(weights) > threshold)))


def quantizer(kind: str, zero_weight: str = "plus") -> quantize.Quantizer:
    return quantize.Quantizer(kind, 0.5, zero_weight, size=5, tensor=3, key=KEY)


def test_how_layers_are_quantized():
    weights = quantize.in_chunks(torch.tensor([-0.4, -0.1, 0.0, 0.1, 0.4]))

    def quantized(*word: str) -> list[float]:
        return quantize.from_chunks(quantizer(*word)(weights, step(2)), (5,)).tolist()

    assert quantized("deterministic") == [-0.5, -0.5, 0.5, 0.5, 0.5]
    assert quantized("deterministic", "minus") == [-0.5, -0.5, -0.5, 0.5, 0.5]
    assert quantized("ternary") == [-0.5, 0, 0, 0, 0.5]  # the threshold is .14
    assert quantizer("real")(weights, step(2)) is weights
    drawn = quantize.uniforms((5,), 3, step(2), KEY) < torch.tensor([0.1, 0.4, 0.5, 0.6, 0.9])
    assert quantized("stochastic") == [0.5 if plus else -0.5 for plus in drawn]
