"""Brevitas' own networks of its bnn_pynq examples, trained for a few steps: what the engines are compared with.

Brevitas is run as it is, but that

- layers are narrower, and parameters are drawn by `finn_cases.initial`;
- its Dropout multiplies by the masks that our engines draw: their random numbers are others;
- its trainer.py, which also reads the images, is not called: what it does in a step (lines 276 to 307) is repeated.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple
from unittest import mock

import brevitas.nn
import finn_cases as cases
import numpy as np
import torch
from brevitas_examples.bnn_pynq.models import CNV, FC
from brevitas_examples.bnn_pynq.models.losses import SqrHingeLoss
from brevitas_examples.bnn_pynq.models.tensor_norm import TensorNorm

from benchmarks.engine.draws import Mask, draws_of
from benchmarks.engine.layers import Layer, layers_of
from bnn_torch.quantize import dropout_mask

NORMS = {"weight": "gamma", "bias": "beta", "running_mean": "running_mean", "running_var": "running_var"}
_LINEAR = (brevitas.nn.QuantLinear, brevitas.nn.QuantConv2d)
NORMALIZATIONS = (torch.nn.BatchNorm1d, torch.nn.BatchNorm2d, TensorNorm)


class Run(NamedTuple):
    """What is recorded, by name, and how near a value comes to where a decision about it is taken."""

    arrays: dict[str, np.ndarray]
    nearest_activation: float
    nearest_weight: float


class GivenDropout(torch.nn.Module):
    """Dropout with the mask that our engines draw in a step, for seed 0."""

    def __init__(self, mask: Mask) -> None:
        super().__init__()
        self.mask, self.step = mask, torch.tensor(0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return x
        self.step = self.step + 1
        kept = dropout_mask(x.shape, float(self.mask.keep), float(self.mask.scale), self.mask.tensor, self.step, (0, 0))
        return x * kept.to(x.dtype)


def network_of(case: cases.Case) -> torch.nn.Module:
    """Brevitas' network with the widths of the case."""
    weight_bits, activation_bits, input_bits = case.bits
    bits = {"weight_bit_width": weight_bits, "act_bit_width": activation_bits, "in_bit_width": input_bits}
    network: torch.nn.Module
    if len(case.widths) == 3:
        network = FC.FC(num_classes=10, in_channels=1, out_features=case.widths, **bits)
    else:
        *channels, first, second = case.widths
        pools = [is_pooled for _, is_pooled in CNV.CNV_OUT_CH_POOL]
        narrow = {
            "CNV_OUT_CH_POOL": list(zip(channels, pools, strict=True)),
            "INTERMEDIATE_FC_FEATURES": [(channels[-1], first), (first, second)],
            "LAST_FC_IN_FEATURES": second,
        }
        with mock.patch.multiple(CNV, **narrow):
            network = CNV.CNV(num_classes=10, in_ch=3, **bits)
    layers = layers_of(case.recipe.model, case.recipe.image_shape)
    masks = [drawn.mask for drawn in draws_of(layers, case.recipe.model) if drawn.mask is not None]
    if masks:
        places = [number for number, module in enumerate(network.features) if isinstance(module, torch.nn.Dropout)]
        for place, mask in zip(places, masks, strict=True):
            assert network.features[place].p == rate_of(mask)
            network.features[place] = GivenDropout(mask)
    return network


def rate_of(mask: Mask) -> float:
    """The dropout rate of a mask, to the digits that a recipe has."""
    return round(1 - float(mask.keep), 6)


def tensors_of(network: torch.nn.Module, layers: list[Layer]) -> dict[str, torch.Tensor]:
    """Its parameters and running statistics by our names."""
    linear = [module for module in network.modules() if isinstance(module, _LINEAR)]
    norms = [module for module in network.modules() if isinstance(module, NORMALIZATIONS)]
    found = {}
    for layer, weighted, norm in zip(layers, linear, norms, strict=True):
        found[layer.weight] = weighted.weight
        found |= {f"{layer.norm}.{ours}": getattr(norm, theirs) for theirs, ours in NORMS.items()}
    return found


def run(case: cases.Case, seed: int, dtype: torch.dtype = torch.float32) -> Run:
    """Three steps and an evaluation."""
    network = network_of(case).to(dtype)
    layers = layers_of(case.recipe.model, case.recipe.image_shape)
    tensors = tensors_of(network, layers)
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    for name, value in cases.initial(shapes, case.gammas, seed).items():
        tensors[name].data.copy_(torch.from_numpy(value))
    nearest = _watched(network, layers, case)
    optimizer, criterion = torch.optim.Adam(network.parameters(), lr=cases.LR), SqrHingeLoss()
    images, labels = cases.batches(case.recipe)
    losses, arrays, weights = [], {"seed": np.array(seed)}, [math.inf]
    network.train()
    for step in range(cases.STEPS):
        weights += [_nearest_weight(tensors[layer.weight], case) for layer in layers]
        target = torch.full((cases.BATCH, 10), -1, dtype=dtype)
        target.scatter_(1, torch.from_numpy(labels[step])[:, None], 1)
        loss = criterion(network(torch.from_numpy(images[step]).to(dtype)), target)
        optimizer.zero_grad()
        loss.backward()
        gradients = {name: tensor.grad.numpy().copy() for name, tensor in tensors.items() if tensor.grad is not None}
        if step == 0:
            arrays |= {f"gradient/{name}": g for name, g in gradients.items()}
        optimizer.step()
        network.clip_weights(-1, 1)
        losses.append(loss.item())
    network.eval()
    with torch.no_grad():
        scores = network(torch.from_numpy(images[cases.STEPS]).to(dtype)).numpy()
    # TensorNorm puts new tensors in the place of its running statistics.
    after = {f"after/{n}": t.detach().numpy().copy() for n, t in tensors_of(network, layers).items()}
    arrays |= {**after, "losses": np.array(losses), "scores": scores}
    return Run(arrays, min(nearest), min(weights))


def _watched(network: torch.nn.Module, layers: list[Layer], case: cases.Case) -> list[float]:
    """Gathers how near the values that are quantized come to a threshold, from now on."""
    found = [math.inf]
    thresholds = torch.tensor([0.0, 1.0] if case.bits[1] == 1 else [0.5, 1.5])
    quantizers = [module for module in network.modules() if isinstance(module, brevitas.nn.QuantIdentity)]

    def watch(module: Any, inputs: tuple[torch.Tensor, ...]) -> None:
        found.append((inputs[0].detach().abs()[..., None] - thresholds).abs().min().item())

    for quantizer in quantizers[1:]:  # the first has the gray levels, of which none is a threshold
        quantizer.register_forward_pre_hook(watch)
    return found


def _nearest_weight(weight: torch.Tensor, case: cases.Case) -> float:
    return (weight.detach().abs() - (0 if case.bits[0] == 1 else 0.5)).abs().min().item()
