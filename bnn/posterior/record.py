"""From a model to the nodes of its graph, by torch.export.

The model runs once on tensors without data, with a batch of any size. Layers that the whitelist knows are recorded as
they are: while recording, an operator of our own stands in their place. Everything between them is recorded as core
ATen operations, without side effects.
"""

from __future__ import annotations

import contextlib
import io
import keyword
import logging
import operator
import warnings
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.export import Dim, ExportedProgram
from torch.export.graph_signature import InputKind, OutputKind

from bnn.errors import UserError
from bnn.posterior import norms
from bnn.posterior.alone import ALONE
from bnn.posterior.arguments import DTYPE_NAMES, PLACES, drops, plain
from bnn.posterior.decompose import decompositions
from bnn.posterior.layer_types import layer_arguments
from bnn.posterior.leaves import OPS, leaf, leaves_of
from bnn.posterior.lengths import open_lengths
from bnn.posterior.operations import OPERATIONS, SYM
from bnn.posterior.reasons import Guards, is_of_batch, place, reason
from bnn.posterior.schema import GraphNode, needed, references
from bnn.posterior.sizes import BATCHES

STRIDED = "aten.as_strided.default"
EFFECT = "with_effects"  # what torch calls an operation that does something besides its output
SQUEEZES = ("aten.squeeze.default", "aten.squeeze.dim", "aten.squeeze.dims")
COPIES = ("aten.clone.default", "aten.alias.default", "aten.detach.default", "aten.lift_fresh_copy.default")


@dataclass
class Recorded:
    """What a model consists of: nodes in order (shapes are still to come), layers and tensors by their names."""

    nodes: list[GraphNode] = field(default_factory=list)
    layers: dict[str, nn.Module] = field(default_factory=dict)
    tensors: dict[str, Tensor] = field(default_factory=dict)


class Whole(nn.Module):
    """A model under a name of its own: torch.export would mix up submodules that are called as its attributes."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.training = model.training

    def forward(self, x: Tensor) -> Any:
        return self.model(x)


def record(model: nn.Module, example: Tensor) -> Recorded:
    """The graph of `model` as it computes in its present mode, for inputs like `example` and any number of them.

    Raises UserError, naming the operation and the line of the model that it comes from, for what the whitelist does not
    have; for a model that returns anything but one tensor, changes its own buffers, or looks at values or at the number
    of examples to decide what to compute; and for a Bayesian layer whose forward pass was replaced on the object. While
    one thread records, another that wants to waits.
    """
    with ALONE, leaves_of(model):
        program = exported(model, example)
        return Recording(model, program).run()


def exported(model: nn.Module, example: Tensor) -> ExportedProgram:
    """The model as torch.export records it, decomposed to core ATen. Raises UserError where it cannot be recorded."""
    name = type(model).__name__
    if len(example) < 2:  # torch takes a batch of one for one that is always one
        example = example.expand(2, *example.shape[1:]).clone()
    fast_attention = torch.backends.mha.get_fastpath_enabled()  # one operation that no other network knows
    guards = Guards()
    levels = {logger: logging.getLogger(logger).level for logger in ("torch.export", "torch._export", "torch.fx")}
    try:
        torch.backends.mha.set_fastpath_enabled(False)
        for logger in levels:  # they repeat at length what the exception says
            logging.getLogger(logger).setLevel(logging.CRITICAL)
        with warnings.catch_warnings(), torch.no_grad(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            try:
                program = run_by_torch(model, example)
            except torch._dynamo.exc.UserError as error:
                if not is_of_batch(error):
                    raise
                with guards, open_lengths():
                    program = run_by_torch(model, example)
            return program.run_decompositions(decompositions())
    except UserError:
        raise
    except Exception as error:  # whatever the model's code, or torch's exporter, makes of tensors without data
        if isinstance(error, SyntaxError) and (word := python_word(model)):
            said = f"a part of it is called {word}, a word of Python's, which torch's exporter cannot write down"
            raise UserError(f"{name} cannot be recorded: {said}; call it otherwise") from error
        raise UserError(f"{name} cannot be recorded: {reason(error, guards.line)}") from error
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_attention)
        for logger, level in levels.items():
            logging.getLogger(logger).setLevel(level)


def python_word(model: nn.Module) -> str:
    """The first name of a module or tensor that is a word of Python's, such as `global`; empty if there is none."""
    names = [name for name, _ in (*model.named_modules(), *model.named_parameters(), *model.named_buffers())]
    return next((part for name in names for part in name.split(".") if keyword.iskeyword(part)), "")


