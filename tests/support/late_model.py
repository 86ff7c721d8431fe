"""A model for tests of job failures, whose rank falls asleep in a forward pass; job scripts name it in settings."""

import os
import time
from pathlib import Path

import torch
from torch import nn

from bnn.ranks import early_rank

ASLEEP_AT = 3  # step


class Late(nn.Module):
    """Rank N sleeps once if there is a file FAULTS/sleep-N, which it removes; FAULTS is an environment variable."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.dense, self.calls = nn.Linear(channels, classes), 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += self.training  # (before the first step it is tried with two batches, and evaluated)
        wish = Path(os.environ["FAULTS"], f"sleep-{early_rank()}")
        if self.calls > ASLEEP_AT and wish.exists():
            wish.unlink()
            time.sleep(600)
        return self.dense(x.mean((2, 3)))


def late(input_shape: tuple[int, int, int], classes: int) -> nn.Module:
    return Late(input_shape[0], classes)
