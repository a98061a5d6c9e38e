"""A yardstick for speed: binary-weight training as one writes it first in PyTorch: its layers, autograd, optimizers.

`bench` and `throughput` run it beside the engine, eager and behind torch.compile. It is never used for
results: its batch normalization and its random numbers are PyTorch's own, and it can neither evaluate nor be saved.
Layers, their shapes, the binarization and the order of things are those of the engine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.bench.yardstick import check_known
from benchmarks.engine.layers import Layer, layers_of, weight_limits
from benchmarks.engine.updates import clip_limits, lr_scales
from benchmarks.recipe.architecture import Conv

if TYPE_CHECKING:
    from benchmarks.recipe import ModelSettings

_OPTIMIZERS = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}


class PlainEngine:
    """A network that trains by autograd: binarize straight through, forward, loss, backward, update, clip."""

    def __init__(
        self,
        model: ModelSettings,
        input_shape: tuple[int, ...],
        seed: int,
        device: str = "cpu",
        precision: str = "float32",
        *,
        compiled: bool = False,
    ) -> None:
        check_known("torch", model)
        torch.manual_seed(seed)
        self._device = torch.device("cuda" if device == "gpu" else "cpu")
        layers = layers_of(model, input_shape)
        self.network = _Network(layers, model).to(self._device)
        if self._device.type == "cuda" and isinstance(layers[0].shape.layer, Conv):
            self.network = self.network.to(memory_format=torch.channels_last)
        self._tf32, self._bf16 = precision == "tf32", precision == "bf16"
        self._loss = torch.compile(self._forward) if compiled else self._forward
        scales = lr_scales(layers, model)
        weights = [module.weight for module in self.network.linear]
        named = {id(w): float(scales.get(layer.weight, 1)) for w, layer in zip(weights, layers, strict=True)}
        self._groups = [[p, named.get(id(p), 1.0)] for p in self.network.parameters()]
        self._optimizer = _OPTIMIZERS[model.optimizer]([{"params": [p]} for p, _ in self._groups], fused=True)
        clipped = clip_limits(layers, model)
        self._limits = [
            (w, float(clipped[layer.weight]))
            for w, layer in zip(weights, layers, strict=True)
            if layer.weight in clipped
        ]

    def train_epoch(
        self, images: np.ndarray, labels: np.ndarray, order: np.ndarray, batch_size: int, lr: float
    ) -> np.ndarray:
        """Train on images[order] in batches: see `benchmarks.engine.Engine.train_epoch`."""
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = self._tf32
        for group, (_, scale) in zip(self._optimizer.param_groups, self._groups, strict=True):
            group["lr"] = lr * scale
        batches = order[: len(order) // batch_size * batch_size].reshape(-1, batch_size)
        losses = [self._train_step(images[batch], labels[batch]) for batch in batches]
        found: np.ndarray = torch.stack(losses).cpu().numpy()
        return found

    def _train_step(self, images: np.ndarray, labels: np.ndarray) -> Tensor:
        there = [torch.from_numpy(np.asarray(array)).to(self._device) for array in (images, labels)]
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._bf16):
            loss: Tensor = self._loss(*there)
        self._optimizer.zero_grad()
        loss.backward()
        self._optimizer.step()
        with torch.no_grad():
            for weight, limit in self._limits:
                weight.clamp_(-limit, limit)
        return loss.detach()

    def _forward(self, images: Tensor, labels: Tensor) -> Tensor:
        scores = self.network(images).float()
        targets = functional.one_hot(labels, scores.shape[1]) * 2 - 1
        return functional.relu(1 - targets * scores).square().mean()


class _Network(nn.Module):
    """Linear layer, (pooling), batch normalization, activation, layer after layer."""

    def __init__(self, layers: list[Layer], model: ModelSettings) -> None:
        super().__init__()
        found = weight_limits(layers, model)
        self._limits = [float(found.get(layer.weight, 0)) for layer in layers]
        self._stochastic, self._tanh = model.weights == "stochastic", model.activation == "binary_tanh"
        self._pools = [layer.pool.size if layer.pool else None for layer in layers]
        self._dropouts = [layer.dropout for layer in layers]
        self.linear = nn.ModuleList(map(_linear, layers))
        self.norms = nn.ModuleList(
            (nn.BatchNorm2d if isinstance(layer.shape.layer, Conv) else nn.BatchNorm1d)(
                layer.channels, model.batch_norm_epsilon, model.batch_norm_alpha
            )
            for layer in layers
        )
        for module, limit in zip(self.linear, self._limits, strict=True):
            if limit:
                nn.init.uniform_(module.weight, -limit, limit)

    def forward(self, x: Tensor) -> Tensor:
        """Scores (N, classes)."""
        for position, (linear, norm) in enumerate(zip(self.linear, self.norms, strict=True)):
            x = functional.dropout(x, self._dropouts[position]) if self._dropouts[position] else x
            weight = self._binarized(linear.weight, self._limits[position])
            if isinstance(linear, nn.Conv2d):
                x = functional.conv2d(x, weight, linear.bias, padding=linear.padding)
            else:
                x = functional.linear(x.flatten(1), weight, linear.bias)
            pool = self._pools[position]
            x = norm(x if pool is None else functional.max_pool2d(x, pool))
            if position + 1 < len(self.linear):
                x = _sign(x) if self._tanh else functional.relu(x)
        return x

    def _binarized(self, weight: Tensor, limit: float) -> Tensor:
        """Straight through: the gradient is that of the binary weights."""
        if not limit:
            return weight
        plus = torch.rand_like(weight) * 2 * limit - limit < weight if self._stochastic else weight >= 0
        return weight + (torch.where(plus, limit, -limit) - weight).detach()


def _sign(x: Tensor) -> Tensor:
    """Sign, straight through the hard tanh."""
    clipped = functional.hardtanh(x)
    return clipped + (torch.where(clipped >= 0, 1.0, -1.0) - clipped).detach()


def _linear(layer: Layer) -> Any:
    shape = layer.shape.layer
    if isinstance(shape, Conv):
        return nn.Conv2d(layer.shape.input_shape[0], shape.filters, shape.kernel, padding=shape.kernel // 2)
    return nn.Linear(layer.shape.fan_in, layer.channels)
