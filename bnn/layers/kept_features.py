"""Some of the features of a vector: what is left of a network's inputs when those that nobody reads are removed."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Select(nn.Module):
    """Input (N, features), output (N, kept): the features that the buffer `index` (kept,) names."""

    index: Tensor

    def __init__(self, features: int, kept: int) -> None:
        super().__init__()
        self.features, self.kept = features, kept
        self.register_buffer("index", torch.zeros(kept, dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        return x[:, self.index]
