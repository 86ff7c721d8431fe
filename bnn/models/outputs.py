"""Models that return more than one tensor, such as auxiliary logits: the one that counts is chosen by name or index."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from bnn.errors import UserError


class ChosenOutput:
    """A forward hook of the whole model that puts the output that counts in the place of all of them.

    A single tensor passes as it is: many models have auxiliary outputs in training mode alone. `used` tells whether
    there was anything to choose from.
    """

    def __init__(self, model: str, output: str) -> None:
        self.model, self.output, self.used = model, output, False

    def __call__(self, _module: nn.Module, _inputs: Any, result: Any) -> Any:
        if isinstance(result, Tensor):
            return result
        if not self.used:
            self.used = True
        parts = outputs_of(result)
        if self.output not in parts:
            raise UserError(f"model {self.model}: output {self.output!r}: there is none; it gives {described(result)}")
        return parts[self.output]


def outputs_of(result: Any) -> dict[str, Any]:
    """The outputs by what `--output` may call them: as `parts_of`, and those within them with a dot, as in aux.0."""
    parts = parts_of(result)
    within = {
        f"{name}.{inner}": value
        for name, part in parts.items()
        if not isinstance(part, Tensor)
        for inner, value in outputs_of(part).items()
    }
    return within | parts


def parts_of(result: Any) -> dict[str, Any]:
    """What a model returned, a level deep: by keys or fields, and by the index of those in order."""
    if isinstance(result, Mapping):
        return {str(key): value for key, value in result.items()}
    if isinstance(result, tuple | list):
        by_index = {str(index): value for index, value in enumerate(result)}
        return by_index | dict(zip(getattr(result, "_fields", ()), result, strict=False))
    return {key: value for key, value in getattr(result, "__dict__", {}).items() if isinstance(value, Tensor)}


def described(result: Any) -> str:
    """What a model returned, in words: `a tuple: 0 (N, 10), 1 (N, 10)`."""
    if isinstance(result, Tensor):
        return shape_text(result)
    parts = parts_of(result)
    names = getattr(result, "_fields", None) or list(parts)
    inside = ", ".join(f"{name} {described(parts[name])}" for name in names)
    return f"a {type(result).__name__}" + (f": {inside}" if inside else "")


def shape_text(tensor: Tensor) -> str:
    """The shape with the batch as N; `()` for a single number."""
    return f"({', '.join(['N', *map(str, tensor.shape[1:])])})" if tensor.dim() else "()"
