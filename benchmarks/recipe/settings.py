"""All settings that can change a measured number: their types, and what each means; words.py has their words.

Engines, protocol and data room implement what is defined here; what no single field can refuse is refused by
benchmarks/recipe/consistency.py.
"""

from __future__ import annotations

import functools
from collections.abc import Container
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import msgspec

from benchmarks.recipe.words import names_of

if TYPE_CHECKING:
    from typing import Annotated as OneOf
else:

    class OneOf:
        """OneOf[str, names_of("model.loss")]: at run time a Literal of that setting's words; type checkers see a str.

        It must be a Literal: msgspec then gives back the very object that is the default, and by that it knows which
        settings are left out of a digest.
        """

        def __class_getitem__(cls, item: tuple[type, tuple[str, ...]]) -> Any:
            return Literal[item[1]]


Count = Annotated[int, msgspec.Meta(ge=1, le=10_000_000)]  # a typing slip must not eat the memory
Positive = Annotated[float, msgspec.Meta(gt=0)]
NonNegative = Annotated[float, msgspec.Meta(ge=0)]
Fraction = Annotated[float, msgspec.Meta(gt=0, lt=1)]
Rate = Annotated[float, msgspec.Meta(ge=0, lt=1)]
_A_LAYER = 'a word for all, or one for each, joined by "-" and repeated by "<n>x" as in "real-7xdeterministic-real"'


def _said(description: str) -> msgspec.Meta:
    return msgspec.Meta(description=description)


class DatasetFacts(NamedTuple):
    """What of a data set a recipe's network and cost depend on: image (channels, rows, columns) and test images."""

    image_shape: tuple[int, int, int]
    test_images: int


DATASETS = {
    "mnist": DatasetFacts((1, 28, 28), 10_000),
    "mnist-small": DatasetFacts((1, 28, 28), 200),
    "cifar10": DatasetFacts((3, 32, 32), 10_000),
    "cifar10-small": DatasetFacts((3, 32, 32), 200),
    "svhn": DatasetFacts((3, 32, 32), 26_032),
}
CLASSES = 10


# A setting added to one of these classes later takes a default that means its absence: settings at their default are
# left out of the digest, so that the digests in older records stay valid.
class _Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    pass


class DataSettings(_Settings, frozen=True):
    """Which images are trained on, and what is done to them first."""

    dataset: Annotated[OneOf[str, names_of("data.dataset")], _said("The images and their labels.")]
    preprocessing: Annotated[
        OneOf[str, names_of("data.preprocessing")], _said("What is done to the pixels before anything else.")
    ]
    train_images: Annotated[Count, _said("Images that are trained on.")]
    valid_images: Annotated[
        int,
        msgspec.Meta(ge=0),
        _said(
            "Images that validate. 0: there are none, and all training images of the published split can be trained on."
        ),
    ]
    split: Annotated[OneOf[str, names_of("data.split")], _said("Which of the images validate.")] = "published"
    labels: Annotated[OneOf[str, names_of("data.labels")], _said("Where the labels are from.")] = "true"
    inputs: Annotated[OneOf[str, names_of("data.inputs")], _said("What the training images are.")] = "images"
    augmentation: Annotated[
        OneOf[str, names_of("data.augmentation")], _said("How images are changed at random whenever they are used.")
    ] = "none"
    augmented: Annotated[OneOf[str, names_of("data.augmented")], _said("Which images are augmented.")] = "train"
    subset: Annotated[OneOf[str, names_of("data.subset")], _said("Which part of the training images is used.")] = "all"


