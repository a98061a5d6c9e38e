"""Products on a GPU. To MXNet `mxnet.cpu(1)` is another device than `mxnet.cpu(0)`, with memory of its own."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.engine import open_engine
from benchmarks.errors import EngineError
from benchmarks.recipe import load_recipe

pytestmark = pytest.mark.slow

LENET = "model.architecture=4C5-MP2-8C5v-MP2-32FC-10FC"
# The CPU has its own loops for a first layer of 3 x 3 and 5 x 5, so most here have one of 7 x 7.
MODELS = {
    "stochastic": ("binaryconnect-mnist", "model.architecture=2x32FC-10FC"),
    "signs": ("binarynet-cifar10", "model.architecture=4C7-4C3-MP2-8C3-MP2-16FC-10FC"),
    "shift-based": ("binarynet-torch7-svhn", "model.architecture=4C7-MP2-16FC-10FC"),
    "edges, no biases": ("rwth-lenet5-mnist-binary", LENET, "model.padding=edge"),
    "ternary": ("rwth-lenet5-mnist-tern1", LENET),
    "linear output through a ReLU, dropout": ("memorization-cifar10-dropout", "model.architecture=4C7-MP2-2x16FC-10FC"),
}
ADDED_IN_ANOTHER_ORDER = ("ternary",)  # than MXNet does


@pytest.fixture
def elsewhere():
    """What stands for a GPU."""
    open_engine("gluon", load_recipe("binaryconnect-mnist").model, (1, 28, 28), 0)  # imports MXNet, with its threads
    import mxnet

    return mxnet.cpu(1)


def steps_and_scores(engine, shape: tuple[int, ...]) -> list[np.ndarray]:
    """Losses, gradients, state and scores of two epochs with a last batch that is smaller."""
    generator = np.random.default_rng(3)
    images, labels = generator.normal(size=(50, *shape)).astype(np.float32), generator.integers(0, 10, 50)
    found = []
    for _ in range(2):
        found.append(engine.train_epoch(images, labels, np.arange(50), 20, 0.01, keep_remainder=True))
        found += engine.gradients().values()
        found.append(engine.scores(images, 30))
    return [*found, *engine.state().values()]


@pytest.mark.parametrize("name", MODELS)
def test_products_made_elsewhere_change_nothing(elsewhere, name):
    from bnn_gluon.trainer import GluonEngine

    benchmark, *overrides = MODELS[name]
    recipe = load_recipe(benchmark, overrides)
    here, there = (GluonEngine(recipe.model, recipe.image_shape, 5, 2, gpu) for gpu in (None, elsewhere))
    expected, found = (steps_and_scores(engine, recipe.image_shape) for engine in (here, there))
    for one, other in zip(expected, found, strict=True):
        if name in ADDED_IN_ANOTHER_ORDER:
            np.testing.assert_allclose(other, one, rtol=1e-3, atol=1e-5)
        else:
            np.testing.assert_array_equal(one, other)


def test_gluoncvs_networks_are_trained_elsewhere(elsewhere):
    from bnn_gluon.zoo import ZooEngine

    recipe = load_recipe("gluoncv-resnet20-cifar10")
    here, there = (ZooEngine(recipe.model, recipe.image_shape, 5, 2, gpu) for gpu in (None, elsewhere))
    generator = np.random.default_rng(3)
    images, labels = generator.random((12, *recipe.image_shape), np.float32), generator.integers(0, 10, 12)
    before = there.parameters()
    for engine in (here, there):
        engine.train_epoch(images, labels, np.arange(12), 6, 0.1)
    np.testing.assert_array_equal(here.scores(images, 5), there.scores(images, 5))
    for expected, found in ((here.state(), there.state()), (here.gradients(), there.gradients())):
        assert expected.keys() == found.keys()
        for name, value in expected.items():
            np.testing.assert_array_equal(value, found[name], name)
    assert all((before[name] != value).any() for name, value in there.parameters().items() if name.endswith("weight"))
    resumed = ZooEngine(recipe.model, recipe.image_shape, 7, 2, elsewhere)
    resumed.load_state(there.state())
    assert resumed.train_step(images, labels, 0.1) == there.train_step(images, labels, 0.1)


def test_a_build_for_cpus_is_refused():
    with pytest.raises(EngineError, match=r"device 'gpu': the installed mxnet is a build for CPUs; .*docs/gpu\.md"):
        open_engine("gluon", load_recipe("binaryconnect-mnist").model, (1, 28, 28), 0, "gpu")


@pytest.mark.gpu
def test_a_gpu_computes_as_the_cpu_does():
    recipe = load_recipe("rwth-lenet5-mnist-binary", [LENET])
    try:
        engines = [open_engine("gluon", recipe.model, recipe.image_shape, 5, device) for device in ("cpu", "gpu")]
    except EngineError as error:
        pytest.skip(str(error))
    assert engines[1].describe()["device"] == "gpu"
    generator = np.random.default_rng(3)
    images, labels = generator.normal(size=(20, *recipe.image_shape)).astype(np.float32), generator.integers(0, 10, 20)
    losses = [[engine.train_step(images, labels, 0.01) for _ in range(3)] for engine in engines]
    np.testing.assert_allclose(*losses, rtol=1e-3)
