"""Networks as ONNX and QONNX graphs: run by others, they are the network of the steps; and what is refused."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest
from published import RUNS, WEIGHTS, first
from weights_reader import CASES, case, file_of, parameters_of, reader

from benchmarks.engine.inference import norm_tensors, steps_of
from benchmarks.errors import EngineError, RunError
from benchmarks.recipe import load_recipe
from benchmarks.run import onnx_export
from benchmarks.run.data import load_data
from benchmarks.run.onnx_graph import NoGraphError, to_onnx
from data_prep import Split
from results import registry
from results.packed_weights import Kind, pack
from results.record import Record, pack_bits, unpack_bits
from results.weights_file import metadata_of, to_safetensors

LENET5 = first("rwth-lenet5-mnist-binary")
LENET5_RECORD = registry.read(LENET5)


def whole_numbers() -> bytes:
    """A file of a small network with whole numbers of 2 and 4 bits, and a scale for each output of one layer."""
    recipe = load_recipe("rwth-lenet5-mnist-binary", ["model.architecture=4C5-MP2-4C5v-MP2-16FC-10FC"])
    generator = np.random.default_rng(2)
    kinds: dict[str, Kind] = {"conv1.weight": "int2", "conv2.weight": "int4", "dense1.weight": "signs"}
    parameters = parameters_of(recipe)
    for name, (low, high) in {"conv1.weight": (-2, 2), "conv2.weight": (-8, 8), "dense1.weight": (0, 2)}.items():
        drawn = generator.integers(low, high, parameters[name].shape).astype(np.float32)
        parameters[name] = 2 * drawn - 1 if kinds[name] == "signs" else drawn
    scales = {
        "conv1.weight.scale": np.array([0.5, 0.25, 1, 2], np.float32),
        "conv2.weight.scale": np.array([0.1], np.float32),
        "dense1.weight.scale": np.array([0.7], np.float32),
    }
    norms = norm_tensors(recipe.model, recipe.image_shape, parameters)
    steps = json.dumps(steps_of(recipe.model, recipe.image_shape))
    about = {"network": steps, "benchmark": "b", "image_shape": "[1,28,28]"}
    return to_safetensors(pack(parameters, kinds), scales | norms, about)


NETWORKS = [*CASES, "whole numbers"]


def content_of(name: str) -> bytes:
    return whole_numbers() if name == "whole numbers" else file_of(case(name))[0]


def by_the_reader(content: bytes, images: np.ndarray, folder: Path) -> np.ndarray:
    (folder / "w.safetensors").write_bytes(content)
    code = reader()
    scores: np.ndarray = code["scores"](images, *code["read"](folder / "w.safetensors"))
    return scores


def images_for(content: bytes, count: int) -> np.ndarray:
    shape = json.loads(metadata_of(content)["image_shape"])
    return np.random.default_rng(1).uniform(-1, 1, (count, *shape)).astype(np.float32)


# -- ONNX --------------------------------------------------------------------------------------------------------------


@pytest.mark.onnx
@pytest.mark.parametrize("name", NETWORKS)
def test_onnxruntime_computes_the_same_network(name, tmp_path):
    pytest.importorskip("onnxruntime")
    content = content_of(name)
    images = images_for(content, 20)
    model = to_onnx(content)
    expected, found = by_the_reader(content, images, tmp_path), onnx_export._onnxruntime_scores(model)(images)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
    assert {node.domain for node in model.graph.node} == {""}
    assert [(one.domain, one.version) for one in model.opset_import] == [("", 18)]
    if name != "binaryconnect-cifar10":  # which is evaluated with real-valued weights
        assert len(model.SerializeToString()) < len(content) + 12_000


@pytest.mark.onnx
@pytest.mark.slow
@pytest.mark.data
@pytest.mark.parametrize("path", WEIGHTS, ids=lambda path: path.parent.name)
def test_published_networks_get_every_test_image_right_as_recorded(path, real_data, tmp_path):
    pytest.importorskip("onnxruntime")
    record = RUNS / path.parent.name / f"{path.stem}.json"
    out = tmp_path / "n.onnx"
    written = onnx_export.export(record, out, registry=RUNS, data_root=real_data)
    assert written == (out, 10_000)
    assert out.stat().st_size < path.stat().st_size + 12_000  # it lacks what normalization was derived from


def first_images(record: Record, root: Path) -> Split:
    """The 200 images of a record's data that the small data set has."""
    few = ["data.dataset=mnist-small", "data.train_images=2000", "data.valid_images=200"]
    return load_data(load_recipe(record.benchmark, few), root, 1).test


def of_first_images(monkeypatch: pytest.MonkeyPatch, small_data_root: Path, wrong: int | None = None) -> None:
    """Have LeNet5's record be of the small data set's images alone; `wrong`: one of them comes out otherwise there."""
    record = LENET5_RECORD
    assert record.test_correct is not None
    correct = unpack_bits(record.test_correct, 10_000)[:200]
    if wrong is not None:
        correct[wrong] ^= True
    data = msgspec.structs.replace(record.data, test=msgspec.structs.replace(record.data.test, images=200))
    of_few = msgspec.structs.replace(record, data=data, test_correct=pack_bits(correct))
    monkeypatch.setattr(onnx_export.records, "read", lambda path: of_few)
    monkeypatch.setattr(onnx_export, "_test_images", lambda record, root: first_images(record, small_data_root))


