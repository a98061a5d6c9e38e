"""The engines against the authors' own Theano code, step by step (tests/golden): the cases, and the comparisons.

Each engine's test_reference.py runs them all with its own way of opening an engine.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from benchmarks.recipe import load_recipe
from data_prep import load

GOLDEN = Path(__file__).parent / "golden"
# (model, image shape, seed) -> an engine.
Opened = Callable[[Any, tuple[int, ...], int], Any]
NAMES = {"W": "weight", "b": "bias", "mean": "running_mean", "std": "running_std", "inv_std": "running_inv_std"}
MLP, CNN = "3x64FC-10FC", "2x8C3-MP2-2x16C3-MP2-2x32C3-MP2-2x32FC-10FC"


class Case(NamedTuple):
    """One golden file and the recipe whose model it is: the authors' script with smaller layers."""

    file: str
    benchmark: str
    overrides: tuple[str, ...]
    data: str
    preprocessing: str

    @property
    def stochastic(self) -> bool:
        return "model.weights=stochastic" in self.overrides


DETERMINISTIC = ("model.weights=deterministic", "model.evaluation_weights=binary")
STOCHASTIC = ("model.weights=stochastic", "model.evaluation_weights=real")
NO_DROPOUT = ("model.dropout_input=0", "model.dropout_hidden=0")
ALL_TIES = ("model.max_pool_gradient=all",)  # as Theano on the CPU, which made C
CIFAR = ("cifar10-small", "signed")
CASES = {
    "A det": Case("A_binaryconnect_mlp_det_s1", "binaryconnect-mnist", DETERMINISTIC, "mnist-small", "centered"),
    "A stoch": Case("A_binaryconnect_mlp_stoch_s1", "binaryconnect-mnist", STOCHASTIC, "mnist-small", "centered"),
    "B": Case("B_binarynet_mlp_s1", "binarynet-mnist", NO_DROPOUT, "mnist-small", "signed"),
    "C det": Case("C_binaryconnect_cnn_det_s1", "binaryconnect-cifar10", ALL_TIES + DETERMINISTIC, *CIFAR),
    "C stoch": Case("C_binaryconnect_cnn_stoch_s1", "binaryconnect-cifar10", ALL_TIES + STOCHASTIC, *CIFAR),
    "D": Case("D_binarynet_cnn_firstmaxpool_s1", "binarynet-cifar10", (), *CIFAR),
}
# Until which step the authors' float32 and float64 runs have the same losses: then a rounding error turns a sign.
STEPS = {"A det": 12, "A stoch": 2, "B": 20, "C det": 4, "C stoch": 2, "D": 10}


def our_name(name: str) -> str:
    layer, parameter = name.split(".")
    return f"{layer}.{NAMES.get(parameter, parameter)}"


def ours(name: str, array: np.ndarray) -> np.ndarray:
    """The original's array in our layout: weights (out, in), kernels rotated (theirs is a true convolution)."""
    if not name.endswith(".W"):
        return array.reshape(-1)
    return np.ascontiguousarray(array.T if array.ndim == 2 else array[:, :, ::-1, ::-1])


class Reference:
    """One golden file, with everything under our names and in our layout, and the images that it was made with."""

    def __init__(self, case: str, root: Path, opened: Opened) -> None:
        self.name, self.case, self._opened = case, CASES[case], opened
        with np.load(GOLDEN / f"{self.case.file}.npz") as file:
            self.arrays = dict(file)
        counts = {"mnist-small": (2000, 200), "cifar10-small": (400, 100)}[self.case.data]
        data = load(self.case.data, root, self.case.preprocessing, *counts)
        self.images, self.labels, self.test = data.train.images, data.train.labels, data.test
        if self.case.data == "cifar10-small":  # the golden training images are those of both splits
            self.images = np.concatenate([self.images, data.valid.images])
            self.labels = np.concatenate([self.labels, data.valid.labels])

    def group(self, prefix: str) -> dict[str, np.ndarray]:
        keys = [key for key in self.arrays if key.startswith(prefix + "/")]
        return {our_name(k.removeprefix(prefix + "/")): ours(k, self.arrays[k]) for k in keys}

    def engine(self, parameters: str = "init"):
        """An engine with the authors' parameters of a step."""
        architecture = MLP if self.case.data == "mnist-small" else CNN
        settings = (f"model.architecture={architecture}", *self.case.overrides)
        self.recipe = load_recipe(self.case.benchmark, settings)
        engine = self._opened(self.recipe.model, self.recipe.image_shape, 0)
        engine.load_parameters(self.group(parameters))
        return engine

    def train_step(self, engine, step: int) -> float:
        """Make the authors' step, counted from 1, with the recorded uniform draws if the weights are stochastic."""
        rows = self.arrays["batch_idx"][step - 1]
        uniforms = self.group(f"u{step}") if self.case.stochastic else None
        return engine.train_step(self.images[rows], self.labels[rows], float(self.arrays["LR"]), uniforms)

    @property
    def last_step(self) -> int:
        return 5 if self.case.stochastic else len(self.arrays["batch_idx"])


