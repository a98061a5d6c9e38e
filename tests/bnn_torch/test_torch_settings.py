"""Settings that are not one layer's: what evaluation uses, what is not trained, last smaller batches, penalties."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from benchmarks.engine import epoch_batches, open_engine  # noqa: E402
from benchmarks.engine.augmentation import draw_crops  # noqa: E402
from benchmarks.engine.draws import EVALUATION_WEIGHTS  # noqa: E402
from benchmarks.errors import EngineError  # noqa: E402
from benchmarks.recipe import load_recipe  # noqa: E402
from bnn_torch import quantize  # noqa: E402

pytestmark = pytest.mark.torch
DEVICES = [pytest.param("cpu", id="cpu"), pytest.param("gpu", id="gpu", marks=pytest.mark.gpu)]
SHAPE = (1, 28, 28)
SEED = 5


@pytest.fixture(params=DEVICES)
def opened(request):
    def open_model(benchmark: str, *overrides: str):
        model = load_recipe(benchmark, ["model.architecture=2x16FC-10FC", *overrides]).model
        return open_engine("torch", model, SHAPE, SEED, request.param, compile="off")

    return open_model


@pytest.fixture
def batch():
    generator = np.random.default_rng(3)
    return generator.normal(size=(50, *SHAPE)).astype(np.float32), generator.integers(0, 10, 50)


def trained(engine, batch, lr: float = 1e-3, steps: int = 2):
    for _ in range(steps):
        engine.train_step(*batch, lr)
    return engine


# -- evaluation --------------------------------------------------------------------------------------------------------


def test_weights_that_are_drawn_for_an_evaluated_batch(opened, batch):
    """As in training, by tensor and number of the batch: so the scores are those of a network with these weights."""
    settings = "model.evaluation_statistics=running", "protocol.evaluation_batch_size=null"
    engine = trained(opened("memorization-svhn-stochastic-sigmoid", *settings), batch)
    drawn = opened("memorization-svhn-stochastic-sigmoid", *settings, "model.evaluation_weights=real")
    images, _ = batch
    scores = engine.scores(images, 20)
    assert np.array_equal(scores, engine.scores(images, 20))
    for number, start in enumerate((0, 20, 40), 1):
        parameters = engine.parameters()
        for layer in range(3):
            weights = parameters[f"dense{layer + 1}.weight"]
            uniforms = quantize.uniforms(
                weights.shape, EVALUATION_WEIGHTS + layer, torch.tensor(number), (SEED, 0)
            ).numpy()
            weights[:] = np.where(uniforms < (weights + 1) / 2, 1, -1)
        drawn.load_parameters(parameters)
        np.testing.assert_allclose(scores[start : start + 20], drawn.scores(images[start : start + 20], 20), atol=1e-5)


def test_statistics_of_the_evaluated_batch(opened, batch):
    engine = trained(opened("memorization-svhn-stochastic-sigmoid", "model.evaluation_weights=real"), batch)
    images, _ = batch
    state, scores = engine.state(), engine.scores(images, 20)
    for start in (0, 20, 40):  # the last one is smaller
        part = images[start : start + 20]
        np.testing.assert_array_equal(scores[start : start + 20], engine.scores(part, 20))
    np.testing.assert_allclose(scores[:20].mean(axis=0), engine.parameters()["bn3.beta"], atol=1e-5)
    assert all(np.array_equal(value, state[name]) for name, value in engine.state().items())


@pytest.mark.parametrize("weights", ["binary", "real"])
def test_weights_of_evaluation_by_layer(weights, opened, batch):
    """Those of a real layer are real whatever the word says, and ternary ones are ternary."""
    words = "model.weights=real-stochastic-ternary"
    engine = opened("rwth-lenet5-mnist-binary", words, f"model.evaluation_weights={weights}")
    plain = opened("rwth-lenet5-mnist-binary", "model.weights=real", "model.evaluation_weights=real")
    parameters = trained(engine, batch).parameters()
    if weights == "binary":
        second, third = (parameters[f"dense{n}.weight"] for n in (2, 3))
        threshold = 0.7 * np.abs(third.astype(np.float64)).mean()
        parameters["dense2.weight"] = np.where(second > 0, 1, -1)
        parameters["dense3.weight"] = np.sign(third) * (np.abs(third) > threshold)
    plain.load_parameters(parameters)
    np.testing.assert_allclose(engine.scores(batch[0], 50), plain.scores(batch[0], 50), atol=1e-5)


# -- training ----------------------------------------------------------------------------------------------------------


def test_a_last_smaller_batch(opened, batch):
    """The same steps as one by one; the GPU replays a graph for whole batches and makes this one by itself."""
    engine, steps = (opened("rwth-lenet5-mnist-binary") for _ in range(2))
    images, labels = batch
    order, seen = np.arange(50)[::-1], []
    losses = engine.train_epoch(
        images, labels, order, 20, 1e-3, lambda *report: seen.append(report), keep_remainder=True
    )
    expected = [steps.train_step(images[rows], labels[rows], 1e-3) for rows in np.split(order, [20, 40])]
    np.testing.assert_array_equal(losses, np.array(expected, np.float32))
    assert seen[-1] == (3, losses[-1])
    assert all(np.array_equal(value, steps.state()[name]) for name, value in engine.state().items())


def test_the_loss_is_divided_by_the_batch_size_of_the_epoch(opened, batch):
    overrides = "model.optimizer=sgd", "model.weights=deterministic", "model.evaluation_weights=binary"
    divided, plain = (
        opened("chawla-mlp-mnist-binary", *overrides, f"model.loss_divisor={word}") for word in ("batch_size", "none")
    )
    losses = divided.train_epoch(*batch, np.arange(50), 20, 0, keep_remainder=True)
    expected = plain.train_epoch(*batch, np.arange(50), 20, 0, keep_remainder=True)
    np.testing.assert_allclose(losses, expected / 20, rtol=1e-6)
    for engine in (divided, plain):
        engine.train_step(*batch, 0)
    for name, gradient in plain.gradients().items():
        np.testing.assert_allclose(divided.gradients()[name], gradient / 50, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("word", ["deterministic", "stochastic"])
def test_the_last_layer_is_neither_trained_nor_clipped_but_quantized(word, opened, batch):
    engine = opened(f"chawla-mlp-mnist-{'binary' if word == 'deterministic' else word}", "model.momentum=0.5")
    before = engine.parameters()
    assert np.abs(before["dense3.weight"]).max() > 2
    trained(engine, batch)
    after, state = engine.parameters(), engine.state()
    for name in ("dense3.weight", "dense3.bias"):
        np.testing.assert_array_equal(after[name], before[name])
        assert not state[f"sgd_velocity/{name}"].any()
    for name in ("dense1.weight", "dense1.bias", "dense2.weight", "dense2.bias"):
        assert np.abs(after[name]).max() <= 1
        assert not np.array_equal(after[name], np.clip(before[name], -1, 1))


@pytest.mark.parametrize("word", ["deterministic", "stochastic"])
def test_penalties_move_parameters_as_they_say(word, opened, batch):
    """SGD's step is -lr g: its difference with and without penalties is -lr times what they add to the gradient."""
    lr, decay, l2, binary = 0.01, 0.3, 0.5, 0.7
    words = f"model.weights=real-{word}-{word}", "model.evaluation_weights=real", "model.weight_limit=100"
    penalties = f"model.weight_decay={decay}", f"model.l2_dense={l2}", f"model.binary_regularization={binary}"
    recipe = "rwth-lenet5-mnist-binary", *words, "model.momentum=0", "model.biases=true"
    with_, without = opened(*recipe, *penalties), opened(*recipe)
    before = without.parameters()
    uniforms = {name: np.random.default_rng(1).random(value.shape) for name, value in before.items()}
    losses = [engine.train_step(*batch, lr, uniforms) for engine in (with_, without)]
    assert losses[0] == losses[1]
    for name, value in without.parameters().items():
        added = decay * before[name]
        if name.endswith(".weight"):
            added += 2 * l2 * before[name]
        if name in ("dense2.weight", "dense3.weight"):
            plus = before[name] > 0 if word == "deterministic" else uniforms[name] < (before[name] / 100 + 1) / 2
            added -= 2 * binary * 100 * np.where(plus, 1, -1)
        if ".running_" in name:
            added = 0
        np.testing.assert_allclose(with_.parameters()[name], value - lr * added, atol=2e-5, err_msg=name)
        np.testing.assert_array_equal(
            with_.gradients().get(name, 0), without.gradients().get(name, 0), err_msg=name
        )  # of the loss alone


