"""How an engine is opened: the only door through which the rest of the house reaches a framework."""

from __future__ import annotations

import functools
import importlib
import mmap
import sys
from typing import TYPE_CHECKING

from benchmarks.engine.choice import ENGINES, PACKAGES, check_engine
from benchmarks.errors import EngineError
from benchmarks.machine import environment
from benchmarks.start import memory_limit, more_memory

if TYPE_CHECKING:
    from benchmarks.engine.contract import Engine
    from benchmarks.recipe import ModelSettings

ROOM = 3 << 29  # bytes of address space that an engine takes before it has any data


def open_engine(
    name: str,
    model: ModelSettings,
    input_shape: tuple[int, ...],
    seed: int,
    device: str = "cpu",
    threads: int | None = None,
    precision: str = "float32",
    compile: str = "auto",
) -> Engine:
    """Open an engine with freshly initialized parameters.

    Args:
        name: one of ENGINES.
        model: network and training rule.
        input_shape: of one image, (channels, rows, columns).
        seed: of initialization and of every random draw of training.
        device: "cpu" or "gpu".
        threads: CPU threads; the number of usable cores if None.
        precision: of products: "float32", "tf32" (GPU) or "bf16"; gluon has float32 alone.
        compile: whether torch compiles its step: "on", "off", or "auto" for where that works. Gluon ignores it.

    Raises:
        EngineError: unknown engine, one that is not installed, or a device or precision that it cannot use.
    """
    check_engine(name, precision, model.architecture)
    _check_room()
    options = {"precision": precision, "compile": compile} if name == "torch" else {}
    try:
        module = importlib.import_module(ENGINES[name])
    except ImportError as error:
        raise EngineError(f"engine {name!r} is not installed ({error}): run `{PACKAGES[name][1]}`") from error
    engine: Engine = module.open(model, input_shape, seed, device, threads, **options)
    _say_what_was_ignored()
    return engine


def _check_room() -> None:
    """Raises EngineError where memory is limited to so little that a framework would end in the middle of loading.

    By a signal, or with the messages of several libraries; each has been seen, of MXNet, between 0.8 and 1.5 GB.
    """
    if memory_limit() is None:
        return
    try:
        mmap.mmap(-1, ROOM).close()
    except OSError:
        raise EngineError(
            f"not enough memory for an engine: it needs {ROOM / 2**30:.1f} GiB: {more_memory()}"
        ) from None


@functools.cache
def _say_what_was_ignored() -> None:
    """Once a process."""
    if ignored := environment.taken_out():
        print(f"note: not used, a run is defined by its options alone: {', '.join(ignored)}", file=sys.stderr)


def compile_option(engine: Engine) -> str:
    """The `compile` with which `open_engine` makes the same engine again: "on" or "off"."""
    features = engine.describe()["features"]
    assert isinstance(features, list)
    return "on" if "torch.compile" in features else "off"
