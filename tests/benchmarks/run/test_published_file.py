"""What the file of published weights says of its network: as the record has it, for every network of the catalog."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from forgeries import sealed
from msgspec import UNSET
from published import RUNS, WEIGHTS, WEIGHTS_OF_EACH_BENCHMARK
from safetensors.numpy import load

from benchmarks.engine.inference import NoStepsError, norm_tensors, steps_of
from benchmarks.engine.layers import layers_of
from benchmarks.recipe import benchmark_ids, load_recipe
from benchmarks.recipe.networks import NETWORKS
from benchmarks.run.published_file import content_of, problems, weight_sizes, write_anew
from results import registry, weights
from results.errors import RegistryError
from results.packed_weights import pack, unpack
from results.record import Record
from results.weights_file import metadata_of

RESULTS = RUNS.parent


def record_of(path: Path) -> Record:
    return registry.read(RUNS / path.parent.name / f"{path.stem}.json")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A registry of this one's published weights, and their records: one of each benchmark."""
    for path in WEIGHTS_OF_EACH_BENCHMARK:
        for name in (f"runs/{path.parent.name}/{path.stem}.json", f"weights/{path.parent.name}/{path.name}"):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(RESULTS / name, tmp_path / name)
    return tmp_path / "runs"


IDS = [(path.parent.name, path.stem) for path in WEIGHTS_OF_EACH_BENCHMARK]


def test_the_registrys_files_follow_from_its_records() -> None:
    assert len(WEIGHTS) >= 2
    for path in WEIGHTS:
        assert path.read_bytes() == content_of(record_of(path), weights.read_packed(record_of(path), RUNS))
    assert not list((RESULTS / "weights").glob("*/*.weights"))


def test_what_they_say() -> None:
    (path,) = (path for path in WEIGHTS if path.stem == "237fe4a5f6da1e2c")
    data = path.read_bytes()
    about = metadata_of(data)
    assert {name: about[name] for name in ("record", "benchmark", "architecture", "dataset", "image_shape")} == {
        "record": "237fe4a5f6da1e2c", "benchmark": "rwth-lenet5-mnist-binary", "dataset": "mnist",
        "architecture": "32C5-MP2-64C5v-MP2-512FC-10FC", "image_shape": "[1,28,28]",
    }  # fmt: skip
    assert about["zero_weight"].startswith("minus: A weight that is 0")
    assert json.loads(about["activations"]) == {"sign": "+1 if y > 0, else -1, also at 0"}
    assert about["preprocessing"] == "unit: Pixels are scaled to [0, 1]. x / 255"
    assert about["license"].startswith("MIT, ")
    assert [step["op"] for step in json.loads(about["network"])] == [
        *("conv", "max_pool", "normalize", "sign") * 2, "dense", "normalize", "sign", "dense", "normalize",
    ]  # fmt: skip
    tensors = load(data)
    assert all(tensors[f"{layer}.weight.scale"].tolist() == [1] for layer in ("conv1", "conv2", "dense1", "dense2"))
    np.testing.assert_array_equal(tensors["bn4.scale"], 1 / np.sqrt(tensors["bn4.running_var"] + np.float32(1e-5)))


def test_a_file_of_an_earlier_version_is_replaced_and_one_that_says_otherwise_is_found(root: Path) -> None:
    benchmark, record_id = IDS[-1]
    path = weights.path_of(root, benchmark, record_id)
    before = path.read_bytes()
    packed = weights.read_packed(registry.read(root / benchmark / f"{record_id}.json"), root)
    path.unlink()
    path.with_suffix(".weights").write_bytes(packed)
    assert registry.verify(root) == []
    assert list(write_anew(root, IDS)) == [path]
    assert (path.read_bytes(), path.with_suffix(".weights").exists()) == (before, False)
    assert list(write_anew(root, IDS)) == []
    edited = before.replace(b'"license":"MIT', b'"license":"BSD')
    assert edited != before
    path.write_bytes(edited)
    assert registry.verify(root) == []
    (problem,) = problems(root, IDS)
    assert (problem.path, problem.field) == (path, "metadata")
    assert "`python cli.py export --safetensors` mends it" in problem.message
    assert list(write_anew(root, IDS)) == [path]
    assert list(problems(root, IDS)) == []


