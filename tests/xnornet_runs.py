"""XNOR-Net-PyTorch's networks and training in plain PyTorch, with its autograd: what the engines are compared with.

Written anew from jiecaoyu/XNOR-Net-PyTorch@ebccb50 (main.py, util.py and models/ of MNIST and CIFAR_10), which has no
license and does not run on a PyTorch of today; nothing of this project's engines is in it but the dropout masks that
they draw. It does what they do, in their order: `binarization` before each step and before the test images, `restore`,
`updateBinaryGradWeight`, Adam. But

- everything is float64, and layers are narrower, with parameters drawn by `xnornet_cases.initial`;
- a product with a s is a times one with the signs s: sums of signs are whole numbers, of which equal ones tie in a
  pooling window. Theirs tie but for rounding, and by chance one of them gets the gradient, here the first.
- Adam is written out in the form of PyTorch 1.0: today's adds epsilon elsewhere.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
import xnornet_cases as cases
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.engine.draws import Mask, draws_of
from benchmarks.engine.layers import layers_of
from bnn_torch.quantize import dropout_mask


class Run(NamedTuple):
    """What is recorded, by name, and how near a value comes to where a decision about it is taken."""

    arrays: dict[str, np.ndarray]
    nearest: float


class Sign(torch.autograd.Function):
    """Their BinActive: the sign, 0 at 0; no gradient where |x| >= 1."""

    @staticmethod
    def forward(context, x):
        context.save_for_backward(x)
        return torch.sign(x)

    @staticmethod
    def backward(context, gradient):
        (x,) = context.saved_tensors
        return gradient * (x.abs() < 1)


class Binary:
    """The binary weights of a layer: their real-valued ones are centered, clipped, and then kept, as `saved_params`."""

    def __init__(self, layer: nn.Module) -> None:
        self.real, self.layer = layer.weight, layer

    def binarize(self) -> None:
        real = self.real.data
        real -= real.mean(1, keepdim=True)
        real.clamp_(-1, 1)
        self.scale = real.abs().flatten(1).mean(1)
        self.signs = torch.sign(real).requires_grad_()

    def product(self, x: Tensor) -> Tensor:
        """Of x and scale times signs, with the bias."""
        places = (-1, 1, 1) if self.signs.ndim == 4 else (-1,)
        padding = {"padding": self.layer.padding} if self.signs.ndim == 4 else {}
        linear = functional.conv2d if self.signs.ndim == 4 else functional.linear
        return linear(x, self.signs, **padding) * self.scale.reshape(places) + self.layer.bias.reshape(places)

    def gradient_of_used(self) -> Tensor:
        """With respect to scale times signs."""
        return self.signs.grad / self.scale.reshape(-1, *[1] * (self.signs.ndim - 1))

    def gradient_of_real(self) -> Tensor:
        """Their updateBinaryGradWeight."""
        g, signs = self.gradient_of_used(), self.signs.detach()
        n, axes = g[0].numel(), list(range(1, g.ndim))
        scale = self.real.data.abs().mean(axes, keepdim=True)
        both = scale * g + (signs * g).sum(axes, keepdim=True) / n * signs
        return both * (1 - 1 / g.shape[1]) * n


NORM = {"eps": 1e-4, "momentum": 0.1}


class Network(nn.Module):
    """What both networks have.

    Attributes:
        layers, norms: by our names.
        binary: the binary weights by our names.
        nearest: how near a value in front of a sign has come to 0 or +-1 in training.
    """

    layers: dict[str, nn.Module]
    norms: dict[str, nn.Module]
    binary: dict[str, Binary]

    def __init__(self) -> None:
        super().__init__()
        self.nearest = math.inf

    def named(self) -> dict[str, Tensor]:
        """Parameters and running statistics by our names."""
        found = {f"{n}.{kind}": getattr(layer, kind) for n, layer in self.layers.items() for kind in ("weight", "bias")}
        for ours, norm in self.norms.items():
            if norm.affine:
                found |= {f"{ours}.gamma": norm.weight, f"{ours}.beta": norm.bias}
            found |= {f"{ours}.running_{kind}": getattr(norm, f"running_{kind}") for kind in ("mean", "var")}
        return found

    def forward(self, x: Tensor) -> Tensor:
        for norm in self.norms.values():
            if norm.affine:
                norm.weight.data.clamp_(min=0.01)
        return self.scores(x)

    def sign(self, x: Tensor) -> Tensor:
        if self.training:
            self.nearest = min(self.nearest, *((x.detach().abs() - limit).abs().min().item() for limit in (0, 1)))
        return Sign.apply(x)


class LeNet5(Network):
    """Their LeNet-5 with other numbers of filters and units."""

    def __init__(self, filters: tuple[int, int], units: int) -> None:
        super().__init__()
        self.conv1, self.bn_conv1 = nn.Conv2d(1, filters[0], 5), nn.BatchNorm2d(filters[0], affine=False, **NORM)
        self.bn2, self.conv2 = nn.BatchNorm2d(filters[0], **NORM), nn.Conv2d(*filters, 5)
        self.bn3, self.dense1 = nn.BatchNorm2d(filters[1], **NORM), nn.Linear(filters[1] * 16, units)
        self.dense2 = nn.Linear(units, 10)
        self.layers = {"conv1": self.conv1, "conv2": self.conv2, "dense1": self.dense1, "dense2": self.dense2}
        self.norms = {"conv1_bn": self.bn_conv1, "bn1": self.bn2, "bn2": self.bn3}
        self.binary = {"conv2.weight": Binary(self.conv2), "dense1.weight": Binary(self.dense1)}

    def scores(self, x: Tensor) -> Tensor:
        x = functional.max_pool2d(torch.relu(self.bn_conv1(self.conv1(x))), 2)
        x = torch.relu(self.binary["conv2.weight"].product(self.sign(self.bn2(x))))
        x = self.sign(self.bn3(functional.max_pool2d(x, 2)))
        return self.dense2(torch.relu(self.binary["dense1.weight"].product(x.flatten(1))))


class NetworkInNetwork(Network):
    """Their Network-in-Network with other numbers of filters."""

    def __init__(self, filters: tuple[int, ...], masks: list[Mask | None]) -> None:
        """`masks`: dropout's, in front of each convolution."""
        super().__init__()
        self.masks, self.step = masks, torch.tensor(0)
        kernels, channels = (5, 1, 1, 5, 1, 1, 3, 1, 1), (3, *filters)
        self.convs = nn.ModuleList(
            nn.Conv2d(*channels[n : n + 2], kernel, padding=kernel // 2) for n, kernel in enumerate(kernels)
        )
        self.bn_conv1 = nn.BatchNorm2d(filters[0], affine=False, **NORM)
        self.bns = nn.ModuleList(nn.BatchNorm2d(count, affine=n < 7, **NORM) for n, count in enumerate(filters[:8]))
        self.layers = {f"conv{n}": conv for n, conv in enumerate(self.convs, 1)}
        self.norms = {"conv1_bn": self.bn_conv1} | {f"bn{n}": norm for n, norm in enumerate(self.bns, 1)}
        self.binary = {f"conv{n}.weight": Binary(self.convs[n - 1]) for n in range(2, 9)}

    def scores(self, x: Tensor) -> Tensor:
        self.step = self.step + self.training
        x = torch.relu(self.bn_conv1(self.convs[0](x)))
        for number in range(2, 9):
            x = self._dropped(self.sign(self.bns[number - 2](x)), self.masks[number - 1])
            x = torch.relu(self.binary[f"conv{number}.weight"].product(x))
            if number == 3:
                x = functional.max_pool2d(x, 3, 2, 1)
            if number == 6:
                x = functional.avg_pool2d(x, 3, 2, 1)
        x = torch.relu(self.convs[8](self.bns[7](x)))
        return functional.avg_pool2d(x, 8).flatten(1)

    def _dropped(self, x: Tensor, mask: Mask | None) -> Tensor:
        """With the mask that our engines draw in a step, for seed 0."""
        if mask is None or not self.training:
            return x
        kept = dropout_mask(x.shape, float(mask.keep), float(mask.scale), mask.tensor, self.step, (0, 0))
        return x * kept.to(x.dtype)


def network_of(case: cases.Case) -> Network:
    recipe = case.recipe
    layers = layers_of(recipe.model, recipe.image_shape)
    widths = [layer.channels for layer in layers]
    if len(widths) == 4:
        return LeNet5((widths[0], widths[1]), widths[2])
    return NetworkInNetwork(tuple(widths), [drawn.mask for drawn in draws_of(layers, recipe.model)])


class Adam:
    """torch.optim.Adam of PyTorch 1.0, with its weight decay."""

    def __init__(self, parameters: dict[str, Tensor], decay: float) -> None:
        self.parameters, self.decay, self.steps = parameters, decay, 0
        self.moments = {name: (torch.zeros_like(p), torch.zeros_like(p)) for name, p in parameters.items()}

    def step(self, gradients: dict[str, Tensor]) -> dict[str, Tensor]:
        """One update; the gradients with their decay."""
        self.steps += 1
        size = cases.LR * math.sqrt(1 - 0.999**self.steps) / (1 - 0.9**self.steps)
        with torch.no_grad():
            decayed = {name: g + self.decay * self.parameters[name] for name, g in gradients.items()}
            for name, g in decayed.items():
                mean, square = self.moments[name]
                mean.mul_(0.9).add_(g, alpha=0.1)
                square.mul_(0.999).addcmul_(g, g, value=0.001)
                self.parameters[name].sub_(size * mean / (square.sqrt() + 1e-8))
        return decayed


def run(case: cases.Case, seed: int) -> Run:
    """The two epochs of the case with the test images behind each."""
    network = network_of(case).to(torch.float64)
    tensors = network.named()
    for name, value in cases.initial({n: tuple(t.shape) for n, t in tensors.items()}, seed).items():
        tensors[name].data.copy_(torch.from_numpy(value))
    data = cases.batches(case)
    optimizer = Adam({n: t for n, t in tensors.items() if t.requires_grad}, decay=1e-5)
    arrays, losses, nearest = {"seed": np.array(seed)}, [], [math.inf]
    for epoch, of_epoch in enumerate(case.epochs, 1):
        images, labels = (torch.from_numpy(array[of_epoch]) for array in (data.images, data.labels))
        network.train()
        for batch in zip(images.split(case.batch), labels.split(case.batch), strict=True):
            loss, of_used, decayed = _step(network, optimizer, *batch)
            losses.append(loss)
            arrays |= {f"gradient/{len(losses)}/{name}": g.numpy() for name, g in decayed.items()}
            if len(losses) == 1:
                arrays |= {f"of_used/{name}": g.numpy() for name, g in of_used.items()}
            nearest += [binary.real.detach().abs().min().item() * 100 for binary in network.binary.values()]
        network.eval()
        for binary in network.binary.values():
            binary.binarize()
        with torch.no_grad():
            arrays[f"scores/{epoch}"] = network(torch.from_numpy(data.test_images).to(torch.float64)).numpy()
        scales = {name.replace("weight", "scale"): binary.scale for name, binary in network.binary.items()}
        named = {name: tensor.detach().clone() for name, tensor in (tensors | scales).items()}
        arrays |= {f"after/{epoch}/{name}": value.numpy() for name, value in named.items()}
    return Run(arrays | {"losses": np.array(losses)}, min(*nearest, network.nearest))


def _step(
    network: Network, optimizer: Adam, images: Tensor, labels: Tensor
) -> tuple[float, dict[str, Tensor], dict[str, Tensor]]:
    """Loss; gradients, of weights with respect to what products used; those that Adam was given."""
    for binary in network.binary.values():
        binary.binarize()
    network.zero_grad()
    loss = functional.cross_entropy(network(images.to(torch.float64)), labels)
    loss.backward()
    of_used = {n: p.grad.clone() for n, p in network.named().items() if p.grad is not None}
    of_used |= {name: binary.gradient_of_used() for name, binary in network.binary.items()}
    of_real = {name: binary.gradient_of_real() for name, binary in network.binary.items()}
    return loss.item(), of_used, optimizer.step(of_used | of_real)
