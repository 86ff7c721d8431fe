"""One argument of one operation at a time is what it must not be: every operation, every argument, every value."""

from __future__ import annotations

import copy
import json
from typing import Any

import torch

from bnn.posterior.operations import OPERATIONS
from bnn.posterior.schema import node_references
from bnn.records.files import GRAPH_FILE
from tests.fuzz.mutate import Files

VALUES: tuple[Any, ...] = (
    None, True, -1, 7, 2**31, 2**63 - 1, -(2**63), 1e300, "sum", [], [None], [2**62, 2**62], [-1] * 70,
    {"dtype": "bool"}, {"dtype": "float16"}, {"float": "nan"}, {"node": "input"}, [{"node": "input"}, None],
)  # fmt: skip
CASES = [
    (operation.name, argument.name, value)
    for operation in OPERATIONS.values()
    if operation.schema is not None
    for argument in operation.schema.arguments
    for value in VALUES
]


def fitting(kind: Any, source: str) -> Any:
    """Some value of an argument's type; `source` is a node that is a tensor."""
    if isinstance(kind, torch.OptionalType):
        return fitting(kind.getElementType(), source)
    if isinstance(kind, torch.ListType):
        return [fitting(kind.getElementType(), source)] * 2
    return {
        "Tensor": {"node": source}, "int": 1, "SymInt": 1, "float": 0.5, "bool": False, "number": 1, "str": "none",
        "ScalarType": {"dtype": "float32"},
    }.get(str(kind))  # fmt: skip


def poisoned(number: int, seeds: list[Files]) -> Files:
    """The first posterior with one node more, which has the argument of case `number`; nothing reads it."""
    name, argument, value = CASES[number % len(CASES)]
    graph = json.loads(seeds[0][GRAPH_FILE])
    first = graph["nodes"][0]["name"]
    schema = OPERATIONS[name].schema
    assert schema is not None
    arguments = {a.name: fitting(a.real_type, first) for a in schema.arguments if not a.has_default_value()}
    arguments[argument] = json.loads(json.dumps(copy.deepcopy(value)).replace('"input"', json.dumps(first)))
    node = {
        "name": "poisoned", "op": "function", "type": name, "arguments": arguments,
        "inputs": list(dict.fromkeys(node_references(arguments))), "output_shape": None,
    }  # fmt: skip
    graph["nodes"].insert(1, node)
    return seeds[0] | {GRAPH_FILE: json.dumps(graph).encode()}
