"""The engine on MXNet Gluon: import `bnn_gluon.engine`.

numba compiles a function anew when its own file has changed, but not when a function has that it calls in another file:
it would go on with the old one. So what is compiled is kept by the content of all files of this package, and of the
one outside that it takes constants from.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

CONSTANTS = Path(__file__).parents[1] / "benchmarks" / "optimizers.py"


def compiled_folder(package: Path, *others: Path) -> Path:
    """Where what is compiled of the files in `package` and `others`, as they are, is kept."""
    content = b"\0".join(file.read_bytes() for file in (*sorted(package.glob("*.py")), *others))
    return package / "__pycache__" / f"numba-{hashlib.sha256(content).hexdigest()[:16]}"


os.environ.setdefault("NUMBA_CACHE_DIR", str(compiled_folder(Path(__file__).parent, CONSTANTS)))
