"""The PyTorch engine against Brevitas itself, and what was recorded of it against what it computes today."""

from __future__ import annotations

import functools

import finn_cases as cases
import numpy as np
import pytest

from benchmarks.engine import open_engine
from benchmarks.engine.layers import layers_of
from benchmarks.recipe import benchmark_ids, load_recipe

pytest.importorskip("brevitas")
pytestmark = [pytest.mark.torch, pytest.mark.brevitas]
FINN = [name for name in benchmark_ids() if name.startswith("finn-")]
OPENED: cases.Opened = functools.partial(open_engine, "torch", device="cpu", compile="off")


@pytest.mark.parametrize("name", cases.CASES)
def test_what_is_recorded_is_what_brevitas_computes(name):
    import brevitas_runs

    reference = cases.Reference(name, OPENED)
    today = brevitas_runs.run(cases.CASES[name], int(reference.arrays["seed"])).arrays
    assert set(today) == set(reference.arrays)
    for key, value in today.items():
        recorded = reference.arrays[key]
        assert np.abs(value - recorded).max() <= 1e-5 * np.abs(recorded).max() + 1e-7, key
    live = cases.Reference(name, OPENED, today)
    for check in (cases.check_first_loss_and_gradients, cases.check_three_steps, cases.check_evaluation):
        check(live)


@pytest.mark.parametrize("benchmark", FINN)
def test_a_benchmark_has_the_layers_of_the_network_of_its_name(benchmark):
    """Bits and widths are those of Brevitas' own .ini file, and so are names and shapes of all that it learns."""
    import brevitas_runs
    from brevitas_examples.bnn_pynq.models import model_with_cfg

    _, name, _, bits = benchmark.split("-")
    network, config = model_with_cfg(f"{name}_{bits}", pretrained=False)
    recipe = load_recipe(benchmark)
    words = {1: "deterministic", 2: "int2"}, {1: "binary_tanh", 2: "int2"}, {1: "sign", 2: "int2", 8: "int8"}
    keys = ("WEIGHT_BIT_WIDTH", "ACT_BIT_WIDTH", "IN_BIT_WIDTH")
    expected = [of_bits[config.getint("QUANT", key)] for of_bits, key in zip(words, keys, strict=True)]
    model = recipe.model
    assert [model.weights, model.activation, model.input_quantization] == expected
    layers = layers_of(model, recipe.image_shape)
    theirs = {key: tuple(tensor.shape) for key, tensor in brevitas_runs.tensors_of(network, layers).items()}
    assert theirs == {key: shape for layer in layers for key, shape in layer.parameters.items()}
    norms = [module for module in network.modules() if isinstance(module, brevitas_runs.NORMALIZATIONS)]
    assert [norm.eps for norm in norms] == [layer.epsilon for layer in layers]
    assert [norm.momentum for norm in norms] == [layer.alpha for layer in layers]
