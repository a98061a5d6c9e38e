"""Data on the GPU: arrays that stay there from epoch to epoch, and epochs that run without the host.

An epoch is one CUDA graph, replayed for every batch: it takes the batch's number from a counter on the device, gathers
the images by the epoch's permutation, trains, stores the loss and counts on. The host only queues replays.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

# The share of the free memory that one array may take to stay; and of a piece of a larger one.
_SHARE, _PIECE_BYTES = 0.5, 2**30
_KEPT = 8  # images and labels of three splits, and some
_WARM_UP = 3  # steps before the capture: libraries set themselves up, and what is compiled is compiled
GROUP = 100  # batches that are queued before the host looks at what has been done


class Arrays:
    """Copies of the host's arrays on the device. An array that stays must not be changed."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._kept: dict[int, tuple[Any, Tensor]] = {}

    def get(self, array: Any, dtype: torch.dtype) -> Tensor | None:
        """The array on the device; None if it is too large to stay there.

        Args:
            array: NumPy array, or what is indexed like one (`data_prep.lazy`).
        """
        if id(array) in self._kept and self._kept[id(array)][0] is array:
            return self._kept[id(array)][1]
        size = int(np.prod(array.shape)) * dtype.itemsize
        free, _ = torch.cuda.mem_get_info(self._device)
        if size > _SHARE * free:
            return None
        copy = torch.empty(tuple(array.shape), dtype=dtype, device=self._device)
        rows = max(1, _PIECE_BYTES // max(1, size // max(1, len(array))))
        for start in range(0, len(array), rows):
            copy[start : start + rows].copy_(on_host(array[start : start + rows], dtype))
        while len(self._kept) >= _KEPT:
            del self._kept[next(iter(self._kept))]
        self._kept[id(array)] = (array, copy)
        return copy


def on_host(values: Any, dtype: torch.dtype) -> Tensor:
    """A copy of an array as a tensor on the CPU."""
    return torch.from_numpy(np.array(values)).to(dtype)


def piece_batches(images: Any, batch_size: int) -> int:
    """Batches in a piece of a set that is too large to stay on the device."""
    return max(1, _PIECE_BYTES // (int(np.prod(images.shape[1:])) * 4 * batch_size))


class Epochs:
    """Epochs over images that are on the device, as replays of one graph.

    `step` is called with (images of a batch, labels of a batch, step size ()) and returns the loss ().
    """

    def __init__(
        self, step: Callable[[Tensor, Tensor, Tensor], Tensor], images: Tensor, labels: Tensor, batch_size: int
    ) -> None:
        self.images, self.labels, self.batch_size = images, labels, batch_size
        self._step, device = step, images.device
        self._capacity = len(images) // batch_size
        self._order = torch.zeros(self._capacity * batch_size, dtype=torch.int64, device=device)
        self._step_sizes = torch.zeros(self._capacity, device=device)
        self._losses = torch.zeros(self._capacity, device=device)
        self._batch = torch.zeros((), dtype=torch.int64, device=device)
        self._within = torch.arange(batch_size, device=device)
        self._numbers = torch.arange(self._capacity, device=device)
        self._graph: torch.cuda.CUDAGraph | None = None

    def serves(self, images: Tensor, labels: Tensor, batch_size: int, batches: int) -> bool:
        """Whether an epoch over these tensors is one of this graph."""
        return (
            self.images is images
            and self.labels is labels
            and self.batch_size == batch_size
            and batches <= self._capacity
        )

    def run(
        self, order: np.ndarray, step_sizes: np.ndarray, on_batch: Callable[[int, float], None] | None
    ) -> np.ndarray:
        """Train on the images in this order, a step size a batch; returns the losses, float32 (batches,)."""
        batches = len(step_sizes)
        self._order[: len(order)].copy_(on_host(order, torch.int64))
        self._step_sizes[:batches].copy_(on_host(step_sizes, torch.float32))
        self._batch.zero_()
        done = 0
        if self._graph is None:
            done = self._warm_up_and_capture(batches)
        losses = torch.zeros(self._capacity, pin_memory=True)
        earlier: tuple[int, torch.cuda.Event] | None = None
        while done < batches:
            stop = min(done + GROUP, batches)
            for _ in range(done, stop):
                assert self._graph is not None
                self._graph.replay()
            losses.copy_(self._losses, non_blocking=True)
            event = torch.cuda.Event()
            event.record()
            # The host is a group ahead, so the device never waits for it.
            if earlier is not None:
                self._report(earlier, losses, on_batch)
            earlier, done = (stop, event), stop
        torch.cuda.synchronize()
        losses.copy_(self._losses)
        if on_batch is not None:
            on_batch(batches, float(losses[batches - 1]))
        found: np.ndarray = losses[:batches].numpy().copy()
        return found

    @staticmethod
    def _report(
        group: tuple[int, torch.cuda.Event], losses: Tensor, on_batch: Callable[[int, float], None] | None
    ) -> None:
        done, event = group
        event.synchronize()
        if on_batch is not None:
            on_batch(done, float(losses[done - 1]))

    def _warm_up_and_capture(self, batches: int) -> int:
        """Make the first steps without a graph, then capture one; returns how many steps were made."""
        done = min(_WARM_UP, batches)
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(done):
                self._next()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._next()
        self._graph = graph
        return done

    def _next(self) -> None:
        """Train on the batch that the counter names, and count on."""
        rows = self._order.index_select(0, self._batch * self.batch_size + self._within)
        step_size = self._step_sizes.index_select(0, self._batch.reshape(1)).reshape(())
        loss = self._step(self.images.index_select(0, rows), self.labels.index_select(0, rows), step_size)
        self._losses.copy_(torch.where(self._numbers == self._batch, loss, self._losses))
        self._batch.add_(1)
