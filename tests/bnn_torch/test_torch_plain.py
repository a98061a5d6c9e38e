"""Whole training steps against a network that is written as one writes it in PyTorch: modules, autograd, torch.optim.

It shares no code with the engine but the recipe's layers, its initial values and the random numbers; it computes in
double precision, and starts each step from the engine's parameters, as rounding errors turn signs.
"""

from __future__ import annotations

import functools

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402
from torch.nn import functional  # noqa: E402

from benchmarks.engine import open_engine  # noqa: E402
from benchmarks.engine.draws import draws_of  # noqa: E402
from benchmarks.engine.layers import layers_of  # noqa: E402
from benchmarks.recipe import load_recipe  # noqa: E402
from benchmarks.recipe.architecture import Conv  # noqa: E402
from bnn_torch import quantize  # noqa: E402

pytestmark = pytest.mark.torch
DEVICES = [pytest.param("cpu", id="cpu"), pytest.param("gpu", id="gpu", marks=pytest.mark.gpu)]
SEED, BATCH, STEPS = 7, 24, 3
LENET, VGG = "4C5-MP2-6C5v-MP2-12FC-10FC", "4C3v-4C3-MP2-2x6C3-MP2-2x8C3-MP2-2x12FC-10FC"
SMALL = "model.architecture=4C3-MP2-6C3-MP2-12FC-10FC"
RECIPES = {
    "rwth-vgg7-cifar10-binary": (f"model.architecture={VGG}",),
    "rwth-vgg7-cifar10-cbap": (f"model.architecture={VGG}",),
    "rwth-vgg7-cifar10-tern5": (f"model.architecture={VGG}",),
    "rwth-vgg7-cifar10-l1nt": (f"model.architecture={VGG}", "model.binary_regularization=0.01"),
    "rwth-vgg7-cifar10-float": (f"model.architecture={VGG}",),
    "rwth-lenet5-mnist-bireal": (f"model.architecture={LENET}", "model.weight_limit=0.5"),
    "rwth-lenet5-mnist-swish": (
        *(f"model.architecture={LENET}", "model.activation=ternary-sign-ternary"),
        "protocol.evaluation_batch_size=24",
    ),
    "rwth-lenet5-mnist-vanilla": (f"model.architecture={LENET}", "model.nesterov=true", "model.l2_dense=0.01"),
    "rwth-lenet5-mnist-xnor": (f"model.architecture={LENET}",),
    "memorization-cifar10-dropout": (
        *("model.architecture=4C3-MP2-2x12FC-10FC", "model.batch_norm=torch", "model.activation=sign"),
        *("model.optimizer=torch_adam", "model.lr_scale=none", "model.loss=cross_entropy"),
    ),
    "chawla-cnn-cifar10-float": (SMALL,),
    "chawla-cnn-cifar10-stochastic": (SMALL, "model.initialization=xavier_normal"),
    "chawla-mlp-mnist-binary": ("model.architecture=2x12FC-10FC",),
}


class Straight(torch.autograd.Function):
    """Some values in place of others, whose gradient they pass on."""

    @staticmethod
    def forward(context, x, values):
        return values

    @staticmethod
    def backward(context, gradient):
        return gradient, None


def ternary(x, share: float):
    threshold = share * x.abs().mean()
    return (x > threshold).double() - (x < -threshold).double()


def estimator(x, model):
    """f of the activation gradients, by autograd."""
    if model.activation_gradient == "identity":
        return x
    if model.activation_gradient == "hardtanh":
        return functional.hardtanh(x)
    if model.activation_gradient == "bireal":
        clipped = x.clamp(-1, 1)
        return 2 * clipped - clipped * clipped.abs()
    steep = model.swish_beta * x
    return 2 * torch.sigmoid(steep) * (1 + steep * (1 - torch.sigmoid(steep))) - 1