@pytest.mark.parametrize("word", ["flip_edge_crop", "flip_zero_crop"])
def test_changed_images(word, opened, batch):
    """A GPU changes them itself; a last smaller batch included."""
    images, labels = batch
    order = np.random.default_rng(6).permutation(50)
    crops = draw_crops(50, word, 1, 1, "train")
    engine, steps = (opened("rwth-lenet5-mnist-binary") for _ in range(2))
    losses = engine.train_epoch(images, labels, order, 20, 1e-3, crops=crops, keep_remainder=True)
    expected = [steps.train_step(*part, 1e-3) for part in epoch_batches(images, labels, order, 20, crops, True)]
    np.testing.assert_array_equal(losses, np.array(expected, np.float32))
    # and the next epoch, which has other changes
    crops = draw_crops(50, word, 1, 2, "train")
    losses = engine.train_epoch(images, labels, order, 20, 1e-3, crops=crops, keep_remainder=True)
    expected = [steps.train_step(*part, 1e-3) for part in epoch_batches(images, labels, order, 20, crops, True)]
    np.testing.assert_array_equal(losses, np.array(expected, np.float32))


def test_networks_of_gluoncv_are_refused():
    recipe = load_recipe("gluoncv-resnet20-cifar10")
    with pytest.raises(EngineError, match="a network of GluonCV's, for MXNet: expected --engine gluon"):
        open_engine("torch", recipe.model, recipe.image_shape, 0)
