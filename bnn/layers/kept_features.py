"""A layer that keeps some features of a vector: a pruned network reads its inputs through it.

Pruning finds features that no layer reads with a weight other than zero; this layer leaves them out.
"""

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
