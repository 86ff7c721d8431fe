"""A model's layers as the paper's tables 1-6 print them: names, shapes, parameters. Needs no torch."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from math import prod

from bnn.errors import UserError
from bnn.models.architectures import ARCHITECTURES, PAPER_INPUT, Node, resolve
from bnn.models.ops import BatchNorm, Conv, Dense, Shape

KINDS = ("bnn", "cnn")
MODELS = tuple(ARCHITECTURES)
INPUT_SHAPES: dict[str, Shape] = PAPER_INPUT


@dataclass(frozen=True)
class Row:
    """One layer. `name` is the paper's, `module` the submodule's in the built model."""

    name: str
    type: str
    module: str
    output_shape: tuple[int | None, ...]  # channels last, the batch size None, as Keras prints it
    parameters: int
    trainable: int
    connected_to: tuple[str, ...]
    macs: int  # multiply-adds per image of the conventional layer's forward pass (bnn.flops.formulae has the others)
    padding_macs: int  # the multiply-adds among them that meet padded zeros
    kernel_weights: int  # weights with a posterior in the bnn


@dataclass(frozen=True)
class Description:
    """A model, layer by layer, with totals."""

    model: str
    kind: str
    input_shape: Shape  # (C, H, W)
    classes: int
    width: float
    rows: tuple[Row, ...]

    @property
    def parameters(self) -> int:
        return sum(row.parameters for row in self.rows)

    @property
    def trainable(self) -> int:
        return sum(row.trainable for row in self.rows)

    @property
    def macs(self) -> int:
        return sum(row.macs for row in self.rows)

    @property
    def padding_macs(self) -> int:
        return sum(row.padding_macs for row in self.rows)

    @property
    def kernel_weights(self) -> int:
        return sum(row.kernel_weights for row in self.rows)


def describe(
    model: str, kind: str, input_shape: Shape = (3, 32, 32), classes: int = 10, width: float = 1.0
) -> Description:
    """Describe vgg16, resnet18, conv or fc as `kind` bnn or cnn, for inputs (C, H, W).

    Parameters are counted as the paper does: a Bayesian layer has 2 * kernel + outputs (mean, untransformed scale, one
    deterministic bias), batch normalisation 4 * C, half of them its running statistics, which are not trained.
    Raises UserError for unknown names and impossible sizes.
    """
    if kind not in KINDS:
        raise UserError(f"kind {kind}: unknown; there are {', '.join(KINDS)}")
    nodes = resolve(model, input_shape, classes, width)
    names = paper_names(nodes, KINDS.index(kind))
    rows = tuple(describe_node(node, kind, names) for node in nodes)
    return Description(model, kind, tuple(input_shape), classes, width, rows)


def paper_names(nodes: list[Node], which: int) -> dict[str, str]:
    """The paper's name of every operation, repeated ones numbered: `add`, `add_1`, ..."""
    seen: Counter[str] = Counter()
    names = {}
    for node in nodes:
        paper = node.op.paper or node.op.default_paper
        base = paper if isinstance(paper, str) else paper[which]
        names[node.op.name] = f"{base}_{seen[base]}" if seen[base] else base
        seen[base] += 1
    return names


def describe_node(node: Node, kind: str, names: dict[str, str]) -> Row:
    op, channels = node.op, node.in_shapes[0][0]
    kernel = macs = padding = 0
    parameters = trainable = 0
    if isinstance(op, Conv | Dense):
        outputs = node.out_shape[0]
        kernel = outputs * channels * (op.kernel**2 if isinstance(op, Conv) else 1)
        macs = kernel * prod(node.out_shape[1:])
        if isinstance(op, Conv):
            taps = [inside_taps(op, *sizes) for sizes in zip(node.in_shapes[0][1:], node.out_shape[1:], strict=True)]
            padding = macs - outputs * channels * prod(taps)
        parameters = trainable = (2 * kernel if kind == "bnn" else kernel) + outputs
    elif isinstance(op, BatchNorm):
        parameters, trainable = 4 * channels, 2 * channels
    return Row(
        name=names[op.name],
        type=op.types[KINDS.index(kind)],
        module=op.name,
        output_shape=(None, *node.out_shape[1:], node.out_shape[0]),
        parameters=parameters,
        trainable=trainable,
        connected_to=tuple(names[name] for name in node.inputs),
        macs=macs,
        padding_macs=padding,
        kernel_weights=kernel,
    )


def inside_taps(op: Conv, size: int, out_size: int) -> int:
    """Along one side of a map of `size` pixels: how many taps of all `out_size` outputs read it and not its padding."""
    starts = [out * op.stride - op.padding for out in range(out_size)]
    return sum(min(start + op.kernel, size) - max(start, 0) for start in starts)
