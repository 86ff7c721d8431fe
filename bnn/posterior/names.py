"""LayerNames.txt and OpsNames.txt, the two text files BPrune reads beside a checkpoint (the paper, section 4.6)."""

from __future__ import annotations

from torch import nn

from bnn.layers import BayesianLayer
from bnn.posterior.schema import Graph, GraphNode

ROLES = {"mu": "kernel mean", "rho": "kernel untransformed scale", "weight": "kernel", "bias": "bias"}
NORM_ROLES = {"weight": "gamma", "bias": "beta"}


def layer_names(graph: Graph, network: nn.Module) -> str:
    """The layers in graph order, a line per trainable variable: layer, type, variable, role, shape, tab-separated.

    sigma is softplus of a kernel's untransformed scale.
    """
    lines = ["# layer\ttype\tvariable\trole\tshape"]
    done = set()
    for node in graph.nodes:
        if node.op == "tensor" and node.tensor not in done:
            done.add(node.tensor)
            lines.append(f"{node.tensor}\ttensor\t{node.tensor}\ttensor\t{sizes_text(node, 'x')}")
        if node.layer is None or node.layer in done:
            continue
        done.add(node.layer)
        roles = NORM_ROLES if "Norm" in node.type else ROLES
        for name, parameter in network.get_submodule(node.layer).named_parameters(recurse=False):
            shape = "x".join(str(size) for size in parameter.shape)
            lines.append(f"{node.layer}\t{node.type}\t{node.layer}.{name}\t{roles.get(name, name)}\t{shape}")
    return "\n".join(lines) + "\n"


def ops_names(graph: Graph, network: nn.Module) -> str:
    """Every operation in graph order: name, kind, type, output shape (batch size None), tab-separated.

    Kinds: input, sampling (the draw of the next layer's kernel), layer, function, tensor, logits. A size that does not
    grow with the batch one by one is written a+b*N.
    """
    lines = ["# operation\tkind\ttype\toutput shape"]
    for node in graph.nodes:
        shape = "" if node.output_shape is None else f"({sizes_text(node, ', ')})"
        layer = network.get_submodule(node.layer) if node.layer is not None else None
        if isinstance(layer, BayesianLayer):
            kernel = f"({', '.join(str(size) for size in layer.mu.shape)})"
            lines.append(f"{node.name}/sample\tsampling\tNormal\t{kernel}")
        kind = "logits" if node.op == "output" else node.op
        lines.append(f"{node.name}\t{kind}\t{node.type}\t{shape}")
    return "\n".join(lines) + "\n"


def sizes_text(node: GraphNode, between: str) -> str:
    """The shape of a node's output."""
    return between.join(
        f"{size[0]}+{size[1]}*N" if isinstance(size, tuple) else str(size) for size in node.output_shape or []
    )
