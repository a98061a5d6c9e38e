"""What `pip install .` meets: this is run from a clone, and its rooms have names too general for site-packages.

Source: PEP 517, build backends in the tree of the project.
"""

from __future__ import annotations

import sys
from typing import NoReturn

MESSAGE = (
    "this project is no package, it is run from its clone: `python -m pip install -r requirements.txt` installs what it"
    " needs (requirements-torch.txt with the torch engine alone), then `python cli.py list`"
)


def refuse(*_: object, **__: object) -> NoReturn:
    """End with the message, whatever is to be built."""
    sys.exit(f"error: {MESSAGE}")


build_wheel = build_sdist = build_editable = refuse
get_requires_for_build_wheel = get_requires_for_build_sdist = get_requires_for_build_editable = refuse
