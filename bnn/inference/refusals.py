"""Networks that cannot be drawn from: those that end in a softmax, and those that draw noise without a key."""

from __future__ import annotations

from torch import nn

from bnn.errors import UserError
from bnn.layers.dropout import KeyedDropout
from bnn.posterior import Graph, GraphNode
from bnn.posterior.operations import Role, role_of

# Operations that leave the values of a softmax what they are.
PASSING_ROLES = (Role.RESHAPE, Role.PERMUTE, Role.SELECT, Role.ITEM)
PASSING = ("Identity", "Flatten", "Dropout", "dropout", "aten.clone.default", "aten._to_copy.default")
SOFTMAX = (
    "Softmax", "softmax", "aten._softmax.default", "aten.softmax.int", "aten._safe_softmax.default",
)  # fmt: skip


def check_logits(graph: Graph) -> None:
    """Raise UserError for a network that ends in a softmax: it would get another one (harmless for log_softmax)."""
    nodes = {node.name: node for node in graph.nodes}
    last = nodes[graph.nodes[-1].inputs[0]]
    while last.inputs and (role_of(last) in PASSING_ROLES or last.type in PASSING):
        last = nodes[last.inputs[0]]
    if last.type in SOFTMAX:
        what = f"layer {last.layer}" if last.layer else f"operation {last.name}"
        raise UserError(f"{what}: the model ends in a softmax; it must return logits, whose softmax is taken here")


def check_noise(graph: Graph) -> None:
    """Raise UserError for dropout that stays on in evaluation: no key names its noise, and no draw could be repeated.

    (No other operation of a graph draws noise; layers of type Dropout do so in training only.)
    """
    for node in graph.nodes:
        if node.op == "function" and drops(node):
            raise UserError(
                f"operation {node.name} ({node.type}): it drops values in evaluation, too, and no key names this noise;"
                " give it training=self.training"
            )


def refuse_dropout(network: nn.Module, mode: str) -> None:
    """Raise UserError for a network whose draws are masks: only one sample per draw says what a mode makes of them."""
    if any(isinstance(module, KeyedDropout) for module in network.modules()):
        raise UserError(f"mode {mode}: of Bayesian layers, and this network draws masks of dropout; take mode exact")


def drops(node: GraphNode) -> bool:
    if node.type == "dropout":
        return bool(node.arguments.get("training", True)) and node.arguments.get("p", 0.5) != 0
    return node.arguments.get("dropout_p", 0) != 0