@pytest.mark.onnx
def test_one_image_that_comes_out_otherwise_is_enough_to_write_nothing(small_data_root, monkeypatch, tmp_path):
    pytest.importorskip("onnxruntime")
    out, here = tmp_path / "n.onnx", {"registry": RUNS, "data_root": tmp_path}
    of_first_images(monkeypatch, small_data_root)
    assert onnx_export.export(LENET5, out, **here) == (out, 200)
    out.unlink()
    of_first_images(monkeypatch, small_data_root, wrong=7)
    with pytest.raises(RunError, match=r"^onnxruntime has 1 of 200 test images otherwise than record 237fe4a5f6da1e2c"):
        onnx_export.export(LENET5, out, **here)
    assert list(tmp_path.iterdir()) == []


def test_without_the_packages_the_command_that_installs_them_is_named(monkeypatch, tmp_path):
    for package in ("onnx", "onnxruntime", "qonnx"):
        monkeypatch.setitem(sys.modules, package, None)
    here = {"registry": RUNS, "data_root": tmp_path}
    install = "`python -m pip install -r requirements-"
    with pytest.raises(EngineError, match=rf"^export --onnx needs the package onnx: {install}onnx\.txt`$"):
        onnx_export.export(LENET5, None, **here)
    with pytest.raises(EngineError, match=rf"{install}qonnx\.txt`, in an environment of requirements-torch"):
        onnx_export.export(LENET5, None, qonnx=True, **here)


@pytest.mark.onnx
def test_networks_without_steps_are_refused_with_the_reason():
    pytest.importorskip("onnx")
    content = to_safetensors(pack({"w": np.ones(1, np.float32)}, {}), {}, {"no_network": "ternary weights"})
    with pytest.raises(NoGraphError, match=r"^ternary weights$"):
        to_onnx(content)


# -- QONNX -------------------------------------------------------------------------------------------------------------


@pytest.mark.qonnx
@pytest.mark.parametrize("name", [name for name in NETWORKS if "torch7" not in name and "xnornet" not in name])
def test_qonnxs_executor_computes_the_same_network(name, tmp_path):
    pytest.importorskip("qonnx")
    content = content_of(name)
    images = images_for(content, 20)
    model = to_onnx(content, qonnx=True, batch=onnx_export.BATCH)
    expected, found = by_the_reader(content, images, tmp_path), onnx_export._qonnx_scores(model)(images)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
    kinds = {node.op_type for node in model.graph.node if node.domain}
    both = {"BipolarQuant", "Quant"}
    others = {"whole numbers": both, "finn-tfc-mnist-1w2a": both, "finn-tfc-mnist-2w2a": {"Quant"}}
    assert kinds == (set() if name == "binaryconnect-cifar10" else others.get(name, {"BipolarQuant"}))


@pytest.mark.onnx
@pytest.mark.parametrize("name", ["binarynet-torch7-cifar10", "xnornet-lenet5-mnist"])
def test_a_sign_that_is_0_at_0_has_no_qonnx_graph(name):
    pytest.importorskip("onnx")
    with pytest.raises(NoGraphError, match=r"^its activation is 0 at 0, and QONNX's BipolarQuant is -1 or \+1$"):
        to_onnx(content_of(name), qonnx=True)


@pytest.mark.qonnx
@pytest.mark.parametrize("zero", [0.0, -0.0])
def test_signs_at_zero_are_the_networks_own(zero):
    """x > 0 and x >= 0, and so at 0, where BipolarQuant has one answer."""
    pytest.importorskip("qonnx")
    for word, expected in (("sign", -1), ("binary_tanh", 1)):
        steps = [{"op": word}, {"op": "dense", "weight": "w"}]
        about = {"network": json.dumps(steps), "benchmark": "b", "image_shape": "[3]"}
        content = to_safetensors(pack({"w": np.eye(3, dtype=np.float32)}, {}), {}, about)
        scores = onnx_export._qonnx_scores(to_onnx(content, qonnx=True, batch=onnx_export.BATCH))
        assert scores(np.array([[zero, -1, 1]], np.float32)).tolist() == [[expected, -1, 1]]


@pytest.mark.qonnx
def test_a_published_network_as_qonnx(small_data_root, monkeypatch, tmp_path):
    pytest.importorskip("qonnx")
    import onnx

    of_first_images(monkeypatch, small_data_root)
    out = tmp_path / "n.onnx"
    assert onnx_export.export(LENET5, out, registry=RUNS, data_root=tmp_path, qonnx=True) == (out, 200)
    model = onnx.load(out)
    assert [dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim] == [1, 1, 28, 28]
    assert {prop.key: prop.value for prop in model.metadata_props}["record"] == LENET5.stem
