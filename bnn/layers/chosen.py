"""Which layers of a model become Bayesian: all whose weights are those of linear maps, or those that `where` says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase

from torch import nn

from bnn.errors import UserError

# Weights of torch's modules that are matrices or kernels, and so become Bayesian parameters.
SAMPLED: tuple[type[nn.Module], ...] = (
    nn.modules.conv._ConvNd, nn.Linear, nn.RNNBase, nn.RNNCellBase, nn.MultiheadAttention, nn.Embedding,
    nn.EmbeddingBag, nn.Bilinear,
)  # fmt: skip
LEFT_OUT = "_left_out"  # attribute of a layer that `where` left conventional, for the report
NAMED = 10  # names that an error lists

Where = Callable[[str, nn.Module], bool] | Sequence[str]


def chosen_layers(model: nn.Module, where: Where | None) -> dict[str, nn.Module]:
    """The layers of `model` to convert, each under its first name.

    `where`: a function of a layer's name and the layer, or patterns of names as in a shell (`head`, `blocks.*.fc1`); a
    layer with several names is chosen by any. Raises UserError for a pattern that fits no layer with weights to
    convert, where nothing is chosen, and for anything else than these two.
    """
    every = [(name, m) for name, m in model.named_modules(remove_duplicate=False) if isinstance(m, SAMPLED)]
    first = {name: layer for name, layer in model.named_modules() if isinstance(layer, SAMPLED)}
    if where is None:
        return first
    if callable(where):
        chosen = {id(layer) for name, layer in every if where(name, layer)}
    else:
        if isinstance(where, str) or not isinstance(where, Sequence) or not all(isinstance(p, str) for p in where):
            raise UserError(f"where={where!r}: must be a function of name and layer, or a list of patterns of names")
        for pattern in where:
            if not any(fnmatchcase(name, pattern) for name, _ in every):
                raise UserError(f"where: {pattern!r} fits no layer with weights to convert; there are {listed(first)}")
        chosen = {id(layer) for name, layer in every if any(fnmatchcase(name, pattern) for pattern in where)}
    if every and not chosen:
        raise UserError(f"where: no layer is chosen; there are {listed(first)}")
    return {name: layer for name, layer in first.items() if id(layer) in chosen}


def listed(names: dict[str, nn.Module]) -> str:
    """Some names in one line."""
    shown = [name or "the model itself" for name in list(names)[:NAMED]]
    return ", ".join(shown) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")


def mark_left_out(model: nn.Module, chosen: dict[str, nn.Module]) -> None:
    """Note on the layers of `model` whether they were left conventional though they could be converted."""
    for name, layer in model.named_modules():
        layer.__dict__.pop(LEFT_OUT, None)
        if isinstance(layer, SAMPLED) and name not in chosen:
            layer.__dict__[LEFT_OUT] = True
