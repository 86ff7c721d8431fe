"""Runs a posterior's graph: the interpreter of the whitelisted operations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from bnn.errors import UserError
from bnn.posterior.arguments import DTYPES, filled, places
from bnn.posterior.operations import OPERATIONS, Operation, Role, in_order
from bnn.posterior.schema import Graph, GraphNode, node_references

Observer = Callable[[GraphNode, Any], None]
OWN = ("graph", "_steps")  # what a network keeps beside its layers
FLAG = "training"  # torch sets it on every module, so that no module can be called so
# Layers that may give their input itself.
PASSING = ("Identity", "Dropout", "KeyedDropout", "Flatten", "Select")


@dataclass(slots=True)
class Step:
    """A node and what it needs to run. `owner` holds a tensor node's tensor under the name `key`."""

    node: GraphNode
    layer: nn.Module | None = None
    operation: Operation | None = None
    positional: list[Any] = field(default_factory=list)
    named: dict[str, Any] = field(default_factory=dict)
    dies: bool = False  # whether its first input is memory of its own that nothing else reads
    owner: nn.Module | None = None
    key: str = ""
    finished: list[str] = field(default_factory=list)  # values that no later node reads


class GraphNetwork(nn.Module):
    """A model that executes a graph. Input (N, *graph.input_shape), output logits (N, classes).

    Its layers have the names, parameters and noise of the model that was saved: `set_noise`, `mean_only` and
    `kl_divergence` work on it, and the same noise key gives the same output bit for bit. `tensors` are those of the
    graph's tensor nodes. Raises UserError for a graph with an unknown operation, arguments that do not fit it, or names
    that cannot be those of submodules.
    """

    def __init__(self, graph: Graph, layers: dict[str, nn.Module], tensors: Mapping[str, Tensor] | None = None) -> None:
        super().__init__()
        self.graph = graph
        for path, layer in layers.items():
            attach(self, path, layer)
        for path, tensor in (tensors or {}).items():
            attach_tensor(self, path, tensor)
        self._steps = [self._step(node, layers) for node in graph.nodes]
        last_use, readers = self._lifetimes()
        for name, index in last_use.items():
            self._steps[index].finished.append(name)
        fresh = {step.node.name for step in self._steps if is_fresh(step)}
        for step in self._steps:
            first = step.node.inputs[:1]
            step.dies = bool(first) and first[0] in fresh and readers[first[0]] == 1

    def _step(self, node: GraphNode, layers: dict[str, nn.Module]) -> Step:
        if node.op == "layer":
            return Step(node, layer=layers[str(node.layer)])
        if node.op == "tensor":
            owner, key = owner_of(self, str(node.tensor))
            return Step(node, owner=owner, key=key)
        if node.op == "function":
            positional, named = places(node.type, node.arguments)
            return Step(node, operation=OPERATIONS[node.type], positional=positional, named=named)
        return Step(node)

    def _lifetimes(self) -> tuple[dict[str, int], Counter[str]]:
        """Where each value is read last, and how often it is read."""
        last_use: dict[str, int] = {}
        readers: Counter[str] = Counter()
        for index, node in enumerate(self.graph.nodes):
            for name in node.inputs if node.op != "function" else node_references(node.arguments):
                last_use[name] = index
                readers[name] += 1
        return last_use, readers

    def __setattr__(self, name: str, value: Any) -> None:
        if name in OWN:  # also where a layer has that name
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    @property
    def layers(self) -> dict[str, nn.Module]:
        """The layers that the graph names, in the order of their first use."""
        return {str(step.node.layer): step.layer for step in self._steps if step.layer is not None}

    @property
    def tensors(self) -> dict[str, Tensor]:
        """The tensors of the graph's tensor nodes, by name."""
        return {str(step.node.tensor): tensor_of(step) for step in self._steps if step.owner is not None}

    @property
    def dtype(self) -> torch.dtype:
        """The precision in which its inputs must be: its parameters', or, where these differ, that of its example."""
        kinds = dict.fromkeys(p.dtype for p in self.parameters() if p.is_floating_point())
        if len(kinds) != 1 and self.graph.precision is not None:
            return DTYPES[self.graph.precision]
        floating = (value.dtype for value in self.state_dict(keep_vars=True).values() if value.is_floating_point())
        return next(iter(kinds), next(floating, torch.float32))

    def get_submodule(self, target: str) -> nn.Module:
        """The layer of that name, which may be that of an attribute of this class."""
        first, _, rest = target.partition(".")
        if first in self._modules and (module := self._modules[first]) is not None:
            return module.get_submodule(rest) if rest else module
        return super().get_submodule(target)

    def forward(self, x: Tensor, observe: Observer | None = None) -> Tensor:
        """Logits. `observe` is called with every node and its output. Raises UserError for a wrong input shape."""
        if list(x.shape[1:]) != self.graph.input_shape:
            raise UserError(f"input shape {list(x.shape[1:])}: this posterior takes {self.graph.input_shape}")
        values: dict[str, Any] = {}
        reuse = observe is None and not torch.is_grad_enabled()
        for step in self._steps:
            node = step.node
            if step.layer is not None:
                # (not as a call: hooks of a layer of the recorded model are operations of the graph)
                value: Any = applied(step.layer, values[node.inputs[0]]) if node.inputs else step.layer.weight
            elif step.operation is not None:
                value = evaluated(step, values, x.device, reuse)
            elif step.owner is not None:
                value = tensor_of(step)
            else:
                value = values[node.inputs[0]] if node.inputs else x
            if value is None:  # an operation's output that is not there: torch would die of it as an input
                raise ValueError(f"node {node.name} gives nothing")
            if observe is not None:
                observe(node, value)
            values[node.name] = value
            for name in step.finished:
                del values[name]
        return value


