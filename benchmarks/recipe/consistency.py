"""What no setting can refuse by itself: values that do not go together, and what was expected."""

from __future__ import annotations

import math
from collections.abc import Iterator

import msgspec

from benchmarks.recipe.architecture import Dense, Pool, layer_shapes, parse_architecture
from benchmarks.recipe.expected import nearest
from benchmarks.recipe.layerwise import (
    layer_activations,
    layer_hidden_batch_norms,
    layer_linear_outputs,
    layer_weights,
    linear_layers,
    spread,
)
from benchmarks.recipe.networks import IMAGE_SHAPE, NETWORKS
from benchmarks.recipe.settings import CLASSES, DATASETS, ModelSettings, Settings, setting_text
from benchmarks.recipe.words import names_of, words_of

# The settings that each decay of the learning rate takes, and no other.
DECAYS = {
    "exponential": {"lr_final"},
    "halving": {"lr_halving_epochs"},
    "steps": {"lr_milestones", "lr_factor"},
    "constant": set[str](),
}
# What GluonCV's networks are trained with, beside the defaults of the other settings; those in _OPEN may be anything.
_NETWORK_SETTINGS = {
    "activation": "relu",
    "weights": "real",
    "evaluation_weights": "real",
    "lr_scale": "none",
    "batch_norm": "torch",
    "output_batch_norm": "none",
    "loss": "cross_entropy",
    "optimizer": "sgd",
}
_OPEN = {"architecture", "batch_norm_alpha", "batch_norm_epsilon", "momentum", "nesterov", "weight_decay"}


def consistency_problems(settings: Settings) -> list[str]:
    """What does not go together, a line each."""
    network = [*_architecture_problems(settings)]
    network += [] if network else [*_layer_problems(settings.model), *_network_problems(settings)]
    problems = [*_training_problems(settings), *network, *_data_problems(settings)]
    if network:  # The words of layers must be right before they can be compared with other settings.
        return problems
    return [*problems, *_model_problems(settings.model), *_evaluation_problems(settings)]


def _architecture_problems(settings: Settings) -> Iterator[str]:
    text = settings.model.architecture
    if text in NETWORKS:
        return
    try:
        shapes = layer_shapes(parse_architecture(text), DATASETS[settings.data.dataset].image_shape)
    except ValueError as error:
        yield f"model.architecture={text}: {error}{nearest(text, NETWORKS)}"
        return
    overlaps = [shape.layer for shape in shapes if isinstance(shape.layer, Pool) and not shape.layer.tiles]
    if overlaps and settings.model.max_pool_gradient == "all":
        yield f"model.max_pool_gradient=all: expected first with model.architecture={text}, whose windows overlap"
    if shapes[-1].output_shape not in ((CLASSES,), (CLASSES, 1, 1)):
        yield f"model.architecture={text}: expected {CLASSES}FC at the end, one unit a class"


def _training_problems(settings: Settings) -> Iterator[str]:
    """A batch larger than the data; a schedule whose parts are missing, another's, out of order, or above its start."""
    train, images = settings.train, settings.data.train_images
    if images < train.batch_size:
        yield f"data.train_images={images}: expected at least one batch (train.batch_size={train.batch_size})"
    names = {name for parts in DECAYS.values() for name in parts}
    wanted = DECAYS[train.lr_decay]
    if {name for name in names if getattr(train, name) is not None} != wanted:
        expected = " and ".join(f"train.{name}" for name in sorted(wanted, reverse=True))
        expected = f"{expected} with it, and only that" if wanted else f"none of {', '.join(sorted(names))} with it"
        yield f"train.lr_decay={train.lr_decay}: expected {expected}"
    if train.lr_final is not None and train.lr_final > train.lr_start:
        yield f"train.lr_final={train.lr_final}: expected at most train.lr_start={train.lr_start}"
    if train.lr_milestones is not None and sorted(set(train.lr_milestones)) != list(train.lr_milestones):
        yield f"train.lr_milestones={setting_text(train.lr_milestones)}: expected epochs in rising order"


def _layer_problems(model: ModelSettings) -> Iterator[str]:
    """Words and rates that are given layer by layer."""
    layers = linear_layers(model)
    yield from _word_problems("weights", model.weights, len(layers), "linear layer")
    yield from _word_problems("activation", model.activation, len(layers) - 1, "hidden layer")
    yield from _word_problems("linear_output", model.linear_output, len(layers) - 1, "hidden layer")
    yield from _word_problems("batch_norm", model.batch_norm, len(layers) - 1, "hidden layer")
    dense = sum(isinstance(layer, Dense) for layer in layers)
    yield from _rate_problems("dropout_dense_output", model.dropout_dense_output, dense, "fully connected layer")
    yield from _rate_problems("dropout_conv", model.dropout_conv, len(layers) - dense, "convolution")


