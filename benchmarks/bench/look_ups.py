"""How many of a network's products could come from tables of signed sums, and in how many look-ups.

A look-up adds one line of 16 sums: of six rows where the one operand of a product has two values, of four where it has
three (docs/performance.md, "Tables of signed sums").
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from benchmarks.engine.layers import Layer, evaluation_kinds, layers_of
from benchmarks.recipe.networks import NETWORKS
from benchmarks.recipe.words import words_of

if TYPE_CHECKING:
    from benchmarks.recipe import Recipe

LANES = 16
ROWS_OF_TWO, ROWS_OF_THREE = 6, 4


class Signed(NamedTuple):
    """Of a batch, or of an image.

    Attributes:
        flop: FLOP of products with an operand of two or three values.
        look_ups: that they take.
    """

    flop: int = 0
    look_ups: float = 0

    def times(self, images: int) -> Signed:
        """Of so many."""
        return Signed(images * self.flop, images * self.look_ups)


def in_training(recipe: Recipe) -> Signed:
    """Of a training step, an image: outputs and gradients of inputs by weights, gradients of weights by the input."""
    layers, found = _layers(recipe), []
    for position, layer in enumerate(layers):
        by_weights = _rows_of_weights(layer.weights)
        found.append((layer, by_weights))
        if position:
            found += [(layer, by_weights), (layer, _rows_of_input(layers[position - 1], layer))]
    return _sum(found)


def in_evaluation(recipe: Recipe) -> Signed:
    """Of the evaluation of an image."""
    layers = _layers(recipe)
    kinds = evaluation_kinds(layers, recipe.model)
    return _sum((layer, _rows_of_weights(kind)) for layer, kind in zip(layers, kinds, strict=True))


def _layers(recipe: Recipe) -> list[Layer]:
    return [] if recipe.model.architecture in NETWORKS else layers_of(recipe.model, recipe.image_shape)


def _rows_of_weights(word: str) -> int:
    """Of a table; 0 without tables."""
    return {1: ROWS_OF_TWO, 2: ROWS_OF_THREE}.get(words_of("model.weights")[word].bits or 0, 0)


def _rows_of_input(before: Layer, layer: Layer) -> int:
    bits = words_of("model.activation")[before.activation].bits
    has_zeros = before.activation == "binary_sigmoid" or layer.dropout or before.output_dropout
    if bits == 1:
        return ROWS_OF_THREE if has_zeros else ROWS_OF_TWO
    return ROWS_OF_THREE if bits == 2 else 0


def _sum(products: Iterable[tuple[Layer, int]]) -> Signed:
    signed = [(layer.shape.multiply_adds, rows) for layer, rows in products if rows]
    return Signed(2 * sum(count for count, _ in signed), sum(count / (rows * LANES) for count, rows in signed))
