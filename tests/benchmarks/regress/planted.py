"""Defects planted in the product's functions, and what a regression run finds then: a figure as JSON a line.

    python tests/benchmarks/regress/planted.py DEFECT...

Everything is measured in this process, so that what is patched here is what is measured; the references are those that
are committed. The seeds are fixed, so that a test says the same every time on one machine.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

sys.path.insert(0, str(Path(__file__).parents[3]))

import msgspec

from benchmarks.machine import environment

environment.clear()
for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
    environment.put(variable, "1")

import numpy as np  # noqa: E402
from msgspec.structs import replace  # noqa: E402

from benchmarks.machine.facts import cpu_model  # noqa: E402
from benchmarks.regress import measure  # noqa: E402
from benchmarks.regress.processes import data_folder, in_a_process  # noqa: E402
from benchmarks.regress.reference import Reference, read  # noqa: E402
from benchmarks.regress.suite import Suite  # noqa: E402

SEED = 5000


class Defect(NamedTuple):
    """A defect, and the benchmark whose figure of a kind shows it."""

    benchmark: str
    kind: str
    plant: Callable[[], AbstractContextManager[Any]]


def without_lr_scale() -> AbstractContextManager[Any]:
    return mock.patch("bnn_gluon.trainer.lr_scales", return_value={})


def without_clipping() -> AbstractContextManager[Any]:
    return mock.patch("bnn_gluon.trainer.clip_limits", return_value={})


def binary_weights_in_evaluation() -> AbstractContextManager[Any]:
    return mock.patch("bnn_gluon.trainer.evaluation_kinds", lambda layers, model: ["deterministic" for _ in layers])


@contextmanager
def pooled_behind_activation() -> Iterator[None]:
    """The parts of a stage in the order convolution, batch normalization, activation, pooling."""
    from bnn_gluon import stages

    original = stages.Stage.__init__

    def behind(self: Any, layer: Any, draws: Any, model: Any, gpu: Any = None) -> None:
        original(self, layer, draws, msgspec.structs.replace(model, layer_order="CBAP"), gpu)

    with mock.patch.object(stages.Stage, "__init__", behind):
        yield


def sign_of_zero_is_zero() -> AbstractContextManager[Any]:
    from bnn_gluon import activations
    from bnn_gluon.kernels.fused import TORCH_SIGN

    def sign(estimator: int, steepness: np.float32) -> activations.Activation:
        return activations.Activation(TORCH_SIGN, TORCH_SIGN, estimator, steepness=steepness)

    return mock.patch.dict(activations.ACTIVATIONS, sign=sign)


def variance_averaged() -> AbstractContextManager[Any]:
    """In place of the standard deviation."""
    from bnn_gluon.batch_norm import BinaryConnectBatchNorm

    original = BinaryConnectBatchNorm.batch

    def batch(self: Any, variance: np.ndarray, epsilon: np.float32, count: int) -> Any:
        return variance, *original(self, variance, epsilon, count)[1:]

    return mock.patch.object(BinaryConnectBatchNorm, "batch", batch)


def no_shuffle() -> AbstractContextManager[Any]:
    return mock.patch("benchmarks.run.protocol.shuffled", lambda order, seed, epoch: order)


def contrast_without_mean() -> AbstractContextManager[Any]:
    from data_prep.preprocess import contrast

    def normalize(images: np.ndarray, **options: Any) -> np.ndarray:
        return contrast.global_contrast_normalize(images, **options | {"subtract_mean": False})

    return mock.patch("data_prep.svhn.normalized.global_contrast_normalize", normalize)


def gradient_of_another_loss() -> AbstractContextManager[Any]:
    """The own choice: twice the gradient of the loss, which no rule of this suite was made for."""
    from bnn_gluon import losses

    def doubled(*arguments: Any) -> Any:
        loss, gradient = losses.loss_and_gradient(*arguments)
        return loss, 2 * gradient

    return mock.patch("bnn_gluon.trainer.loss_and_gradient", doubled)


@contextmanager
def slower_by_a_third() -> Iterator[None]:
    """Every training step takes 1.3 times as much of the processor's time."""
    from bnn_gluon.trainer import GluonEngine

    original = GluonEngine.train_step

    def step(self: Any, *arguments: Any) -> float:
        started = time.process_time()
        loss = original(self, *arguments)
        ended = started + 1.3 * (time.process_time() - started)
        while time.process_time() < ended:
            pass
        return loss

    with mock.patch.object(GluonEngine, "train_step", step):
        yield


