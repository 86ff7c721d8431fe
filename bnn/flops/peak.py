"""The most FLOPs per second that the library reaches on this machine: what an achieved rate is held against."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch.nn import functional

GEMM_SIZES = (512, 1024, 2048, 4096)
# (images, channels, rows and columns of the output) of 3x3 convolutions with as many channels out as in: VGG-16's, but
# without padding, whose zeros a library may leave out: every FLOP that is counted is done.
CONVOLUTIONS = ((32, 64, 32), (32, 128, 16), (32, 256, 16), (32, 256, 8))
FEWEST = 3  # repetitions of each


@dataclass(frozen=True)
class Peak:
    """Best rates of float32 in FLOP/s with this many threads, and where they were reached."""

    threads: int
    gemm: float
    gemm_size: int
    convolution: float
    convolution_shape: str

    @property
    def flops_per_second(self) -> float:
        """The larger: on some processors the library's convolution beats its matrix product."""
        return max(self.gemm, self.convolution)

    @property
    def source(self) -> str:
        """Which of both that is, in words."""
        if self.gemm >= self.convolution:
            return f"matrix product of {self.gemm_size}x{self.gemm_size}"
        return f"convolution of {self.convolution_shape}"

    def record(self) -> dict[str, Any]:
        """As a record keeps it: both rates, the larger and its source."""
        return asdict(self) | {"flops_per_second": self.flops_per_second, "source": self.source}


def gemm_peak(threads: int, seconds: float = 10.0) -> Peak:
    """Measure square matrix products (GEMM_SIZES) and convolutions (CONVOLUTIONS) for about `seconds` in all.

    Each is repeated at least FEWEST times after a first that does not count; the fastest repetition counts, because a
    peak is what nothing disturbed. The number of torch's threads is what it was afterwards.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    share = seconds / (len(GEMM_SIZES) + len(CONVOLUTIONS))
    try:
        with torch.inference_mode():
            gemm = max((_matrix_product(size, share), size) for size in GEMM_SIZES)
            convolution = max((_convolution(shape, share), shape) for shape in CONVOLUTIONS)
    finally:
        torch.set_num_threads(before)
    images, channels, side = convolution[1]
    shape = f"{images}x{channels}x{side + 2}x{side + 2}, 3x3"
    return Peak(threads, gemm[0], gemm[1], convolution[0], shape)


def _matrix_product(size: int, seconds: float) -> float:
    a, b, out = (torch.rand(size, size) for _ in range(3))
    return 2.0 * size**3 / _fastest(lambda: torch.mm(a, b, out=out), seconds)


def _convolution(shape: tuple[int, int, int], seconds: float) -> float:
    images, channels, side = shape
    x = torch.rand(images, channels, side + 2, side + 2).to(memory_format=torch.channels_last)
    kernel = torch.rand(channels, channels, 3, 3).to(memory_format=torch.channels_last)
    flops = 2.0 * images * channels**2 * 9 * side**2
    return flops / _fastest(lambda: functional.conv2d(x, kernel), seconds)


def _fastest(work: Callable[[], object], seconds: float) -> float:
    """Seconds of the fastest repetition of `work` within about `seconds`."""
    work()
    best, count, end = float("inf"), 0, time.perf_counter() + seconds
    while count < FEWEST or time.perf_counter() < end:
        start = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - start)
        count += 1
    return best
