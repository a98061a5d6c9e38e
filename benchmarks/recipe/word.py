"""What is said of a word that a setting takes, and the places that many are from."""

from __future__ import annotations

from typing import NamedTuple

LASAGNE = "Lasagne, lasagne/"
RWTH = "RWTH-IDS/efficient-binary-neural-networks@0c76a5e, "
BINARYNET = "itayhubara/BinaryNet, "
LAB = "houlu369/Loss-aware-Binarization@8a5bede, FNN/"
BREVITAS = "Xilinx/brevitas@b106358, src/"
XNOR = "jiecaoyu/XNOR-Net-PyTorch@ebccb50, "
LARQ = "larq/docs@89c6dcd, docs/larq/tutorials/mnist.ipynb"
KERAS = "tf.keras of TensorFlow 2, "
CHAWLA = "akshaychawla/Binary-Neural-Networks@4fc39ad, "


class Word(NamedTuple):
    """A word.

    Attributes:
        name: as a catalog file has it.
        meaning: a plain sentence.
        formula: of the forward pass.
        gradient: what the backward pass takes for the derivative.
        source: the paper, or file and name in its code; empty where the word is a choice of this harness.
        bits: that a weight or an activation takes once it is quantized; None where that means nothing.
        by_sign: whether evaluation with binary weights sees of a weight its sign alone, beside the layer's scale if it
            has one.
        scaled: whether quantized weights have a size of their layer, which is a parameter of its own, "dense1.scale".
        by_filter: whether each filter, the weights of one output, has such a size of its own.
    """

    name: str
    meaning: str
    formula: str = ""
    gradient: str = ""
    source: str = ""
    bits: int | None = None
    by_sign: bool = False
    scaled: bool = False
    by_filter: bool = False
