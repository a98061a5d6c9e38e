"""Fixtures for the Gluon engine's tests."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.engine import open_engine
from benchmarks.recipe import load_recipe


@pytest.fixture(scope="session")
def mx():
    """MXNet, imported after an engine has set the number of threads."""
    open_engine("gluon", load_recipe("binaryconnect-mnist", ["model.architecture=10FC"]).model, (1, 28, 28), 0)
    import mxnet

    return mxnet


REGISTERS = "from bnn_gluon.kernels import vectors; vectors.REGISTER = {}\n"


@pytest.fixture
def printed_by(tmp_path) -> Callable[[str, int, str], str]:
    """printed_by(processor, register, code): what Python code prints with kernels for registers of so many bytes."""

    def printed(processor: str, register: int, code: str) -> str:
        changed = {"NUMBA_CPU_NAME": processor, "NUMBA_CPU_FEATURES": "", "XDG_CACHE_HOME": str(tmp_path / processor)}
        command = [sys.executable, "-c", REGISTERS.format(register) + code]
        root = Path(__file__).parents[2]
        done = subprocess.run(command, env=os.environ | changed, cwd=root, check=True, capture_output=True, text=True)
        return done.stdout

    return printed


class OnlyNormalized:
    """A stage that only normalizes, with values of its parameters."""

    def __init__(self, mx: Any, kind: str, gamma: np.ndarray, beta: np.ndarray, epsilon: float, alpha: float) -> None:
        from bnn_gluon.activations import Activation
        from bnn_gluon.batch_norm import BATCH_NORMS
        from bnn_gluon.kernels.fused import NONE
        from bnn_gluon.stages import Normalization, Normalized, WholeNormalized

        norm = Normalization(BATCH_NORMS[kind], np.float32(epsilon), np.float32(alpha))
        part = WholeNormalized if kind == "tensor" else Normalized
        self.mx, self.stage = mx, part("bn1", gamma.size, norm, Activation(NONE, NONE, NONE))
        for parameter, value in ((self.stage.gamma, gamma), (self.stage.beta, beta)):
            parameter.initialize()
            parameter.set_data(mx.nd.array(value.ravel()))
        mx.nd.waitall()

    def train(self, x: np.ndarray, g: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Output, and gradients of x, gamma and beta; g is that of the output."""
        y = self.stage.forward(self.mx.nd.array(x), None).asnumpy()
        gradient = self.stage.backward(self.mx.nd.array(g)).asnumpy()
        return y, gradient, self.stage.gamma.grad().asnumpy(), self.stage.beta.grad().asnumpy()

    def evaluate(self, x: np.ndarray, mean: np.ndarray, spread: np.ndarray) -> np.ndarray:
        """Output with these moving averages."""
        self.stage.running_mean[:], self.stage.running_spread[:] = mean.ravel(), spread.ravel()
        return self.stage.evaluate(self.mx.nd.array(x)).asnumpy()


@pytest.fixture(scope="session")
def normalized(mx) -> Callable[..., OnlyNormalized]:
    """normalized(kind, gamma, beta, epsilon, alpha): a stage that only normalizes."""
    return lambda *arguments: OnlyNormalized(mx, *arguments)


@pytest.fixture(scope="session")
def whole(mx) -> Callable[..., OnlyNormalized]:
    """whole(gamma, beta, epsilon, alpha): a stage that normalizes by the whole tensor."""
    return lambda *arguments: OnlyNormalized(mx, "tensor", *arguments)
