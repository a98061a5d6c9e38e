"""BNN_KERNELS=mxnet: MXNet's and NumPy's operations come to what the compiled loops compute."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.engine import open_engine
from benchmarks.errors import EngineError
from benchmarks.recipe import load_recipe
from bnn_gluon.kernels import choice

SHAPE = (1, 12, 12)
# Between them: products of signs, images of one channel, gradients below a pooling, every activation and estimator.
NETWORKS = {
    "signs below a pooling": ("binarynet-cifar10", ["model.architecture=32C3-32C3-MP2-33FC-10FC"]),
    "one channel": ("binaryconnect-mnist", ["model.architecture=6C3-MP2-9FC-10FC"]),
    **{
        f"sign, {gradient}": ("rwth-lenet5-mnist-binary", [f"model.activation_gradient={gradient}", *beta])
        for gradient, beta in {"hardtanh": [], "identity": [], "bireal": [], "swish": ["model.swish_beta=5.0"]}.items()
    },
}
LENET = "model.architecture=6C5-MP2-8C3-MP2-9FC-10FC"


@pytest.mark.parametrize("name", NETWORKS)
def test_both_ways_come_to_the_same(monkeypatch, name):
    benchmark, overrides = NETWORKS[name]
    if benchmark.startswith("rwth"):
        overrides = [LENET, *overrides]
    recipe = load_recipe(benchmark, overrides)
    rng = np.random.default_rng(1)
    images, labels = rng.uniform(-1, 1, (8, *SHAPE)).astype(np.float32), rng.integers(0, 10, 8)

    def results(kernels: str) -> dict[str, np.ndarray]:
        monkeypatch.setenv(choice.VARIABLE, kernels)
        engine = open_engine("gluon", recipe.model, SHAPE, 1)
        assert ("BNN_KERNELS=mxnet" in engine.describe()["features"]) == (kernels == choice.MXNET)
        scores = engine.scores(images, 8)
        loss = engine.train_step(images, labels, 0.0)
        return engine.gradients() | {"scores": scores, "loss": np.array(loss)}

    compiled, mxnets = results(choice.COMPILED), results(choice.MXNET)
    assert compiled.keys() == mxnets.keys()
    for key, value in mxnets.items():
        # Some gradients, as those of biases that a batch normalization takes off, are nothing but rounding errors.
        tolerance = 1e-6 + 1e-4 * np.abs(value).max()
        np.testing.assert_allclose(compiled[key], value, rtol=0, atol=tolerance, err_msg=key)


def test_another_value_is_refused_in_one_line(monkeypatch):
    monkeypatch.setenv(choice.VARIABLE, "cuda")
    with pytest.raises(EngineError, match=r"^BNN_KERNELS=cuda: expected compiled \(the default\) or mxnet$"):
        open_engine("gluon", load_recipe("binaryconnect-mnist").model, (1, 28, 28), 0)
