"""Where else a module's objects hold its layers: lists, attributes, functions. A twin must not use the old ones there.

Torch knows the layers that are registered; a forward pass may as well read them from a list, through a bound method or
in a closure. A deep copy of a module copies the first two, while a function goes on holding the original's layers.
"""

from __future__ import annotations

import functools
import weakref
from collections import deque
from collections.abc import Iterator, Mapping
from types import BuiltinMethodType, FunctionType, MethodType, ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from bnn.errors import UserError

REGISTERED = ("_modules", "_parameters", "_buffers")  # where torch itself looks
LEAVES = (type(None), str, bytes, int, float, complex, type, ModuleType, torch.dtype, torch.device)


def replace_layers(model: nn.Module, replaced: Mapping[int, nn.Module]) -> None:
    """Put layers in the place of those of `model` with these `id`s, under all their names; the new ones are called."""
    for parent in list(model.modules()):
        for name, child in parent._modules.items():  # (named_children would list a child with two names only once)
            if child is not None and id(child) in replaced:
                parent._modules[name] = replaced[id(child)]
        if isinstance(parent, nn.TransformerEncoderLayer):
            parent.activation_relu_or_gelu = 0  # torch's fast path would read weights, and pass dropout by
        elif isinstance(parent, nn.TransformerEncoder):
            parent.enable_nested_tensor = parent.use_nested_tensor = False  # those are for that path alone


def replace_references(
    twin: nn.Module, original: nn.Module, replaced: Mapping[int, nn.Module], gone: Mapping[int, str]
) -> None:
    """Put the twin's layers wherever `twin` holds old ones outside of torch's registry, in place.

    `replaced`: the layer that takes the place of each old one, by the old one's `id`; `gone`: the names of parameters
    of the twin that are none any more, by `id`; `original`: the model that `twin` is made from. Lists, dicts, tuples
    and attributes, also those of objects that are no modules, are changed. Raises UserError, naming the attribute,
    where that cannot be: methods, partials, functions, sets and keys that hold a replaced layer or a parameter that is
    gone; functions that hold the original's layers; and layers that are registered nowhere.
    """
    References(twin, original, replaced, gone).run()


class References:
    """One walk through all that a twin's modules hold."""

    def __init__(
        self, twin: nn.Module, original: nn.Module, replaced: Mapping[int, nn.Module], gone: Mapping[int, str]
    ) -> None:
        self.twin, self.replaced, self.gone = twin, replaced, gone
        self.known = {id(module) for module in twin.modules()}
        names = {id(module): name for name, module in twin.named_modules()}
        self.layers = {old: names.get(id(new), "") for old, new in replaced.items()}
        own = [*original.named_modules(), *original.named_parameters(), *original.named_buffers()]
        self.originals = {id(thing): name for name, thing in own}
        self.done: dict[int, tuple[Any, Any]] = {}  # by id: what was seen (and so lives on), its new form

    def run(self) -> None:
        for name, module in self.twin.named_modules():
            self.attributes(module, name)

    def attributes(self, owner: Any, path: str) -> None:
        for key, value in members(owner):
            if isinstance(owner, nn.Module) and (
                key in REGISTERED or (isinstance(owner, nn.RNNBase) and key.startswith("_flat_weight"))
            ):
                continue
            new = self.visit(value, f"{path}.{key}" if path else key)
            if new is not value and key in vars_of(owner):
                vars_of(owner)[key] = new
            elif new is not value:
                object.__setattr__(owner, key, new)

    def visit(self, value: Any, path: str) -> Any:
        """What is to stand in the place of `value`."""
        if isinstance(value, LEAVES) or id(value) in self.known:
            return value
        if id(value) in self.replaced:
            return self.replaced[id(value)]
        if id(value) in self.originals:
            raise UserError(
                f"{path}: it holds {self.originals[id(value)] or 'the model'} of the model itself, which a copy would "
                "go on using; let it be a method"
            )
        if id(value) in self.gone:
            raise UserError(f"{path}: it holds {self.gone[id(value)]}, which is sampled now; read it from its layer")
        if isinstance(value, Tensor):
            return value
        if isinstance(value, nn.Module) and next(value.parameters(), None) is not None:
            raise UserError(
                f"{path}: a {type(value).__name__} that is registered nowhere: layers in a list, a dict or a function "
                "are not trained; use torch's ModuleList or ModuleDict"
            )
        if id(value) not in self.done:
            self.done[id(value)] = value, value
            self.done[id(value)] = value, self.inside(value, path)
        return self.done[id(value)][1]

    def inside(self, value: Any, path: str) -> Any:
        """`value`, after what it holds has been visited; a new one where it cannot be changed."""
        if isinstance(value, list | deque):
            for index, item in enumerate(list(value)):
                value[index] = self.visit(item, path)
        elif isinstance(value, dict):
            for key, item in list(value.items()):
                self.fixed(key, path, "a key")
                if (new := self.visit(item, path)) is not item:
                    value[key] = new
        elif isinstance(value, tuple):
            items = [self.visit(item, path) for item in value]
            if any(new is not item for new, item in zip(items, value, strict=True)):
                value = type(value)._make(items) if hasattr(value, "_make") else type(value)(items)
        else:
            for kind, item in fixed_parts(value):
                self.fixed(item, path, kind)
            if not type(value).__module__.startswith("torch.fx"):  # (graphs: long chains of nodes)
                self.attributes(value, path)
        return value

    def fixed(self, item: Any, path: str, kind: str) -> None:
        """Visit what cannot be changed where it is. Raises UserError if it would have to be."""
        if self.visit(item, path) is not item:
            name = self.layers.get(id(item), "")
            raise UserError(
                f"{path}: {kind} that holds layer {name} would go on using the conventional one; call the layer itself"
            )


def fixed_parts(value: Any) -> Iterator[tuple[str, Any]]:
    """What an object holds and cannot be changed, each with the kind of the object in words."""
    if isinstance(value, MethodType):
        yield "a method", value.__self__
        yield "a method", value.__func__
    elif isinstance(value, BuiltinMethodType):
        yield "a method", value.__self__
    elif isinstance(value, functools.partial):
        yield from (("a partial", item) for item in (value.func, *value.args, *value.keywords.values()))
    elif isinstance(value, FunctionType):
        held = [*(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values()]
        for cell in value.__closure__ or ():
            try:
                held.append(cell.cell_contents)
            except ValueError:  # a name that has no value yet
                continue
        yield from (("a function", item) for item in held)
    elif isinstance(value, weakref.ref):
        yield "a weak reference", value()
    elif isinstance(value, set | frozenset):
        yield from (("a set", item) for item in list(value))


def vars_of(owner: Any) -> dict[str, Any]:
    """The attributes of an object, as far as they lie in a dictionary."""
    found = getattr(owner, "__dict__", None)
    return found if isinstance(found, dict) else {}


def members(owner: Any) -> list[tuple[str, Any]]:
    """All attributes of an object itself, by name."""
    found = list(vars_of(owner).items())
    for kind in type(owner).__mro__:
        slots = kind.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if name not in ("__dict__", "__weakref__") and hasattr(owner, name):
                found.append((name, getattr(owner, name)))
    return found
