"""On which axis a value's channels lie after an operation that moves axes, or keeps them; None: not known."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from bnn.posterior.operations import Role
from bnn.posterior.schema import GraphNode, Size

# Operations of no role that treat each channel (axis 1) by itself, alike.
CHANNELWISE = (
    "aten.upsample_nearest1d.vec", "aten.upsample_nearest2d.vec", "aten.upsample_nearest3d.vec",
    "aten.upsample_linear1d.vec", "aten.upsample_bilinear2d.vec", "aten.upsample_bicubic2d.vec",
    "aten.upsample_trilinear3d.vec", "aten._upsample_nearest_exact2d.vec", "aten._upsample_bilinear2d_aa.vec",
    "aten._upsample_bilinear2d_aa.default", "aten._upsample_bicubic2d_aa.default",
    "aten.upsample_nearest2d.default", "aten.upsample_bilinear2d.default",
    "aten.reflection_pad1d.default", "aten.reflection_pad2d.default", "aten.reflection_pad3d.default",
    "aten.replication_pad1d.default", "aten.replication_pad2d.default", "aten.replication_pad3d.default",
)  # fmt: skip
CONSTANT_PAD = "aten.constant_pad_nd.default"

Shape = Sequence[Size]


def axis_after(node: GraphNode, role: Role | None, axis: int, before: Shape) -> int | None:
    """The axis of the channels behind a function that reads one tensor of shape `before`, channels on `axis`."""
    after = node.output_shape
    match role:
        case Role.POINTWISE:
            return axis
        case Role.POOL | Role.AVERAGE_POOL:
            return axis if axis == 1 and len(before) == pixel_axes(node.type) + 2 else None
        case Role.RESHAPE:
            return None if after is None else reshaped(node, axis, before, after)
        case Role.PERMUTE:
            return permuted(node, axis, len(before))
        case Role.MEAN:
            return averaged(node, axis, len(before))
        case Role.SELECT:
            return selected(node, axis, len(before))
    if node.type in CHANNELWISE:
        return axis if axis == 1 and len(before) == pixel_axes(node.type) + 2 else None
    if node.type == CONSTANT_PAD:
        return axis if axis < len(before) - len(node.arguments["pad"]) // 2 else None
    return None


def pixel_axes(kind: str) -> int:
    """Over how many axes of pixels an operation goes: the digit in its name."""
    return next(int(letter) for letter in kind.partition(".")[2] or kind if letter in "123") if "d" in kind else 0


def reshaped(node: GraphNode, axis: int, before: Shape, after: Shape) -> int | None:
    """The axis of the same size with as many elements before and behind it."""
    size = before[axis]
    if node.type == "aten.squeeze.default" or not isinstance(size, int) or size == 1:
        return None  # it would depend on how many channels there are
    if node.type in ("aten.squeeze.dim", "aten.squeeze.dims") and axis in dims_of(node.arguments["dim"], len(before)):
        return None
    if list(before) == list(after):
        return axis
    ahead, behind = elements(before[:axis]), elements(before[axis + 1 :])
    for place, other in enumerate(after):
        if other == size and elements(after[:place]) == ahead and elements(after[place + 1 :]) == behind:
            return place if ahead is not None and behind is not None else None
    return None


def elements(shape: Shape) -> tuple[int, int] | None:
    """How often the batch and which number are in the product of sizes; None for sums."""
    if any(isinstance(size, tuple) for size in shape):
        return None
    return sum(size is None for size in shape), prod(size for size in shape if isinstance(size, int))


def permuted(node: GraphNode, axis: int, axes: int) -> int | None:
    order = list(range(axes))
    match node.arguments:
        case {"dims": list(dims)}:
            order = [dim % axes for dim in dims]
        case {"dim0": int(one), "dim1": int(other)}:
            order[one], order[other] = order[other], order[one]
        case _:
            return None
    return order.index(axis)


def averaged(node: GraphNode, axis: int, axes: int) -> int | None:
    dims = node.arguments.get("dim")
    if dims is None:
        return None
    gone = dims_of(dims, axes)
    if not gone or axis in gone:  # no axes stand for all
        return None
    return axis if node.arguments.get("keepdim", False) else axis - sum(dim < axis for dim in gone)


def selected(node: GraphNode, axis: int, axes: int) -> int | None:
    dim = node.arguments.get("dim", 0)
    if not isinstance(dim, int) or dim % axes == axis:
        return None
    if node.type == "aten.slice.Tensor":
        return axis
    return axis - (dim % axes < axis) if node.type == "aten.select.int" else None


def dims_of(value: Any, axes: int) -> list[int]:
    return [dim % axes for dim in (value if isinstance(value, list) else [value])]
