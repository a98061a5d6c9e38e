"""Every word that a setting takes: its meaning, its formula, where it is from. The one place that knows them.

Types of settings, checks, costs, published weights, `explain` and the engines' tests take the words from here. To add
one costs an entry here and a function in each engine; those of settings that no engine computes are in run_words.py.

Symbols: w is a real-valued weight and H its `weight_limit`; x is a layer's input, z its output, s the scores, g a
gradient, p a parameter, t the number of the update from 1.
"""

from __future__ import annotations

from benchmarks.recipe.run_words import RUN_WORDS
from benchmarks.recipe.word import BINARYNET, BREVITAS, CHAWLA, KERAS, LAB, LARQ, LASAGNE, RWTH, XNOR, Word

_STRAIGHT = "the gradient with respect to w_q is applied to w (straight-through estimator)"

MODEL_WORDS: dict[str, tuple[Word, ...]] = {
    "model.weights": (
        Word("real", "The forward pass uses the real-valued weights.", "w_q = w", bits=32),
        Word(
            "deterministic", "The sign of the weight times H; at 0, also if w vanishes beside H in float32, what"
            " `zero_weight` says.", "w_q = +H if w > 0, -H if w < 0", _STRAIGHT,
            "arXiv 1511.00363, BinaryConnect, binary_connect.py, binarization", bits=1, by_sign=True,
        ),
        Word(
            "stochastic", "Drawn in each step with a probability that grows with the weight.",
            "w_q = +H with probability clip((w/H + 1)/2, 0, 1), else -H", _STRAIGHT,
            "arXiv 1511.00363, BinaryConnect, binary_connect.py, binarization", bits=1, by_sign=True,
        ),
        Word(
            "ternary", "The sign of the weight times H, 0 for small weights.",
            "w_q = H * (+1 if w > t, -1 if w < -t, else 0), t = .7 mean|w| over the layer's weights", _STRAIGHT,
            RWTH + "ternary_modules.py, twn", bits=2,
        ),
        Word(
            "layer_scaled", "The sign of the weight, as by \"deterministic\", times the mean size of the layer's"
            " weights after the last update.", "w_q = +a if w > 0, -a if w < 0, a = mean|w| over the layer's weights",
            _STRAIGHT, "arXiv 1603.05279, Binary-Weight-Network, with one scale a layer: arXiv 1611.01600, equation 2",
            bits=1, by_sign=True, scaled=True,
        ),
        Word(
            "loss_aware", "As \"layer_scaled\", the mean weighted by the curvature d that Adam's second moments v tell,"
            " both after the last update; before the first it is the plain mean.",
            "w_q = +a if w > 0, -a if w < 0, a = sum(d |w|) / sum(d), d = sqrt(v) + 1e-8", _STRAIGHT,
            "arXiv 1611.01600, LAB, proposition 3.1; " + LAB + "lab.py:41-55", bits=1, by_sign=True, scaled=True,
        ),
        Word(
            "filter_scaled", "The sign of the weight, as by \"deterministic\", times the mean size of its filter's"
            " weights, those of one output, after the last update.",
            "w_q = +a if w > 0, -a if w < 0, a = mean|w| over the filter's n weights",
            "with g that of w_q and c the input channels of a convolution, or the inputs of a fully connected layer:"
            " n (1 - 1 / c) (a g + sign(w) mean(g sign(w)))",
            "arXiv 1603.05279, section 3.1, with the gradient corrected: " + XNOR + "MNIST/util.py:52-88; README.md,"
            " Notes", bits=1, by_sign=True, scaled=True, by_filter=True,
        ),
        Word(
            "int2", "A signed integer of two bits in narrow range, -1, 0 or 1, times H; halves are rounded to even.",
            "w_q = H clip(round(w / H), -1, 1)", _STRAIGHT,
            BREVITAS + "brevitas/core/quant/int_base.py, IntQuant", bits=2,
        ),
    ),
    "model.evaluation_weights": (
        Word("binary", "w_q as by \"deterministic\"; a layer whose word is not \"stochastic\" is as in training."),
        Word("real", "The real-valued weights.", "w_q = w"),
        Word("stochastic", "As in training, drawn by the seed and the number of the evaluated batch alone."),
    ),
    "model.weight_limit": (
        Word(
            "half_glorot", "Half the limit of Glorot's uniform initialization, layer by layer.",
            "H = sqrt(6 / (fan_in + fan_out)) / 2", source="BinaryConnect@0e27148, binary_connect.py",
        ),
    ),
    "model.weight_centering": (
        Word("none", "Nothing."),
        Word(
            "input_channels", "Their mean over the input channels, for each filter and place in its window: of the"
            " initial weights, then after each update, before they are clipped. As the authors' evaluation does both"
            " too, and keeps the weights, both are done once more before the first step of an epoch; it makes a"
            " difference where clipped weights have a mean again.", "w - mean(w)",
            source=XNOR + "MNIST/util.py:30-41 and 64-66; MNIST/main.py:60",
        ),
    ),
    "model.lr_scale": (
        Word(
            "glorot", "The step of the weights is scaled by twice the inverse of Glorot's limit.",
            "1 / sqrt(1.5 / (fan_in + fan_out))", source="BinaryConnect, binary_connect.py, W_LR_scale",
        ),
        Word("none", "One learning rate for all."),
        Word(
            "torch_glorot", "As \"glorot\", of biases too; of gamma the scale of n channels.",
            "weights, biases: 1 / sqrt(1.5 / (fan_in + fan_out)); gamma: 1 / sqrt(1.5 / n)",
            source=BINARYNET + "Models/BinaryNet_MNIST_Model.lua",
        ),
        Word(
            "torch_glorot_ap2", "As \"glorot\", of biases too, rounded to a power of two; gamma has none.",
            "AP2(1 / sqrt(1.5 / (fan_in + fan_out)))",
            source=BINARYNET + "Models/BinaryNet_Cifar10_Model.lua and BinaryNet_SVHN_Model.lua",
        ),
    ),
    "model.batch_norm": (
        Word(
            "binaryconnect", "Epsilon is added to the standard deviation, which is averaged without it.",
            "gamma (z - mean) / (std + epsilon) + beta", "that of the formula, through mean and std",
            "BinaryConnect, batch_norm.py",
        ),
        Word(
            "lasagne", "The inverse standard deviation is averaged.",
            "gamma (z - mean) / sqrt(variance + epsilon) + beta", "that of the formula, through mean and variance",
            LASAGNE + "layers/normalization.py, BatchNormLayer, of January 2016",
        ),
        Word(
            "shift", "All that an input is multiplied by is a power of two; c = z - mean.",
            "v = mean(c AP2(c)); AP2(gamma) AP2(1 / sqrt(v + epsilon)) c + beta",
            "with s = AP2(1 / sqrt(v + epsilon)): AP2(gamma) s (g - mean(g) - s^2 AP2(c) mean(AP2(c) g))",
            BINARYNET + "BatchNormalizationShiftPow2.lua and SpatialBatchNormalizationShiftPow2.lua",
        ),
        Word(
            "torch", "By the batch's mean and biased variance in training; the running mean and the running unbiased"
            " variance move by alpha towards the batch's.", "gamma (z - mean) / sqrt(variance + epsilon) + beta",
            "that of the formula, through mean and variance",
            "torch/nn, BatchNormalization.lua and lib/THNN/generic/BatchNormalization.c",
        ),
        Word("torch_no_affine", "As \"torch\", without gamma and beta.", "(z - mean) / sqrt(variance + epsilon)"),
        Word(
            "torch_no_gamma", "As \"torch\", without gamma.", "(z - mean) / sqrt(variance + epsilon) + beta",
            source=KERAS + "BatchNormalization(scale=False) behind a convolution, which is fused",
        ),
        Word(
            "biased_no_gamma", "As \"torch_no_gamma\", but the running variance moves towards the batch's biased one.",
            "(z - mean) / sqrt(variance + epsilon) + beta",
            source=KERAS + "BatchNormalization(scale=False) behind a fully connected layer, which is not fused",
        ),
        Word("none", "Nothing, and no parameters."),
    ),
    "model.output_batch_norm": (
        Word("torch", "As `batch_norm` \"torch\"."),
        Word("biased_no_gamma", "As `batch_norm` \"biased_no_gamma\"."),
        Word(
            "torch_no_affine", "As \"torch\", without gamma and beta.", "(z - mean) / sqrt(variance + epsilon)",
            source="torch/nn, BatchNormalization.lua, affine = false",
        ),
        Word(
            "tensor", "As \"torch\", but by mean and variance of the whole tensor, images and classes, with one gamma"
            " and one beta.", "gamma (z - mean) / sqrt(variance + epsilon) + beta",
            source=BREVITAS + "brevitas_examples/bnn_pynq/models/tensor_norm.py",
        ),
        Word("none", "Nothing, and no parameters."),
    ),
    "model.input_quantization": (
        Word("none", "Nothing."),
        Word(
            "sign", "+1 or -1: the brighter and the darker half.", "+1 if 2x - 1 >= 0, else -1",
            source=BREVITAS + "brevitas_examples/bnn_pynq/models/FC.py:38 and 73, 1 bit",
        ),
        Word(
            "int2", "A signed integer of two bits in narrow range, -1, 0 or 1; halves are rounded to even.",
            "clip(round(2x - 1), -1, 1)",
            source=BREVITAS + "brevitas_examples/bnn_pynq/models/FC.py:38 and 73, 2 bits",
        ),
        Word(
            "int8", "A signed fixed-point number of 8 bits, one in front of the point; halves are rounded to even.",
            "clip(round(128 (2x - 1)), -128, 127) / 128",
            source=BREVITAS + "brevitas_examples/bnn_pynq/models/CNV.py:36 and 94, 8 bits",
        ),
    ),
    "model.loss": (
        Word(
            "squared_hinge",
            "The squared hinge loss, mean over images and classes; t = +1 of the image's class, else -1.",
            "mean(max(0, 1 - t s)^2)", "-2 t max(0, 1 - t s) / (images * classes)",
            "BinaryConnect, mnist.py: T.mean(T.sqr(T.maximum(0.,1.-target*train_output)))",
        ),
        Word(
            "squared_hinge_sum",
            "The squared hinge loss, its sum over classes, mean over images; t = +1 of the image's class,"
            " else -1.",
            "sum(max(0, 1 - t s)^2) / images", "-2 t max(0, 1 - t s) / images", RWTH + "util.py, SquareHingeLoss",
        ),
        Word(
            "cross_entropy", "The cross entropy of the softmax and the image's class, mean over images.",
            "mean(-log softmax(s))", "(softmax(s) - one_hot) / images",
        ),
    ),
    "model.optimizer": (
        Word(
            "sgd", "Gradient descent, with a momentum if there is one.",
            "v = momentum v + g; p -= lr v, with nesterov p -= lr (g + momentum v)",
            source=LASAGNE + "updates.py, sgd; PyTorch, torch.optim.SGD",
        ),
        Word(
            "adam", "Lasagne's Adam, where epsilon is not bias-corrected; m = .9m + .1g, v = .999v + .001g^2.",
            "p -= lr sqrt(1 - .999^t) / (1 - .9^t) m / (sqrt(v) + 1e-8)",
            source=LASAGNE + "updates.py, adam; arXiv 1412.6980, section 2",
        ),
        Word(
            "torch_adam", "Adam as published; m = .9m + .1g, v = .999v + .001g^2.",
            "p -= lr / (1 - .9^t) m / (sqrt(v / (1 - .999^t)) + 1e-8)",
            source="PyTorch, torch.optim.Adam; arXiv 1412.6980, algorithm 1",
        ),
        Word(
            "keras_adam", "As \"adam\", with an epsilon ten times as large.",
            "p -= lr sqrt(1 - .999^t) / (1 - .9^t) m / (sqrt(v) + 1e-7)",
            source=KERAS + "optimizers.Adam(), K.epsilon()",
        ),
        Word(
            "shift_adamax", "AdaMax whose divisions are shifts, with powers of two; m = .9m + .1g.",
            "v = AP2(max(.999 v, |g|)) + 2^-27; p -= AP2(lr / (1 - .9^t)) m / v",
            source=BINARYNET + "adaMax_binary_clip_shift.lua; arXiv 1602.02830, shift based AdaMax",
        ),
    ),
    "model.activation": (
        Word("relu", "The rectifier.", "max(0, x)", "1 if x > 0, 1/2 if x = 0, else 0", bits=32),
        Word("none", "Nothing.", "x", "1", bits=32),
        Word(
            "binary_tanh",
            "+1 or -1; (x + 1) / 2 is rounded in float32, half away from zero, so that -2.98e-8 <= x < 0 gives"
            " +1 too.", "+1 if x >= 0, else -1", "1 if |x| <= 1, else 0",
            "arXiv 1602.02830, section 1.3; BinaryNet, binary_net.py, binary_tanh_unit", bits=1,
        ),
        Word(
            "binary_sigmoid", "1 or 0, rounded as \"binary_tanh\".", "1 if x >= 0, else 0", "1/2 if |x| <= 1, else 0",
            "arXiv 1602.02830, section 1.3; BinaryNet, binary_net.py, binary_sigmoid_unit", bits=1,
        ),
        Word(
            "stochastic_sign", "+1 or -1, drawn in each step; in evaluation Torch's sign, 0 at 0.",
            "+1 with probability clip((x + 1) / 2, 0, 1), else -1", "1 if |x| <= 1, else 0",
            "arXiv 1602.02830, equation 2; " + BINARYNET + "BinarizedNeurons.lua behind nn.HardTanh", bits=1,
        ),
        Word(
            "sign", "The sign of y = f(x), f said by `activation_gradient`.", "+1 if y > 0, else -1, also at 0",
            "f'(x), see activation_gradient", RWTH + "binary_modules.py", bits=1,
        ),
        Word(
            "torch_sign", "The sign, 0 at 0.", "+1 if x > 0, -1 if x < 0, 0 at 0", "1 if |x| < 1, else 0",
            XNOR + "MNIST/models/LeNet_5.py:6-21", bits=1,
        ),
        Word(
            "ternary", "Acts on y = f(x), f said by `activation_gradient`; t is taken over the whole tensor, all images"
            " of the batch included, in evaluation too (see `evaluation_batch_size`).",
            "+1 if y > t, -1 if y < -t, else 0, t = .4 mean|y|", "f'(x), see activation_gradient",
            RWTH + "binary_modules.py, ternarize of activations (\"tbn\")", bits=2,
        ),
        Word(
            "int2", "A signed integer of two bits in narrow range, -1, 0 or 1; halves are rounded to even.",
            "clip(round(x), -1, 1)", "1 if |round(x)| <= 1, so where |x| < 1.5, else 0",
            BREVITAS + "brevitas/core/quant/int_base.py, IntQuant", bits=2,
        ),
    ),
    "model.activation_gradient": (
        Word("hardtanh", "Straight-through inside [-1, 1].", "f = clip(x, -1, 1)", "1 if |x| < 1, else 0"),
        Word("identity", "Straight-through everywhere.", "f = x", "1"),
        Word(
            "bireal", "A piecewise quadratic, with c = clip(x, -1, 1).", "f = 2c - c|c|",
            "2 - 2|x| if |x| < 1, else 0", RWTH + "main.py: --gradient-estimator bireal",
        ),
        Word(
            "swish", "With b = swish_beta and s = 1 / (1 + exp(-bx)); f is odd and has the sign of x.",
            "f = 2s (1 + bx (1 - s)) - 1, but x where that gives 0", "2bs (1 - s) (2 + bx (1 - 2s))",
            RWTH + "main.py: --gradient-estimator swish",
        ),
    ),
    "model.linear_output": (
        Word("none", "Nothing."),
        Word("relu", "The rectifier.", "max(0, z)", "1 if z > 0, else 0"),
        Word(
            "batch_norm_relu", "A batch normalization of its own, of the kind of `batch_norm`, then the rectifier.",
            "max(0, batch_norm(z))", source=RWTH + "lenet.py, apply_xnor_layer and apply_relu",
        ),
        Word(
            "batch_norm_no_affine_relu", "As \"batch_norm_relu\", without gamma and beta.", "max(0, batch_norm(z))",
            source=XNOR + "MNIST/models/LeNet_5.py:69-70",
        ),
    ),
    "model.max_pool_gradient": (
        Word("first", "The first of tied maxima in a window gets the gradient."),
        Word("all", "Every one of tied maxima in a window gets the gradient."),
    ),
    "model.clipped": (
        Word("weights", "After each update the w of layers that are not real are clipped.", "clip(w, -H, H)"),
        Word(
            "all", "So are biases, gamma and beta of these layers.", source=BINARYNET + "adaMax_binary_clip_shift.lua",
        ),
    ),
    "model.initialization": (
        Word(
            "lasagne", "w uniform within +-H, or Glorot's limit if real; biases 0.", "U(-H, H)",
            source="BinaryConnect, binary_connect.py; " + LASAGNE + "init.py, GlorotUniform",
        ),
        Word(
            "glorot_uniform", "w uniform within Glorot's limit; biases 0.",
            "U(-h, h), h = sqrt(6 / (fan_in + fan_out))",
            source=KERAS + "initializers.GlorotUniform; " + LARQ + ", layers as they come",
        ),
        Word(
            "half_glorot", "w uniform within half of Glorot's limit; biases 0.",
            "U(-h, h), h = sqrt(1.5 / (fan_in + fan_out))", source=LAB + "lab.py:65-67",
        ),
        Word(
            "torch", "As \"lasagne\"; biases uniform within +-1/sqrt(fan_in), gamma of a \"torch\" normalization"
            " uniform in [0, 1).", "U(-H, H)",
            source=BINARYNET + "reset() of BinaryLinear.lua and cudnnBinarySpatialConvolution.lua",
        ),
        Word(
            "torch_default", "w and biases uniform within +-1/sqrt(fan_in).", "U(-1/sqrt(fan_in), 1/sqrt(fan_in))",
            source="PyTorch, torch.nn.Conv2d and Linear, reset_parameters()",
        ),
        Word(
            "xavier_normal", "Normal weights; biases uniform within +-1/sqrt(fan_in).",
            "w ~ N(0, variance 2 / (fan_in + fan_out))", source=RWTH + "lenet.py, nn.init.xavier_normal_",
        ),
        Word(
            "he_normal", "Normal weights; biases 0.", "w ~ N(0, variance 2 / fan_in)",
            source=CHAWLA + "layers.py: he_normal",
        ),
        Word(
            "narrow_normal", "Normal weights; biases 0.", "w ~ N(0, variance .05^2)",
            source=XNOR + "CIFAR_10/main.py:141-144",
        ),
        Word(
            "standard_normal", "Normal weights; biases 0.", "w ~ N(0, variance 1)", source=CHAWLA + "layers.py: Dense"
        ),
    ),
    "model.zero_weight": (
        Word("plus", "A weight that is 0, or vanishes beside H in float32, is binarized to +H."),
        Word("minus", "A weight that is 0, or vanishes beside H in float32, is binarized to -H."),
    ),
    "model.layer_order": (
        Word("CPBA", "Max pooling, batch norm, activation behind a linear layer."),
        Word("CBAP", "Batch norm, activation, max pooling behind a linear layer."),
    ),
    "model.padding": (
        Word("zeros", "An unmarked convolution adds zeros around its input."),
        Word(
            "edge", "An unmarked convolution adds copies of the outermost pixels around its input.",
            source=RWTH + "binary_modules.py, BinaryConv2d_pad: F.pad(mode='replicate')",
        ),
    ),
    "model.loss_divisor": (
        Word("none", "The loss is as it is."),
        Word("batch_size", "The loss is divided by the batch size of the epoch, that of a last smaller batch too."),
    ),
    "model.trained_layers": (
        Word("all", "All layers are trained."),
        Word(
            "all_but_output", "Weights and biases of the last linear layer stay at their initial values and are not"
            " clipped, though binarized if they are not real.", source=CHAWLA + "mnist_baseline.py",
        ),
    ),
    "model.dropout_kind": (
        Word(
            "rescaled", "Kept with probability 1 - rate and divided by it.", "mask = (u < 1 - rate) / (1 - rate)",
            source=LASAGNE + "layers/noise.py, DropoutLayer with rescale=True",
        ),
        Word(
            "normal_threshold", "With n ~ N(0, 1) and p = 1 - rate, so that at rate .5 69.1 % are kept and the mean"
            " grows by 1.383; within a step, inputs of equal shape have the same mask.", "mask = (n < p) / p",
            source=CHAWLA + "layers.py, Dropout",
        ),
    ),
    "model.evaluation_statistics": (
        Word("running", "The running ones."),
        Word("batch", "Those of the evaluated batch (see `evaluation_batch_size`); the running ones are not moved."),
    ),
}  # fmt: skip
WORDS = RUN_WORDS | MODEL_WORDS


def words_of(key: str) -> dict[str, Word]:
    """The words of a setting, "model.weights", by name."""
    return {word.name: word for word in WORDS[key]}


def names_of(key: str) -> tuple[str, ...]:
    """The words of a setting in the order that messages list them."""
    return tuple(sorted(words_of(key)))
