"""Data on the GPU: arrays that stay there from epoch to epoch, and epochs that run without the host.

An epoch is one CUDA graph, replayed for every batch: it takes the batch's number from a counter on the device, gathers
the images by the epoch's permutation, mirrors and crops them, trains, stores the loss and counts on. The host only
queues replays.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from bnn_torch.device.augmentation import changed, places

if TYPE_CHECKING:
    from benchmarks.engine.augmentation import Crops

# The share of the free memory that one array may take to stay; and of a piece of a larger one.
_SHARE, _PIECE_BYTES = 0.5, 2**30
_WARM_UP = 3  # steps before the capture: libraries set themselves up, and what is compiled is compiled
GROUP = 100  # batches that are queued before the host looks at what has been done


class Arrays:
    """Copies of the host's arrays on the device. An array that stays must not be changed.

    A copy is there as long as its array: one that is made anew in each epoch, as augmented validation images are, makes
    room for the next, and those of the training images, which live as long as the run, are never in question. What does
    not fit is not kept.
    """

    def __init__(self, device: torch.device, free_bytes: Callable[[], int]) -> None:
        """`free_bytes` says how much memory of the device is still free."""
        self._device, self._free_bytes = device, free_bytes
        self._kept: dict[int, tuple[weakref.ref[Any], Tensor]] = {}

    def __len__(self) -> int:
        """Copies on the device."""
        return len(self._kept)

    def get(self, array: Any, dtype: torch.dtype) -> Tensor | None:
        """The array on the device; None if it is too large to stay there.

        Args:
            array: NumPy array, or what is indexed like one (`data_prep.storage.lazy`).
        """
        number = id(array)
        if number in self._kept and self._kept[number][0]() is array:
            return self._kept[number][1]
        size = int(np.prod(array.shape)) * dtype.itemsize
        if size > _SHARE * self._free_bytes():
            return None
        copy = torch.empty(tuple(array.shape), dtype=dtype, device=self._device)
        rows = max(1, _PIECE_BYTES // max(1, size // max(1, len(array))))
        for start in range(0, len(array), rows):
            copy[start : start + rows].copy_(on_host(array[start : start + rows], dtype))
        self._kept[number] = (weakref.ref(array, lambda reference: self._forget(number, reference)), copy)
        return copy

    def _forget(self, number: int, reference: weakref.ref[Any]) -> None:
        """Drop the copy of an array that is gone, unless its number is another's by now."""
        if number in self._kept and self._kept[number][0] is reference:
            del self._kept[number]


def free_bytes(device: torch.device) -> int:
    """Memory of a GPU that is free, or kept by PyTorch without being used."""
    free, _ = torch.cuda.mem_get_info(device)
    return int(free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device))


def on_host(values: Any, dtype: torch.dtype) -> Tensor:
    """A copy of an array as a tensor on the CPU."""
    return torch.from_numpy(np.array(values)).to(dtype)


def piece_batches(images: Any, batch_size: int) -> int:
    """Batches in a piece of a set that is too large to stay on the device."""
    return max(1, _PIECE_BYTES // (int(np.prod(images.shape[1:])) * 4 * batch_size))


class Batches:
    """The batches of epochs over images that are on the device, one after another, without the host.

    The number of the batch is counted on the device, and all that changes from epoch to epoch lies in tensors that stay
    where they are: so taking a batch and training on it can be captured as a graph.
    """

    def __init__(
        self, images: Tensor, labels: Tensor, batch_size: int, batches: int, sizes: int, crops: Crops | None
    ) -> None:
        """For epochs of so many batches at first, with so many `sizes` of the optimizer's in a step (see
        `benchmarks.engine.updates.Rule`), and of images that are changed like those of `crops`."""
        self.images, self.labels, self.batch_size = images, labels, batch_size
        self.capacity = capacity = max(batches, len(images) // batch_size)
        self._kind, device = _kind(crops), images.device
        self._order = torch.zeros(capacity * batch_size, dtype=torch.int64, device=device)
        self._places = torch.zeros((capacity * batch_size, 3), dtype=torch.int64, device=device)
        self._sizes = torch.zeros((capacity, sizes), device=device)
        self.losses = torch.zeros(capacity, device=device)
        self._batch = torch.zeros((), dtype=torch.int64, device=device)
        self._within = torch.arange(batch_size, device=device)
        self._numbers = torch.arange(capacity, device=device)

    def serves(self, images: Tensor, labels: Tensor, batch_size: int, batches: int, crops: Crops | None) -> bool:
        """Whether these are batches of an epoch over these tensors."""
        return (
            self.images is images
            and self.labels is labels
            and self.batch_size == batch_size
            and batches <= self.capacity
            and self._kind == _kind(crops)
        )

    def start(self, order: np.ndarray, sizes: np.ndarray, crops: Crops | None) -> None:
        """Begin an epoch: the order of its images, float32 (batches, sizes), and how its images are changed."""
        self._order[: len(order)].copy_(on_host(order, torch.int64))
        self._sizes[: len(sizes)].copy_(on_host(sizes, torch.float32))
        if crops is not None:
            self._places[: len(crops)].copy_(places(crops))
        self._batch.zero_()

    def train(self, step: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
        """Train on the next batch: `step` gets its images, its labels and its sizes and returns its loss ()."""
        at = self._batch * self.batch_size + self._within
        rows = self._order.index_select(0, at)
        images = self.images.index_select(0, rows)
        if self._kind is not None:
            images = changed(images, self._places.index_select(0, at), *self._kind)
        sizes = self._sizes.index_select(0, self._batch.reshape(1)).reshape(-1)
        loss = step(images, self.labels.index_select(0, rows), sizes)
        self.losses.copy_(torch.where(self._numbers == self._batch, loss, self.losses))
        self._batch.add_(1)


def _kind(crops: Crops | None) -> tuple[int, str] | None:
    return None if crops is None else (crops.padding, crops.mode)


class Epochs:
    """Epochs as replays of one graph, which trains on a batch."""

    def __init__(self, step: Callable[[Tensor, Tensor, Tensor], Tensor], batches: Batches) -> None:
        """`step` as in `Batches.train`."""
        self.batches, self._step = batches, step
        self._graph: torch.cuda.CUDAGraph | None = None

    def run(
        self,
        order: np.ndarray,
        sizes: np.ndarray,
        crops: Crops | None,
        on_batch: Callable[[int, float], None] | None,
    ) -> np.ndarray:
        """An epoch, of what `Batches.start` gets; returns the losses, float32 (batches,)."""
        batches = len(sizes)
        self.batches.start(order, sizes, crops)
        done = 0
        if self._graph is None:
            done = self._warm_up_and_capture(batches)
        losses = torch.zeros(self.batches.capacity, pin_memory=True)
        earlier: tuple[int, torch.cuda.Event] | None = None
        while done < batches:
            stop = min(done + GROUP, batches)
            for _ in range(done, stop):
                assert self._graph is not None
                self._graph.replay()
            losses.copy_(self.batches.losses, non_blocking=True)
            event = torch.cuda.Event()
            event.record()
            # The host is a group ahead, so the device never waits for it.
            if earlier is not None:
                self._report(earlier, losses, on_batch)
            earlier, done = (stop, event), stop
        torch.cuda.synchronize()
        losses.copy_(self.batches.losses)
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
                self.batches.train(self._step)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self.batches.train(self._step)
        self._graph = graph
        return done
