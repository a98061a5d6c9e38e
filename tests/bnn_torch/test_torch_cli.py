"""The command line with the torch engine: a run that is killed and resumed ends like one that nothing interrupted."""

from __future__ import annotations

import pytest
from killed import resumed_record

pytestmark = pytest.mark.torch
# 500 images are a whole batch of 256 and a smaller one.
SMALL = (
    *("--engine", "torch", "--device", "cpu", "--threads", "1", "--compile", "off", "--epochs", "4", "--seed", "1"),
    *("--set", "data.dataset=mnist-small", "--limit-train", "500", "--set", "data.valid_images=200"),
    *("--set", "model.architecture=2x64FC-10FC"),
)


def test_a_killed_and_resumed_run_ends_with_the_same_record(cli, environment):
    record = resumed_record(cli, environment, "chawla-mlp-mnist-stochastic", *SMALL)
    assert record.engine.name == "torch"
