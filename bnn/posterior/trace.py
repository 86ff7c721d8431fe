"""From a model to its graph, by torch.fx."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx, nn

from bnn.errors import UserError
from bnn.layers import BayesianLayer, mean_only, numbered_layers
from bnn.posterior.functions import traced_call
from bnn.posterior.layer_types import layer_arguments
from bnn.posterior.network import GraphNetwork
from bnn.posterior.schema import Graph, GraphNode, node_references, plain


class LeafTracer(fx.Tracer):
    """Traces down to Bayesian layers and torch's own."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, BayesianLayer) or super().is_leaf_module(m, module_qualified_name)


def trace(model: nn.Module, example_input: Tensor, step: int, extra: dict[str, Any]) -> tuple[Graph, GraphNetwork]:
    """The graph of `model` in evaluation mode, and a network that runs it with the model's own layers.

    `example_input` (N, C, H, W) gives the shapes. The graph's output at the posterior mean is compared with the
    model's own. Parameters, running statistics, noise and modes are left as they are.

    Raises UserError for a model that cannot be traced (control flow on data) or uses an operation that is not in the
    whitelist, naming it, and for two layers that would draw the same noise.
    """
    numbered_layers(model)
    modes = [(module, module.training) for module in model.modules()]
    try:
        model.eval()
        with torch.no_grad(), mean_only(model):
            return traced(model, example_input, step, extra)
    finally:
        for module, mode in modes:
            module.training = mode


def trace_fitting(model: nn.Module, example: Tensor, step: int, extra: dict[str, Any]) -> tuple[Graph, GraphNetwork]:
    """As `trace`; raises UserError also for an example that does not go through the model."""
    try:
        return trace(model, example, step, extra)
    except (RuntimeError, ValueError, TypeError) as error:
        text = " ".join(str(error).split())
        shape = ["N", *example.shape[1:]]
        raise UserError(f"{type(model).__name__}: inputs of shape {shape} do not go through it: {text}") from error


def traced(model: nn.Module, example: Tensor, step: int, extra: dict[str, Any]) -> tuple[Graph, GraphNetwork]:
    try:
        recorded = LeafTracer().trace(model)
    except UserError:
        raise
    except Exception as error:  # whatever the model's code does with a proxy instead of a tensor
        text = " ".join(str(error).split())
        raise UserError(f"{type(model).__name__} cannot be traced: {text}") from error
    layers: dict[str, nn.Module] = {}
    nodes = [graph_node(node, model, layers) for node in recorded.nodes if node.users or node.op in KEPT]
    graph = Graph(step=step, input_shape=list(example.shape[1:]), nodes=nodes, extra=extra)
    try:
        graph.check()
    except ValueError as error:
        raise UserError(f"{type(model).__name__}: {error}") from None
    shapes: dict[str, list[int | None] | None] = {}

    def observe(node: GraphNode, value: Any) -> None:
        shapes[node.name] = [None, *value.shape[1:]] if isinstance(value, Tensor) else None

    network = GraphNetwork(graph, layers).eval()
    if not torch.allclose(network(example, observe), model(example), rtol=1e-4, atol=1e-5, equal_nan=True):
        raise UserError(f"{type(model).__name__}: its traced graph computes something else than the model itself")
    nodes = [node.model_copy(update={"output_shape": shapes[node.name]}) for node in nodes]
    network.graph = graph.model_copy(update={"nodes": nodes})
    return network.graph, network


KEPT = ("placeholder", "output")  # nodes that stay although no node reads them


def graph_node(node: fx.Node, model: nn.Module, layers: dict[str, nn.Module]) -> GraphNode:
    """One node of a torch.fx graph as it is written; a layer is added to `layers` under its name."""
    if node.op == "placeholder":
        return GraphNode(name=node.name, op="input")
    if node.op == "output":
        if not isinstance(node.args[0], fx.Node):
            raise UserError(f"{type(model).__name__}: must return one tensor of logits")
        return GraphNode(name=node.name, op="output", inputs=[node.args[0].name])
    if node.op == "call_module":
        path = str(node.target)
        if node.kwargs or len(node.args) != 1 or not isinstance(node.args[0], fx.Node):
            raise UserError(f"layer {path}: must be called with one tensor")
        layers[path] = model.get_submodule(path)
        kind, arguments = layer_arguments(path, layers[path])
        inputs = [node.args[0].name]
        return GraphNode(name=node.name, op="layer", type=kind, layer=path, arguments=arguments, inputs=inputs)
    if node.op == "get_attr":
        raise UserError(f"operation {node.target}: a parameter used outside of a layer; a posterior cannot hold it")
    kind, bound = traced_call(node.target, node.args, dict(node.kwargs))
    arguments = {key: written(value) for key, value in bound.items()}
    inputs = list(dict.fromkeys(node_references(arguments)))
    return GraphNode(name=node.name, op="function", type=kind, arguments=arguments, inputs=inputs)


def written(value: Any) -> Any:
    """An argument as JSON: {"node": name} for what another node computes."""
    if isinstance(value, fx.Node):
        return {"node": value.name}
    if isinstance(value, list | tuple):
        return [written(item) for item in value]
    return plain(value)
