"""GluonCV's networks for CIFAR-10, named in a recipe's `architecture`: their layers, counted without MXNet.

    network("cifar_resnet20_v1").shapes

A name stands for a residual network of three stages, each of so many blocks of two 3x3 convolutions; the second and the
third stage halve the image. Behind them is the mean over the image, then one fully connected layer, which alone has
biases. In front of it all, images in [0, 1] are normalized with MEAN and STD, as all of GluonCV's scripts do.
Source: gluoncv 0.10.5, model_zoo/cifarresnet.py and model_zoo/cifarwideresnet.py;
dmlc/gluon-cv@1daae5e, scripts/classification/cifar/train_cifar10.py: transforms.Normalize.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from benchmarks.recipe.architecture import Conv, Dense, LayerShape

IMAGE_SHAPE = (3, 32, 32)
# Of each channel of the images; not quite those of CIFAR-10's training images, whose deviations are .247, .243, .262.
MEAN = (0.4914, 0.4822, 0.4465)
STD = (0.2023, 0.1994, 0.2010)
_CLASSES = 10
_FIRST_FILTERS = 16


class Design(NamedTuple):
    """What tells one network from another.

    Attributes:
        kind: "v1": normalized behind each convolution (arXiv 1512.03385); "v2": in front of it (arXiv 1603.05027);
            "wide": likewise, and behind the first convolution too (arXiv 1605.07146).
        blocks: in each stage.
        filters: of each stage.
    """

    kind: Literal["v1", "v2", "wide"]
    blocks: int
    filters: tuple[int, int, int]


NETWORKS: dict[str, Design] = {
    "cifar_resnet20_v1": Design("v1", 3, (16, 32, 64)),
    "cifar_resnet56_v1": Design("v1", 9, (16, 32, 64)),
    "cifar_resnet110_v1": Design("v1", 18, (16, 32, 64)),
    "cifar_resnet20_v2": Design("v2", 3, (16, 32, 64)),
    "cifar_resnet56_v2": Design("v2", 9, (16, 32, 64)),
    "cifar_resnet110_v2": Design("v2", 18, (16, 32, 64)),
    "cifar_wideresnet16_10": Design("wide", 2, (160, 320, 640)),
    "cifar_wideresnet28_10": Design("wide", 4, (160, 320, 640)),
    "cifar_wideresnet40_8": Design("wide", 6, (128, 256, 512)),
}


class Network(NamedTuple):
    """A network's layers.

    Attributes:
        shapes: the linear layers in the order of GluonCV's parameters, that of a shortcut behind those of its block.
            Where an output has half the rows and columns of the input, the convolution has stride 2.
        norms: channels of each batch normalization with gamma and beta.
        biases: of all layers.
    """

    shapes: list[LayerShape]
    norms: list[int]
    biases: int


def network(name: str) -> Network:
    """The layers of one of NETWORKS, for images of IMAGE_SHAPE."""
    kind, blocks, stages = NETWORKS[name]
    shapes = [_convolution(_FIRST_FILTERS, 3, 1, IMAGE_SHAPE)]
    norms = [] if kind == "v2" else [_FIRST_FILTERS]
    at = shapes[0].output_shape
    for stage, filters in enumerate(stages):
        for block in range(blocks):
            stride = 2 if stage and not block else 1
            first = _convolution(filters, 3, stride, at)
            second = _convolution(filters, 3, 1, first.output_shape)
            shortcut = [] if at[0] == filters else [_convolution(filters, 1, stride, at)]
            shapes += [first, second, *shortcut]
            norms += [filters] * (2 + len(shortcut)) if kind == "v1" else [at[0], filters]
            at = second.output_shape
    channels = at[0]
    norms += [] if kind == "v1" else [channels]
    shapes.append(LayerShape(Dense(_CLASSES), (channels,), (_CLASSES,)))
    return Network(shapes, norms, biases=_CLASSES)


def _convolution(filters: int, kernel: int, stride: int, input_shape: tuple[int, ...]) -> LayerShape:
    _, rows, columns = input_shape
    return LayerShape(Conv(filters, kernel), input_shape, (filters, rows // stride, columns // stride))
