"""Which noise a forward pass repeats that checkpointing of activations runs again in a backward pass.

torch.utils.checkpoint restores the state of torch's default generator, but knows nothing of keys (`set_noise`). So each
keyed pass within a checkpoint leaves a mark at the node of the graph that it made, which lives as long as that node; a
pass that is repeated takes the key of the only mark there is.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor

from bnn.errors import UserError


class Keyed(Protocol):
    """What is asked of a Bayesian layer here."""

    layer_index: int | None
    _calls: int

    @property
    def key_seed(self) -> int | None: ...

    def noise_state(self) -> dict[str, Any]: ...

    def unkeyed(self) -> None: ...

    def seed_noise(self, seed: int) -> None: ...


class Mark:
    """One layer's passes under one seed (None: torch's default generator).

    `calls`: how many there were since that key; `task`: the backward pass that repeated one of them last.
    """

    def __init__(self, seed: int | None) -> None:
        self.seed, self.calls, self.task = seed, 0, -1


# Of each layer: marks that a graph keeps alive; and the one that no graph keeps (a checkpoint by use_reentrant=True).
_marks: weakref.WeakKeyDictionary[Keyed, list[weakref.ref[Mark]]] = weakref.WeakKeyDictionary()
_bare: weakref.WeakKeyDictionary[Keyed, list[Mark]] = weakref.WeakKeyDictionary()


def mark_pass(layer: Keyed, seed: int | None, calls: int, y: Tensor) -> None:
    """Note a pass of `layer` with output `y`, the `calls`-th since its seed was set, which a checkpoint may repeat."""
    node = y.grad_fn
    alive = [mark for ref in _marks.get(layer, ()) if (mark := ref()) is not None]
    if node is None:
        mark = Mark(seed)
        mark.calls = calls
        others = [one for one in _bare.get(layer, ()) if one.seed != seed]
        _bare[layer] = [*others[-1:], mark]  # two are enough to know that there are several
        return
    mark = next((mark for mark in alive if mark.seed == seed), None) or Mark(seed)
    mark.calls, mark.task = max(mark.calls, calls), -1
    metadata: Any = node.metadata
    metadata.setdefault("bnn", []).append(mark)
    if mark not in alive:
        alive.append(mark)
    _marks[layer] = [weakref.ref(one) for one in alive]


def repeated_mark(layer: Keyed) -> Mark | None:
    """The mark of the pass that this backward pass repeats; None if no checkpoint left one.

    Raises UserError where there are several.
    """
    task = torch._C._current_graph_task_id()
    alive = [mark for ref in _marks.get(layer, ()) if (mark := ref()) is not None]
    bare = _bare.get(layer, [])
    marks = [mark for mark in (*alive, *bare) if mark.task in (-1, task)] or [*alive, *bare]
    if len({mark.seed for mark in marks}) > 1:
        _bare.pop(layer, None)
        raise UserError(
            f"activation checkpointing of {described(layer)} that was called under several keys of set_noise before "
            "one backward pass: which noise to repeat is unknown; call backward before the next set_noise"
        )
    for mark in marks:
        mark.task = task
    return marks[0] if marks else None


def described(layer: Keyed) -> str:
    return f"a {type(layer).__name__} (layer_index {layer.layer_index})"


@contextmanager
def noise_of(layer: Keyed, mark: Mark | None, once: bool = True) -> Iterator[None]:
    """Within this context `layer` draws what it drew in the pass that left `mark`; afterwards its noise is as it was.

    Without a mark it is that of the layer's present key. Raises UserError for a layer that was called several times, if
    it must have been called `once`.
    """
    seed, calls = (layer.key_seed, layer._calls) if mark is None else (mark.seed, mark.calls)
    if seed is None and layer.key_seed is None:  # torch.utils.checkpoint has restored the default generator
        yield
        return
    if seed is not None and calls != 1 and once:
        raise UserError(
            f"activation checkpointing of {described(layer)} that was called {calls} times since set_noise: which "
            "noise to repeat is unknown"
        )
    kept = layer.noise_state()
    try:
        layer.unkeyed()
        if seed is not None:
            layer.seed_noise(seed)
        yield
    finally:
        layer.__dict__.update(kept)
