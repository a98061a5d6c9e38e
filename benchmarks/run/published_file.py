"""The `.safetensors` file beside a record: made from the record and its weights alone, so that it can be made again.

Beside the weights (see results/weights_file.py) it has what others need to classify images with them: the network as a
list of steps (see benchmarks/engine/inference.py), what batch normalization comes to, and in words which benchmark and
record it is, what was done to the images, what becomes of a zero, and which license holds.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
from msgspec import UNSET

from benchmarks.engine.inference import NoStepsError, norm_tensors, steps_of
from benchmarks.engine.layers import check_parameters, layers_of, weight_limits
from benchmarks.recipe import Recipe, recipe_from_settings
from benchmarks.recipe.layerwise import layer_activations
from benchmarks.recipe.words import words_of
from results import registry as records
from results import weights
from results.errors import RegistryError
from results.files import write_atomically
from results.packed_weights import entries_in, levels_of, unpack
from results.record import Record
from results.record.canonical import canonical_json
from results.weights_file import to_safetensors

LICENSE = (
    "MIT, as the code of bnn-reproducibility that trained it; the images that it was trained on keep a license of their"
    " own: data_prep/README.md"
)


def content_of(record: Record, packed: bytes) -> bytes:
    """The content of the file of a record with these weights.

    Args:
        packed: as `pack` gave them.

    Raises:
        RegistryError: these are not the parameters of the record's network.
    """
    recipe = recipe_from_settings(record.benchmark, record.recipe.named_settings, {})
    try:
        derived, network = network_of(recipe, packed)
    except ValueError as error:
        raise RegistryError(f"weights of record {record.id}: {error}", "published_weights") from None
    return to_safetensors(packed, derived, _about(record, recipe) | network)


def network_of(recipe: Recipe, packed: bytes) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """What the file says of a recipe's network with these weights: the derived tensors, and the metadata of the steps.

    Raises:
        ValueError: a name missing or unknown, or another shape.
    """
    parameters, model = unpack(packed, recipe.id), recipe.model
    layers = layers_of(model, recipe.image_shape)
    check_parameters(parameters, {name: shape for layer in layers for name, shape in layer.parameters.items()})
    sizes = weight_sizes(recipe, parameters)
    stored_in_bits = [name for name, _, kind in entries_in(packed, recipe.id)[0] if levels_of(kind)]
    scales = {f"{name}.scale": sizes[name] for name in stored_in_bits}
    try:
        steps = steps_of(model, recipe.image_shape)
    except NoStepsError as error:
        return scales, {"no_network": str(error)}
    norms = norm_tensors(model, recipe.image_shape, parameters)
    return scales | norms, {"network": canonical_json(steps).decode()}


def weight_sizes(recipe: Recipe, parameters: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The size of quantized weights, float32 (1,), by their names: H, or the layer's own scale where it has one."""
    layers = layers_of(recipe.model, recipe.image_shape)
    sizes = {name: np.array([limit], np.float32) for name, limit in weight_limits(layers, recipe.model).items()}
    return sizes | {layer.weight: parameters[layer.scale] for layer in layers if layer.scaled}


def _about(record: Record, recipe: Recipe) -> dict[str, str]:
    data, model = recipe.data, recipe.model
    activations = words_of("model.activation")
    evaluated = {word: activations[word].formula for word in dict.fromkeys(layer_activations(model))}
    error = "" if record.results is None else json.dumps(record.results.declared.test_error)
    return {
        "record": record.id,
        "benchmark": record.benchmark,
        "paper": record.paper,
        "architecture": model.architecture,
        "zero_weight": f"{model.zero_weight}: {words_of('model.zero_weight')[model.zero_weight].meaning}",
        "activations": canonical_json(evaluated).decode(),
        "dataset": data.dataset,
        "preprocessing": f"{data.preprocessing}: {_meaning(data.preprocessing)}",
        "image_shape": canonical_json(recipe.image_shape).decode(),
        "test_error_percent": error,
        "license": LICENSE,
    }


def _meaning(preprocessing: str) -> str:
    word = words_of("data.preprocessing").get(preprocessing.partition(",")[0])
    return "" if word is None else " ".join(part for part in (word.meaning, word.formula) if part)


def write_anew(registry: Path, ids: Iterable[tuple[str, str]]) -> Iterator[Path]:
    """Make the files of records, by (benchmark, id), what they must be, of the weights there; those that were written.

    Weights in the form of an earlier version are replaced.

    Raises:
        RegistryError: the weights are not those of the record.
    """
    for record, found in _published(registry, ids):
        content = weights.checked_content(record, weights.read_packed(record, registry), content_of, found)
        path = found.with_suffix(weights.SUFFIX)
        if not path.exists() or path.read_bytes() != content:
            write_atomically(path, content)
            yield path
        if (older := path.with_suffix(weights.OLD_SUFFIX)).exists():  # a read-only disk refuses to look for it
            older.unlink()


def problems(registry: Path, ids: Iterable[tuple[str, str]]) -> Iterator[records.Problem]:
    """Files that say otherwise of their network than the record does; the weights themselves `verify` has checked."""
    for record, path in _published(registry, ids):
        try:
            content = content_of(record, weights.read_packed(record, registry))
        except RegistryError as error:  # weights of another network, of the same length
            yield records.Problem(path, "published_weights", str(error))
            continue
        if path.suffix == weights.SUFFIX and path.read_bytes() != content:
            message = "say otherwise of the network than its record: `python cli.py export --safetensors` mends it"
            yield records.Problem(path, "metadata", message)


def _published(registry: Path, ids: Iterable[tuple[str, str]]) -> Iterator[tuple[Record, Path]]:
    """Those of the records that have weights, and where these are."""
    for benchmark, record_id in ids:
        record = records.read(registry / benchmark / f"{record_id}.json")
        if record.published_weights is not UNSET:
            yield record, weights.path_of(registry, benchmark, record_id)