@contextmanager
def leak() -> Iterator[None]:
    """What training leaves behind: a fifth of all that the process has had so far."""
    from benchmarks.machine.facts import peak_memory_mib
    from benchmarks.regress import budgets

    original, kept = budgets.train, []

    def train(*arguments: Any) -> Any:
        scores = original(*arguments)
        kept.append(np.ones(int(0.2 * peak_memory_mib() * 2**20 / 8)))
        return scores

    with mock.patch.object(budgets, "train", train):
        yield


def half_of_the_errors_counted() -> AbstractContextManager[Any]:
    return mock.patch("benchmarks.run.protocol.error_percent", lambda wrong, images: 50 * wrong / images)


DEFECTS = {
    "lr scale left out": Defect("binaryconnect-mnist-deterministic", "accuracy", without_lr_scale),
    "clip left out": Defect("binaryconnect-paper-mnist", "accuracy", without_clipping),
    "wrong evaluation weights": Defect("binaryconnect-mnist", "accuracy", binary_weights_in_evaluation),
    "average of the variance": Defect("binaryconnect-mnist-deterministic", "accuracy", variance_averaged),
    "no shuffle": Defect("binarynet-torch7-mnist", "accuracy", no_shuffle),
    "gradient doubled": Defect("rwth-lenet5-mnist-float", "accuracy", gradient_of_another_loss),
    "half of the errors counted": Defect("chawla-mlp-mnist-float", "accuracy", half_of_the_errors_counted),
    "pooling after activation": Defect("rwth-lenet5-mnist-binary", "bits", pooled_behind_activation),
    "sign(0) = 0": Defect("rwth-lenet5-mnist-xnor", "bits", sign_of_zero_is_zero),
    "contrast without mean": Defect("binaryconnect-svhn-none", "bits", contrast_without_mean),
    "slow kernel": Defect("rwth-lenet5-mnist-float", "speed", slower_by_a_third),
    "leak": Defect("binarynet-torch7-mnist", "memory", leak),
}


def of_this_machine(benchmark: str, kind: str) -> Reference:
    """The committed reference, with what is not comparable elsewhere measured here, without a defect."""
    committed = read("gluon")
    assert committed is not None
    if kind == "accuracy":
        return committed
    with data_folder([benchmark]) as (data, wait):
        wait(benchmark)
        seeds, rounds = (SEED,) if kind == "memory" else (), 15 if kind == "speed" else 0
        found = (in_a_process if kind == "memory" else measure.measure)(
            measure.Job(benchmark, "gluon", str(data), kind == "bits", seeds, rounds)
        )
    assert found.failed is None
    one = committed.benchmarks[benchmark]
    if kind == "bits":
        one = replace(one, bits=found.bits, draws=found.draws, first_loss=found.first_loss, data=list(found.data))
    elif kind == "speed":  # on a machine as noisy as this one may be now, the two best rounds differ least
        one = replace(one, speed=sorted(found.speed)[:2])
    else:
        one = replace(one, memory=found.memory)
    origin = replace(committed.origins[one.origin], processor=cpu_model(), factors=found.factors)
    return Reference("gluon", [origin], {benchmark: replace(one, origin=0)})


def main() -> None:
    """The command."""
    for name in sys.argv[1:] or DEFECTS:
        defect = DEFECTS[name]
        reference = of_this_machine(defect.benchmark, defect.kind)
        suite = Suite("gluon", [defect.benchmark], [defect.kind], SEED, measure.measure)
        with defect.plant():
            (figure,) = suite.run(reference)
        print(name, msgspec.json.encode(figure).decode(), sep="\t", flush=True)


if __name__ == "__main__":
    main()
