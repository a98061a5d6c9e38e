"""XNOR-Net-PyTorch's networks and training in plain PyTorch, with its autograd: what the engines are compared with.

Written anew from jiecaoyu/XNOR-Net-PyTorch@ebccb50 (MNIST/main.py, util.py, models/LeNet_5.py), which has no license
and does not run on a PyTorch of today; nothing of this project's engines is in it. It does what they do, in their
order: `binarization` before each step and before the test images, `restore`, `updateBinaryGradWeight`, Adam. But

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


class LeNet5(nn.Module):
    """Their LeNet-5 with other numbers of filters and units."""

    def __init__(self, filters: tuple[int, int], units: int) -> None:
        super().__init__()
        norm = {"eps": 1e-4, "momentum": 0.1}
        self.conv1, self.bn_conv1 = nn.Conv2d(1, filters[0], 5), nn.BatchNorm2d(filters[0], affine=False, **norm)
        self.bn2, self.conv2 = nn.BatchNorm2d(filters[0], **norm), nn.Conv2d(*filters, 5)
        self.bn3, self.dense1 = nn.BatchNorm2d(filters[1], **norm), nn.Linear(filters[1] * 16, units)
        self.dense2 = nn.Linear(units, 10)
        self.binary = [Binary(self.conv2), Binary(self.dense1)]
        self.nearest = math.inf

    def named(self) -> dict[str, Tensor]:
        """Parameters and running statistics by our names."""
        layers = {"conv1": self.conv1, "conv2": self.conv2, "dense1": self.dense1, "dense2": self.dense2}
        found = {f"{n}.{kind}": getattr(layer, kind) for n, layer in layers.items() for kind in ("weight", "bias")}
        for ours, norm in {"conv1_bn": self.bn_conv1, "bn1": self.bn2, "bn2": self.bn3}.items():
            if norm.affine:
                found |= {f"{ours}.gamma": norm.weight, f"{ours}.beta": norm.bias}
            found |= {f"{ours}.running_{kind}": getattr(norm, f"running_{kind}") for kind in ("mean", "var")}
        return found

    def used(self) -> dict[str, Binary]:
        """The binary weights by our names."""
        return dict(zip(("conv2.weight", "dense1.weight"), self.binary, strict=True))

    def forward(self, x: Tensor) -> Tensor:
        for norm in (self.bn2, self.bn3):
            norm.weight.data.clamp_(min=0.01)
        x = functional.max_pool2d(torch.relu(self.bn_conv1(self.conv1(x))), 2)
        x = torch.relu(self.binary[0].product(self._sign(self.bn2(x))))
        x = self._sign(self.bn3(functional.max_pool2d(x, 2)))
        return self.dense2(torch.relu(self.binary[1].product(x.flatten(1))))

    def _sign(self, x: Tensor) -> Tensor:
        if self.training:
            self.nearest = min(self.nearest, *((x.detach().abs() - limit).abs().min().item() for limit in (0, 1)))
        return Sign.apply(x)


def network_of(case: cases.Case) -> LeNet5:
    first, _, second, _, units, _ = case.architecture.split("-")
    return LeNet5((int(first.split("C")[0]), int(second.split("C")[0])), int(units.removesuffix("FC")))


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
    """The two epochs of `cases.EPOCHS` with the test images behind each."""
    network = network_of(case).to(torch.float64)
    tensors = network.named()
    for name, value in cases.initial({n: tuple(t.shape) for n, t in tensors.items()}, seed).items():
        tensors[name].data.copy_(torch.from_numpy(value))
    data = cases.batches(case.recipe)
    optimizer = Adam({n: t for n, t in tensors.items() if t.requires_grad}, decay=1e-5)
    arrays, losses, nearest = {"seed": np.array(seed)}, [], [math.inf]
    for epoch, of_epoch in enumerate(cases.EPOCHS, 1):
        images, labels = (torch.from_numpy(array[of_epoch]) for array in (data.images, data.labels))
        network.train()
        for batch in zip(images.split(cases.BATCH), labels.split(cases.BATCH), strict=True):
            loss, of_used, decayed = _step(network, optimizer, *batch)
            losses.append(loss)
            arrays |= {f"gradient/{len(losses)}/{name}": g.numpy() for name, g in decayed.items()}
            if len(losses) == 1:
                arrays |= {f"of_used/{name}": g.numpy() for name, g in of_used.items()}
            nearest += [binary.real.detach().abs().min().item() * 100 for binary in network.binary]
        network.eval()
        for binary in network.binary:
            binary.binarize()
        with torch.no_grad():
            arrays[f"scores/{epoch}"] = network(torch.from_numpy(data.test_images).to(torch.float64)).numpy()
        scales = {name.replace("weight", "scale"): binary.scale for name, binary in network.used().items()}
        named = {name: tensor.detach().clone() for name, tensor in (tensors | scales).items()}
        arrays |= {f"after/{epoch}/{name}": value.numpy() for name, value in named.items()}
    return Run(arrays | {"losses": np.array(losses)}, min(*nearest, network.nearest))


def _step(
    network: LeNet5, optimizer: Adam, images: Tensor, labels: Tensor
) -> tuple[float, dict[str, Tensor], dict[str, Tensor]]:
    """Loss; gradients, of weights with respect to what products used; those that Adam was given."""
    for binary in network.binary:
        binary.binarize()
    network.zero_grad()
    loss = functional.cross_entropy(network(images.to(torch.float64)), labels)
    loss.backward()
    of_used = {n: p.grad.clone() for n, p in network.named().items() if p.grad is not None}
    of_used |= {name: binary.gradient_of_used() for name, binary in network.used().items()}
    of_real = {name: binary.gradient_of_real() for name, binary in network.used().items()}
    return loss.item(), of_used, optimizer.step(of_used | of_real)