def test_weights_of_another_network_are_a_problem_of_their_record(root: Path) -> None:
    """As long as the right ones, and sealed: the check of the others goes on."""
    benchmark, record_id = IDS[-1]
    path = root / benchmark / f"{record_id}.json"
    packed = weights.read_packed(registry.read(path), root).replace(b"bn1.gamma", b"bn1.gamna")
    described = weights.described(packed)
    content = json.loads(path.read_bytes())
    content["published_weights"] |= {"sha256": described.sha256}
    data, other_id = sealed(content)
    path.with_name(f"{other_id}.json").write_bytes(data)
    weights.path_of(root, benchmark, other_id).with_suffix(".weights").write_bytes(packed)
    (problem,) = problems(root, [(benchmark, other_id), *IDS])
    assert (problem.path.stem, problem.field) == (other_id, "published_weights")
    assert "bn1.gamna" in problem.message


@pytest.mark.parametrize(("benchmark", "expected"), [("lab-mnist", [0.25, 0.5]), ("lab-mnist-bnn", [1, 1])])
def test_the_size_of_weights_is_the_scale_of_their_layer_where_it_has_one(
    benchmark: str, expected: list[float]
) -> None:
    recipe = load_recipe(benchmark, ["model.architecture=8FC-10FC"])
    scales = {"dense1.scale": np.float32([0.25]), "dense2.scale": np.float32([0.5])}
    assert [size.tolist() for size in weight_sizes(recipe, scales).values()] == [[size] for size in expected]


def test_parameters_of_another_network_are_refused() -> None:
    record = record_of(WEIGHTS[0])
    found = unpack(weights.read_packed(record, RUNS), "test")
    name, value = found.popitem()
    with pytest.raises(RegistryError, match=rf"^weights of record {record.id}: parameters: expected \[.*{name}"):
        content_of(record, pack(found, {}))
    with pytest.raises(RegistryError, match=rf"{name}: expected shape"):
        content_of(record, pack(found | {name: value[:1]}, {}))


@pytest.mark.parametrize("name", benchmark_ids())
def test_the_steps_of_every_network_name_its_tensors(name: str) -> None:
    """Each linear layer once; each normalization; or the reason why there are none."""
    recipe = load_recipe(name)
    if recipe.model.architecture in NETWORKS:
        with pytest.raises(NoStepsError, match="is no chain of layers"):
            steps_of(recipe.model, recipe.image_shape)
        return
    try:
        steps = steps_of(recipe.model, recipe.image_shape)
    except NoStepsError as error:
        assert any(word in str(error) for word in ("ternary", "batch", "stochastic"))  # noqa: PT017
        return
    layers = layers_of(recipe.model, recipe.image_shape)
    assert [step["weight"] for step in steps if "weight" in step] == [layer.weight for layer in layers]
    values = {key: np.broadcast_to(np.float32(1), shape) for layer in layers for key, shape in layer.parameters.items()}
    named = {f"{step['norm']}.{word}" for step in steps if "norm" in step for word in ("center", "scale", "shift")}
    assert set(norm_tensors(recipe.model, recipe.image_shape, values)) == named
    assert sum(step["op"] in ("max_pool", "mean_pool") for step in steps) == sum(
        layer.pool is not None for layer in layers
    )


def test_the_record_has_no_file_where_it_has_no_weights(root: Path) -> None:
    (path,) = RUNS.glob("*/573cd6f024bf1322.json")
    assert registry.read(path).published_weights is UNSET
    shutil.copytree(path.parent, root / path.parent.name)
    assert list(write_anew(root, [(path.parent.name, path.stem)])) == []