def applied(layer: nn.Module, x: Any) -> Any:
    return in_order(layer.forward, x) if isinstance(layer, nn.GroupNorm) else layer.forward(x)


def evaluated(step: Step, values: dict[str, Any], device: torch.device, reuse: bool) -> Any:
    """What a function's node gives; in the memory of its first input where that is allowed and not needed any more."""
    operation = step.operation
    assert operation is not None
    positional = [filled(item, values) for item in step.positional]
    named = {key: filled(item, values) for key, item in step.named.items()}
    if operation.role is Role.FACTORY:
        named["device"] = device
    if reuse and step.dies and operation.inplace is not None and positional[0].is_floating_point():
        return operation.inplace(*positional, **named)
    return operation.function(*positional, **named)


def is_fresh(step: Step) -> bool:
    """Whether a node's output is memory of its own, which no other node's output shares."""
    if step.layer is not None:
        return bool(step.node.inputs) and step.node.type not in PASSING
    return step.operation is not None and step.operation.owns and step.operation.schema is not None


def tensor_of(step: Step) -> Tensor:
    assert step.owner is not None
    tensor = step.owner._buffers.get(step.key)
    tensor = step.owner._parameters[step.key] if tensor is None else tensor
    assert tensor is not None
    return tensor


def attach(root: nn.Module, path: str, layer: nn.Module) -> None:
    """Make `layer` the submodule `path` (with dots) of `root`. Raises UserError if that name cannot be one."""
    parent, name = holder(root, path)
    if name in parent._parameters or name in parent._buffers:
        raise UserError(f"layer {path!r}: impossible name, a tensor has it")
    parent._modules[name] = layer


def attach_tensor(root: nn.Module, path: str, tensor: Tensor) -> None:
    """Make `tensor` a buffer of that path, unless a layer has it as a parameter already."""
    parent, name = holder(root, path)
    if name in parent._modules:
        raise UserError(f"tensor {path!r}: impossible name, a layer has it")
    if name not in parent._parameters and name not in parent._buffers:
        parent._buffers[name] = tensor


def holder(root: nn.Module, path: str) -> tuple[nn.Module, str]:
    """The module that `path` (with dots) leads to but for its last name, made where there is none; and that name.

    Modules are reached by their names alone: one may be called as an attribute of torch's.
    """
    *parents, name = path.split(".")
    if not all(path.split(".")) or FLAG in path.split("."):
        raise UserError(f"name {path!r}: impossible")
    for parent in parents:
        if parent in root._parameters or parent in root._buffers:
            raise UserError(f"name {path!r}: impossible, {parent} is a tensor")
        child = root._modules.get(parent)
        if child is None:
            child = root._modules[parent] = nn.Module()
        root = child
    return root, name


def owner_of(root: nn.Module, path: str) -> tuple[nn.Module, str]:
    """Who holds a tensor, and under which name. Raises UserError if nobody does."""
    parent, name = holder(root, path)
    if name not in parent._parameters and name not in parent._buffers:
        raise UserError(f"tensor {path}: there is none")
    return parent, name
