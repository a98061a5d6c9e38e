"""torch.compile, where it works: it needs a C++ compiler on CPUs, and triton with a C compiler on GPUs."""

from __future__ import annotations

import functools
import logging
import subprocess
import warnings
from collections.abc import Callable
from typing import Any, Literal, TypeVar

import torch

from benchmarks.errors import EngineError

Compile = Literal["auto", "on", "off"]
Function = TypeVar("Function", bound=Callable[..., Any])


@functools.cache
def complaint(device: str) -> str | None:
    """Why nothing can be compiled for a device; None if it can. Found out by compiling something small."""
    logging.getLogger("torch._inductor").setLevel(logging.CRITICAL)
    try:
        x = torch.arange(8.0, device=device)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.compile(lambda values: values * 2 + 1, fullgraph=True)(x)
    except Exception as error:  # whatever a compiler, its headers or its driver may say
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        return lines[0] if lines else type(error).__name__
    return None


def decide(wanted: Compile, device: str) -> tuple[bool, str | None]:
    """Whether to compile for a device, and a note for the user if "auto" found that it cannot be done.

    Raises:
        EngineError: "on" where it cannot be done.
    """
    if wanted == "off":
        return False, None
    found = complaint(device)
    if found is None:
        return True, None
    needed = "a C++ compiler (apt-get install g++)" if device == "cpu" else "triton and a C compiler"
    if wanted == "on":
        raise EngineError(f"torch.compile does not work here ({found}): expected {needed}, or pass --compile off")
    return False, f"torch.compile does not work here ({found}): slower without; it needs {needed}"


def cpp_compiler() -> str:
    """What compiles for CPUs, as it names itself: what it makes of sums and of tiny numbers is its own choice.

    The variable CXX chooses it.
    """
    from torch._inductor.cpp_builder import get_cpp_compiler

    answer = subprocess.run([get_cpp_compiler(), "--version"], capture_output=True, text=True, check=False).stdout
    return answer.partition("\n")[0].strip() or "unknown"


def compiled(function: Function) -> Function:
    """The function, compiled as a whole when it is first called with tensors of some shape."""
    made: Function = torch.compile(function, fullgraph=True, dynamic=False)
    return made
