"""What MXNet computes on a GPU, and what goes there and back.

A network's products, nearly all of its work, are made on the GPU. Normalization, activations, random draws and updates
are compiled for the CPU and work in its memory, so arrays are copied before and after. GluonCV's networks are wholly on
the GPU, but for their update. `gpu` is a context of MXNet's: `mxnet.gpu(0)`, or in tests `mxnet.cpu(1)`, which has a
memory of its own too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import mxnet
from mxnet import nd

from benchmarks.errors import EngineError
from benchmarks.machine.facts import has_code, nvidia_gpus
from benchmarks.recipe.architecture import LayerShape
from bnn_gluon.linear import Linear
from bnn_gluon.memory import buffer
from bnn_gluon.unwritten_weights import UnwrittenWeights


def usable_gpu(capabilities: Iterable[str]) -> Any:
    """The first GPU, by MXNet's count.

    Nothing is computed to find out: where there is no driver, that ends the process.

    Args:
        capabilities: the compute capabilities that GPU builds of MXNet have code for.

    Raises:
        EngineError: a build of MXNet for CPUs, no GPU, or one that MXNet has no code for.
    """
    if not mxnet.runtime.Features().is_enabled("CUDA"):
        raise EngineError("the installed mxnet is a build for CPUs")
    gpus = nvidia_gpus()
    try:
        count = mxnet.context.num_gpus()
    except mxnet.MXNetError as error:
        raise EngineError(f"mxnet asked for GPUs: {str(error).strip().splitlines()[-1]}") from error
    if not count:
        raise EngineError(f"mxnet finds none; nvidia-smi shows {', '.join(gpu.name for gpu in gpus) or 'none either'}")
    if gpus and not has_code(gpus[0].capability, capabilities):
        raise EngineError(f"{gpus[0].name} is of compute capability {gpus[0].capability}")
    return mxnet.gpu(0)


class LinearOnGpu(Linear):
    """A linear layer whose products are made on a GPU. All that it is given, and gives, is in the host's memory."""

    def __init__(self, gpu: Any, shape: LayerShape, **options: bool) -> None:
        """`options`: those of `Linear`, but `pooled`."""
        super().__init__(shape, **options)
        self._gpu = gpu

    def use(self, weights: UnwrittenWeights | None) -> bool:
        return False

    def forward(self, x: Any) -> Any:
        self._take(x)
        _copy(self._values, self._executor.arg_dict)
        self._executor.forward(is_train=True)
        output = self._executor.outputs[0]
        return output.copyto(buffer(self, "_output", output.shape, gradient=False))

    def backward(self, gradient: Any) -> Any | None:
        self._set_moved_bias(gradient)
        self._executor.backward([gradient.as_in_context(self._gpu)])
        _copy({name: self._executor.grad_dict[name] for name in self._gradients}, self._gradients)
        self._fold_edges()
        return self._x.grad

    def evaluate(self, x: Any) -> Any:
        values, _ = self._arguments(self._pad(x))
        there = [value.as_in_context(self._gpu) for value in values.values()]
        return self._block.hybrid_forward(nd, *there).as_in_context(mxnet.cpu())

    def _bind(self, x: Any) -> Any:
        self._values, self._gradients = self._arguments(x)
        groups = self._values, self._gradients
        there = [{name: array.as_in_context(self._gpu) for name, array in group.items()} for group in groups]
        return self._bound(self._gpu, *there)


class OnHost:
    """A parameter of Gluon's on a GPU, with its value and gradient in the host's memory, as the update wants them."""

    def __init__(self, parameter: Any) -> None:
        self._there = parameter
        self._value, self._gradient = (array.as_in_context(mxnet.cpu()) for array in self._arrays())

    def _arrays(self) -> tuple[Any, Any]:
        return self._there.data(), self._there.grad()

    def data(self) -> Any:
        """The value, as it was fetched and then updated."""
        return self._value

    def grad(self) -> Any:
        """The gradient, as it was fetched."""
        return self._gradient

    def fetch(self) -> None:
        """Copy value and gradient from the GPU."""
        value, gradient = self._arrays()
        value.copyto(self._value)
        gradient.copyto(self._gradient)

    def send(self) -> None:
        """Copy the value to the GPU."""
        self._value.copyto(self._there.data())


def _copy(sources: Mapping[str, Any], targets: Mapping[str, Any]) -> None:
    for name, source in sources.items():
        source.copyto(targets[name])
