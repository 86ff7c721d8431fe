"""Batches as tensors on the run's device."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from bnn.data.base import Split
from bnn.data.pipeline import Schedule
from bnn.settings import TrainSettings

DTYPES = {"float32": torch.float32, "float64": torch.float64}


def to_device(array: np.ndarray, device: str) -> Tensor:
    """A copy on the device. For a GPU it leaves from pinned memory: from any other the host would wait for it."""
    tensor = torch.from_numpy(array)
    return tensor.pin_memory().to(device, non_blocking=True) if device == "cuda" else tensor


def to_tensors(split: Split, indices: np.ndarray, settings: TrainSettings) -> tuple[Tensor, Tensor]:
    """Images (N, C, H, W) scaled to [0, 1] and labels (N,) on the run's device, in the run's memory format."""
    layout = torch.channels_last if settings.tuned else torch.contiguous_format
    images = to_device(np.ascontiguousarray(split.images[indices]), settings.device)
    scaled = images.to(DTYPES[settings.precision]).div_(255).contiguous(memory_format=layout)
    return scaled, to_device(split.labels[indices], settings.device)


def batches(
    split: Split, settings: TrainSettings, schedule: Schedule, rank: int, first: int, stop: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """One rank's batches of the steps first, ..., stop - 1; which images they hold depends on the step alone."""
    for step in range(first, stop):
        yield to_tensors(split, schedule.indices(step, rank), settings)
