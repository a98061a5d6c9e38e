from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.recipe import load_recipe
from benchmarks.recipe.layerwise import (
    Dropout,
    layer_activations,
    layer_batch_norms,
    layer_dropouts,
    layer_trained,
    layer_weights,
    linear_layers,
    spread,
)

words = st.lists(st.sampled_from(["real", "deterministic", "ternary", "binary_tanh", "0.5"]), min_size=2, max_size=12)


@given(words, st.data())
def test_words_written_with_any_repeats_are_read_back(layers, data):
    parts = []
    for word, group in itertools.groupby(layers):
        left = len(list(group))
        while left:
            count = data.draw(st.integers(1, left))
            bare = count == 1 and data.draw(st.booleans())
            parts.append(word if bare else f"{count}x{word}")
            left -= count
    assert spread("-".join(parts), len(layers)) == layers


@given(st.sampled_from(["real", "0.25"]), st.integers(0, 20))
def test_one_word_is_for_all_layers(word, layers):
    assert spread(word, layers) == [word] * layers


@given(words, st.integers(0, 20))
def test_words_for_another_number_of_layers_are_refused(layers, number):
    if number != len(layers):
        with pytest.raises(ValueError, match=f"{len(layers)} words for {number} layers"):
            spread("-".join(layers), number)


def test_layers_of_a_network_with_real_ends():
    model = load_recipe("rwth-vgg7-cifar10-l1nfp").model
    assert len(linear_layers(model)) == 9
    assert layer_weights(model) == ["real", *["deterministic"] * 7, "real"]
    assert layer_activations(model) == ["sign"] * 8
    assert layer_batch_norms(model) == [*["torch"] * 8, "torch_no_affine"]
    assert layer_trained(model) == [True] * 9


def test_dropout_rates():
    assert layer_dropouts(load_recipe("binarynet-mnist").model) == [Dropout(0.2, 0), *[Dropout(0.5, 0)] * 3]
    assert layer_dropouts(load_recipe("chawla-cnn-cifar10-float").model) == [
        *[Dropout(0, 0)] * 3,
        *[Dropout(0.5, 0)] * 2,
    ]
    svhn = layer_dropouts(load_recipe("memorization-svhn-dropout").model)
    assert svhn == [*[Dropout(0, 0)] * 6, Dropout(0, 0.25), Dropout(0, 0.5), Dropout(0, 0.25)]


def test_an_output_that_is_not_trained():
    model = load_recipe("chawla-mlp-mnist-binary").model
    assert layer_trained(model) == [True, True, True, False]
    assert layer_batch_norms(model) == ["none"] * 4


def test_a_network_without_hidden_layers():
    model = load_recipe("binaryconnect-mnist", ["model.architecture=10FC"]).model
    assert (layer_activations(model), layer_weights(model)) == ([], ["stochastic"])
