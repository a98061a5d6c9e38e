"""Record what RWTH-IDS' own code computes: python tests/golden/record_rwth.py <checkout of their repository>

Their networks with fewer filters and units, trained for three steps by their train() and evaluated by their validate();
writes tests/golden/rwth/*.npz. Needs PyTorch. Their code is run as it is, but that

- each layer is replaced by a narrower one of its own class, initialized as theirs is; gamma, beta and the running
  statistics are drawn, because a mistake in them could not be seen at 1 and 0;
- torchvision and progress, which they import to read images and to draw a progress bar, are stood in for by mocks;
- main(), which also reads the images, is not called: what it does to make the optimizer and the loss is repeated here;
- the seed is the first one with which no rounding error decides a step: no value that is quantized comes near to a
  threshold, and a run in float64 from the same parameters agrees.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import torch
import yaml

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS), str(TESTS.parent)]

from rwth_cases import CASES, GOLDEN, STEPS, WIDTHS, Case, batches  # noqa: E402

# How near a value may come to where a decision is taken: to the thresholds of activations and weights, to 0 at a ReLU,
# and the second largest of a pooling window to the largest. float32 computes them at least five times as exactly.
MARGIN, WEIGHT_MARGIN, SLOPE_MARGIN = 1e-5, 1e-6, 5e-6


class Run(NamedTuple):
    """What is recorded, by name, and how near a value comes to where a decision is taken, in margins."""

    arrays: dict[str, np.ndarray]
    nearest: float


def main() -> None:
    parser = argparse.ArgumentParser(description="Record what RWTH-IDS' own code computes.")
    parser.add_argument("checkout", type=Path, help="of RWTH-IDS/efficient-binary-neural-networks@0c76a5e")
    checkout = parser.parse_args().checkout.resolve()
    sys.path.insert(0, str(checkout))
    for name in ("torchvision", "torchvision.transforms", "torchvision.datasets", "progress", "progress.bar"):
        sys.modules[name] = mock.MagicMock()
    torch.set_num_threads(1)
    GOLDEN.mkdir(exist_ok=True)
    for name, case in CASES.items():
        seed, arrays = record(case, checkout)
        np.savez_compressed(GOLDEN / f"{name}.npz", **{key: np.float32(value) for key, value in arrays.items()})
        print(f"{name}: seed {seed}, losses {arrays['losses']}")


def record(case: Case, checkout: Path) -> tuple[int, dict[str, np.ndarray]]:
    """The first seed that will do, and its run."""
    import main as theirs

    settings = yaml.safe_load((checkout / "config" / f"{case.config}.yml").read_text())
    args = argparse.Namespace(**{**settings, **case.options, "cuda": False})
    net = getattr(theirs, f"{case.network}_binary" if args.binarize else case.network)(args)
    for seed in itertools.count(1):
        single, double = (run(case, net, args, seed, dtype) for dtype in (torch.float32, torch.float64))
        if min(single.nearest, double.nearest) > 1 and agree(single.arrays, double.arrays):
            return seed, single.arrays | {"learning_rate": np.array(args.lr)}
    raise AssertionError


def run(case: Case, net: torch.nn.Module, args: argparse.Namespace, seed: int, dtype: torch.dtype) -> Run:
    """Three steps and an evaluation; float32 and float64 start from the same parameters."""
    import main as theirs

    torch.manual_seed(seed)
    narrow(net, (*WIDTHS[case.network], 10), args)
    net.to(dtype)
    decay = args.weight_decay if args.regularization == "L2" else 0
    if args.optimizer == "adam":
        optimizer: Any = torch.optim.Adam(net.parameters(), lr=args.lr, betas=(0.9, 0.999), weight_decay=decay)
    else:
        optimizer = torch.optim.SGD(net.parameters(), lr=args.lr, momentum=args.momentum, weight_decay=decay)
    squared_hinge = args.loss == "SquareHingeLoss"
    loss = theirs.SquareHingeLoss(device="cpu") if squared_hinge else torch.nn.CrossEntropyLoss()
    losses, scores = [], []

    def criterion(output: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        value = loss(output, labels)
        losses.append(value.item())
        scores.append(output.detach().numpy().copy())
        return value

    loaders = [[(torch.from_numpy(x).to(dtype), torch.from_numpy(y))] for x, y in zip(*batches(case), strict=True)]
    arrays = state(net, "before")
    with nearest_decision() as nearest, contextlib.redirect_stdout(io.StringIO()):
        for step, loader in enumerate(loaders[:STEPS], 1):
            theirs.train(net, loader, optimizer, "cpu", criterion, args, 1)
            if step == 1:
                arrays |= {f"gradient/{name}": p.grad.numpy().copy() for name, p in net.named_parameters()}
            arrays |= state(net, f"step{step}")
        theirs.validate(net, loaders[STEPS], "cpu", criterion)
    return Run(arrays | {"losses": np.array(losses[:STEPS]), "scores": scores[STEPS]}, min(nearest, default=np.inf))


def narrow(net: torch.nn.Module, widths: tuple[int, ...], args: argparse.Namespace) -> None:
    """Replace each layer by one of its class with so many outputs."""
    children = list(net.named_children())
    linear = [(name, layer) for name, layer in children if not name.startswith("bn")]
    inputs = 1 if args.net == "LeNet5" else 3
    pixels = {"fc1": 25 if args.net == "LeNet5" else 9}
    for (name, layer), outputs in zip(linear, widths, strict=True):
        options: dict[str, Any] = {"bias": layer.bias is not None}
        if type(layer).__name__.startswith(("Binary", "Ternary")):
            options["args"] = args
        if isinstance(layer, torch.nn.Conv2d):
            new = type(layer)(inputs, outputs, layer.kernel_size, padding=layer.padding, **options)
        else:
            new = type(layer)(inputs * pixels.get(name, 1), outputs, **options)
        torch.nn.init.xavier_normal_(new.weight)
        setattr(net, name, new)
        inputs = outputs
    for name, layer in (child for child in children if child[0].startswith("bn")):
        # LeNet5's fifth, of apply_xnor_net, is behind its first convolution too.
        number = 1 if (args.net, name) == ("LeNet5", "bn5") else int(name.removeprefix("bn"))
        new = type(layer)(widths[number - 1], affine=layer.affine)
        if new.affine:
            torch.nn.init.uniform_(new.weight, 0.5, 1.5)
            torch.nn.init.normal_(new.bias, 0, 0.2)
        torch.nn.init.normal_(new.running_mean, 0, 0.2)
        torch.nn.init.uniform_(new.running_var, 0.5, 1.5)
        setattr(net, name, new)


def state(net: torch.nn.Module, prefix: str) -> dict[str, np.ndarray]:
    """Copies of all parameters and running statistics."""
    tensors = {name: tensor for name, tensor in net.state_dict().items() if not name.endswith("num_batches_tracked")}
    return {f"{prefix}/{name}": tensor.numpy().copy() for name, tensor in tensors.items()}


@contextlib.contextmanager
def nearest_decision() -> Iterator[list[float]]:
    """Gathers how near each tensor comes to where a decision about it is taken, in margins."""
    from models import binary_modules, lenet, ternary_modules, vgg

    found: list[float] = []

    def watch(function: Callable[..., torch.Tensor], distances: Callable[..., torch.Tensor], margin: float) -> Any:
        def watched(*arguments: Any) -> torch.Tensor:
            found.append(distances(*arguments).min().item() / margin)
            return function(*arguments)

        return watched

    functional = torch.nn.functional
    with contextlib.ExitStack() as stack:
        for holder, name, distances, margin in (
            (binary_modules, "binarize", to_zero, WEIGHT_MARGIN),
            (ternary_modules, "ternarize", to_threshold, WEIGHT_MARGIN),
            *((module, "binarize", to_zero, MARGIN) for module in (lenet, vgg)),
            *((module, "ternarize", to_threshold, MARGIN) for module in (lenet, vgg)),
            *((holder, "relu", to_zero_if_not_there, SLOPE_MARGIN) for holder in (lenet, functional)),
            *((holder, "max_pool2d", of_maxima, SLOPE_MARGIN) for holder in (lenet, vgg, functional)),
        ):
            watched = watch(getattr(holder, name), distances, margin)
            stack.enter_context(mock.patch.object(holder, name, watched))
        yield found


def to_zero(x: torch.Tensor) -> torch.Tensor:
    return x.detach().abs()


def to_zero_if_not_there(x: torch.Tensor) -> torch.Tensor:
    """Sums of +-1 are 0 exactly."""
    return torch.where(x.detach() == 0, torch.inf, x.detach().abs())


def to_threshold(x: torch.Tensor, kind: str) -> torch.Tensor:
    size = x.detach().abs()
    return (size - {"twn": 0.7, "tbn": 0.4}[kind] * size.mean()).abs()


def of_maxima(x: torch.Tensor, window: tuple[int, int]) -> torch.Tensor:
    """Of the largest value of each window of 2 x 2 to the next; equal ones are no question: the first counts."""
    windows = x.detach().unfold(2, 2, 2).unfold(3, 2, 2).flatten(-2).sort(dim=-1).values
    gaps = windows[..., 3] - windows[..., 2]
    return torch.where(gaps > 0, gaps, torch.inf)


def agree(single: dict[str, np.ndarray], double: dict[str, np.ndarray]) -> bool:
    """Whether float32 and float64 take the same decisions: what they compute differs by rounding alone, and so little
    that no step of Adam is made of rounding errors, as of a gamma or beta whose gradient is none.

    Biases in front of batch normalization never have another gradient; the running mean has them in it.
    """
    biases = (*(f"conv{number}.bias" for number in range(1, 7)), *(f"fc{number}.bias" for number in range(1, 4)))
    for name, value in single.items():
        if name.endswith((*biases, "running_mean")) or name == "scores":
            continue
        reach, floor = np.abs(double[name]).max(), 1e-6
        if name.startswith("step"):
            reach = np.abs(double[name] - double[f"before/{name.split('/')[1]}"]).max()
            floor = 2 * np.spacing(np.float32(np.abs(value).max()))
        if np.abs(value - double[name]).max() > 1e-4 * reach + floor:
            return False
    return True


if __name__ == "__main__":
    main()
