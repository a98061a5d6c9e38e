"""GluonCV's networks for CIFAR-10, trained as GluonCV trains them: real-valued references for what binarization costs.

The network is GluonCV's own, with Gluon's autograd; the update is this house's, because that of MXNet 1.9.1 keeps the
learning rate in the velocity, which the one that GluonCV trained with did not (apache/mxnet#15543).
Source: gluoncv 0.10.5, model_zoo/cifarresnet.py and model_zoo/cifarwideresnet.py; dmlc/gluon-cv@1daae5e,
scripts/classification/cifar/train_cifar10.py.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mxnet
import numpy as np
from mxnet import autograd, gluon, nd

from benchmarks.engine.layers import glorot_limit
from benchmarks.engine.updates import Penalty
from benchmarks.errors import EngineError
from benchmarks.recipe.networks import IMAGE_SHAPE, MEAN, NETWORKS, STD, network
from bnn_gluon.device import OnHost
from bnn_gluon.trainer_base import BaseEngine, UpdateSettings

if TYPE_CHECKING:
    from benchmarks.recipe import ModelSettings

_GLUON_NAME = re.compile(r"(?P<layer>.*(?P<kind>conv|batchnorm|dense)\d+)_(?P<parameter>[a-z_]+)")
_KINDS = {"conv": "conv", "batchnorm": "bn", "dense": "dense"}
_MEAN, _STD = (np.array(values, np.float32)[:, None, None] for values in (MEAN, STD))


class ZooEngine(BaseEngine):
    """One of GluonCV's networks with its training rule: see `benchmarks.engine.Engine`.

    Layers of each kind are numbered in the order of Gluon's parameters, which is that of `benchmarks.recipe.networks`.
    """

    def __init__(
        self, model: ModelSettings, input_shape: tuple[int, ...], seed: int, threads: int, gpu: Any | None = None
    ) -> None:
        """`input_shape` is networks.IMAGE_SHAPE, as no recipe with another is consistent. `gpu`: where to compute."""
        assert tuple(input_shape) == IMAGE_SHAPE
        self._net, self._loss = build(model, gpu), gluon.loss.SoftmaxCrossEntropyLoss()
        named = house_names(self._net)
        trained = {name: parameter for name, parameter in named.items() if parameter.grad_req != "null"}
        # gamma and beta of a normalization that has none are 1 and 0 in Gluon, and not worth a name.
        self._parameters = {name: named[name] for name in named if name in trained or ".running_" in name}
        shapes = {name: parameter.shape for name, parameter in self._parameters.items()}
        # Weights, biases, gamma and beta alike: see `benchmarks.recipe.settings.ModelSettings`, "Update".
        decays = dict.fromkeys(trained, Penalty(model.weight_decay, 0)) if model.weight_decay else {}
        self._copies = {} if gpu is None else {name: OnHost(parameter) for name, parameter in trained.items()}
        settings = UpdateSettings(decays, {}, {}, (), {})
        super().__init__(model, threads, gpu, shapes, self._copies or trained, {}, settings)
        self.load_parameters(self._initial_values(seed))

    def _initial_values(self, seed: int) -> dict[str, np.ndarray]:
        """All parameters before the first step: weights uniform within Glorot's limit, gamma and variances 1, others 0.

        Source: train_cifar10.py, net.initialize(mx.init.Xavier()), which is Glorot's rule by its defaults.
        """
        generator = np.random.Generator(np.random.PCG64(seed))
        values = {
            name: np.full(parameter.shape, float(name.endswith((".gamma", ".running_var"))), np.float32)
            for name, parameter in self._parameters.items()
        }
        weights = [name for name in values if name.endswith(".weight")]
        for name, shape in zip(weights, network(self._model.architecture).shapes, strict=True):
            limit = np.float32(glorot_limit(shape))
            drawn = generator.uniform(-limit, limit, shape.weights).astype(np.float32)
            values[name] = drawn.reshape(values[name].shape)
        return values

    # -- parameters and state ------------------------------------------------------------------------------------------

    def parameters(self) -> dict[str, np.ndarray]:
        return {name: parameter.data().asnumpy() for name, parameter in self._parameters.items()}

    def _set_parameters(self, parameters: Mapping[str, np.ndarray]) -> None:
        for name, parameter in self._parameters.items():
            parameter.set_data(nd.array(parameters[name], dtype="float32"))

    def describe(self) -> dict[str, Any]:
        described = super().describe()
        return described | {"versions": described["versions"] | {"gluoncv": importlib.metadata.version("gluoncv")}}

    # -- training ------------------------------------------------------------------------------------------------------

    def _begin_epoch(self) -> None:
        """Nothing."""

    def train_step(
        self, images: np.ndarray, labels: np.ndarray, lr: float, uniforms: Mapping[str, np.ndarray] | None = None
    ) -> float:
        """See `benchmarks.engine.Engine`; nothing is stochastic, so `uniforms` has no meaning."""
        pixels = normalized(images, self._gpu)
        # On the CPU, MXNet moves running statistics in the backward pass, and that of a normalization without gamma and
        # beta, the first of some networks, takes place only if somebody wants the gradient of its input.
        pixels.attach_grad()
        with autograd.record():
            losses = self._loss(self._net(pixels), nd.array(labels, ctx=self._gpu))
            loss = losses.mean()
        loss.backward()
        nd.waitall()
        for copy in self._copies.values():
            copy.fetch()
        self._update_parameters(lr)
        for copy in self._copies.values():
            copy.send()
        return float(np.mean(losses.asnumpy(), dtype=np.float64))

    # -- evaluation ----------------------------------------------------------------------------------------------------

    def scores(self, images: np.ndarray, batch_size: int) -> np.ndarray:
        batches = (images[start : start + batch_size] for start in range(0, len(images), batch_size))
        return np.concatenate([self._net(normalized(batch, self._gpu)).asnumpy() for batch in batches])


def normalized(images: np.ndarray, gpu: Any | None = None) -> Any:
    """Images in [0, 1], float32 (N, 3, rows, columns), as an NDArray with each channel normalized."""
    return nd.array((images - _MEAN) / _STD, dtype="float32", ctx=gpu)


def build(model: ModelSettings, gpu: Any | None = None) -> Any:
    """GluonCV's network, its shapes known, its values not yet set."""
    name = model.architecture
    module = _zoo_module("cifarwideresnet" if NETWORKS[name].kind == "wide" else "cifarresnet")
    norm = {"momentum": 1 - model.batch_norm_alpha, "epsilon": model.batch_norm_epsilon}
    net = getattr(module, name)(norm_kwargs=norm)
    net.initialize(mxnet.init.Zero(), ctx=gpu)
    net.hybridize(static_alloc=True, static_shape=True)
    net(nd.zeros((1, *IMAGE_SHAPE), ctx=gpu)).wait_to_read()
    return net


def _zoo_module(name: str) -> Any:
    """A module of GluonCV's model zoo, without the package around it, which loads OpenCV and refuses PyTorch 2.

    Raises:
        EngineError: GluonCV is not installed.
    """
    package = importlib.util.find_spec("gluoncv")
    if package is None or not package.submodule_search_locations:
        raise EngineError("gluoncv is not installed: run `python -m pip install -r requirements.txt`")
    path = Path(package.submodule_search_locations[0]) / "model_zoo" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"{__name__}.{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def house_names(net: Any) -> dict[str, Any]:
    """Gluon's parameters as {"conv1.weight": ..., "bn1.gamma": ...}, in its order."""
    numbered: dict[str, dict[str, int]] = {kind: {} for kind in _KINDS}
    named = {}
    for name, parameter in net.collect_params().items():
        match = _GLUON_NAME.fullmatch(name)
        assert match is not None, name
        numbers = numbered[match["kind"]]
        number = numbers.setdefault(match["layer"], len(numbers) + 1)
        named[f"{_KINDS[match['kind']]}{number}.{match['parameter']}"] = parameter
    return named
