"""Binary weights that are packed without being written: as those that are written, in a network to the bit."""

from __future__ import annotations

import numpy as np
import pytest
from examples import examples
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.engine import open_engine
from benchmarks.recipe import load_recipe

pytestmark = pytest.mark.usefixtures("mx")  # before what is tested is imported
SIZES = st.one_of(st.integers(1, 130), st.integers(131, 700))
KINDS = ["deterministic", "stochastic", "layer_scaled", "loss_aware"]


@examples(30)
@given(SIZES, SIZES, st.sampled_from(KINDS), st.sampled_from(["plus", "minus"]), st.sampled_from([1, 0.3]), st.data())
def test_codes_and_bits_are_those_of_the_weights_that_are_written(units, inputs, kind, zero_weight, limit, data):
    from bnn_gluon.kernels import sign_bits
    from bnn_gluon.kernels.dense_tables import pack_written
    from bnn_gluon.kernels.table_products import TableProduct
    from bnn_gluon.unwritten_weights import UnwrittenWeights

    seed, step = data.draw(st.integers(0, 2**32 - 1)), data.draw(st.integers(1, 2**32 - 1))
    rng, limit = np.random.default_rng(seed), np.float32(limit)
    special = np.array([0, -0.0, 1, -1, 2.98e-8, -2.98e-8, 1e-42, -1e-42, np.inf, -np.inf, np.nan], np.float32) * limit
    weights = rng.uniform(-limit, limit, units * inputs).astype(np.float32)
    often = rng.random(weights.size) < 0.1
    weights[often] = rng.choice(special, often.sum())
    draw = np.uint32(3), np.uint32(step), np.uint32(seed), np.uint32(7)
    coming = UnwrittenWeights(kind, zero_weight, weights, limit, draw)
    written = np.empty((units, inputs), np.float32)
    coming.write(written.reshape(-1))
    assert coming.binary
    for wanted in (("straight",), ("transposed",), ("straight", "transposed"), ("straight", "bits"), ("bits",)):
        ours, theirs = (
            {name: sign_bits.room(units, inputs) if name == "bits" else TableProduct() for name in wanted}
            for _ in range(2)
        )
        possible = "bits" not in wanted or bool((np.abs(written) == 1).all())
        assert coming.pack(written.shape, **ours) == pack_written(written, **theirs) == possible
        for name in wanted if possible else ():
            if name == "bits":
                np.testing.assert_array_equal(ours[name], theirs[name])
            else:
                np.testing.assert_array_equal(ours[name]._codes(), theirs[name]._codes())
                assert ours[name]._scale == theirs[name]._scale


@pytest.mark.parametrize(
    ("recipe", "changed"),
    [
        ("binaryconnect-mnist", []),
        ("binarynet-mnist", []),
        ("lab-mnist-bnn", []),
        ("finn-sfc-mnist-1w1a", []),
        ("chawla-mlp-mnist-binary", []),
        ("binaryconnect-mnist", ["model.optimizer=torch_adam", "model.binary_regularization=0.001"]),
    ],
)
def test_a_network_has_the_same_bits_whether_its_weights_are_written_or_not(monkeypatch, recipe, changed):
    from bnn_gluon import linear
    from bnn_gluon.kernels import dense_tables

    monkeypatch.setattr(dense_tables, "pays", lambda lines, rows, sums: True)
    model = load_recipe(recipe, ["model.architecture=70FC-80FC-10FC", *changed]).model
    rng = np.random.default_rng(1)
    images, labels = rng.uniform(-1, 1, (20, 1, 9, 9)).astype(np.float32), rng.integers(0, 10, 20)

    def state() -> dict[str, np.ndarray]:
        engine = open_engine("gluon", model, (1, 9, 9), 1)
        for _ in range(3):
            engine.train_step(images, labels, 0.01)
            scores = engine.scores(images, 20)
        return engine.state() | engine.gradients() | {"scores": scores}

    unwritten = state()
    monkeypatch.setattr(linear.Linear, "use", lambda self, weights: False)
    for name, value in state().items():
        np.testing.assert_array_equal(unwritten[name], value, err_msg=name)


def test_weights_are_written_where_something_else_needs_them(monkeypatch):
    """With few units MXNet makes the products: it gets the weights of this very step."""
    from bnn_gluon import linear

    model = load_recipe("binaryconnect-mnist", ["model.architecture=3FC-10FC"]).model
    rng = np.random.default_rng(1)
    images, labels = rng.uniform(-1, 1, (20, 1, 9, 9)).astype(np.float32), rng.integers(0, 10, 20)

    def losses() -> list[float]:
        engine = open_engine("gluon", model, (1, 9, 9), 1)
        return [engine.train_step(images, labels, 0.1) for _ in range(3)]

    found = losses()
    monkeypatch.setattr(linear.Linear, "use", lambda self, weights: False)
    assert losses() == found