class ModelSettings(_Settings, frozen=True, kw_only=True):
    """The network and its training rule: all that an engine needs to know.

    Each field says what it means; words.py says it of each word. Both together: docs/settings.md, or
    `python cli.py show ID --explain KEY`.

    **Forward.** x is a layer's input, z its output, in this order (linear: convolution or fully connected layer)::

        images -> input_quantization
        x -> dropout_input | dropout_hidden | dropout_dense -> linear, bias -> dropout_dense_output
        layer_order CPBA: -> max pooling -> batch norm -> activation        CBAP: -> batch norm -> activation -> pooling

    Directly behind a hidden linear layer there is what `linear_output` says, if anything.
    Behind the last layer there is the normalization that `output_batch_norm` says, and no activation.

    **Update** of each parameter p that is trained, in this order; g is the gradient, for weights with respect to w_q:
    what `weights` says of the gradient, l2_dense, binary_regularization, weight_decay, optimizer, lr_scale (the step is
    scaled), weight_centering, clipped, least_gamma. The loss that is reported has no penalty in it.

    **Initialization.** Gamma is 1 and beta 0 if not said; nothing is clipped before the first update.
    """

    architecture: Annotated[
        str,
        _said(
            "The layers, in the notation of benchmarks/recipe/architecture.py, or the name of one of GluonCV's"
            " networks, see benchmarks/recipe/networks.py: its layers, their order, biases and pooling are its own, and"
            ' every setting that says something else is refused. There, "torch" batch normalization moves the running'
            " variance towards the batch's biased one, as MXNet does on the CPU: at the published batch size it is at"
            " most 1/8192 smaller."
        ),
    ]
    activation: Annotated[str, _said(f"The activation behind the hidden layers: {_A_LAYER}.")]
    weights: Annotated[
        str,
        _said(
            "How training makes the weights that a linear layer's forward pass uses, w_q, out of the real-valued w:"
            f" {_A_LAYER}."
        ),
    ]
    evaluation_weights: Annotated[
        OneOf[str, names_of("model.evaluation_weights")], _said("w_q in evaluation, of layers that are not real.")
    ]
    weight_limit: Annotated[
        Positive | OneOf[str, names_of("model.weight_limit")],
        _said(
            "H, the limit of clipping, and the size of quantized weights that have none of their layer. No meaning (and"
            " left out) if all layers are real."
        ),
    ] = 0.0
    lr_scale: Annotated[
        OneOf[str, names_of("model.lr_scale")],
        _said("How the step is scaled, layer by layer, of layers that are not real."),
    ]
    batch_norm: Annotated[
        str,
        _said(
            "The batch normalization of the hidden layers, and of the output if `output_batch_norm` is null:"
            f" {_A_LAYER}."
        ),
    ]
    batch_norm_alpha: Annotated[
        Fraction, _said("By how much running statistics move towards a batch's. 0 (left out) without normalization.")
    ] = 0.0
    batch_norm_epsilon: Annotated[
        Positive, _said("What keeps batch normalization from dividing by 0. 0 (left out) without normalization.")
    ] = 0.0
    loss: Annotated[OneOf[str, names_of("model.loss")], _said("What is minimized, of scores s (N, classes).")]
    optimizer: Annotated[
        OneOf[str, names_of("model.optimizer")], _said("How a parameter p follows from its gradient g.")
    ]
    dropout_input: Annotated[Rate, _said("Dropout rate in front of the first linear layer, in training only.")] = 0.0
    dropout_hidden: Annotated[Rate, _said("Dropout rate in front of each other linear layer, in training only.")] = 0.0
    max_pool_gradient: Annotated[
        OneOf[str, names_of("model.max_pool_gradient")], _said("Which of tied maxima in a window gets the gradient.")
    ] = "first"
    clipped: Annotated[
        OneOf[str, names_of("model.clipped")],
        _said("What is clipped to +-H after each update, of layers that are not real."),
    ] = "weights"
    output_batch_norm: Annotated[
        OneOf[str, names_of("model.output_batch_norm")] | None,
        _said("The batch normalization behind the last layer. null: that of `batch_norm`."),
    ] = None
    output_batch_norm_alpha: Annotated[
        Fraction | None, _said("As `batch_norm_alpha`, behind the last layer. null: the same.")
    ] = None
    initialization: Annotated[
        OneOf[str, names_of("model.initialization")], _said("Parameters before the first step.")
    ] = "lasagne"
    zero_weight: Annotated[OneOf[str, names_of("model.zero_weight")], _said("What a weight of 0 is binarized to.")] = (
        "plus"
    )
    activation_gradient: Annotated[
        OneOf[str, names_of("model.activation_gradient")],
        _said('f of "sign" and "ternary" activations, and the gradient with respect to x, f\'(x).'),
    ] = "hardtanh"
    swish_beta: Annotated[Positive | None, _said('b of `activation_gradient` "swish", and only of that.')] = None
    layer_order: Annotated[
        OneOf[str, names_of("model.layer_order")], _said("What follows on a linear layer, in this order.")
    ] = "CPBA"
    padding: Annotated[
        OneOf[str, names_of("model.padding")], _said("What an unmarked convolution adds around its input.")
    ] = "zeros"
    biases: Annotated[bool, _said("Whether linear layers have biases.")] = True
    loss_divisor: Annotated[
        OneOf[str, names_of("model.loss_divisor")], _said("What the loss is divided by as well.")
    ] = "none"
    momentum: Annotated[Rate, _said('Momentum of `optimizer` "sgd".')] = 0.0
    nesterov: Annotated[bool, _said("Whether the momentum is Nesterov's.")] = False
    weight_decay: Annotated[NonNegative, _said("g += weight_decay p, of weights, biases, gamma and beta alike.")] = 0.0
    binary_regularization: Annotated[
        NonNegative,
        _said(
            "g -= 2 binary_regularization w_q, of weights of layers that are not real: the penalty is sum(1 - w^2), but"
            " the original's backward pass finds w_q where w was."
        ),
    ] = 0.0
    l2_dense: Annotated[NonNegative, _said("g += 2 l2_dense w, of fully connected layers' weights.")] = 0.0
    trained_layers: Annotated[
        OneOf[str, names_of("model.trained_layers")], _said("Which linear layers are updated.")
    ] = "all"
    dropout_kind: Annotated[OneOf[str, names_of("model.dropout_kind")], _said("How dropout draws its mask.")] = (
        "rescaled"
    )
    dropout_dense: Annotated[
        Rate, _said("Dropout rate in front of each fully connected layer, instead of dropout_input and dropout_hidden.")
    ] = 0.0
    dropout_dense_output: Annotated[
        str,
        _said(
            "Dropout rate on z before its batch normalization: a rate, or one a fully connected layer (the last"
            ' included), as in "2x0.5-0".'
        ),
    ] = "0"
    evaluation_statistics: Annotated[
        OneOf[str, names_of("model.evaluation_statistics")], _said("Statistics of batch normalization in evaluation.")
    ] = "running"
    linear_output: Annotated[
        str, _said(f"What is done to the output of hidden linear layers before all else: {_A_LAYER}.")
    ] = "none"
    output_batch_norm_epsilon: Annotated[
        Positive | None, _said("As `batch_norm_epsilon`, behind the last layer. null: the same.")
    ] = None
    weight_centering: Annotated[
        OneOf[str, names_of("model.weight_centering")], _said("What is taken off the w of layers that are not real.")
    ] = "none"
    output_relu: Annotated[
        bool, _said("Whether the last linear layer's output goes through a rectifier, as `linear_output` relu.")
    ] = False
    dropout_conv: Annotated[
        str,
        _said(
            "Dropout rate in front of each convolution, instead of dropout_input and dropout_hidden: a rate, or one a"
            ' convolution, as in "3x0-0.5-2x0".'
        ),
    ] = "0"
    least_gamma: Annotated[
        NonNegative, _said("What a smaller gamma is raised to after each update. 0: none is raised.")
    ] = 0.0
    input_quantization: Annotated[
        OneOf[str, names_of("model.input_quantization")],
        _said('How the pixels, of preprocessing "unit", are quantized in front of everything else.'),
    ] = "none"


