"""Layers that a model holds beside its module tree: in lists, attributes, methods and functions.

A conversion puts other layers in the place of some. What torch does not know of would go on with those that were there.
"""

from __future__ import annotations

import functools
import types
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor, nn

from bnn.errors import UserError

# What every module has of torch's own, hooks apart: a hook may hold a layer, too.
OWN = frozenset(vars(nn.Module())) - {"_forward_hooks", "_forward_pre_hooks"}
# Recurrent layers list their weights a second time, under a name that the conversion replaces.
LISTED_AGAIN = frozenset({"_flat_weights", "_flat_weight_refs"})
CONTAINERS = (list, tuple, dict, set, frozenset, deque)
CALLABLES = (types.MethodType, types.FunctionType, functools.partial)


def check_references(model: nn.Module, replaced: Mapping[str, nn.Module], sampled: Mapping[str, nn.Module]) -> None:
    """Raise UserError, naming the attribute, for what would go on with the weights that a conversion replaces.

    `replaced` are layers in whose place others come, `sampled` those whose weights become samples, by name. Attributes
    and containers that hold a layer are no harm: `exchange` renews them.
    """
    names = {id(child): name or "the model itself" for name, child in model.named_modules()}
    gone = {id(layer): f"layer {name}" for name, layer in replaced.items()}
    for name, layer in {**replaced, **sampled}.items():
        gone |= {id(value): f"{name}.{key}" for key, value in layer.named_parameters(recurse=False)}
    for path, parent in model.named_modules():
        for key, value in vars(parent).items():
            if key in OWN or key in LISTED_AGAIN:
                continue
            where = f"{path}.{key}" if path else key
            for found, way in held(value):
                if isinstance(found, nn.Module) and id(found) not in names:
                    if next(found.parameters(), None) is not None:
                        raise UserError(
                            f"{where}: layers in a {type(value).__name__}; use torch's ModuleList or ModuleDict"
                        )
                elif id(found) in gone and (way != "container" or isinstance(found, Tensor)):
                    raise UserError(
                        f"{where}: a {way} that holds {gone[id(found)]}, whose weights a conversion replaces; it would "
                        "go on with the old ones (read them from the layer when they are needed)"
                    )
                elif way == "function" and id(found) in names:
                    raise UserError(
                        f"{where}: a function that holds {names[id(found)]}; a copy of the model would go on with the "
                        "original's (make it a method)"
                    )


def held(value: Any) -> Iterator[tuple[Any, str]]:
    """The modules and tensors that `value` holds, each with the kind of thing that holds it.

    `container` for what lies in attributes, lists, tuples, dicts and sets; `method`, `partial`, `function` and `object`
    for what is behind these.
    """
    seen: set[int] = set()
    waiting = [(value, "container")]
    while waiting:
        one, way = waiting.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, nn.Module | Tensor):
            yield one, way
            continue
        inner, kind = parts(one)
        waiting += [(part, way if kind == "container" else kind) for part in inner]


def parts(value: Any) -> tuple[list[Any], str]:
    """What a value is made of, and what kind of thing it is."""
    if isinstance(value, Mapping):
        return [*value.keys(), *value.values()], "container"
    if isinstance(value, CONTAINERS):
        return list(value), "container"
    if isinstance(value, types.MethodType):
        return [value.__self__], "method"
    if isinstance(value, functools.partial):
        return [value.func, *value.args, *value.keywords.values()], "partial"
    if isinstance(value, types.FunctionType):
        cells = [cell.cell_contents for cell in value.__closure__ or () if not empty(cell)]
        return [*cells, *(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values()], "function"
    if isinstance(value, type | types.ModuleType) or type(value).__module__ in ("builtins", "torch"):
        return [], "object"
    return list(getattr(value, "__dict__", {}).values()), "object"


def empty(cell: types.CellType) -> bool:
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:  # of a name that has no value yet
        return True
    return False


def exchange(model: nn.Module, twins: Mapping[int, nn.Module]) -> None:
    """Put layers in the place of others, by their ids, in the module tree and wherever an attribute holds them."""
    for parent in list(model.modules()):
        for name, child in parent._modules.items():  # (named_children would list a child with two names only once)
            if child is not None and id(child) in twins:
                parent._modules[name] = twins[id(child)]
        for key, value in list(vars(parent).items()):
            if key not in OWN:
                vars(parent)[key] = exchanged(value, twins)


def exchanged(value: Any, twins: Mapping[int, nn.Module], within: frozenset[int] = frozenset()) -> Any:
    """`value` with other layers: lists, dicts and deques in place, tuples and sets anew where they hold one."""
    if id(value) in twins:
        return twins[id(value)]
    if id(value) in within:  # a list that holds itself
        return value
    within |= {id(value)}
    if isinstance(value, dict):
        for key, item in value.items():
            value[key] = exchanged(item, twins, within)
    elif isinstance(value, list | deque):
        for index, item in enumerate(value):
            value[index] = exchanged(item, twins, within)
    elif isinstance(value, tuple | set | frozenset):
        new = [exchanged(item, twins, within) for item in value]
        if any(one is not old for one, old in zip(new, value, strict=True)):
            return type(value)(*new) if hasattr(value, "_fields") else type(value)(new)
    return value
