"""The digest of a network's parameters."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np


def weights_digest(parameters: Mapping[str, np.ndarray]) -> str:
    """SHA-256 (hexadecimal) over name, shape and little-endian float32 bytes of every parameter, sorted by name."""
    sha = hashlib.sha256()
    for name in sorted(parameters):
        value = np.ascontiguousarray(parameters[name], "<f4")
        sha.update(f"{name} {value.shape}\n".encode())
        sha.update(value.data)
    return sha.hexdigest()