class Plain(nn.Module):
    def __init__(self, model, shape) -> None:
        super().__init__()
        self.model, self.layers = model, layers_of(model, shape)
        self.draws = draws_of(self.layers, model)
        self.linear, self.norms, self.first_norms = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for layer in self.layers:
            kind, is_conv = layer.shape.layer, isinstance(layer.shape.layer, Conv)
            self.linear.append(
                nn.Conv2d(layer.shape.input_shape[0], kind.filters, kind.kernel, bias=layer.biases)
                if is_conv
                else nn.Linear(layer.shape.fan_in, kind.units, bias=layer.biases)
            )
            norm = functools.partial(
                nn.BatchNorm2d if is_conv else nn.BatchNorm1d, layer.channels, model.batch_norm_epsilon, layer.alpha
            )
            affine = layer.norm_kind == "torch"
            self.norms.append(nn.Identity() if layer.norm_kind == "none" else norm(affine=affine))
            self.first_norms.append(norm() if layer.linear_output == "batch_norm_relu" else nn.Identity())
        self.double()

    def named(self):
        """Tensors by the engine's names."""
        found = {}
        ours = {"weight": "gamma", "bias": "beta"}
        for layer, linear, *norms in zip(self.layers, self.linear, self.norms, self.first_norms, strict=True):
            found |= {f"{layer.name}.{name}": value for name, value in linear.named_parameters()}
            for name, norm in zip((layer.norm, layer.linear_norm), norms, strict=True):
                found |= {f"{name}.{ours[n]}": value for n, value in norm.named_parameters()}
                found |= {f"{name}.{n}": v for n, v in norm.named_buffers() if n != "num_batches_tracked"}
        return found

    def load(self, parameters) -> None:
        with torch.no_grad():
            for name, value in self.named().items():
                value.copy_(torch.from_numpy(parameters[name]))

    def uniforms(self, shape, tensor: int, step: int):
        return quantize.uniforms(shape, tensor, torch.tensor(step), (SEED, 0)).double()

    def weights(self, number: int, step: int):
        """What the forward pass uses, with the gradient passed straight through."""
        layer, w, limit = self.layers[number], self.linear[number].weight, self.model.weight_limit
        if layer.weights == "real" or (not self.training and self.model.evaluation_weights == "real"):
            return w
        if layer.weights == "ternary":
            return Straight.apply(w, ternary(w, 0.7) * limit)
        plus = w > 0 if self.model.zero_weight == "minus" else w >= 0
        if layer.weights == "stochastic":
            plus = self.uniforms(w.shape, number, step) < (w / limit + 1) / 2
        return Straight.apply(w, torch.where(plus, 1.0, -1.0).double() * limit)

    def dropped(self, x, mask, step: int):
        if mask is None or not self.training:
            return x
        return x * (self.uniforms(x.shape, mask.tensor, step) < float(mask.keep)) * float(mask.scale)

    def activated(self, x, word: str):
        if word == "relu":
            return functional.relu(x)
        x = estimator(x, self.model)
        return Straight.apply(x, ternary(x, 0.4) if word == "ternary" else torch.where(x > 0, 1.0, -1.0).double())

    def forward(self, x, step: int):
        self.used = []
        for number, (layer, linear, norm) in enumerate(zip(self.layers, self.linear, self.norms, strict=True)):
            self.used.append(self.weights(number, step))
            x = self.dropped(x, self.draws[number].mask, step)
            if isinstance(linear, nn.Conv2d):
                around = (layer.shape.layer.padding,) * 4
                x = functional.pad(x, around, mode="replicate" if self.model.padding == "edge" else "constant")
                x = functional.conv2d(x, self.used[-1], linear.bias)
            else:
                x = functional.linear(x.flatten(1), self.used[-1], linear.bias)
            if layer.linear_output != "none":
                x = functional.relu(self.first_norms[number](x))
            x = self.dropped(x, self.draws[number].output_mask, step)
            parts = [norm, lambda x, layer=layer: x if layer.last else self.activated(x, layer.activation)]
            if layer.pool:
                parts.insert(
                    2 if self.model.layer_order == "CBAP" else 0,
                    lambda x, layer=layer: functional.max_pool2d(x, layer.pool.size),
                )
            for part in parts:
                x = part(x)
        return x


