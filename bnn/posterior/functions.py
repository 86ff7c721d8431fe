"""The functions of graphs of schema 1, which are still read: their signatures are what graph.json has as arguments."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from bnn.errors import UserError


def add(x: Any, y: Any) -> Any:
    return x + y


def sub(x: Any, y: Any) -> Any:
    return x - y


def mul(x: Any, y: Any) -> Any:
    return x * y


def truediv(x: Any, y: Any) -> Any:
    return x / y


def floordiv(x: Any, y: Any) -> Any:
    return x // y


def flatten(x: Tensor, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    return torch.flatten(x, start_dim, end_dim)


def reshape(x: Tensor, shape: Any) -> Tensor:
    return x.reshape(shape)


def permute(x: Tensor, dims: Any) -> Tensor:
    return x.permute(dims)


def transpose(x: Tensor, dim0: int, dim1: int) -> Tensor:
    return x.transpose(dim0, dim1)


def size(x: Tensor, dim: int | None = None) -> Any:
    return x.shape if dim is None else x.shape[dim]


def item(x: Sequence[int], index: int) -> Any:
    return x[index]


def cat(tensors: list[Tensor], dim: int = 0) -> Tensor:
    return torch.cat(tensors, dim)


def mean(x: Tensor, dim: Any = None, keepdim: bool = False) -> Tensor:
    return x.mean(dim, keepdim)


def relu(x: Tensor, inplace: bool = False) -> Tensor:
    return functional.relu(x, inplace)


def gelu(x: Tensor, approximate: str = "none") -> Tensor:
    return functional.gelu(x, approximate=approximate)


def silu(x: Tensor, inplace: bool = False) -> Tensor:
    return functional.silu(x, inplace)


def leaky_relu(x: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:
    return functional.leaky_relu(x, negative_slope, inplace)


def tanh(x: Tensor) -> Tensor:
    return torch.tanh(x)


def sigmoid(x: Tensor) -> Tensor:
    return torch.sigmoid(x)


def softmax(x: Tensor, dim: int) -> Tensor:
    return torch.softmax(x, dim)


def log_softmax(x: Tensor, dim: int) -> Tensor:
    return torch.log_softmax(x, dim)


def dropout(x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    return functional.dropout(x, p, training, inplace)


def max_pool2d(
    x: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False
) -> Tensor:
    return functional.max_pool2d(x, kernel_size, stride, padding, dilation, ceil_mode)


def avg_pool2d(
    x: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Tensor:
    return functional.avg_pool2d(x, kernel_size, stride, padding, ceil_mode, count_include_pad)


def adaptive_avg_pool2d(x: Tensor, output_size: Any) -> Tensor:
    return functional.adaptive_avg_pool2d(x, output_size)


FUNCTIONS: dict[str, Callable[..., Any]] = {
    function.__name__: function
    for function in (
        *(add, sub, mul, truediv, floordiv, flatten, reshape, permute, transpose, size, item, cat, mean),
        *(relu, gelu, silu, leaky_relu, tanh, sigmoid, softmax, log_softmax, dropout),
        *(max_pool2d, avg_pool2d, adaptive_avg_pool2d),
    )
}


def bind(name: str, args: Sequence[Any], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Arguments of a whitelisted function by name. Raises UserError if they do not fit its signature."""
    if name not in FUNCTIONS:
        raise UserError(f"operation {name}: unknown")
    try:
        return dict(inspect.signature(FUNCTIONS[name]).bind(*args, **kwargs).arguments)
    except TypeError as error:
        raise UserError(f"operation {name}: {error}") from None