def check_first_loss_and_gradients(reference: Reference, tolerances: Mapping[str, float] | None = None) -> None:
    """`tolerances` of gradients by name, relative to the largest, where it is not 1e-3."""
    engine = reference.engine()
    loss = reference.train_step(engine, 1)
    assert loss == pytest.approx(float(reference.arrays["loss"][0]), rel=1e-5)
    gradients, expected = engine.gradients(), reference.group("grad1")
    assert set(gradients) == set(expected)
    for name, gradient in gradients.items():
        tolerance = 1e-5 + (tolerances or {}).get(name, 1e-3) * np.abs(expected[name]).max()
        assert np.abs(gradient - expected[name]).max() <= tolerance, name


def check_losses_until_a_rounding_error_turns_a_sign(reference: Reference) -> None:
    engine = reference.engine()
    losses = [reference.train_step(engine, step) for step in range(1, STEPS[reference.name] + 1)]
    np.testing.assert_allclose(losses, reference.arrays["loss"][: STEPS[reference.name]], rtol=1e-5)


def check_parameters_after_the_forced_last_step(
    reference: Reference, tolerances: Mapping[str, float] | None = None
) -> None:
    """From the authors' state before their last step, within twice the distance of their float32 and float64 runs after
    one step, and the last place of a float32; or within the tolerance of that name.

    Biases are left out: their true gradient is zero, and Adam turns its rounding noise into steps.
    """
    before = reference.last_step - 1
    engine = reference.engine()
    state = {f"parameters/{name}": value for name, value in reference.group(f"step{before}").items()}
    for ours_, theirs in (("mean", "m"), ("square", "v")):
        moments = reference.group(f"adam{before}/{theirs}")
        state |= {f"adam_{ours_}/{name}": value for name, value in moments.items()}
    engine.load_state(state | {"step": np.array(before)})
    reference.train_step(engine, before + 1)
    parameters, expected = engine.parameters(), reference.group(f"step{before + 1}")
    order = [our_name(name) for name in reference.arrays["param_order"]]
    distance = dict(zip(order, reference.arrays["f64/step1_maxabsdiff"], strict=True))
    for name in parameters:
        if not name.endswith(".bias"):
            largest = np.abs(expected[name]).max()
            if ".running_" in name:  # made of batch values that alpha makes small
                largest /= reference.recipe.model.batch_norm_alpha
            last_place = np.spacing(np.float32(largest))
            tolerance = max(2 * distance[name] + last_place, (tolerances or {}).get(name, 0.0))
            assert np.abs(parameters[name] - expected[name]).max() <= tolerance, name


def check_evaluation_after_the_last_step(reference: Reference) -> None:
    """With binary weights, or real-valued ones after stochastic training."""
    engine = reference.engine(f"step{reference.last_step}")
    scores, expected = engine.scores(reference.test.images, 100), reference.arrays["eval/output"]
    assert np.abs(scores - expected).max() <= 1e-3 * np.abs(expected).max()
    errors = 100 * np.mean(scores.argmax(axis=1) != reference.test.labels)
    assert errors == pytest.approx(float(reference.arrays["eval/val_epoch_err_percent"]), abs=1e-4)


def check_the_authors_training_loop(reference: Reference) -> None:
    """H_train_log_A: their train() for 8 epochs with their shuffles and learning rates.

    The losses agree until a rounding error first turns a weight's sign (step 13); from there on the runs are two
    samples of the same training: measured, the epochs' mean losses lie within 2 % of the log's.
    """
    assert reference.name == "A det"
    with np.load(GOLDEN / "H_train_log_A.npz") as file:
        log = dict(file)
    engine = reference.engine()
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


def check_the_authors_initialization(opened: Opened) -> None:
    """W ~ uniform(-H, H) whatever the layer: the same distribution as theirs; the stream of random numbers is ours."""
    with np.load(GOLDEN / "G_units.npz") as file:
        units = dict(file)
    generator = np.random.RandomState(1234)
    generator.randint(1, 2147462579)
    np.testing.assert_array_equal(units["init/W_3x2_seed1234"], generator.uniform(-1, 1, (3, 2)).astype(np.float32))
    recipe = load_recipe("binaryconnect-mnist", ["model.architecture=3x64FC-10FC"])
    engine = opened(recipe.model, recipe.image_shape, 1234)
    weights = np.sort(engine.parameters()["dense1.weight"].ravel())
    uniform = np.linspace(-1, 1, weights.size)
    assert np.abs(weights - uniform).max() < 2 * 1.63 / np.sqrt(weights.size)  # Kolmogorov-Smirnov, 1 %
