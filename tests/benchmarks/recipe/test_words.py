"""Every word of a setting has an entry, and whoever computes words has exactly those that have one."""

from __future__ import annotations

import importlib

import msgspec
import pytest

from benchmarks.engine import open_engine
from benchmarks.engine.augmentation import MODES
from benchmarks.engine.initial import DEVIATIONS, LIMITS
from benchmarks.engine.layers import SPREADS
from benchmarks.engine.updates import RULES
from benchmarks.errors import RecipeError
from benchmarks.recipe import DATASETS, load_recipe
from benchmarks.recipe.consistency import DECAYS
from benchmarks.recipe.explain import LAYERWISE, settings
from benchmarks.recipe.layerwise import NORM_LEARNED
from benchmarks.recipe.settings import DataSettings, ModelSettings, ProtocolSettings, TrainSettings
from benchmarks.recipe.words import WORDS, names_of

GROUPS = {"data": DataSettings, "model": ModelSettings, "train": TrainSettings, "protocol": ProtocolSettings}
NORMS = {*names_of("model.batch_norm"), *names_of("model.output_batch_norm")} - {"none"}
# What a table of an engine must have; "none" is there too where that is simplest.
TABLES = {
    "quantize.QUANTIZERS": set(names_of("model.weights")),
    "activations.ACTIVATIONS": set(names_of("model.activation")),
    "losses.LOSSES": set(names_of("model.loss")),
    "update.UPDATES": {*names_of("model.optimizer"), "momentum"},  # sgd with one is a rule of its own
    "batch_norm.BATCH_NORMS": NORMS,
    "quantized_images.INPUTS": set(names_of("model.input_quantization")) - {"none"},
}


def test_every_word_of_every_setting_has_an_entry():
    hints = {f"{g}.{f.name}": f.type for g, s in GROUPS.items() for f in msgspec.inspect.type_info(s).fields}
    found = {}
    for key, hint in hints.items():
        inner = hint.type if isinstance(hint, msgspec.inspect.Metadata) else hint
        for kind in getattr(inner, "types", (inner,)):
            if isinstance(kind, msgspec.inspect.LiteralType):
                found[key] = set(kind.values)
    found |= {key: set(names_of(key)) for key in LAYERWISE}
    assert found == {key: set(names_of(key)) for key in WORDS}


@pytest.mark.parametrize("key", WORDS)
def test_an_entry_says_what_its_word_means(key):
    names = [word.name for word in WORDS[key]]
    assert len(set(names)) == len(names)
    for word in WORDS[key]:
        assert word.meaning.endswith("."), word
        assert (word.bits is not None) == (key in ("model.weights", "model.activation")), word


def test_every_setting_says_what_it_means():
    assert [setting.key for setting in settings().values() if not setting.description.endswith(".")] == []


@pytest.mark.parametrize("key", WORDS)
def test_an_unknown_word_is_refused_with_the_nearest(key):
    word = max(names_of(key), key=len)
    with pytest.raises(RecipeError, match=f"did you mean .*{word}.*--explain {key}`"):
        load_recipe("binaryconnect-mnist", [f"{key}={word}_"])


def test_what_is_no_engine_has_the_words_too():
    assert set(SPREADS) == NORMS
    assert set(NORM_LEARNED) == NORMS | {"none"}
    assert set(RULES) == TABLES["update.UPDATES"]
    assert DEVIATIONS.keys() | LIMITS.keys() == set(names_of("model.initialization"))
    assert set(MODES) | {"none"} == set(names_of("data.augmentation"))
    assert set(DATASETS) == set(names_of("data.dataset"))
    assert set(DECAYS) == set(names_of("train.lr_decay"))


@pytest.mark.parametrize("package", ["bnn_gluon", pytest.param("bnn_torch", marks=pytest.mark.torch)])
@pytest.mark.parametrize("table", TABLES)
def test_an_engine_has_a_function_for_every_word(package, table):
    if package == "bnn_gluon":  # MXNet, which its modules import, is given its threads once in a process, by an engine
        open_engine("gluon", load_recipe("binaryconnect-mnist", ["model.architecture=10FC"]).model, (1, 28, 28), 0)
    module, name = table.split(".")
    assert set(getattr(importlib.import_module(f"{package}.{module}"), name)) - {"none"} == TABLES[table] - {"none"}
