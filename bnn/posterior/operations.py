"""The whitelist of operations that a posterior's graph may hold between its layers, and what is known of each.

They are core ATen operations as torch.export records them (torch's documentation, "IRs"), whole numbers' arithmetic
("sym.*") for sizes that depend on the batch, "item" for one output of several, and the functions of schema 1. None of
them draws noise, changes its inputs, reads uninitialised memory, opens a file or runs code.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any

import torch
from torch import Tensor

from bnn.posterior.functions import FUNCTIONS
from bnn.posterior.schema import GraphNode


class Role(Enum):
    """What may be assumed of an operation. What is in no other class is OTHER: nothing."""

    POINTWISE = "one tensor and numbers; each element of the output depends on the same element of the input, alike"
    BINARY = "two tensors, broadcast, or a tensor and a number; element by element"
    PARTIAL = "element by element, but infinite or undefined at some finite numbers, at which a removed unit may lie"
    POOL = "the largest value or the mean of windows of pixels (adaptive), channel by channel: keeps constants"
    AVERAGE_POOL = "means of windows of pixels, channel by channel, which may count padding"
    MEAN = "means over whole axes"
    REDUCE = "another reduction over whole axes"
    RESHAPE = "the same elements in the same order under another shape"
    PERMUTE = "axes in another order"
    SELECT = "a part of the input"
    CAT = "tensors side by side along one axis"
    LINEAR = "products of tensors: convolutions, matrix products"
    NORM = "normalised by statistics, stored ones or the input's own"
    SOFTMAX = "softmax, or its logarithm, along an axis"
    SIZE = "a number: how long an axis is"
    NUMBER = "arithmetic of such numbers"
    ITEM = "one of several outputs"
    FACTORY = "a tensor that depends on numbers alone"
    OTHER = "anything else"


@dataclass(frozen=True)
class Operation:
    """One operation. `function` computes it; `inplace`, if any, does so in the memory of its first input.

    `schema` is ATen's, which names the arguments; None for what is not ATen's.
    """

    name: str
    function: Callable[..., Any]
    role: Role
    inplace: Callable[..., Any] | None = None
    schema: Any = None

    @property
    def owns(self) -> bool:
        """Whether its output is memory of its own, never a view of an input."""
        return self.role not in VIEWS


VIEWS = (Role.RESHAPE, Role.PERMUTE, Role.SELECT, Role.SIZE, Role.NUMBER, Role.ITEM, Role.OTHER)

ATEN: dict[Role, str] = {
    Role.POINTWISE: """
        abs asinh atan bitwise_not ceil clamp clone cos cosh elu erf exp exp2 expm1 floor gelu hardsigmoid hardswish
        hardtanh isinf isnan leaky_relu log_sigmoid logical_not mish neg pow.Tensor_Scalar relu round sigmoid sign silu
        sin sinh softplus square tan tanh trunc celu selu relu6 threshold _to_copy erfc frac deg2rad clamp_min
        clamp_max""",
    Role.PARTIAL: """
        acos acosh asin atanh log log10 log1p log2 reciprocal rsqrt sqrt pow.Tensor_Tensor pow.Scalar remainder.Tensor
        fmod.Tensor erfinv lgamma digamma""",
    Role.BINARY: """
        add.Tensor add.Scalar sub.Tensor sub.Scalar mul.Tensor mul.Scalar div.Tensor div.Scalar div.Tensor_mode
        div.Scalar_mode rsub.Scalar maximum minimum remainder.Scalar fmod.Scalar atan2 eq.Tensor eq.Scalar ne.Tensor
        ne.Scalar lt.Tensor lt.Scalar le.Tensor le.Scalar gt.Tensor gt.Scalar ge.Tensor ge.Scalar logical_and
        logical_or logical_xor bitwise_and.Tensor bitwise_or.Tensor bitwise_xor.Tensor floor_divide hypot fmax fmin
        copysign.Tensor""",
    Role.POOL: """
        max_pool1d max_pool2d max_pool3d max_pool2d_with_indices max_pool3d_with_indices adaptive_max_pool1d
        adaptive_max_pool2d adaptive_max_pool3d adaptive_avg_pool1d _adaptive_avg_pool2d _adaptive_avg_pool3d
        adaptive_avg_pool2d adaptive_avg_pool3d""",
    Role.AVERAGE_POOL: "avg_pool1d avg_pool2d avg_pool3d",
    Role.MEAN: "mean mean.dim",
    Role.REDUCE: """
        sum sum.dim_IntList amax amin var.correction std.correction prod prod.dim_int any any.dim all.dim argmax argmin
        max.dim min.dim linalg_vector_norm logsumexp cumsum cumprod var_mean.correction norm.ScalarOpt_dim sort topk
        aminmax any.dims all.dims median.dim kthvalue cummax cummin logcumsumexp""",
    Role.RESHAPE: "view reshape _unsafe_view flatten.using_ints unsqueeze squeeze squeeze.dim squeeze.dims",
    Role.PERMUTE: "permute transpose.int t",
    Role.SELECT: """
        select.int slice.Tensor split.Tensor split_with_sizes unbind.int chunk narrow index_select index.Tensor gather
        diagonal tril triu""",
    Role.CAT: "cat stack",
    Role.LINEAR: "convolution linear addmm mm bmm baddbmm mv matmul addmv addbmm dot",
    Role.NORM: """
        _native_batch_norm_legit_no_training _native_batch_norm_legit.no_stats native_layer_norm native_group_norm
        layer_norm group_norm rms_norm _fused_rms_norm""",
    Role.SOFTMAX: "_softmax _log_softmax softmax.int log_softmax.int _safe_softmax",
    Role.SIZE: "sym_size.int sym_numel",
    Role.FACTORY: """
        full arange arange.start arange.start_step zeros ones scalar_tensor eye linspace tril_indices triu_indices""",
    Role.OTHER: """
        addcmul addcdiv where.self where.ScalarSelf where.ScalarOther where.Scalar masked_fill.Scalar
        masked_fill.Tensor lerp.Scalar lerp.Tensor clamp.Tensor expand repeat flip roll pad constant_pad_nd
        reflection_pad1d reflection_pad2d reflection_pad3d replication_pad1d replication_pad2d replication_pad3d
        pixel_shuffle pixel_unshuffle channel_shuffle upsample_nearest1d.vec upsample_nearest2d.vec
        upsample_nearest3d.vec upsample_linear1d.vec upsample_bilinear2d.vec upsample_bicubic2d.vec
        upsample_trilinear3d.vec _upsample_nearest_exact2d.vec _upsample_bilinear2d_aa.vec _upsample_bilinear2d_aa
        _upsample_bicubic2d_aa upsample_nearest2d upsample_bilinear2d grid_sampler_2d grid_sampler_3d im2col col2im
        embedding full_like zeros_like ones_like new_zeros new_ones new_full scatter.src scatter.value scatter_add
        scatter_reduce.two index_put copy select_scatter slice_scatter lift_fresh_copy alias detach glu
        scaled_dot_product_attention lstm.input gru.input rnn_tanh.input rnn_relu.input repeat_interleave.self_int
        unfold searchsorted.Tensor bucketize.Tensor meshgrid _pdist_forward _cdist_forward""",
}
# Arithmetic of sizes: what Python, or torch, calls it, and its name here.
SYM: dict[Callable[..., Any], str] = {
    operator.add: "add", operator.sub: "sub", operator.mul: "mul", operator.floordiv: "floordiv", operator.mod: "mod",
    operator.neg: "neg", operator.truediv: "truediv", torch.sym_max: "max", torch.sym_min: "min",
}  # fmt: skip
MOST_PARTS = 1 << 16  # into which a tensor may be split
SCHEMA_1 = {
    Role.POINTWISE: "relu gelu silu leaky_relu tanh sigmoid dropout",
    Role.BINARY: "add sub mul truediv floordiv",
    Role.POOL: "max_pool2d adaptive_avg_pool2d",
    Role.AVERAGE_POOL: "avg_pool2d",
    Role.MEAN: "mean",
    Role.RESHAPE: "flatten reshape",
    Role.PERMUTE: "permute transpose",
    Role.CAT: "cat",
    Role.SOFTMAX: "softmax log_softmax",
    Role.SIZE: "size",
    Role.ITEM: "item",
}


def reshaped(x: Tensor, size: list[int]) -> Tensor:
    """ATen's view, for tensors of any layout in memory."""
    return x.reshape(size)