def run_by_torch(model: nn.Module, example: Tensor) -> ExportedProgram:
    batch = Dim("batch", min=1, max=BATCHES[-1])
    return torch.export.export(Whole(model), (example,), dynamic_shapes=({0: batch},), strict=False)


class Recording:
    """Turns an exported program into nodes."""

    def __init__(self, model: nn.Module, program: ExportedProgram) -> None:
        self.model, self.program = model, program
        self.name = type(model).__name__
        self.result = Recorded()
        self.known: dict[int, str] = {}  # tensors by their identity: a shared one keeps one name
        self.names: dict[str, str] = {}  # of nodes: torch's and ours
        self.taken: set[str] = set()
        self.tensor_nodes: dict[str, str] = {}  # the tensors that torch's nodes give, by the node's name
        self.norms: set[str] = set()  # torch's nodes that are BatchNorms
        self.weights: dict[Any, str] = {}  # the nodes that give a layer's weight, by the layer's number

    def run(self) -> Recorded:
        signature = self.program.graph_signature
        self.check_effects()
        inputs = {spec.arg.name: spec for spec in signature.input_specs}
        users = [spec for spec in signature.input_specs if spec.kind is InputKind.USER_INPUT]
        for node in read_by_output(self.program.graph):
            if node.op == "placeholder":
                spec = inputs[node.name]
                if spec is users[0]:
                    self.result.nodes.insert(0, GraphNode(name=self.named(node, "input"), op="input"))
                elif node.users:
                    self.add_tensor(node, spec)
            elif node.op == "output":
                self.add_output(node)
            elif node.op == "call_function" and node.all_input_nodes and node.all_input_nodes[0].name in self.norms:
                self.names[node.name] = self.names[node.all_input_nodes[0].name]  # the first output of a BatchNorm
            elif node.op == "call_function" and node.target is OPS.weight.default and node.args[0] in self.weights:
                self.names[node.name] = self.weights[int(str(node.args[0]))]  # one sample serves the whole pass
            elif node.op == "call_function" and (str(node.target) in COPIES or moves_nothing(node)):
                self.names[node.name] = self.names[node.all_input_nodes[0].name]  # nothing changes a value here
            elif node.op == "call_function" and str(node.target) == norms.OPERATION and self.norm(node):
                pass
            elif node.op == "call_function" and node.users:
                self.result.nodes.append(self.function(node))
            elif node.op == "get_attr" and node.users:
                raise UserError(f"{self.name}: {node.target}: a posterior cannot hold a graph within its graph")
        return self.pruned()

    def check_effects(self) -> None:
        """Raise UserError for a forward pass that does something besides its output."""
        signature = self.program.graph_signature
        if any(spec.kind is OutputKind.TOKEN for spec in signature.output_specs):
            effect = next(node for node in self.program.graph.nodes if getattr(node.target, "__name__", "") == EFFECT)
            raise UserError(f"operation {effect.args[1]}{place(effect)}: a posterior cannot hold it")
        if changed := [spec for spec in signature.output_specs if spec.kind is not OutputKind.USER_OUTPUT]:
            what = str(changed[0].target).removeprefix("model.")
            raise UserError(f"{self.name}: changes {what} in its forward pass; a posterior cannot hold that")

    def add_tensor(self, node: fx.Node, spec: Any) -> None:
        """A parameter, buffer or constant that is read outside of a layer."""
        tensor = self.tensor(str(spec.target))
        target = str(spec.target).removeprefix("model.")
        if not isinstance(tensor, Tensor):
            raise UserError(f"{self.name}: {target}: a posterior cannot hold a {type(tensor).__name__}")
        if tensor.layout is not torch.strided or tensor.dtype not in DTYPE_NAMES:
            kind = str(tensor.dtype if tensor.layout is torch.strided else tensor.layout).removeprefix("torch.")
            raise UserError(f"{self.name}: {target}: a posterior cannot hold a tensor of {kind}")
        name = self.known.setdefault(id(tensor), target)
        self.result.tensors[name] = tensor
        self.tensor_nodes[node.name] = name
        self.result.nodes.append(
            GraphNode(name=self.named(node, name), op="tensor", tensor=name, arguments={"dtype": plain(tensor.dtype)})
        )

    def tensor(self, target: str) -> Any:
        """The model's own tensor of that name, or a constant that its forward pass made."""
        owner, _, name = target.rpartition(".")
        with contextlib.suppress(AttributeError):
            found = getattr(self.model.get_submodule(owner.removeprefix("model").removeprefix(".")), name)
            if isinstance(found, Tensor):
                return found
        return self.program.constants.get(target, self.program.state_dict.get(target))

    def add_output(self, node: fx.Node) -> None:
        outputs = list(node.args[0]) if isinstance(node.args[0], list | tuple) else [node.args[0]]
        if len(outputs) != 1 or not isinstance(outputs[0], fx.Node):
            raise UserError(f"{self.name}: must return one tensor of logits, and returns {len(outputs)} values")
        self.result.nodes.append(
            GraphNode(name=self.named(node, "output"), op="output", inputs=[self.names[outputs[0].name]])
        )

    def named(self, node: fx.Node, wish: str) -> str:
        """A name of its own for a node, from that of what it stands for."""
        stem = name = wish.replace(".", "_")
        number = 0
        while name in self.taken:
            number += 1
            name = f"{stem}_{number}"
        self.taken.add(name)
        self.names[node.name] = name
        return name

    def function(self, node: fx.Node) -> GraphNode:
        """A node of ours for what torch recorded as a call."""
        target: Any = node.target
        if target in (OPS.layer.default, OPS.weight.default):
            return self.layer(node)
        if target in SYM:
            kind, arguments = f"sym.{SYM[target]}", dict(zip(("x", "y"), node.args, strict=False))
        elif getattr(target, "__name__", "") == "getitem":
            kind, arguments = "item", dict(zip(("x", "index"), node.args, strict=True))
        elif isinstance(target, torch._ops.OpOverload) and target.namespace == "aten":
            kind = str(target)
            arguments = {name: value for name, value in given(node).items() if kept(target, name, value)}
            if kind in SQUEEZES:  # which would take the axis of a batch of one for an axis of one
                kind, arguments["dim"] = "aten.squeeze.dims", axes_of_one(node, arguments.get("dim"))
        else:
            kind, arguments = str(getattr(target, "__name__", target)), {}
        if kind == "aten._native_batch_norm_legit.no_stats" and node.args[0].meta["val"].shape[0] != 1:  # type: ignore[union-attr]
            raise UserError(f"operation {kind}{place(node)}: its statistics are those of the other examples beside one")
        # (with torch.export's own start, not with ours: sympy takes the better part of a second)
        from torch.fx.experimental.symbolic_shapes import free_unbacked_symbols

        if free_unbacked_symbols(node.meta.get("val")):
            what = (
                "it makes a Python number of a tensor"
                if "_local_scalar" in kind
                else "how large its output is depends on values"
            )
            raise UserError(f"operation {kind}{place(node)}: {what}")
        if kind == "aten.index.Tensor" and any(is_mask(index) for index in arguments["indices"]):  # type: ignore[union-attr]
            raise UserError(f"operation {kind}{place(node)}: indexed by a mask; index by its places (`mask.nonzero()`)")
        if kind not in OPERATIONS:
            raise UserError(f"operation {kind}{place(node)}: a posterior cannot hold it")
        try:
            written = {name: self.argument(value) for name, value in arguments.items()}
            if drops(kind, written):
                raise UserError("drops values at random, by noise without a key; a posterior cannot hold it")
        except UserError as error:
            raise UserError(f"operation {kind}{place(node)}: {error}") from None
        name = self.named(node, kind.split(".")[1] if "." in kind else kind)
        return GraphNode(name=name, op="function", type=kind, arguments=written, inputs=references(written))

    def norm(self, node: fx.Node) -> bool:
        """Record a BatchNorm that is an operation as the layer that it is of; whether there is one."""
        arguments, tensors = given(node), {}
        for part in norms.PARTS:
            source = arguments[part]
            name = self.tensor_nodes.get(source.name) if isinstance(source, fx.Node) else None
            if name is not None:
                tensors[part] = name, self.result.tensors[name]
        source = node.args[0]
        assert isinstance(source, fx.Node)
        found = norms.norm_layer(source.meta["val"].dim(), arguments, tensors)
        if found is None or any(user.target is not operator.getitem for user in node.users):
            return False
        path, layer = found
        self.result.layers.setdefault(path, layer)
        kind, settings = layer_arguments(path, self.result.layers[path])
        name = self.named(node, path)
        inputs = [self.names[source.name]]
        self.result.nodes.append(
            GraphNode(name=name, op="layer", type=kind, layer=path, arguments=settings, inputs=inputs)
        )
        self.norms.add(node.name)
        return True

    def layer(self, node: fx.Node) -> GraphNode:
        *inputs, number = node.args
        assert isinstance(number, int)
        path, layer = leaf(number)
        self.result.layers[path] = layer
        kind, arguments = layer_arguments(path, layer)
        names = [self.names[source.name] for source in inputs if isinstance(source, fx.Node)]
        name = self.named(node, path if names else f"{path}.weight")
        if not names:
            self.weights[number] = name
        return GraphNode(name=name, op="layer", type=kind, layer=path, arguments=arguments, inputs=names)

    def argument(self, value: Any) -> Any:
        """An argument as JSON: {"node": name} for what another node computes."""
        if isinstance(value, fx.Node):
            return {"node": self.names[value.name]}
        if isinstance(value, list | tuple):
            return [self.argument(item) for item in value]
        return plain(value)

    def pruned(self) -> Recorded:
        """Without what nothing reads (torch's checks of sizes, for instance)."""
        self.result.nodes = nodes = needed(self.result.nodes)
        layers = {node.layer for node in nodes}
        tensors = {node.tensor for node in nodes}
        self.result.layers = {name: layer for name, layer in self.result.layers.items() if name in layers}
        self.result.tensors = {name: tensor for name, tensor in self.result.tensors.items() if name in tensors}
        return self.result