class TrainSettings(_Settings, frozen=True, kw_only=True):
    """How long and how fast."""

    epochs: Annotated[Count, _said("How often the training images are passed.")]
    batch_size: Annotated[Count, _said("Images of a minibatch.")]
    lr_start: Annotated[Positive, _said("Learning rate of the first epoch.")]
    lr_final: Annotated[Positive | None, _said('What an "exponential" decay would end with after the last epoch.')] = (
        None
    )
    lr_decay: Annotated[OneOf[str, names_of("train.lr_decay")], _said("How the learning rate goes on.")]
    lr_halving_epochs: Annotated[Count | None, _said('Epochs after which a "halving" decay halves.')] = None
    lr_milestones: Annotated[
        tuple[Count, ...] | None, _said('Epochs (counted from 1) before which a "steps" decay multiplies.')
    ] = None
    lr_factor: Annotated[Fraction | None, _said('What a "steps" decay multiplies by.')] = None
    shuffle: Annotated[OneOf[str, names_of("train.shuffle")], _said("The order of an epoch's images.")]


class ProtocolSettings(_Settings, frozen=True):
    """Which epoch's test error is the result, and what becomes of images that do not fill a last batch."""

    selection: Annotated[OneOf[str, names_of("protocol.selection")], _said("The epoch whose test error is the result.")]
    remainder: Annotated[
        OneOf[str, names_of("protocol.remainder")],
        _said("What becomes of training images that do not fill a last batch."),
    ]
    counted_test_images: Annotated[
        OneOf[str, names_of("protocol.counted_test_images")], _said("Which test images the verdict counts.")
    ] = "all"
    evaluates_training: Annotated[
        bool,
        _said(
            "Whether after every epoch also the training images are evaluated, and errors are counted by class, of"
            " training and test images."
        ),
    ] = False
    evaluation_batch_size: Annotated[
        Count | None,
        _said(
            "Images evaluated at a time, a last smaller batch included; given exactly where scores depend on it:"
            ' evaluation_statistics "batch" and activation "ternary".'
        ),
    ] = None


