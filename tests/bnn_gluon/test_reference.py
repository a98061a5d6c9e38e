"""The Gluon engine against the authors' own Theano code, step by step (tests/golden)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.engine import open_engine
from benchmarks.recipe import ModelSettings, load_recipe
from data_prep import load

GOLDEN = Path(__file__).parents[1] / "golden"
BATCH_NORM = {"mean": "running_mean", "std": "running_std"}


def model_settings(weights: str) -> ModelSettings:
    evaluation = "real" if weights == "stochastic" else "binary"
    return load_recipe(
        "binaryconnect-mnist",
        ["model.architecture=3x64FC-10FC", f"model.weights={weights}", f"model.evaluation_weights={evaluation}"],
    ).model


def our_name(name: str) -> str:
    layer, parameter = name.split(".")
    return f"{layer}.{ {'W': 'weight', 'b': 'bias', **BATCH_NORM}.get(parameter, parameter) }"


def ours(name: str, array: np.ndarray) -> np.ndarray:
    """The original's array in our layout: weights (out, in), all else (channels,)."""
    return np.ascontiguousarray(array.T) if name.endswith(".W") else array.reshape(-1)


class Reference:
    """One golden file, with everything under our names and in our layout."""

    def __init__(self, file: str, small_mnist) -> None:
        self.arrays = np.load(GOLDEN / f"{file}.npz")
        self.images, self.labels = small_mnist.train.images, small_mnist.train.labels
        self.test = small_mnist.test
        self.batches = self.arrays["batch_idx"]

    def group(self, prefix: str) -> dict[str, np.ndarray]:
        keys = [key for key in self.arrays.files if key.startswith(prefix + "/")]
        return {our_name(k.removeprefix(prefix + "/")): ours(k, self.arrays[k]) for k in keys}

    def batch(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Images and labels of a step, counted from 1."""
        rows = self.batches[step - 1]
        return self.images[rows], self.labels[rows]


@pytest.fixture(scope="module")
def small_mnist(small_data_root):
    return load("mnist-small", small_data_root, "centered", 2000, 200)


@pytest.fixture(scope="module", params=["deterministic", "stochastic"])
def first_step(request, small_mnist):
    """An engine after the first step from the authors' initial parameters, with the recorded uniforms if stochastic."""
    short = {"deterministic": "det", "stochastic": "stoch"}[request.param]
    reference = Reference(f"A_binaryconnect_mlp_{short}_s1", small_mnist)
    engine = open_engine("gluon", model_settings(request.param), (1, 28, 28), seed=0)
    engine.load_parameters(reference.group("init"))
    uniforms = reference.group("u1") or None
    loss = engine.train_step(*reference.batch(1), lr=float(reference.arrays["LR"]), uniforms=uniforms)
    return engine, reference, loss


def test_first_loss(first_step):
    _, reference, loss = first_step
    assert loss == pytest.approx(float(reference.arrays["loss"][0]), rel=1e-5)


def test_first_gradients(first_step):
    engine, reference, _ = first_step
    gradients = engine.gradients()
    expected = reference.group("grad1")
    assert set(gradients) == set(expected)
    for name, gradient in gradients.items():
        tolerance = 1e-5 + 1e-3 * np.abs(expected[name]).max()
        assert np.abs(gradient - expected[name]).max() <= tolerance, name


def test_losses_with_the_recorded_uniforms(small_mnist):
    """Later losses too, as long as the authors' float32 and float64 runs agree on them."""
    reference = Reference("A_binaryconnect_mlp_stoch_s1", small_mnist)
    engine = open_engine("gluon", model_settings("stochastic"), (1, 28, 28), seed=0)
    engine.load_parameters(reference.group("init"))
    losses = [
        engine.train_step(
            *reference.batch(step), lr=float(reference.arrays["LR"]), uniforms=reference.group(f"u{step}")
        )
        for step in (1, 2, 3)
    ]
    np.testing.assert_allclose(losses, reference.arrays["loss"][:3], rtol=1e-5)


def test_losses_until_the_first_sign_flip(small_mnist):
    """Deterministic losses agree up to step 12; at 13 a rounding error turns a weight's sign in the original too."""
    reference = Reference("A_binaryconnect_mlp_det_s1", small_mnist)
    engine = open_engine("gluon", model_settings("deterministic"), (1, 28, 28), seed=0)
    engine.load_parameters(reference.group("init"))
    losses = [engine.train_step(*reference.batch(step), lr=float(reference.arrays["LR"])) for step in range(1, 13)]
    np.testing.assert_allclose(losses, reference.arrays["loss"][:12], rtol=1e-5)


@pytest.fixture(scope="module")
def forced_last_step(small_mnist):
    """An engine set to the authors' state after step 19, which then makes step 20."""
    reference = Reference("A_binaryconnect_mlp_det_s1", small_mnist)
    engine = open_engine("gluon", model_settings("deterministic"), (1, 28, 28), seed=0)
    state = {f"parameters/{name}": value for name, value in reference.group("step19").items()}
    state |= {f"adam_mean/{name}": value for name, value in reference.group("adam19/m").items()}
    state |= {f"adam_square/{name}": value for name, value in reference.group("adam19/v").items()}
    engine.load_state(state | {"step": np.array(19)})
    engine.train_step(*reference.batch(20), lr=float(reference.arrays["LR"]))
    return engine, reference


def test_parameters_after_the_forced_last_step(forced_last_step):
    """Within twice the distance of the authors' float32 and float64 runs after one step, and the last place of a
    float32.

    Biases are left out: their true gradient is zero, and Adam turns its rounding noise into steps.
    """
    engine, reference = forced_last_step
    parameters, expected = engine.parameters(), reference.group("step20")
    order = [our_name(name) for name in reference.arrays["param_order"]]
    distance = dict(zip(order, reference.arrays["f64/step1_maxabsdiff"], strict=True))
    for name in parameters:
        if not name.endswith(".bias"):
            last_place = np.spacing(np.abs(expected[name]).max())
            assert np.abs(parameters[name] - expected[name]).max() <= 2 * distance[name] + last_place, name


def test_evaluation_after_the_last_step(small_mnist):
    reference = Reference("A_binaryconnect_mlp_det_s1", small_mnist)
    engine = open_engine("gluon", model_settings("deterministic"), (1, 28, 28), seed=0)
    engine.load_parameters(reference.group("step20"))
    scores, expected = engine.scores(reference.test.images, 200), reference.arrays["eval/output"]
    assert np.abs(scores - expected).max() <= 1e-3 * np.abs(expected).max()
    errors = 100 * np.mean(scores.argmax(axis=1) != reference.test.labels)
    assert errors == pytest.approx(float(reference.arrays["eval/val_epoch_err_percent"]), abs=1e-4)


def test_evaluation_with_real_valued_weights(small_mnist):
    reference = Reference("A_binaryconnect_mlp_stoch_s1", small_mnist)
    engine = open_engine("gluon", model_settings("stochastic"), (1, 28, 28), seed=0)
    engine.load_parameters(reference.group("step5"))
    scores, expected = engine.scores(reference.test.images, 100), reference.arrays["eval/output"]
    assert np.abs(scores - expected).max() <= 1e-3 * np.abs(expected).max()


def test_the_authors_training_loop(small_mnist):
    """H_train_log_A: their train() for 8 epochs with their shuffles and learning rates.

    The losses agree until a rounding error first turns a weight's sign (step 13); from there on the runs are two
    samples of the same training: measured, the epochs' mean losses lie within 2 % of the log's.
    """
    log = np.load(GOLDEN / "H_train_log_A.npz")
    reference = Reference("A_binaryconnect_mlp_det_s1", small_mnist)
    engine = open_engine("gluon", model_settings("deterministic"), (1, 28, 28), seed=0)
    engine.load_parameters(reference.group("init"))
    rates, losses = log["train_batch_lr_loss"][::20, 0], log["train_batch_lr_loss"][:, 1].reshape(8, 20)
    ours = np.stack(
        [
            engine.train_epoch(reference.images, reference.labels, order, 100, float(lr))
            for order, lr in zip(log["orders"][:8], rates, strict=True)
        ]
    )
    np.testing.assert_allclose(ours[0, :12], losses[0, :12], rtol=1e-5)
    np.testing.assert_allclose(ours.mean(axis=1), losses.mean(axis=1), rtol=0.04)
    wrong = np.mean(engine.scores(reference.test.images, 100).argmax(axis=1) != reference.test.labels)
    assert wrong < 0.30  # the log ends at 23.5 %


def test_the_authors_initialisation():
    """W ~ uniform(-H, H) whatever the layer: the same distribution as theirs; the stream of random numbers is ours."""
    units = np.load(GOLDEN / "G_units.npz")
    generator = np.random.RandomState(1234)
    generator.randint(1, 2147462579)
    np.testing.assert_array_equal(units["init/W_3x2_seed1234"], generator.uniform(-1, 1, (3, 2)).astype(np.float32))
    engine = open_engine("gluon", model_settings("stochastic"), (1, 28, 28), seed=1234)
    weights = np.sort(engine.parameters()["dense1.weight"].ravel())
    uniform = np.linspace(-1, 1, weights.size)
    assert np.abs(weights - uniform).max() < 2 * 1.63 / np.sqrt(weights.size)  # Kolmogorov-Smirnov, 1 %
