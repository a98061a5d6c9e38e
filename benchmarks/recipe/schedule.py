"""The learning rate of every epoch, as the recipe says."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.recipe import TrainSettings


def learning_rates(train: TrainSettings) -> Iterator[float]:
    """The learning rate of each epoch: lr_start, then multiplied after every epoch by a factor.

    "exponential": by (lr_final / lr_start)^(1 / epochs); the last epoch therefore uses lr_final divided by that factor,
    never lr_final. "halving": by 1/2 after every lr_halving_epochs epochs, else by 1. Multiplied step by step in double
    precision, as the originals do. "steps": by lr_factor before each epoch of lr_milestones. "constant": by 1.
    Source: binary_connect.py, train(): LR *= LR_decay; itayhubara/BinaryNet, Main_BinaryNet_MNIST.lua: the learning
    rate is halved if epoch % 20 is 0; RWTH-IDS/efficient-binary-neural-networks, main.py: lr_milestones.
    """
    start, epochs = train.lr_start, range(1, train.epochs)
    if train.lr_decay == "exponential":
        assert train.lr_final is not None
        factors = [(train.lr_final / start) ** (1 / train.epochs)] * len(epochs)
    elif train.lr_decay == "halving":
        assert train.lr_halving_epochs is not None
        factors = [1.0 if epoch % train.lr_halving_epochs else 0.5 for epoch in epochs]
    elif train.lr_decay == "steps":
        assert train.lr_milestones is not None
        assert train.lr_factor is not None
        start *= train.lr_factor if 1 in train.lr_milestones else 1.0
        factors = [train.lr_factor if epoch + 1 in train.lr_milestones else 1.0 for epoch in epochs]
    else:
        factors = [1.0] * len(epochs)
    return itertools.accumulate(factors, operator.mul, initial=start)