def split(x: Tensor, split_size: int, dim: int = 0) -> Any:
    check_parts(x.shape[dim] // max(1, split_size))
    return torch.ops.aten.split.Tensor(x, split_size, dim)


def unbind(x: Tensor, dim: int = 0) -> Any:
    check_parts(x.shape[dim])
    return torch.ops.aten.unbind.int(x, dim)


def chunk(x: Tensor, chunks: int, dim: int = 0) -> Any:
    check_parts(chunks)
    return torch.ops.aten.chunk.default(x, chunks, dim)


def group_norm(input: Tensor, *rest: Any) -> tuple[Tensor, Tensor, Tensor]:
    """ATen's native_group_norm, for inputs of any layout in memory, as sparse convolutions leave them."""
    made, *statistics = torch.ops.aten.native_group_norm.default(input.contiguous(), *rest)
    return (laid_as(input, made), *statistics)


def in_order(norm: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """A group norm of `x` as it would lie channels first; the output lies as `x` does.

    On CPUs ATen's kernel for channels last takes a variance for the difference of two means of squares: where a group's
    mean is 200 of its standard deviations it keeps two digits of float32, and five otherwise.
    """
    return laid_as(x, norm(x.contiguous()))


def laid_as(like: Tensor, x: Tensor) -> Tensor:
    last = like.dim() == 4 and not like.is_contiguous() and like.is_contiguous(memory_format=torch.channels_last)
    return x.contiguous(memory_format=torch.channels_last) if last else x


def grid_sampler(function: Callable[..., Any]) -> Callable[..., Any]:
    """ATen's grid_sampler, which would leave its output as memory was for a mode that it does not know."""

    def checked(input: Tensor, grid: Tensor, interpolation: int, padding: int, align_corners: bool) -> Any:
        if interpolation not in ((0, 1, 2) if input.dim() == 4 else (0, 1)) or padding not in (0, 1, 2):
            raise ValueError(f"samples by interpolation {interpolation!r} and padding {padding!r}")
        return function(input, grid, interpolation, padding, align_corners)

    return checked


def by_channel(function: Callable[..., Any]) -> Callable[..., Any]:
    """ATen's batch norm, which would read past the end of tensors with fewer numbers than its input has channels."""

    def checked(input: Tensor, *rest: Any) -> Any:
        for tensor in rest:
            if isinstance(tensor, Tensor) and (input.dim() < 2 or tensor.shape != input.shape[1:2]):
                raise ValueError(f"a norm of {list(input.shape)} by tensors of {list(tensor.shape)}")
        return function(input, *rest)

    return checked


def recurrent(function: Callable[..., Any]) -> Callable[..., Any]:
    """ATen's LSTM, GRU or RNN, which would read past the end of a list with too few weights.

    Of shapes alone (torch's meta device) it does one step, not each of a long sequence.
    """

    def stepping(input: Tensor, *rest: Any) -> Any:
        check_weights(input, *rest)
        if input.device.type != "meta":
            return function(input, *rest)
        time = 1 if rest[-1] else 0  # the last argument is batch_first
        output, *states = function(input.narrow(time, 0, 1), *rest)
        shape = [input.shape[axis] if axis == time else size for axis, size in enumerate(output.shape)]
        return (output.new_empty(shape), *states)

    return stepping


def check_weights(
    input: Tensor, hx: Any, params: list[Tensor], has_biases: bool, num_layers: int, dropout: float, train: bool,
    bidirectional: bool, batch_first: bool,
) -> None:  # fmt: skip
    """Raise ValueError unless a recurrent layer has as many states and weights as its layers and directions need."""
    states = [hx] if isinstance(hx, Tensor) else hx
    tensors = [input, *states, *params]
    flags = (has_biases, train, bidirectional, batch_first)
    if not all(isinstance(tensor, Tensor) for tensor in tensors) or not all(isinstance(flag, bool) for flag in flags):
        raise ValueError("a recurrent layer of no tensors")
    cells = num_layers * (2 if bidirectional else 1)
    if input.dim() != 3 or not states or any(x.dim() != 3 or x.shape[0] != cells for x in states):
        raise ValueError(f"{num_layers} recurrent layers with states of {[list(state.shape) for state in states]}")
    projected = states[0].shape[2] != states[-1].shape[2]  # an LSTM whose output is smaller than its cell
    if num_layers < 1 or len(params) != cells * ((4 if has_biases else 2) + projected):
        raise ValueError(f"{num_layers} recurrent layers with {len(params)} weights")


def check_parts(count: int) -> None:
    """Raise ValueError for more parts of a tensor than any network makes: each takes memory, however small."""
    if count > MOST_PARTS:
        raise ValueError(f"{count} parts of a tensor")


INSTEAD = {
    "aten.view.default": reshaped, "aten._unsafe_view.default": reshaped, "aten.split.Tensor": split,
    "aten.unbind.int": unbind, "aten.chunk.default": chunk, "aten.native_group_norm.default": group_norm,
    **{f"aten.{name}": by_channel(getattr(getattr(torch.ops.aten, packet), overload))
       for name in ("_native_batch_norm_legit_no_training.default", "_native_batch_norm_legit.no_stats")
       for packet, overload in [name.split(".")]},
    **{f"aten.grid_sampler_{axes}d.default": grid_sampler(getattr(torch.ops.aten, f"grid_sampler_{axes}d").default)
       for axes in (2, 3)},
    **{f"aten.{kind}.input": recurrent(getattr(torch.ops.aten, kind).input)
       for kind in ("lstm", "gru", "rnn_tanh", "rnn_relu")},
}  # fmt: skip


# Quotients, and which argument they divide by.
DIVISIONS = {
    "aten.div.Tensor": "other", "aten.div.Tensor_mode": "other", "aten.floor_divide.default": "other",
    "truediv": "y", "floordiv": "y",
}  # fmt: skip
NUMBERS = (int, float, torch.SymInt, torch.SymFloat)  # (torch's while a network is exported)


def of_numbers(function: Callable[..., Any]) -> Callable[..., Any]:
    """Arithmetic of whole numbers of 64 bits, and of nothing else: a list times a number would be a long list."""

    def checked(*numbers: Any) -> int | float:
        if not all(type(number) in NUMBERS for number in numbers):
            raise TypeError(f"arithmetic of {', '.join(type(number).__name__ for number in numbers)}")
        result: int | float = function(*numbers)
        if isinstance(result, int | float) and abs(result) >= 1 << 63:
            raise OverflowError(f"a size of {result:.3g}")
        return result

    return checked


def of_values(function: Callable[..., Any]) -> Callable[..., Any]:
    """Arithmetic of tensors and numbers, or of numbers alone (`of_numbers`)."""
    numbers = of_numbers(function)

    def checked(x: Any, y: Any) -> Any:
        if not any(isinstance(value, Tensor) for value in (x, y)):
            return numbers(x, y)
        if not all(isinstance(value, Tensor | int | float) for value in (x, y)):
            raise TypeError(f"arithmetic of {type(x).__name__}, {type(y).__name__}")
        return function(x, y)

    return checked


def registered() -> dict[str, Operation]:
    found: dict[str, Operation] = {}
    for role, names in ATEN.items():
        for name in names.split():
            packet, _, overload = name.partition(".")
            whole = f"aten.{packet}.{overload or 'default'}"
            function = getattr(getattr(torch.ops.aten, packet), overload or "default")
            same_type = (
                role in (Role.POINTWISE, Role.PARTIAL)
                and not overload
                and packet not in ("logical_not", "isnan", "isinf")
            )
            inplace = getattr(torch.ops.aten, f"{packet}_", None) if same_type else None
            found[whole] = Operation(
                whole, INSTEAD.get(whole, function), role, getattr(inplace, "default", None), function._schema
            )
    for number, name in SYM.items():
        found[f"sym.{name}"] = Operation(f"sym.{name}", of_numbers(number), Role.NUMBER)
    for role, names in SCHEMA_1.items():
        for name in names.split():
            found[name] = Operation(name, of_values(FUNCTIONS[name]) if role is Role.BINARY else FUNCTIONS[name], role)
    return found


OPERATIONS: dict[str, Operation] = registered()


def role_of(node: GraphNode) -> Role | None:
    """What may be assumed of a function's node; None for a node that is no function."""
    if node.op != "function":
        return None
    role = OPERATIONS[node.type].role
    return Role.PARTIAL if role in (Role.POINTWISE, Role.BINARY) and is_partial(node) else role


def is_partial(node: GraphNode) -> bool:
    """Whether a quotient or a power is undefined somewhere: it divides by a tensor, or roots are taken."""
    if node.type in DIVISIONS:
        return isinstance(node.arguments.get(DIVISIONS[node.type]), dict)
    if node.type == "aten.pow.Tensor_Scalar":
        exponent = node.arguments["exponent"]
        return not (isinstance(exponent, int | float) and exponent >= 0 and exponent % 1 == 0)
    return False
