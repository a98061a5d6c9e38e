"""Processes that `bench` times side by side: each opens an engine, and trains a block when it is told to."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
from collections.abc import Iterator, Mapping
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import TYPE_CHECKING, NamedTuple

from benchmarks.bench.blocks import SEED, Blocks
from benchmarks.engine import open_engine
from benchmarks.errors import EngineError
from benchmarks.machine.mps import Sharing, overlapping

if TYPE_CHECKING:
    from benchmarks.recipe import Recipe


class Options(NamedTuple):
    """How each of them opens its engine: see `open_engine`."""

    engine: str
    device: str
    threads: int
    precision: str
    compile: str


@contextlib.contextmanager
def training_processes(recipe: Recipe, steps: int, options: Options, runs: int) -> Iterator[TrainingProcesses]:
    """So many processes that are ready to train blocks of so many steps, as long as the context lasts.

    Raises:
        EngineError: one of them cannot open its engine.
    """
    with overlapping(options.device if runs else "cpu") as sharing:
        processes = TrainingProcesses(recipe, steps, options, runs, sharing)
        try:
            processes.wait()
            yield processes
        finally:
            processes.end()


class TrainingProcesses:
    """Processes with an engine each.

    Attributes:
        runs: how many.
        threads: of each.
        taking_turns: why their kernels do not overlap on the GPU; None if they do, and on a CPU.
    """

    def __init__(self, recipe: Recipe, steps: int, options: Options, runs: int, sharing: Sharing) -> None:
        """Begin them."""
        self.runs, self.threads, self.taking_turns = runs, options.threads, sharing.complaint
        context = multiprocessing.get_context("spawn")  # a fork would inherit a framework that is set up
        self._ours: list[Connection] = []
        self._processes: list[BaseProcess] = []
        with _environment(sharing.environment):
            for _ in range(runs):
                ours, theirs = context.Pipe()
                process = context.Process(target=_obey, args=(theirs, recipe, steps, options), daemon=True)
                process.start()
                self._processes.append(process)
                theirs.close()  # so that the end of the process is seen here
                self._ours.append(ours)

    def train(self) -> None:
        """All of them train a block, from the same moment on; returns when the last has done."""
        for connection in self._ours:
            connection.send(True)
        self.wait()

    def wait(self) -> None:
        """Until all of them are ready, or done.

        Raises:
            EngineError: one of them is not.
        """
        for connection in self._ours:
            try:
                complaint = connection.recv()
            except EOFError:
                complaint = "it ended without a word; is there enough memory?"
            if complaint is not None:
                raise EngineError(f"one of {self.runs} processes side by side: {complaint}")

    def end(self) -> None:
        """End them all."""
        for connection in self._ours:
            connection.close()
        for process in self._processes:
            process.terminate()
            process.join()


def _obey(connection: Connection, recipe: Recipe, steps: int, options: Options) -> None:
    """Train a block whenever it is told to; what is said after each, and when all is ready, is a complaint or None."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends `bench`, which ends its processes
    try:
        name, device, threads, precision, compile = options
        engine = open_engine(name, recipe.model, recipe.image_shape, SEED, device, threads, precision, compile)
        blocks = Blocks(recipe, steps)
        blocks.warm_up(engine)
    except EngineError as error:
        connection.send(str(error))
        return
    connection.send(None)
    with contextlib.suppress(EOFError):  # nobody wants more
        while connection.recv():
            blocks.train(engine)
            connection.send(None)


@contextlib.contextmanager
def _environment(additions: Mapping[str, str]) -> Iterator[None]:
    """This process's environment, which those it starts inherit, with additions."""
    before = {name: os.environ.get(name) for name in additions}
    os.environ.update(additions)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
