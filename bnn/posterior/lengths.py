"""`len(x)` of a tensor as the size that `x.shape[0]` is: Python's own makes a whole number of it."""

from __future__ import annotations

import builtins
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor


@contextmanager
def open_lengths() -> Iterator[None]:
    """While open, `len` of a tensor that is exported stays open as the number of examples does."""
    whole = builtins.len

    def length(value: Any, /) -> int:
        return value.shape[0] if isinstance(value, Tensor) and value.dim() else whole(value)

    builtins.len = length
    try:
        yield
    finally:
        builtins.len = whole
