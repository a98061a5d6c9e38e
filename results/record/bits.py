"""The images that were right, eight a byte, as text."""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING

from results.errors import RegistryError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def pack_bits(correct: NDArray[np.bool_]) -> str:
    """Base64 of the bits of `correct` (images,), eight a byte, the first image in the highest bit, zeros at the end."""
    import numpy as np

    return base64.b64encode(np.packbits(np.asarray(correct, dtype=bool)).tobytes()).decode()


def unpack_bits(text: str, n: int) -> NDArray[np.bool_]:
    """The (n,) bools that `pack_bits` packed. Raises RegistryError if the text does not hold n of them."""
    import numpy as np

    packed = packed_bytes(text, n)
    return np.unpackbits(np.frombuffer(packed, dtype=np.uint8), count=n).astype(bool)


def first_bits(text: str, n: int, first: int) -> int:
    """The `first` of n bools that `pack_bits` packed as a number, the first in its highest bit; errors as there."""
    return int.from_bytes(packed_bytes(text, n), "big") >> (-n % 8 + n - first)


def packed_bytes(text: str, n: int) -> bytes:
    """The bytes of `pack_bits` of n images. Raises RegistryError if the text is anything else."""
    try:
        packed = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise RegistryError("test_correct: not base64", "test_correct") from None
    unused = -n % 8
    if len(packed) != (n + 7) // 8 or (packed and packed[-1] & ((1 << unused) - 1)):
        raise RegistryError(f"test_correct: does not hold the bits of {n} images", "test_correct")
    return packed
