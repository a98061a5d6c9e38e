"""All settings that can change a measured number: their types, and what exactly each of their words means.

Engines, protocol and data room implement what is defined here; what no single field can refuse is refused by
benchmarks/recipe/consistency.py.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, NamedTuple

import msgspec

Count = Annotated[int, msgspec.Meta(ge=1, le=10_000_000)]  # a typing slip must not eat the memory
Positive = Annotated[float, msgspec.Meta(gt=0)]
NonNegative = Annotated[float, msgspec.Meta(ge=0)]
Fraction = Annotated[float, msgspec.Meta(gt=0, lt=1)]
Rate = Annotated[float, msgspec.Meta(ge=0, lt=1)]


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
    """Which images are trained on, and what is done to them first.

    valid_images: 0: there are none, and all training images of the published split can be trained on.
    split: "published", or "random": the validation images are drawn from all training images as a function of the run's
        seed; the others, in the order of the file, are trained on.
    labels: "true"; "random": uniform, drawn once as a function of the run's seed, for training, validation and test
        images; "random_train_valid": for training and validation images only.
    inputs: "images", or "noise": the pixels of the training images, after preprocessing, are replaced by N(0, variance
        .1), drawn once as a function of the run's seed; validation and test images stay.
    augmentation: "none"; "flip_edge_crop", "flip_zero_crop": every image, whenever it is used, is mirrored left to
        right with probability 1/2, then padded by 4 pixels on each side, which repeat its edge or are 0 after
        preprocessing, then cropped to its size at a uniformly drawn place.
    augmented: the training images, or the validation images too ("train_valid").
    subset: "all", or of SVHN the digits of `train` alone, none of `extra` ("train_digits").
    """

    dataset: Literal["mnist", "mnist-small", "cifar10", "cifar10-small", "svhn"]
    preprocessing: Literal[
        "centered", "unit", "signed", "gcn_zca", "gcn_lcn_red", "gcn_lcn", "standardized", "torch7_zca", "torch7_lcn"
    ]
    train_images: Count
    valid_images: Annotated[int, msgspec.Meta(ge=0)]
    split: Literal["published", "random"] = "published"
    labels: Literal["true", "random", "random_train_valid"] = "true"
    inputs: Literal["images", "noise"] = "images"
    augmentation: Literal["none", "flip_edge_crop", "flip_zero_crop"] = "none"
    augmented: Literal["train", "train_valid"] = "train"
    subset: Literal["all", "train_digits"] = "all"


class ModelSettings(_Settings, frozen=True, kw_only=True):
    """The network and its training rule: all that an engine needs to know.

    Texts "a word, or one a layer" give one word for all layers, or one for each joined by "-" and repeated by "<n>x":
    "real-7xdeterministic-real". benchmarks/recipe/layerwise.py reads them.

    **Forward.** x is a layer's input, z its output, in this order (linear: convolution or fully connected layer)::

        x -> dropout_input | dropout_hidden | dropout_dense -> linear, bias -> dropout_dense_output
        layer_order CPBA: -> max pooling -> batch norm -> activation        CBAP: -> batch norm -> activation -> pooling

    Directly behind a hidden linear layer there is what `linear_output` says, if anything.
    Behind the last layer there is the normalization that `output_batch_norm` says, and no activation.

    architecture: benchmarks/recipe/architecture.py has the notation. Or the name of one of GluonCV's networks, see
        benchmarks/recipe/networks.py: its layers, their order, biases and pooling are its own, and every setting that
        says something else is refused; "torch" batch normalization moves the running variance towards the batch's
        biased one, as MXNet does on the CPU: at the published batch size it is at most 1/8192 smaller.
    padding: what an unmarked convolution adds around its input, "zeros" or copies of the outermost pixels ("edge").
    biases: whether linear layers have any.
    weights: a word, or one a linear layer: how training makes the weights that the forward pass uses, w_q, out of the
        real-valued w. "real": w_q = w. "deterministic": +H if w > 0, -H if w < 0, and at 0, also if w vanishes beside H
        in float32, what `zero_weight` says.
        "stochastic": +H with probability clip((w/H + 1)/2, 0, 1), else -H, drawn in each step. "ternary": H times +1 if
        w > t, -1 if w < -t, else 0, with t = .7 mean|w| over the layer's weights.
    evaluation_weights: those of evaluation, of layers that are not real: "binary": w_q as by "deterministic", of a
        ternary layer as in training; "real": w; "stochastic": as in training, drawn for each evaluated batch as a
        function of the seed and the batch's number alone, so that evaluating twice gives the same.
    linear_output: a word, or one a hidden layer: what is done to a linear layer's output before all else. "none";
        "relu", whose derivative at 0 is 0; "batch_norm_relu": a batch normalization of its own, of the kind of
        `batch_norm`, then the same.
    weight_limit: H; with "half_glorot" half the limit of Glorot's initialization, layer by layer. No meaning (and left
        out) if all layers are real.
    clipped: after each update the w of layers that are not real are clipped to +-H; "all": so are biases, gamma and
        beta of these layers.
    activation: a word, or one a hidden layer. "relu", "binary_tanh" and "binary_sigmoid" (+-1 and 0/1, straight-through
        behind the hard tanh or sigmoid), "stochastic_sign" (in evaluation Torch's sign, 0 at 0); "sign" and "ternary"
        act on y = f(x), f said by `activation_gradient`: "sign" gives +1 if y > 0, else -1, also at 0; "ternary" +1 if
        y > t, -1 if y < -t, else 0, with t = .4 mean|y| over the whole tensor, all images of the batch included, in
        evaluation too (see `evaluation_batch_size`).
    activation_gradient: of "sign" and "ternary"; the gradient with respect to x is f'(x):
        "hardtanh": f = clip(x, -1, 1); f' = 1 if |x| < 1, else 0.
        "identity": f = x; f' = 1.
        "bireal": with c = clip(x, -1, 1), f = 2c - c|c|; f' = 2 - 2|x| if |x| < 1, else 0.
        "swish": with b = swish_beta and s = 1 / (1 + exp(-bx)), f = 2s (1 + bx (1 - s)) - 1, but x where that gives 0;
            f' = 2bs (1 - s) (2 + bx (1 - 2s)). f is odd and has the sign of x.
    batch_norm, output_batch_norm: of the hidden layers, and behind the last if another. "torch":
        gamma (z - mean) / sqrt(variance + epsilon) + beta, by the batch's mean and biased variance in training; the
        running mean and the running unbiased variance move by alpha towards the batch's. "torch_no_affine": the same
        without gamma and beta. "none": nothing, and no parameters. alpha and epsilon are 0 (left out) without any.
    max_pool_gradient: whether the first of tied maxima in a window gets the gradient, or every one.

    **Dropout**, in training only. dropout_input, dropout_hidden: rate in front of the first and of each other linear
        layer. dropout_dense: rate in front of each fully connected layer instead. dropout_dense_output: a rate, or one
        a fully connected layer (the last included), on z before its batch normalization.
    dropout_kind: "rescaled": kept with probability 1 - rate and divided by it. "normal_threshold": the mask is
        (n < p) / p with n ~ N(0, 1) and p = 1 - rate, so that at rate .5 69.1 % are kept and the mean grows by 1.383;
        within a step, inputs of equal shape have the same mask.

    **Loss**, of scores (N, classes): "squared_hinge": mean over images and classes of max(0, 1 - ts)^2, t = +1 of the
        image's class, else -1; "squared_hinge_sum": its sum over classes, mean over images; "cross_entropy": mean over
        images of -log softmax(s) of the image's class.
    loss_divisor: "batch_size": the loss is divided by the batch size of the epoch, that of a last smaller batch too.

    **Update** of each parameter p that is trained, in this order; g is the gradient, for weights with respect to w_q:

        1. l2_dense: g += 2 l2_dense w, of fully connected layers' weights.
        2. binary_regularization: g -= 2 binary_regularization w_q, of weights of layers that are not real: the penalty
           is sum(1 - w^2), but the original's backward pass finds w_q where w was.
        3. weight_decay: g += weight_decay p, of weights, biases, gamma and beta alike.
        4. optimizer: "sgd": v = momentum v + g; p -= lr v, with nesterov p -= lr (g + momentum v). "torch_adam":
           m = .9m + .1g, v = .999v + .001g^2, p -= lr/(1 - .9^t) m / (sqrt(v / (1 - .999^t)) + 1e-8). "adam":
           Lasagne's, p -= lr sqrt(1 - .999^t) / (1 - .9^t) m / (sqrt(v) + 1e-8). "shift_adamax": with powers of two.
        5. lr_scale: the step is scaled, layer by layer.
        6. clipped.

        The loss that is reported has no penalty in it. trained_layers: "all_but_output": weights and biases of the last
        linear layer stay at their initial values and are not clipped, though binarized if they are not real.

    initialization: "lasagne": w uniform within +-H, or Glorot's limit if real; biases 0. "torch": that, biases
        uniform within +-1/sqrt(fan_in), gamma of a "torch" normalization uniform in [0, 1). "xavier_normal": w ~ N(0,
        2 / (fan_in + fan_out)), biases uniform within +-1/sqrt(fan_in). "he_normal": w ~ N(0, 2 / fan_in), biases 0.
        "standard_normal": w ~ N(0, 1), biases 0. The second number is the variance; gamma is 1 and beta 0 if not said;
        nothing is clipped before the first update.
    evaluation_statistics: of batch normalization in evaluation: the running ones, or those of the evaluated "batch"
        (see `evaluation_batch_size`), by which the running ones are not moved.

    "torch" names what Torch7 does otherwise: in `lr_scale` too, that biases are scaled as weights are, and gamma too,
    or that the scale is rounded to a power of two (AP2).
    """

    architecture: str
    activation: str
    weights: str
    evaluation_weights: Literal["binary", "real", "stochastic"]
    weight_limit: Positive | Literal["half_glorot"] = 0.0
    lr_scale: Literal["glorot", "none", "torch_glorot", "torch_glorot_ap2"]
    batch_norm: Literal["binaryconnect", "lasagne", "shift", "torch", "none"]
    batch_norm_alpha: Fraction = 0.0
    batch_norm_epsilon: Positive = 0.0
    loss: Literal["squared_hinge", "squared_hinge_sum", "cross_entropy"]
    optimizer: Literal["adam", "sgd", "shift_adamax", "torch_adam"]
    dropout_input: Rate = 0.0
    dropout_hidden: Rate = 0.0
    max_pool_gradient: Literal["first", "all"] = "first"
    clipped: Literal["weights", "all"] = "weights"
    output_batch_norm: Literal["torch", "torch_no_affine", "none"] | None = None
    output_batch_norm_alpha: Fraction | None = None
    initialization: Literal["lasagne", "torch", "xavier_normal", "he_normal", "standard_normal"] = "lasagne"
    zero_weight: Literal["plus", "minus"] = "plus"
    activation_gradient: Literal["hardtanh", "identity", "bireal", "swish"] = "hardtanh"
    swish_beta: Positive | None = None
    layer_order: Literal["CPBA", "CBAP"] = "CPBA"
    padding: Literal["zeros", "edge"] = "zeros"
    biases: bool = True
    loss_divisor: Literal["none", "batch_size"] = "none"
    momentum: Rate = 0.0
    nesterov: bool = False
    weight_decay: NonNegative = 0.0
    binary_regularization: NonNegative = 0.0
    l2_dense: NonNegative = 0.0
    trained_layers: Literal["all", "all_but_output"] = "all"
    dropout_kind: Literal["rescaled", "normal_threshold"] = "rescaled"
    dropout_dense: Rate = 0.0
    dropout_dense_output: str = "0"
    evaluation_statistics: Literal["running", "batch"] = "running"
    linear_output: str = "none"


class TrainSettings(_Settings, frozen=True, kw_only=True):
    """How long and how fast.

    The learning rate starts at `lr_start`. With `lr_decay` "exponential" it is multiplied after each epoch so that it
    would be `lr_final` after the last one; with "halving" it is halved after every `lr_halving_epochs` epochs; with
    "steps" it is multiplied by `lr_factor` before each epoch (counted from 1) of `lr_milestones`, those after the last
    having no effect; with "constant" it stays.

    shuffle: the order of an epoch's images. "cumulative": the last one's, shuffled again; "fresh": a new permutation
        of the images as they are stored; "none": as they are stored, in every epoch.
    """

    epochs: Count
    batch_size: Count
    lr_start: Positive
    lr_final: Positive | None = None
    lr_decay: Literal["exponential", "halving", "steps", "constant"]
    lr_halving_epochs: Count | None = None
    lr_milestones: tuple[Count, ...] | None = None
    lr_factor: Fraction | None = None
    shuffle: Literal["cumulative", "fresh", "none"]


class ProtocolSettings(_Settings, frozen=True):
    """Which epoch's test error is the result, and what becomes of images that do not fill a last batch.

    selection: the epoch of the fewest validation errors, of several the last ("best_validation") or the first
        ("first_best_validation"); or the "last" of all.
    remainder: of the training images, in an epoch: "dropped", or trained on as a smaller batch ("kept").
    counted_test_images: the verdict counts all test images, or only those of whole batches of `batch_size`.
    evaluates_training: after every epoch also the training images are evaluated, and errors are counted by class, of
        training and test images.
    evaluation_batch_size: images evaluated at a time, a last smaller batch included; given exactly where scores depend
        on it: evaluation_statistics "batch" and activation "ternary".
    """

    selection: Literal["best_validation", "first_best_validation", "last"]
    remainder: Literal["dropped", "kept"]
    counted_test_images: Literal["all", "whole_batches"] = "all"
    evaluates_training: bool = False
    evaluation_batch_size: Count | None = None


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


def setting_text(value: Any) -> str:
    """A setting's value as `--set` takes it: null, true, 80,120, 0.001, text."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
