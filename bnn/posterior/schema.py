"""graph.json: the schema, its reader and the file names of a posterior."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from bnn.errors import UserError
from bnn.records.files import GRAPH_FILE
from bnn.regular import read_text_regular
from bnn.strictjson import parse_json

TENSORS_FILE = "posterior.safetensors"
LAYER_NAMES_FILE = "LayerNames.txt"
OPS_NAMES_FILE = "OpsNames.txt"


# How long an axis is: a number, None for the size of the batch, or [a, b] for a + b * batch.
Size = int | None | tuple[int, int]


class GraphNode(BaseModel):
    """One operation. An argument is a JSON value in which {"node": NAME} stands for another node's output.

    op: input (the images), layer (`type` from the whitelist of layers, `layer` the name its tensors are saved under,
    `arguments` its constructor's), function (`type` from `operations.OPERATIONS`), tensor (a parameter or buffer that
    is used outside of a layer, saved under the name `tensor`) or output (the logits). A layer without inputs gives its
    weight: the mean, or the sample of this pass. In a function's arguments {"dtype": NAME} is a kind of numbers.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    op: Literal["input", "layer", "function", "tensor", "output"]
    type: str = ""
    layer: str | None = None
    tensor: str | None = None
    arguments: dict[str, Any] = {}
    inputs: list[str] = []
    output_shape: list[Size] | None = None  # null for what is no tensor

    @property
    def reads(self) -> set[str]:
        """Names of the nodes that it reads."""
        return {*self.inputs, *node_references(self.arguments)}


class Graph(BaseModel):
    """A recorded model. `input_shape` is that of one example, (C, H, W); `extra` is whatever the writer noted.

    `precision` is that of its inputs, `tensors_sha256` is of the file of tensors that was written with it: graphs of
    earlier versions have neither. Schema 1 had functions of its own (`operations.SCHEMA_1`), no tensors, and layers
    with one input only.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: Literal[1, 2] = 2
    step: int
    input_shape: list[int]
    precision: Literal["float16", "bfloat16", "float32", "float64"] | None = None
    nodes: list[GraphNode]
    tensors_sha256: str | None = None
    extra: dict[str, Any] = {}

    def check(self) -> None:
        """Raise ValueError unless every node reads earlier nodes only, from one input first to one output last."""
        ops = [node.op for node in self.nodes]
        if len(ops) < 2 or ops[0] != "input" or ops[-1] != "output" or {"input", "output"} & set(ops[1:-1]):
            raise ValueError("nodes must begin with the only input and end with the only output")
        known: set[str] = set()
        for node in self.nodes:
            if node.name in known:
                raise ValueError(f"node {node.name}: the name is used twice")
            named = [*node.inputs, *node_references(node.arguments)]
            unknown = [name for name in named if name not in known]
            if unknown:
                raise ValueError(f"node {node.name}: reads {unknown[0]}, which is no earlier node")
            if node.op == "output" and len(node.inputs) != 1:
                raise ValueError(f"node {node.name}: must have one input")
            if node.op == "layer" and len(node.inputs) > 1:
                raise ValueError(f"node {node.name}: a layer has at most one input")
            if (node.tensor is not None) != (node.op == "tensor") or (node.layer is not None) != (node.op == "layer"):
                raise ValueError(f"node {node.name}: a layer names its layer, a tensor its tensor, and no other node")
            if node.op in ("input", "tensor") and node.inputs:
                raise ValueError(f"node {node.name}: reads {node.inputs[0]}, but has no inputs")
            if node.op == "function" and node.inputs != references(node.arguments):
                raise ValueError(f"node {node.name}: its inputs are not the nodes that its arguments name")
            known.add(node.name)


def node_references(value: Any) -> Iterator[str]:
    """Names of the nodes an argument refers to."""
    if isinstance(value, dict) and set(value) == {"node"}:
        yield str(value["node"])
    elif isinstance(value, dict):
        for item in value.values():
            yield from node_references(item)
    elif isinstance(value, list):
        for item in value:
            yield from node_references(item)


def references(arguments: dict[str, Any]) -> list[str]:
    """Names of the nodes that arguments refer to, each once, in their order: the inputs of a function's node."""
    return list(dict.fromkeys(node_references(arguments)))


def needed(nodes: list[GraphNode]) -> list[GraphNode]:
    """The nodes that the last one needs, and the input."""
    wanted: set[str] = set()
    kept = []
    for node in reversed(nodes):
        if node.op in ("input", "output") or node.name in wanted:
            kept.append(node)
            wanted |= node.reads
    return kept[::-1]


def read_graph(folder: Path) -> Graph:
    """Read a posterior's graph.json. Raises UserError naming the file and what is wrong with it."""
    path = Path(folder) / GRAPH_FILE
    try:
        text = read_text_regular(path)
        parse_json(text, str(path))  # for what pydantic passes over: keys that are given twice
        graph = Graph.model_validate_json(text)
        graph.check()
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "file"
        raise UserError(f"{path}: {key}: {first['msg']}") from None
    except ValueError as error:
        raise UserError(f"{path}: {error}") from None
    return graph
