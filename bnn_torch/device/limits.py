"""What a GPU can do: the yardstick that `bench` measures beside the engine, and the memory that the engine had."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

SQUARE = 8192  # rows and columns of the square product: enough for the largest GPUs
COPY_BYTES = 10**9  # far larger than any cache
ATTEMPTS = 5  # a limit is the best of so many
REPEATS = 10  # calls between two looks at the clock, which ticks in half microseconds


class DeviceLimits:
    """Matrix products in a precision, and copies, on the GPU."""

    def __init__(self, precision: str, products: Sequence[tuple[int, int, int]]) -> None:
        """`products`: rows, inner size and columns of each matrix product of the network's dense layers."""
        self._tf32 = precision == "tf32"
        self._dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        self._square = [self._factors(SQUARE, SQUARE, SQUARE)]
        self._network = [self._factors(*product) for product in products]
        self._source = torch.ones(COPY_BYTES // 4, device="cuda")
        self._target = torch.empty_like(self._source)

    def measure(self) -> tuple[float, float, float]:
        """Speed of square products and of the dense layers' products, GFLOP/s, and of copying, GB/s."""
        torch.backends.cuda.matmul.allow_tf32 = self._tf32
        copied = _best_ms(functools.partial(self._target.copy_, self._source))
        return self._gflops(self._square), self._gflops(self._network), 2 * COPY_BYTES / copied / 1e6

    def _factors(self, rows: int, inner: int, columns: int) -> tuple[Tensor, Tensor]:
        left, right = (torch.randn(s, device="cuda") for s in ((rows, inner), (inner, columns)))
        return left.to(self._dtype), right.to(self._dtype)

    @staticmethod
    def _gflops(products: Sequence[tuple[Tensor, Tensor]]) -> float:
        flop = sum(2 * left.numel() * right.shape[1] for left, right in products)
        milliseconds = sum(_best_ms(functools.partial(torch.mm, *factors)) for factors in products)
        return float(flop) / milliseconds / 1e6


def peak_memory_mib() -> float:
    """The most memory of the GPU that tensors of this process have taken so far, in MiB."""
    return float(torch.cuda.max_memory_allocated()) / 2**20


def _best_ms(call: Callable[[], object]) -> float:
    call()
    times: list[float] = []
    for _ in range(ATTEMPTS):
        started, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        started.record()
        for _ in range(REPEATS):
            call()
        ended.record()
        ended.synchronize()
        times.append(started.elapsed_time(ended) / REPEATS)
    return min(times)