def _word_problems(name: str, text: str, layers: int, kind: str) -> Iterator[str]:
    """Words that are not known, and more or fewer of them than there are layers."""
    known = names_of(f"model.{name}")
    expected = f"expected {' or '.join(known)}, or one for each {kind} as in '2x{known[0]}-{known[1]}'"
    try:
        words = spread(text, layers) or [text]
    except ValueError as error:
        yield f"model.{name}={text}: {error}: {expected}"
        return
    for word in sorted(set(words) - set(known)):
        yield f"model.{name}={text}: {word!r} is not known: {expected}{nearest(word, known)}"


def _rate_problems(name: str, text: str, layers: int, kind: str) -> Iterator[str]:
    expected = f"expected a rate, at least 0 and below 1, or one for each {kind} as in '2x0.5-0'"
    try:
        rates = [float(word) for word in spread(text, layers) or [text]]
    except ValueError as error:
        yield f"model.{name}={text}: {error}: {expected}"
        return
    if not all(math.isfinite(rate) and 0 <= rate < 1 for rate in rates):
        yield f"model.{name}={text}: {expected}"


def _network_problems(settings: Settings) -> Iterator[str]:
    """What does not go together with one of GluonCV's networks."""
    model, data, name = settings.model, settings.data, settings.model.architecture
    if name not in NETWORKS:
        return
    if DATASETS[data.dataset].image_shape != IMAGE_SHAPE:
        yield f"data.dataset={data.dataset}: expected images of {_by(IMAGE_SHAPE)} with model.architecture={name}"
    if data.preprocessing != "unit":
        yield f"data.preprocessing={data.preprocessing}: expected unit with model.architecture={name}, which normalizes"
    for field in msgspec.structs.fields(model):
        if field.name in _OPEN:
            continue
        value, expected = getattr(model, field.name), _NETWORK_SETTINGS.get(field.name, field.default)
        if value != expected:
            yield (
                f"model.{field.name}={setting_text(value)}: expected {setting_text(expected)} with"
                f" model.architecture={name}, a network of GluonCV's"
            )


