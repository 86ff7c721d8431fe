"""Mutations of a posterior's two files: graph.json by its structure and by its text, the tensors' file by its bytes.

A mutation is a function of a random.Random alone, so that its number repeats it.
"""

from __future__ import annotations

import contextlib
import copy
import json
import random
import struct
from collections.abc import Callable
from typing import Any

from bnn.posterior.operations import OPERATIONS
from bnn.posterior.schema import TENSORS_FILE
from bnn.records.files import GRAPH_FILE

Files = dict[str, bytes]
NUMBERS = [0, -1, 1, 2, 3, 255, 2**31 - 1, 2**31, 2**32, 2**63 - 1, 2**63, -(2**63), 10**12, 10**18, 10**30, 0.5, -0.0,
           1e-300, 1e300]  # fmt: skip
WORDS = ["", "x", "self", "os.system", "__import__", "eval", "exec", "../../etc/passwd", "/dev/zero", "a" * 5000,
         "\x00", "\ud800", "forward", "graph", "_steps", "0", "float32", "inf", "nan", "node", "layer", "input",
         "output", "tensor", "function", "item", "__class__", "__dict__", "weight", "mu"]  # fmt: skip
KEYS = ["node", "dtype", "float", "op", "type", "layer", "tensor", "arguments", "inputs", "output_shape", "size", "dim",
        "x", "y", "self", "other", "input", "device", "generator", "out", "dtype", "__proto__"]  # fmt: skip
NO_PLACE = (RecursionError, KeyError, IndexError, TypeError, AttributeError, ValueError, OverflowError)
LARGE = [[10**12], [2**31, 2**31], [1 << 40, 1, 1], [10**6, 10**6]]


