"""The steps of a network, computed by docs/weights.md's functions, beside the engine that knows none of them."""

from __future__ import annotations

import numpy as np
import pytest
from weights_reader import CASES, case, file_of, reader

from benchmarks.engine import open_engine


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_the_steps_are_the_engines_network(name, tmp_path):
    recipe = case(name)
    content, parameters = file_of(recipe)
    (tmp_path / "w.safetensors").write_bytes(content)
    images = np.random.default_rng(1).uniform(-1, 1, (60, *recipe.image_shape)).astype(np.float32)
    engine = open_engine("gluon", recipe.model, recipe.image_shape, 1)
    engine.load_parameters(parameters)
    expected = engine.scores(images, 60)
    code = reader()
    found = code["scores"](images, *code["read"](tmp_path / "w.safetensors"))
    assert len(np.unique(expected.argmax(1))) > 1
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