class Trainer:
    """The plain network with its loss, its optimizer, and what becomes of the weights after its step."""

    def __init__(self, recipe) -> None:
        self.model, self.network = recipe.model, Plain(recipe.model, recipe.image_shape)
        trained = [p for name, p in self.network.named_parameters() if not self.is_fixed(name)]
        kinds = {
            "sgd": lambda: torch.optim.SGD(
                trained,
                lr=recipe.train.lr_start,
                momentum=self.model.momentum,
                nesterov=self.model.nesterov,
                weight_decay=self.model.weight_decay,
            ),
            "torch_adam": lambda: torch.optim.Adam(
                trained, lr=recipe.train.lr_start, weight_decay=self.model.weight_decay
            ),
        }
        self.optimizer = kinds[self.model.optimizer]()

    def is_fixed(self, name: str) -> bool:
        last = f"linear.{len(self.network.linear) - 1}."
        return self.model.trained_layers == "all_but_output" and name.startswith(last)

    def loss(self, scores, labels):
        if self.model.loss == "cross_entropy":
            loss = functional.cross_entropy(scores, labels)
        else:
            assert self.model.loss == "squared_hinge_sum"
            targets = 2 * functional.one_hot(labels, 10) - 1
            loss = functional.relu(1 - targets * scores).square().sum(1).mean()
        return loss / len(labels) if self.model.loss_divisor == "batch_size" else loss

    def step(self, images, labels, step: int) -> float:
        self.network.train()
        loss = self.loss(self.network(images, step), labels)
        self.network.zero_grad()
        loss.backward()
        self.gradients = {n: p.grad.clone() for n, p in self.network.named().items() if p.grad is not None}
        for layer, linear, used in zip(self.network.layers, self.network.linear, self.network.used, strict=True):
            if layer.weights != "real":
                linear.weight.grad -= 2 * self.model.binary_regularization * used.detach()
            if isinstance(linear, nn.Linear):
                linear.weight.grad += 2 * self.model.l2_dense * linear.weight.detach()
        self.optimizer.step()
        self.clip()
        return float(loss.detach())

    def clip(self) -> None:
        with torch.no_grad():
            for number, (layer, linear) in enumerate(zip(self.network.layers, self.network.linear, strict=True)):
                if layer.weights == "real" or self.is_fixed(f"linear.{number}.weight"):
                    continue
                values = [linear.weight]
                if self.model.clipped == "all":
                    values = [*linear.parameters(), *self.network.norms[number].parameters()]
                for value in values:
                    value.clamp_(-self.model.weight_limit, self.model.weight_limit)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("benchmark_id", RECIPES)
def test_steps_and_evaluation(benchmark_id, device):
    recipe = load_recipe(benchmark_id, RECIPES[benchmark_id])
    engine = open_engine("torch", recipe.model, recipe.image_shape, SEED, device, compile="off")
    trainer = Trainer(recipe)
    generator = np.random.default_rng(11)
    labels = generator.integers(0, 10, BATCH)
    for step in range(1, STEPS + 1):
        images = generator.normal(size=(BATCH, *recipe.image_shape)).astype(np.float32)
        there = torch.from_numpy(images).double(), torch.from_numpy(labels)
        trainer.network.load(engine.parameters())
        loss = engine.train_step(images, labels, recipe.train.lr_start)
        assert loss == pytest.approx(trainer.step(*there, step), rel=1e-4)
        gradients, parameters = engine.gradients(), engine.parameters()
        for name, gradient in trainer.gradients.items():
            close(gradients[name], gradient, name)
        for name, value in trainer.network.named().items():
            close(parameters[name], value, name)
    trainer.network.load(engine.parameters())
    trainer.network.eval()
    with torch.no_grad():
        close(engine.scores(images, BATCH), trainer.network(there[0], 0), "scores")


def close(found: np.ndarray, expected, name: str) -> None:
    """Within a thousandth of the expected tensor's norm, and the rounding errors of a sum that should be zero.

    Biases in front of a normalization are left out: their true gradient is zero.
    """
    if not name.endswith(".bias"):
        expected = expected.detach().numpy()
        assert np.linalg.norm(found - expected) <= 1e-3 * np.linalg.norm(expected) + 1e-5, name