def paths(value: Any, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where every value of a JSON document lies."""
    found = [here] if here else []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        found += paths(item, (*here, key))
    return found


def at(document: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        document = document[key]
    return document


def anything(rng: random.Random, graph: dict[str, Any], depth: int = 0) -> Any:
    """A value that may come where it does not belong."""
    names = [node["name"] for node in graph["nodes"] if isinstance(node, dict) and isinstance(node.get("name"), str)]
    kind = rng.randrange(10 if depth < 3 else 6)
    if kind < 2:
        return rng.choice(NUMBERS)
    if kind == 2:
        return rng.choice([None, True, False])
    if kind == 3:
        return rng.choice(WORDS)
    if kind == 4:
        return rng.choice(names or WORDS)
    if kind == 5:
        return rng.choice(list(OPERATIONS))
    if kind == 6:
        return [anything(rng, graph, depth + 1) for _ in range(rng.choice([0, 1, 2, 4]))]
    if kind == 7:
        return {"node": rng.choice(names or WORDS)}
    if kind == 8:
        return list(rng.choice(LARGE))  # (of its own: what comes later changes it)
    return {rng.choice(KEYS): anything(rng, graph, depth + 1)}


def changed(rng: random.Random, graph: dict[str, Any]) -> None:
    """One change to the document, in place."""
    where = paths(graph)
    path = rng.choice(where)
    parent, key = at(graph, path[:-1]), path[-1]
    kind = rng.randrange(12)
    if kind < 3:
        parent[key] = anything(rng, graph)
    elif kind == 3:
        del parent[key]
    elif kind == 4 and isinstance(parent, list):
        parent.insert(rng.randrange(len(parent) + 1), copy.deepcopy(parent[key]))
    elif kind == 5 and isinstance(parent, list):
        other = rng.randrange(len(parent))
        parent[key], parent[other] = parent[other], parent[key]
    elif kind == 6:
        parent[key] = copy.deepcopy(at(graph, rng.choice(where)))
    elif kind == 7 and isinstance(parent, dict):
        parent[rng.choice(KEYS)] = parent.pop(key)
    elif kind == 8 and isinstance(parent[key], int | float):
        parent[key] = parent[key] * rng.choice([-1, 2, 1000, 10**9]) + rng.choice([0, 1, -1])
    elif kind == 9:
        another(rng, graph)
    elif kind == 10:
        retyped(rng, graph)
    else:
        parent[key] = nested(rng, rng.choice([10, 100, 300]))


def another(rng: random.Random, graph: dict[str, Any]) -> None:
    """A node more: an operation from the list with arguments of the right names and any values."""
    nodes = graph.get("nodes")
    if not isinstance(nodes, list) or not nodes:
        return
    name = rng.choice(list(OPERATIONS))
    schema = OPERATIONS[name].schema
    wanted = (
        [one.name for one in schema.arguments if not one.has_default_value() or rng.random() < 0.2] if schema else []
    )
    earlier = [node["name"] for node in nodes if isinstance(node, dict) and isinstance(node.get("name"), str)]
    arguments: dict[str, Any] = {}
    for argument in wanted or ["x"]:
        is_node = earlier and rng.random() < 0.5
        arguments[argument] = {"node": rng.choice(earlier)} if is_node else anything(rng, graph)
    inputs = [one["node"] for one in arguments.values() if isinstance(one, dict) and set(one) == {"node"}]
    shape = copy.copy(rng.choice([None, [None, 3], *LARGE]))
    new = {"name": f"more_{rng.randrange(10**6)}", "op": "function", "type": name, "arguments": arguments,
           "inputs": list(dict.fromkeys(map(str, inputs))), "output_shape": shape}  # fmt: skip
    place = rng.randrange(1, len(nodes)) if len(nodes) > 1 else 0
    nodes.insert(place, new)
    if rng.random() < 0.5 and isinstance(nodes[-1], dict):
        nodes[-1]["inputs"] = [new["name"]]


def retyped(rng: random.Random, graph: dict[str, Any]) -> None:
    """Another operation for a node, or another class for a layer, with the arguments it has."""
    nodes = [node for node in graph.get("nodes") or [] if isinstance(node, dict)]
    if nodes:
        node = rng.choice(nodes)
        node["type"] = rng.choice([*OPERATIONS, *{str(other.get("type")) for other in nodes}])


def nested(rng: random.Random, depth: int) -> Any:
    value: Any = 0
    for _ in range(depth):
        value = [value] if rng.random() < 0.5 else {"node": value}
    return value


def graph_text(rng: random.Random, data: bytes) -> bytes:
    """Changes to the text itself."""
    kind = rng.randrange(9)
    if kind == 0:
        return data[: rng.randrange(len(data))]
    if kind == 1:
        place = rng.randrange(len(data))
        return data[:place] + bytes([rng.randrange(256)]) + data[place + 1 :]
    if kind == 2:
        return data.decode().encode(rng.choice(["utf-16", "utf-32", "utf-8-sig", "utf-16-be"]))
    if kind == 3:
        depth = rng.choice([100, 10_000, 200_000])
        return data.replace(b'"extra"', b'"extra": ' + b"[" * depth + b"]" * depth + b', "extra"', 1)
    if kind == 4:
        return data.replace(b'"step"', b'"step": ' + b"9" * rng.choice([20, 400, 5000]) + b', "step"', 1)
    if kind == 5:
        return data.replace(
            b": 1", rng.choice([b": NaN", b": Infinity", b": -Infinity", b": 1e999", b": 0x1", b": 01"]), 1
        )
    if kind == 6:
        return data.replace(b'"name"', b'"name": "twice", "name"', 1)
    if kind == 7:
        return data + rng.choice([data, b"\x00", b"{}", b"\n" * 10_000])
    return rng.choice([b"", b"null", b"[]", b"{}", b"\xff\xfe", b'""', b"0", b"[" * 100_000])


def graph_file(rng: random.Random, data: bytes) -> bytes:
    if rng.random() < 0.15:
        return graph_text(rng, data)
    graph = json.loads(data)
    for _ in range(rng.choice([1, 1, 1, 2, 4])):
        with contextlib.suppress(*NO_PLACE):  # an earlier change may have left no place for this one
            changed(rng, graph)
    try:
        return json.dumps(graph, ensure_ascii=True).encode()
    except RecursionError:  # copies within copies, too deep to be written here
        return data


def tensors_file(rng: random.Random, data: bytes) -> bytes:
    """Changes to the length of the header, the header and the bytes behind it."""
    size = struct.unpack("<Q", data[:8])[0]
    header, body = json.loads(data[8 : 8 + size]), data[8 + size :]
    kind = rng.randrange(8)
    if kind == 0:
        return struct.pack("<Q", rng.choice([0, 1, size - 1, size + 1, 2**32, 2**63, 2**64 - 1])) + data[8:]
    if kind == 1:
        return data[: rng.randrange(len(data))]
    if kind == 2:
        place = rng.randrange(8, len(data))
        return data[:place] + bytes([rng.randrange(256)]) + data[place + 1 :]
    if kind == 3:
        return data + bytes(rng.choice([1, 100, 4096]))
    name = rng.choice([key for key in header if key != "__metadata__"])
    entry = header[name]
    if kind == 4:
        entry["dtype"] = rng.choice(["F64", "F16", "BF16", "I64", "U8", "BOOL", "F8_E4M3", "C64", "X", 3, None])
    elif kind == 5:
        shapes = [[], [0], [1 << 40], [-1], [1.5], "x", None, [1] * 1000, entry["shape"][::-1], [2**63, 2], *LARGE]
        entry["shape"] = rng.choice(shapes)
    elif kind == 6:
        entry["data_offsets"] = [
            rng.choice([0, 1, len(body), 2**63, -1, *entry["data_offsets"]]) for _ in range(rng.choice([1, 2, 3]))
        ]
    else:
        header[rng.choice([*WORDS[:9], name + ".mu", name.upper(), "__metadata__"])] = header.pop(name)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def mutated(number: int, posteriors: list[Files]) -> Files:
    """The files of mutation `number` of one of these posteriors."""
    rng = random.Random(number)
    files = dict(rng.choice(posteriors))
    what = rng.random()
    if what < 0.75:
        files[GRAPH_FILE] = graph_file(rng, files[GRAPH_FILE])
    if what > 0.7:
        files[TENSORS_FILE] = tensors_file(rng, files[TENSORS_FILE])
    return files


Mutation = Callable[[int, list[Files]], Files]
