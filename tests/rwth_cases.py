"""The engines against RWTH-IDS' own PyTorch code, step by step (tests/golden/rwth): the cases, and the comparisons.

tests/golden/record_rwth.py records them; each engine's tests run them all with its own way of opening an engine.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from benchmarks.recipe import load_recipe
from benchmarks.recipe.settings import DATASETS

GOLDEN = Path(__file__).parent / "golden" / "rwth"
# (model, image shape, seed) -> an engine.
Opened = Callable[[Any, tuple[int, ...], int], Any]
STEPS, BATCH = 3, 12
# Widths of the hidden layers that are recorded, and the same networks in our notation.
WIDTHS = {"LeNet5": (4, 6, 12), "VGGNet7": (4, 4, 6, 6, 8, 8, 12, 12)}
ARCHITECTURES = {
    "LeNet5": "4C5-MP2-6C5v-MP2-12FC-10FC",
    "VGGNet7": "4C3v-4C3-MP2-2x6C3-MP2-2x8C3-MP2-2x12FC-10FC",
}
NORMS = {"weight": "gamma", "bias": "beta", "running_mean": "running_mean", "running_var": "running_var"}


class Case(NamedTuple):
    """One golden file: a run of theirs, and the recipe that is the same.

    Attributes:
        config: of their config/*.yml.
        options: of their main.py that differ from it.
        benchmark, overrides: of ours.
    """

    config: str
    options: Mapping[str, Any]
    benchmark: str
    overrides: tuple[str, ...] = ()

    @property
    def network(self) -> str:
        return "LeNet5" if self.config.endswith("mnist") else "VGGNet7"

    @property
    def dataset(self) -> str:
        return "mnist" if self.network == "LeNet5" else "cifar10"


_SGD = ("model.optimizer=sgd", "model.momentum=0.9")


def _lenet(name: str, **options: Any) -> Case:
    return Case("binary_mnist", options, f"rwth-lenet5-mnist-{name}")


def _vgg(name: str, *overrides: str, **options: Any) -> Case:
    return Case("binary_cifar10", options, f"rwth-vgg7-cifar10-{name}", overrides)


# Penalties are stronger than theirs, 1e-4 and at most 1e-5, which would be lost in the tolerances.
_DECAY = 0.01
_WITH_DECAY = (f"model.weight_decay={_DECAY}",)
CASES = {
    "lenet5-float": Case("ref_mnist", {"weight_decay": _DECAY}, "rwth-lenet5-mnist-float", _WITH_DECAY),
    "lenet5-binary": _lenet("binary"),
    "lenet5-vanilla": _lenet("vanilla", gradient_estimator="vanilla"),
    "lenet5-bireal": _lenet("bireal", gradient_estimator="bireal"),
    "lenet5-swish": _lenet("swish", gradient_estimator="swish"),
    "lenet5-cbap": _lenet("cbap", layer_order="CBAP"),
    "lenet5-xnor": _lenet("xnor", apply_xnor_net=True),
    "lenet5-tern1": _lenet("tern1", tern_weights="1001", tern_acts="101"),
    # Their learning rate, .1, makes so narrow a network diverge.
    "vgg7-float": Case("ref_cifar10", {"lr": 0.001, "weight_decay": _DECAY}, "rwth-vgg7-cifar10-float", _WITH_DECAY),
    "vgg7-binary": _vgg("binary"),
    # Maxima of signs are +1 nearly always, and a weight behind a constant has no gradient but rounding errors, of which
    # Adam makes steps.
    "vgg7-cbap": _vgg("cbap", *_SGD, layer_order="CBAP", optimizer="sgd"),
    "vgg7-l1nfp": _vgg("l1nfp", l1_fp=True, ln_fp=True),
    "vgg7-tern5": _vgg("tern5", tern_weights="111111111", tern_acts="11111111"),
    "vgg7-reg": _vgg("reg-1e-5", f"model.binary_regularization={_DECAY}", regularization="bin", weight_decay=_DECAY),
}


class Batches(NamedTuple):
    """What goes in: for each step a batch, and one more to evaluate; images float32, in the range of the data set's."""

    images: np.ndarray
    labels: np.ndarray


def batches(case: Case) -> Batches:
    """The same for every case of a network. RandomState's stream is the same with every version of NumPy.

    Not of 256 gray levels: sums of those have ties, and a rounding error would decide which of them is the maximum.
    """
    generator, low = np.random.RandomState(20), 0 if case.dataset == "mnist" else -1
    shape = (STEPS + 1, BATCH, *DATASETS[case.dataset].image_shape)
    images = generator.uniform(low, 1, shape).astype(np.float32)
    return Batches(images, generator.randint(0, 10, shape[:2]))


def our_name(network: str, name: str) -> str:
    """ "fc1.weight" is "dense1.weight", "bn1.bias" is "bn1.beta"."""
    layer, parameter = name.split(".")
    if layer == "bn5" and network == "LeNet5":  # of apply_xnor_net
        return f"conv1_bn.{NORMS[parameter]}"
    return f"{layer}.{NORMS[parameter]}" if layer.startswith("bn") else f"{layer.replace('fc', 'dense')}.{parameter}"


class Reference:
    """One golden file, with everything under our names, and the recipe's model with their widths."""

    def __init__(self, name: str, opened: Opened) -> None:
        self.case, self._opened = CASES[name], opened
        with np.load(GOLDEN / f"{name}.npz") as file:
            self.arrays = dict(file)
        self.images, self.labels = batches(self.case)
        self.lr = float(self.arrays["learning_rate"])

    def engine(self, parameters: str):
        """An engine with their parameters before the first step, or after a step."""
        architecture = f"model.architecture={ARCHITECTURES[self.case.network]}"
        recipe = load_recipe(self.case.benchmark, [architecture, *self.case.overrides])
        engine = self._opened(recipe.model, recipe.image_shape, 0)
        engine.load_parameters({name: self.group(parameters)[name] for name in engine.parameters()})
        return engine

    def group(self, prefix: str) -> dict[str, np.ndarray]:
        """Arrays by our names. A bias that we leave out, because batch normalization takes it off, is taken off running
        means, so that the network evaluates to the same."""
        found = self._named(prefix)
        for mean, bias in self._left_out.items():
            if mean in found:
                found[mean] = found[mean] - found[bias]
        return found

    def averaged(self, step: int) -> dict[str, np.ndarray]:
        """Running means after a step without the biases that we leave out, which are averaged in them as they were."""
        means = {}
        for mean, bias in self._left_out.items():
            of_bias = self._named("before")[bias]
            for before in ("before", "step1", "step2")[:step]:
                of_bias = 0.9 * of_bias + 0.1 * self._named(before)[bias]
            means[mean] = self._named(f"step{step}")[mean] - of_bias
        return means

    @property
    def _left_out(self) -> dict[str, str]:
        """Biases that we leave out, by the running mean that they are in."""
        real_ends = "l1_fp" in self.case.options
        return {"bn1.running_mean": "conv1.bias", "bn9.running_mean": "dense3.bias"} if real_ends else {}

    def _named(self, prefix: str) -> dict[str, np.ndarray]:
        keys = [key for key in self.arrays if key.startswith(f"{prefix}/")]
        return {our_name(self.case.network, key.split("/")[1]): self.arrays[key] for key in keys}


def check_first_loss_and_gradients(reference: Reference) -> None:
    """Of the loss alone: theirs of weights has that of the binary regularization in it, and none of weight decay.

    Biases are left out: their true gradient is zero, for batch normalization follows.
    """
    engine = reference.engine("before")
    loss = engine.train_step(reference.images[0], reference.labels[0], reference.lr)
    assert loss == pytest.approx(float(reference.arrays["losses"][0]), rel=1e-5)
    gradients, expected, weights = engine.gradients(), reference.group("gradient"), reference.group("before")
    for name, gradient in gradients.items():
        if name.endswith(".bias"):
            continue
        if "regularization" in reference.case.options and name.endswith(".weight"):
            expected[name] += 2 * reference.case.options["weight_decay"] * np.where(weights[name] > 0, 1, -1)
        tolerance = 1e-5 + 1e-3 * np.abs(expected[name]).max()
        assert np.abs(gradient - expected[name]).max() <= tolerance, name


def check_three_steps(reference: Reference) -> None:
    """Losses, and parameters after each step: within a thousandth of how far the largest has come since the start.

    Of biases, which only weight decay moves but for rounding errors, within a twentieth.
    """
    engine = reference.engine("before")
    before = reference.group("before")
    for step in range(1, STEPS + 1):
        loss = engine.train_step(reference.images[step - 1], reference.labels[step - 1], reference.lr)
        assert loss == pytest.approx(float(reference.arrays["losses"][step - 1]), rel=1e-5), step
        expected = reference.group(f"step{step}") | reference.averaged(step)
        for name, value in engine.parameters().items():
            way = np.abs(expected[name] - before[name]).max()
            last_place = np.spacing(np.float32(np.abs(expected[name]).max()))
            share = 0.05 if name.endswith(".bias") else 1e-3
            assert np.abs(value - expected[name]).max() <= share * way + 2 * last_place, (step, name)


def check_evaluation(reference: Reference) -> None:
    """Of a batch that was not trained on, with their parameters after the last step."""
    engine = reference.engine(f"step{STEPS}")
    scores, expected = engine.scores(reference.images[STEPS], BATCH), reference.arrays["scores"]
    assert np.abs(scores - expected).max() <= 1e-5 * np.abs(expected).max()