def moves_nothing(node: fx.Node) -> bool:
    """Whether it is a call of as_strided that gives its input's values in their places: other strides of sides of one.

    So torch writes down how the output of a pooling to one pixel lies in memory, of inputs that lie channels last.
    """
    if str(node.target) != STRIDED:
        return False
    source, made = node.all_input_nodes[0].meta["val"], node.meta["val"]
    if str(list(source.shape)) != str(list(made.shape)) or str(source.storage_offset()) != str(made.storage_offset()):
        return False
    sides = zip(made.shape, source.stride(), made.stride(), strict=True)
    return all((type(size) is int and size == 1) or str(before) == str(after) for size, before, after in sides)


def read_by_output(graph: fx.Graph) -> list[fx.Node]:
    """The inputs, and the nodes that the output depends on, in order: not torch's checks of sizes."""
    read, waiting = set[fx.Node](), [node for node in graph.nodes if node.op == "output"]
    while waiting:
        node = waiting.pop()
        if node not in read:
            read.add(node)
            waiting += node.all_input_nodes
    return [node for node in graph.nodes if node.op == "placeholder" or node in read]


def is_mask(index: Any) -> bool:
    return isinstance(index, fx.Node) and index.meta["val"].dtype in (torch.bool, torch.uint8)


def axes_of_one(node: fx.Node, asked: Any) -> list[int]:
    """The axes that a squeeze of these axes (None: of all) removes, whatever the number of examples."""
    shape = node.all_input_nodes[0].meta["val"].shape
    among = range(len(shape)) if asked is None else [asked] if isinstance(asked, int) else asked
    axes = sorted(axis % len(shape) for axis in among) if shape else []
    return [axis for axis in axes if type(shape[axis]) is int and shape[axis] == 1]


def given(node: fx.Node) -> dict[str, Any]:
    """The arguments of a call of an ATen operation, by the names of its schema."""
    operation: Any = node.target
    names = [argument.name for argument in operation._schema.arguments]
    return dict(zip(names, node.args, strict=False)) | dict(node.kwargs)


def kept(target: Any, name: str, value: Any) -> bool:
    """Whether an argument is written down: where a tensor lies in memory is not, nor what is a default anyway."""
    if name in PLACES:
        return False
    argument = next(argument for argument in target._schema.arguments if argument.name == name)
    same = argument.has_default_value() and type(value) is type(argument.default_value)
    return not (same and value == argument.default_value)
