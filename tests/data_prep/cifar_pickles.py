"""CIFAR-10 batches as the Python 2 that made the official ones pickled them, opcode by opcode."""

from __future__ import annotations

import struct

import numpy as np


def _whole(number: int) -> bytes:
    return b"K" + bytes([number]) if number < 256 else b"M" + struct.pack("<H", number)


def python2_pickle(images: np.ndarray, labels: np.ndarray, label: bytes = b"training batch 1 of 5") -> bytes:
    """A pickled batch of images uint8 (N, 3, 32, 32) and labels (N,), without the names of the files."""
    lists = [labels[first : first + 1000].tolist() for first in range(0, len(labels), 1000)]
    return b"".join([
        b"\x80\x02}q\x01(", b"U\x0bbatch_labelq\x02U", bytes([len(label)]), label, b"q\x03",
        b"U\x06labelsq\x04]q\x05", *(b"(" + b"".join(map(_whole, some)) + b"e" for some in lists),
        b"U\x04dataq\x06cnumpy.core.multiarray\n_reconstruct\nq\x07cnumpy\nndarray\nq\x08K\x00\x85U\x01b\x87Rq\t",
        b"(K\x01", _whole(len(images)), b"M\x00\x0c\x86cnumpy\ndtype\nq\nU\x02u1K\x00K\x01\x87Rq\x0b(K\x03U\x01|NNN",
        b"J\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T", struct.pack("<I", images.nbytes), images.tobytes(), b"tb",
        b"U\tfilenamesq\x0c]q\r(U\x05a.pnge", b"u.",
    ])  # fmt: skip