def _by(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


def _data_problems(settings: Settings) -> Iterator[str]:
    data = settings.data
    if not data.valid_images:
        selection = settings.protocol.selection
        if selection not in ("last", "best_test", "first_best_test"):
            yield (
                f"protocol.selection={selection}: expected last or best_test or first_best_test with"
                " data.valid_images=0"
            )
        if (data.split, data.augmented) != ("published", "train") or data.dataset == "svhn":
            yield (
                "data.valid_images=0: expected data.split=published, data.augmented=train and another data.dataset than"
                " svhn with it"
            )
    quantization = settings.model.input_quantization
    if quantization != "none" and data.preprocessing != "unit":
        yield f"model.input_quantization={quantization}: expected data.preprocessing=unit, not {data.preprocessing}"
    if data.dataset != "svhn" and data.subset != "all":
        yield f"data.subset={data.subset}: expected data.dataset=svhn with it"
    if data.dataset == "svhn" and data.split == "random":
        yield "data.split=random: expected another data.dataset than svhn with it"
    if data.augmentation == "none" and data.augmented != "train":
        yield f"data.augmented={data.augmented}: expected a data.augmentation with it"


def _model_problems(model: ModelSettings) -> Iterator[str]:
    weights, activations = set(layer_weights(model)), set(layer_activations(model))
    if weights == {"real"}:
        if (model.evaluation_weights, model.lr_scale, model.clipped) != ("real", "none", "weights"):
            yield (
                "model.weights=real: expected model.evaluation_weights=real, model.lr_scale=none and"
                " model.clipped=weights with it"
            )
        if model.binary_regularization:
            yield f"model.binary_regularization={model.binary_regularization}: expected layers that are not real"
        if model.weight_centering != "none":
            yield f"model.weight_centering={model.weight_centering}: expected layers that are not real"
    elif not model.weight_limit:
        yield f"model.weights={model.weights}: expected model.weight_limit with it"
    if model.evaluation_weights == "stochastic" and "stochastic" not in weights:
        yield f"model.evaluation_weights=stochastic: expected model.weights=stochastic, not {model.weights}"
    if (model.activation_gradient == "swish") != (model.swish_beta is not None):
        yield f"model.activation_gradient={model.activation_gradient}: expected model.swish_beta with swish only"
    if model.activation_gradient != "hardtanh" and not activations & {"sign", "ternary"}:
        yield (
            f"model.activation_gradient={model.activation_gradient}: expected model.activation=sign or ternary, not"
            f" {model.activation}"
        )
    yield from _batch_norm_problems(model)
    if (model.dropout_dense or model.dropout_conv != "0") and (model.dropout_input or model.dropout_hidden):
        name = "dropout_dense" if model.dropout_dense else "dropout_conv"
        yield f"model.{name}={getattr(model, name)}: expected no dropout_input and dropout_hidden with it"
    yield from _optimizer_problems(model)
    yield from _scale_problems(model)


def _batch_norm_problems(model: ModelSettings) -> Iterator[str]:
    norms, linear_outputs = layer_hidden_batch_norms(model), layer_linear_outputs(model)[:-1]
    with_norm = [output.startswith("batch_norm") for output in linear_outputs]
    if set(norms) != {"none"} and not (model.batch_norm_alpha and model.batch_norm_epsilon):
        yield f"model.batch_norm={model.batch_norm}: expected model.batch_norm_alpha and batch_norm_epsilon with it"
    if len(set(norms)) > 1 and model.output_batch_norm is None:
        yield f"model.batch_norm={model.batch_norm}: expected model.output_batch_norm with it"
    if any(norm == "none" and has_norm for norm, has_norm in zip(norms, with_norm, strict=True)):
        yield f"model.linear_output={model.linear_output}: expected a model.batch_norm with it"
    if model.least_gamma and set(norms) == {"none"}:
        yield f"model.least_gamma={model.least_gamma}: expected a model.batch_norm with it"
    output_alpha = model.output_batch_norm_alpha or model.batch_norm_alpha
    output_epsilon = model.output_batch_norm_epsilon or model.batch_norm_epsilon
    if (model.output_batch_norm or "none") != "none" and not (output_alpha and output_epsilon):
        yield (
            f"model.output_batch_norm={model.output_batch_norm}: expected model.output_batch_norm_alpha and"
            " batch_norm_epsilon with it"
        )
    if model.dropout_dense_output != "0" and any(with_norm):
        yield (
            f"model.dropout_dense_output={model.dropout_dense_output}: expected no model.linear_output=batch_norm_relu"
            " with it"
        )


def _optimizer_problems(model: ModelSettings) -> Iterator[str]:
    if (model.momentum or model.nesterov) and model.optimizer != "sgd":
        yield f"model.optimizer={model.optimizer}: expected model.momentum and model.nesterov with sgd only"
    if model.nesterov and not model.momentum:
        yield "model.nesterov=true: expected model.momentum with it"
    if model.weight_decay and model.optimizer == "shift_adamax":
        yield f"model.weight_decay={model.weight_decay}: expected model.optimizer=sgd or adam or torch_adam with it"


def _scale_problems(model: ModelSettings) -> Iterator[str]:
    """What does not go together with weights that have a scale."""
    words = [words_of("model.weights")[name] for name in layer_weights(model)]
    if "loss_aware" in layer_weights(model) and model.optimizer not in ("adam", "torch_adam"):
        yield f"model.weights={model.weights}: expected model.optimizer=adam or torch_adam, not {model.optimizer}"
    if not any(word.scaled for word in words):
        return
    if model.evaluation_weights != "binary":
        yield (
            f"model.evaluation_weights={model.evaluation_weights}: expected binary with model.weights={model.weights},"
            " whose layers have a scale"
        )
    if model.binary_regularization:
        yield (
            f"model.binary_regularization={model.binary_regularization}: expected 0 with model.weights={model.weights},"
            " whose layers have a scale"
        )


def _evaluation_problems(settings: Settings) -> Iterator[str]:
    model, size = settings.model, settings.protocol.evaluation_batch_size
    matters = model.evaluation_statistics == "batch" or "ternary" in layer_activations(model)
    if matters and size is None:
        yield (
            "protocol.evaluation_batch_size=null: expected a number of images, on which the scores depend with"
            " model.evaluation_statistics=batch or model.activation=ternary"
        )
    if size is not None and not matters:
        yield (
            f"protocol.evaluation_batch_size={size}: expected null, as the scores do not depend on it without"
            " model.evaluation_statistics=batch or model.activation=ternary"
        )
