"""Arguments of a graph's operations: how graph.json holds them, and how a function is called with them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch

from bnn.errors import UserError
from bnn.posterior.functions import bind
from bnn.posterior.operations import OPERATIONS, Operation

DTYPES = {
    name: getattr(torch, name)
    for name in ("float32", "float64", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool")
}
DTYPE_NAMES = {dtype: name for name, dtype in DTYPES.items()}
# What says where and how a tensor lies in memory: the network's device decides, and the layout is always dense.
PLACES = ("device", "layout", "pin_memory", "memory_format", "non_blocking")


# What torch and Python raise for arguments and shapes that do not fit, recursion and overflows among them.
UNFITTING = (
    RuntimeError, TypeError, ValueError, LookupError, ArithmeticError, AttributeError, AssertionError, MemoryError,
)  # fmt: skip


def plain(value: Any) -> Any:
    """`value` as JSON holds it. Raises UserError for anything but numbers, text, dtypes, None and lists of them."""
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": str(value)}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, torch.dtype) and value in DTYPE_NAMES:
        return {"dtype": DTYPE_NAMES[value]}
    if isinstance(value, torch.dtype):
        raise UserError(f"a posterior cannot hold numbers of {str(value).removeprefix('torch.')}")
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    raise UserError(f"argument {value!r} of an operation: a posterior cannot hold a {type(value).__name__}")


def filled(value: Any, values: Mapping[str, Any]) -> Any:
    """An argument as it is passed: references to nodes replaced by their values."""
    if isinstance(value, dict):
        match value:
            case {"node": str(name)}:
                return values[name]
            case {"dtype": str(name)} if name in DTYPES:
                return DTYPES[name]
            case {"float": "inf" | "-inf" | "nan" as text}:
                return float(text)
        raise UserError(f"argument {value!r}: unknown")
    if isinstance(value, list):
        return [filled(item, values) for item in value]
    return value


def places(kind: str, arguments: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """The arguments of an operation in the order of its function's: those by place and those by name.

    Raises UserError for an operation that is unknown, for arguments that do not fit it, and for dropout in it.
    """
    operation = OPERATIONS.get(kind)
    if operation is None:
        raise UserError(f"operation {kind}: unknown")
    if drops(kind, arguments):
        raise UserError(f"operation {kind}: drops values at random, by noise without a key")
    if operation.schema is not None:
        return by_schema(operation, arguments)
    if kind.startswith("sym."):
        if list(arguments) not in (["x", "y"], ["x"]):
            raise UserError(f"operation {kind}: arguments {sorted(arguments)}, where numbers x and y are needed")
        return list(arguments.values()), {}
    return [], bind(kind, (), arguments)


def drops(kind: str, arguments: dict[str, Any]) -> bool:
    """Whether an operation would draw noise of its own: attention's dropout, recurrent layers', that of schema 1."""
    if kind == "dropout":
        return arguments.get("training", True) is not False and arguments.get("p", 0.5) != 0
    trains = arguments.get("train", False) is not False and arguments.get("dropout", 0) != 0
    return trains or arguments.get("dropout_p", 0) != 0


def by_schema(operation: Operation, arguments: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """As `places`, for an operation of ATen's."""
    known = {argument.name for argument in operation.schema.arguments}
    if unknown := sorted(arguments.keys() - known) + [name for name in arguments if name in PLACES]:
        raise UserError(f"operation {operation.name}: unknown argument {unknown[0]}")
    positional: list[Any] = []
    named: dict[str, Any] = {}
    for argument in operation.schema.arguments:
        given = argument.name in arguments
        if not given and not argument.has_default_value():
            raise UserError(f"operation {operation.name}: argument {argument.name} is missing")
        if given and (needed := needs(argument, arguments[argument.name])):
            raise UserError(f"operation {operation.name}: argument {argument.name} must be {needed}")
        if argument.kwarg_only:
            if given:
                named[argument.name] = arguments[argument.name]
        else:
            positional.append(arguments[argument.name] if given else plain(argument.default_value))
    return positional, named


def needs(argument: Any, value: Any) -> str:
    """What an argument of ATen's must be and this value of a graph is not; empty where torch itself will tell.

    Torch takes a tensor apart, row by row, where it wants a list; it reads a type of numbers from any whole number, and
    takes None for a tensor that is not there, and dies of both.
    """
    kind, optional = argument.real_type, isinstance(argument.real_type, torch.OptionalType)
    if optional:
        if value is None:
            return ""
        kind = kind.getElementType()
    if str(kind) == "ScalarType":
        return "" if isinstance(value, dict) and value.keys() == {"dtype"} else "a type of numbers"
    if isinstance(kind, torch.ListType):
        if isinstance(value, dict):
            return "a list"
        tensors = isinstance(kind.getElementType(), torch.TensorType)
        return "a list of tensors" if tensors and isinstance(value, list) and None in value else ""
    return "a tensor" if isinstance(kind, torch.TensorType) and value is None else ""