class Settings(_Settings, frozen=True):
    """All that can change the measured number."""

    data: DataSettings
    model: ModelSettings
    train: TrainSettings
    protocol: ProtocolSettings


def flatten(settings: Settings) -> dict[str, Any]:
    """Settings as {"train.epochs": 250, ...}."""
    return {
        f"{group}.{name}": getattr(getattr(settings, group), name)
        for group in settings.__struct_fields__
        for name in getattr(settings, group).__struct_fields__
    }


def full_settings(settings: Settings) -> dict[str, dict[str, Any]]:
    """All settings by group, those at their defaults too, as plain values."""
    groups = {group: getattr(settings, group) for group in settings.__struct_fields__}
    return {
        group: {name: msgspec.to_builtins(getattr(part, name)) for name in part.__struct_fields__}
        for group, part in groups.items()
    }


def named_settings(settings: Settings, stated: Container[str]) -> dict[str, dict[str, Any]]:
    """The settings that a digest is over, by group, as plain values: without those at their defaults.

    A float at its default is there if it is `stated` ("model.dropout_hidden"), in the catalog or in an older record: so
    the first digests were made, by a comparison of objects, and so they stay. By values alone, whatever object holds
    them: a recipe that was pickled has the same digest.
    """
    named: dict[str, dict[str, Any]] = {}
    for group in settings.__struct_fields__:
        part = getattr(settings, group)
        named[group] = {}
        for field in _fields(part.__class__):
            value = getattr(part, field.name)
            is_kept = isinstance(value, float) and f"{group}.{field.name}" in stated
            if is_kept or type(value) is not type(field.default) or value != field.default:
                named[group][field.name] = msgspec.to_builtins(value)
    return named


@functools.cache
def _fields(group: Any) -> tuple[msgspec.structs.FieldInfo, ...]:
    """A group's fields with their defaults: to find them out takes 2 of the 7 ms that `verify` needs for a record."""
    return msgspec.structs.fields(group)


def setting_text(value: Any) -> str:
    """A setting's value as `--set` takes it: null, true, 80,120, 0.001, text."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
