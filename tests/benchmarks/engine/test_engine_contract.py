"""What engines share: the batches of an epoch, and refusing what they do not know."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.engine import check_engine, choose, epoch_batches, open_engine
from benchmarks.engine.augmentation import draw_crops
from benchmarks.engine.layers import layers_of
from benchmarks.engine.updates import frozen
from benchmarks.errors import EngineError
from benchmarks.machine.facts import Gpu
from benchmarks.recipe import benchmark_ids, load_recipe
from benchmarks.regress.narrow import narrowed

IMAGES = np.arange(60 * 3 * 8 * 8, dtype=np.float32).reshape(60, 3, 8, 8)
LABELS = np.arange(60)


@given(st.integers(1, 60), st.integers(1, 70), st.booleans(), st.booleans())
def test_batches_are_the_epoch_in_its_order(count, batch_size, keep, cropped):
    order = np.random.default_rng(count).permutation(60)[:count]
    crops = draw_crops(count, "flip_zero_crop", 1, 2, "train") if cropped else None
    batches = list(epoch_batches(IMAGES, LABELS, order, batch_size, crops, keep))
    assert [len(labels) for _, labels in batches[:-1]] == [batch_size] * len(batches[:-1])
    used = count if keep else count // batch_size * batch_size
    assert sum(len(labels) for _, labels in batches) == used
    expected = IMAGES[order] if crops is None else crops.apply(IMAGES[order])
    if batches:
        images, labels = (np.concatenate(parts) for parts in zip(*batches, strict=True))
        np.testing.assert_array_equal(images, expected[:used])
        np.testing.assert_array_equal(labels, LABELS[order][:used])


GPU = [Gpu("NVIDIA A100", "8.0", "550.54.15")]


@pytest.mark.parametrize(
    ("installed", "gpus", "asked", "expected"),
    [
        (
            "gluon torch",
            GPU,
            ("auto", "auto"),
            ("torch", "gpu", "there is a GPU, NVIDIA A100, and the torch"),
        ),
        ("gluon torch", GPU, ("auto", "cpu"), ("gluon", "cpu", "as asked; mxnet is installed")),
        ("gluon torch", GPU, ("auto", "gpu"), ("torch", "gpu", "the torch engine runs on every NVIDIA GPU")),
        ("gluon torch", GPU, ("gluon", "auto"), ("gluon", "cpu", "the gluon engine uses a GPU with --device gpu only")),
        ("gluon torch", GPU, ("gluon", "gpu"), ("gluon", "gpu", "")),
        ("gluon torch", [], ("auto", "auto"), ("gluon", "cpu", "no NVIDIA GPU; mxnet is installed")),
        ("gluon torch", [], ("torch", "auto"), ("torch", "cpu", "no NVIDIA GPU")),
        ("gluon", GPU, ("auto", "auto"), ("gluon", "cpu", "torch is not installed; mxnet is installed")),
        ("gluon", GPU, ("auto", "gpu"), ("gluon", "gpu", "torch is not installed")),
        ("torch", [], ("auto", "auto"), ("torch", "cpu", "no NVIDIA GPU; mxnet is not installed")),
        ("gluon torch", GPU, ("auto", "auto", "cifar_resnet20_v1"), ("gluon", "cpu", "GluonCV's networks")),
        ("gluon torch", GPU, ("auto", "gpu", "cifar_resnet20_v1"), ("gluon", "gpu", "GluonCV's networks")),
        ("torch", [], ("auto", "auto", "cifar_resnet20_v1"), ("gluon", "cpu", "GluonCV's networks")),
    ],
)
def test_what_auto_stands_for(monkeypatch, installed, gpus, asked, expected):
    monkeypatch.setattr("benchmarks.engine.choice.installed_engines", installed.split)
    monkeypatch.setattr("benchmarks.engine.choice.nvidia_gpus", lambda: gpus)
    engine, device, reason = choose(*asked)
    assert (engine, device) == expected[:2]
    assert reason.startswith(expected[2])


def test_auto_without_any_engine(monkeypatch):
    monkeypatch.setattr("benchmarks.engine.choice.installed_engines", list)
    with pytest.raises(EngineError, match=r"no engine is installed: run `python -m pip install -r requirements\.txt`"):
        choose()


def test_what_no_engine_can_do_is_refused_before_anything_is_imported():
    with pytest.raises(EngineError, match="unknown engine 'glon': expected gluon or torch"):
        check_engine("glon", "float32")
    with pytest.raises(EngineError, match="engine 'gluon' computes in float32: precision 'bf16' needs --engine torch"):
        check_engine("gluon", "bf16")


# Without GluonCV's networks, which test_zoo.py has.
@pytest.mark.parametrize("benchmark_id", [name for name in benchmark_ids() if not name.startswith("gluoncv")])
def test_the_engine_trains(benchmark_id):
    architecture = narrowed(load_recipe(benchmark_id).model.architecture, lambda _: 8, lambda _: 8)
    recipe = load_recipe(benchmark_id, [f"model.architecture={architecture}"])
    generator = np.random.default_rng(0)
    images = generator.normal(size=(40, *recipe.image_shape)).astype(np.float32)
    engine = open_engine("gluon", recipe.model, recipe.image_shape, 1)
    before, layers = engine.parameters(), layers_of(recipe.model, recipe.image_shape)
    losses = engine.train_epoch(images, generator.integers(0, 10, 40), np.arange(40), 20, recipe.train.lr_start)
    assert np.isfinite(losses).all()
    assert np.isfinite(engine.scores(images, 40)).all()
    unchanged = {name for name, value in before.items() if (engine.parameters()[name] == value).all()}
    assert {name for name in unchanged if "weight" in name} == {n for n in frozen(layers) if "weight" in n}


def test_an_engine_trains_on_the_remainder_and_on_changed_images():
    recipe = load_recipe("binaryconnect-mnist", ["model.architecture=16FC-10FC"])
    generator = np.random.default_rng(0)
    images = generator.normal(size=(25, 1, 28, 28)).astype(np.float32)
    labels, order = generator.integers(0, 10, 25), generator.permutation(25)
    crops = draw_crops(25, "flip_edge_crop", 1, 1, "train")
    epoch, steps = (open_engine("gluon", recipe.model, (1, 28, 28), 1) for _ in range(2))
    losses = epoch.train_epoch(images, labels, order, 10, 0.01, crops=crops, keep_remainder=True)
    changed = crops.apply(images[order])
    parts = [slice(0, 10), slice(10, 20), slice(20, 25)]
    expected = [steps.train_step(changed[part], labels[order][part], 0.01) for part in parts]
    np.testing.assert_array_equal(losses, np.float32(expected))
    for name, value in steps.parameters().items():
        np.testing.assert_array_equal(epoch.parameters()[name], value)


@pytest.mark.parametrize(
    ("system", "engine", "architecture", "complaint"),
    [
        ("Linux", "gluon", "", r"run `python -m pip install -r requirements.txt`; --engine torch computes the same$"),
        ("Windows", "gluon", "", r"on Macs with Intel processors; --engine torch computes the same$"),
        (
            "Linux",
            "auto",
            "cifar_resnet20_v1",
            r"GluonCV's networks are for it alone; run `python -m pip install -r req",
        ),
        ("Windows", "auto", "cifar_resnet20_v1", r"GluonCV's networks are for it alone$"),
        ("Linux", "torch", "cifar_resnet20_v1", r"a network of GluonCV's, for MXNet: expected --engine gluon"),
    ],
)
def test_with_torch_alone_it_is_said_what_needs_mxnet(monkeypatch, system, engine, architecture, complaint):
    monkeypatch.setattr("benchmarks.engine.choice.installed_engines", lambda: ["torch"])
    monkeypatch.setattr("benchmarks.engine.choice.nvidia_gpus", list)
    monkeypatch.setattr("platform.system", lambda: system)
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setattr("sys.version_info", (3, 11, 7))
    with pytest.raises(EngineError, match=complaint):
        check_engine(choose(engine, "auto", architecture).engine, "float32", architecture)
