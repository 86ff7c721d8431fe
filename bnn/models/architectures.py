"""The paper's four networks (appendix A, tables 1-6), each a list of operations. The BNN and the CNN share it.

`width` multiplies every hidden channel count; 1.0 is the paper's network.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from bnn.errors import UserError
from bnn.models.ops import (
    Add,
    BatchNorm,
    Conv,
    Dense,
    Dropout,
    Flatten,
    GlobalAveragePool,
    Input,
    MaxPool,
    Op,
    Relu,
    Shape,
)


def vgg16(classes: int, width: float) -> list[Op]:
    """Tables 1 and 2: five blocks of two 3x3 convolutions and a pooling, one dense layer.

    Pooling keeps incomplete windows: the same at 32x32, and MNIST's 28x28 (28, 14, 7, 4, 2, 1) can be taken at all.
    """
    norm = ("batch_normalization_v1", "batch_normalization")
    ops: list[Op] = [Input("input")]
    for block, channels in enumerate(scaled(width, 64, 128, 256, 512, 512)):
        for number, roman in ((1, "I"), (2, "II")):
            ops += [
                Conv(f"conv{block + 1}_{number}", channels, 3, paper=f"ConV_{roman}_{block}"),
                BatchNorm(f"norm{block + 1}_{number}", paper=norm),
                Relu(f"relu{block + 1}_{number}"),
            ]
        ops.append(MaxPool(f"pool{block + 1}", 2, ceil=True, paper=f"Max_I_{block}"))
    return [*ops, Flatten("flatten"), Dense("dense", classes, paper="Dense_I_4")]


def resnet18(classes: int, width: float) -> list[Op]:
    """Tables 3 and 4: pre-activation, four stages of one block with a 1x1 projection, stride 2 from stage 2 on.

    Strided convolutions pad one pixel on every side (TensorFlow's SAME pads below and to the right only).
    """
    channels = scaled(width, 64, 128, 256, 512)
    ops: list[Op] = [Input("input"), Conv("conv0", channels[0], 3, paper=("conv2d_flipout", "Conv_block_I"))]
    for stage, wide in enumerate(channels):
        n, stride, k = stage + 1, 1 if stage == 0 else 2, 3 * stage
        ops += [
            BatchNorm(f"norm{n}_1"),
            Relu(f"relu{n}_1"),
            Conv(f"conv{n}_1", wide, 3, stride, paper=(f"conv2d_flipout_{k + 2}", f"Conv_block_I_{stage}")),
            BatchNorm(f"norm{n}_2"),
            Relu(f"relu{n}_2"),
            Conv(f"conv{n}_2", wide, 3, paper=(f"conv2d_flipout_{k + 3}", f"Conv_block_II_{stage}")),
            Conv(f"shortcut{n}", wide, 1, stride, inputs=(f"relu{n}_1",), paper=(f"conv2d_flipout_{k + 1}", "conv2d")),
            Add(f"add{n}", inputs=(f"conv{n}_2", f"shortcut{n}")),
        ]
    head = [BatchNorm("norm5"), Relu("relu5"), GlobalAveragePool("pool"), Flatten("flatten")]
    return [*ops, *head, Dense("dense", classes, paper=("dense_flipout", "Dense_I_3"))]


def conv(classes: int, width: float) -> list[Op]:
    """Table 5, the convolutional pruning model."""
    (channels,) = scaled(width, 256)
    return [
        Input("input"),
        Conv("conv1", channels, 5, paper="Conv_1"),
        Relu("relu1"),
        MaxPool("pool1", 2, paper="Max_I_1"),
        Conv("conv2", channels, 5, same=False, paper="Conv_2"),
        Relu("relu2"),
        Flatten("flatten"),
        Dense("dense", classes, paper="Dense_I_4"),
    ]


def fc(classes: int, width: float) -> list[Op]:
    """Table 6, the fully connected pruning model."""
    (units,) = scaled(width, 256)
    return [
        Input("input"),
        Flatten("flatten"),
        Dense("dense1", units, paper="den_1"),
        Relu("relu1"),
        Dense("dense2", units, paper="den_2"),
        Relu("relu2"),
        Dense("dense3", classes, paper="den_3"),
    ]


# What the paper's tables describe, and the input shape (C, H, W) they do it for.
Architecture = Callable[[int, float], list[Op]]
ARCHITECTURES: dict[str, Architecture] = {"vgg16": vgg16, "resnet18": resnet18, "conv": conv, "fc": fc}
PAPER_INPUT: dict[str, Shape] = {"vgg16": (3, 32, 32), "resnet18": (3, 32, 32), "conv": (1, 28, 28), "fc": (1, 28, 28)}


@dataclass(frozen=True)
class Node:
    """An operation in its place: the operations it reads and the shapes of one example before and after it."""

    op: Op
    inputs: tuple[str, ...]
    in_shapes: tuple[Shape, ...]
    out_shape: Shape


def scaled(width: float, *channels: int) -> list[int]:
    return [max(1, round(count * width)) for count in channels]


def resolve(model: str, input_shape: Shape, classes: int, width: float = 1.0) -> list[Node]:
    """The operations of a model in order, with their shapes for inputs of `input_shape` (C, H, W).

    Raises UserError for an unknown model, sizes below 1 and inputs that are too small for the model.
    """
    if model not in ARCHITECTURES:
        raise UserError(f"model {model}: unknown; there are {', '.join(ARCHITECTURES)} and package.module:function")
    if len(input_shape) != 3 or min(input_shape) < 1:
        raise UserError(f"model {model}: input shape {input_shape} is not (channels, height, width)")
    if classes < 1 or not width > 0:
        raise UserError(f"model {model}: classes ({classes}) must be at least 1 and width ({width}) above 0")
    nodes: list[Node] = []
    shapes: dict[str, Shape] = {}
    for op in ARCHITECTURES[model](classes, width):
        inputs = op.inputs or tuple(node.op.name for node in nodes[-1:])
        in_shapes = tuple(shapes[name] for name in inputs) or (tuple(input_shape),)
        try:
            shapes[op.name] = op.output_shape(list(in_shapes))
        except ValueError as error:
            raise UserError(f"model {model}: inputs of {input_shape} are too small: {op.name}: {error}") from None
        nodes.append(Node(op, inputs, in_shapes, shapes[op.name]))
    return nodes


def with_dropout(nodes: list[Node], rate: float) -> list[Node]:
    """The operations with dropout before each layer with weights, but for those that read the images themselves."""
    images = {node.op.name for node in nodes if isinstance(node.op, Input)}
    found: list[Node] = []
    for node in nodes:
        if isinstance(node.op, Flatten) and images.issuperset(node.inputs):
            images.add(node.op.name)
        if isinstance(node.op, Conv | Dense) and not images.issuperset(node.inputs):
            drop = Dropout(f"drop_{node.op.name}", rate)
            found.append(Node(drop, node.inputs, node.in_shapes, node.in_shapes[0]))
            found.append(replace(node, inputs=(drop.name,)))
        else:
            found.append(node)
    return found
