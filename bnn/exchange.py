"""Gradients leave in blocks: a few large messages per step, each started while the backward pass goes on.

Parameters are taken in reverse module order, about the order in which the backward pass finishes them, and put into
blocks; a block is full when it holds at least so many bytes. Its gradients lie in one flat buffer without padding,
which is averaged over the ranks as soon as the last of them is there. With one rank nothing is exchanged or copied.
A gradient may have a companion, a tensor like it that is made of it and travels in the same message.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, nn

from bnn.engine import Engine

Named = tuple[str, nn.Parameter]


@dataclass(frozen=True)
class Companions:
    """Which gradients have a companion, and what makes one: `make(parameter, gradient, to)` writes it into `to`.

    Both tensors lie in memory as the parameter does.
    """

    of: Collection[nn.Parameter] = field(default_factory=frozenset)
    make: Callable[[nn.Parameter, Tensor, Tensor], None] = lambda parameter, gradient, to: None


NO_COMPANIONS = Companions()


class Stamps:
    """What is told, step by step, when something happens to blocks, known by their places. It keeps nothing."""

    def full(self, block: int) -> None: ...
    def waits(self) -> None: ...
    def averaged(self, block: int) -> None: ...
    def next_step(self) -> None: ...


def message_bytes(members: Iterable[Named], companions: Companions = NO_COMPANIONS) -> int:
    """Bytes of a block's message: its gradients' and companions', to the byte."""
    return sum(p.numel() * p.element_size() * (2 if p in companions.of else 1) for _, p in members)


def assign(
    parameters: Iterable[Named], block_bytes: float, companions: Companions = NO_COMPANIONS
) -> list[list[Named]]:
    """Which parameters share a message: consecutive ones in reverse order, frozen ones left out.

    A block ends with the parameter that brings it to `block_bytes` (0: every parameter is a block of its own) and
    where the data type or the device changes.
    """
    blocks: list[list[Named]] = []
    room = 0.0
    for name, parameter in reversed([named for named in parameters if named[1].requires_grad]):
        like = blocks[-1][-1][1] if blocks else parameter
        if room <= 0 or (like.dtype, like.device) != (parameter.dtype, parameter.device):
            blocks.append([])
            room = block_bytes
        blocks[-1].append((name, parameter))
        room -= message_bytes([(name, parameter)], companions)
    return blocks


class Block:
    """The gradients of some parameters in one flat buffer, and which of them this step has not produced yet.

    A gradient that autograd has made is copied into its view of the buffer, which takes its place. (Views that are in
    place beforehand would have to be zeroed and then added to: twice the memory traffic of the copy.)
    """

    def __init__(self, name: str, members: list[Named], companions: Companions = NO_COMPANIONS) -> None:
        gradients = [parameter for _, parameter in members]
        paired = [parameter for parameter in gradients if parameter in companions.of]
        first, size = gradients[0], sum(p.numel() for p in (*gradients, *paired))
        self.name = name
        self.buffer = torch.zeros(size, dtype=first.dtype, device=first.device)
        self.views = self._views(gradients, 0)
        self.companions = self._views(paired, sum(p.numel() for p in gradients))
        self.missing = set(self.views)
        self._make = companions.make

    def _views(self, parameters: list[nn.Parameter], offset: int) -> dict[nn.Parameter, Tensor]:
        """Places in the buffer from `offset` on, one for each parameter."""
        views: dict[nn.Parameter, Tensor] = {}
        for parameter in parameters:
            # a gradient lies in memory as its parameter does: a channels_last kernel is dense, but permuted
            strides = torch.empty_like(parameter, device="meta").stride()
            views[parameter] = self.buffer.as_strided(parameter.shape, strides, offset)
            offset += parameter.numel()
        return views

    def take(self, parameter: nn.Parameter) -> None:
        """Move a gradient that has just been made into the buffer."""
        view = self.views[parameter]
        view.copy_(cast(Tensor, parameter.grad))
        parameter.grad = view
        if parameter in self.companions:
            self._make(parameter, view, self.companions[parameter])
        self.missing.discard(parameter)

    def give_up(self) -> list[tuple[nn.Parameter, Tensor]]:
        """Zeros for what this step has not produced: these parameters, and their places in the buffer."""
        late = [(parameter, self.views[parameter]) for parameter in self.missing]
        for parameter, view in late:
            view.zero_()
            if parameter in self.companions:
                self.companions[parameter].zero_()
        self.missing.clear()
        return late


class GradientExchange:
    """Averages the gradients of a model over the ranks of `engine`, block by block, from its creation on.

    Call `wait` after every backward pass: gradients and `companions` are then the ranks' means. Every rank must give
    the same parameters in the same order. `stamps` is told when each block leaves and comes back. `planned` are the
    parameters of each block, and `planned_bytes` its message, also where one rank sends nothing.
    """

    def __init__(
        self, engine: Engine, parameters: Iterable[Named], block_mb: float, companions: Companions = NO_COMPANIONS
    ) -> None:
        self.stamps = Stamps()
        self._engine = engine
        self._handles: list[Any] = []
        self.planned = assign(parameters, block_mb * 2**20, companions)
        self.planned_bytes = [message_bytes(members, companions) for members in self.planned]
        groups = self.planned if engine.size > 1 else []
        self.blocks = [Block(f"gradients.{index}", members, companions) for index, members in enumerate(groups)]
        self.companions: Mapping[nn.Parameter, Tensor] = {
            parameter: view for block in self.blocks for parameter, view in block.companions.items()
        }
        for block, members in zip(self.blocks, groups, strict=True):
            for name, parameter in members:
                parameter.register_post_accumulate_grad_hook(self._arrival(block, name))

    @property
    def messages_per_step(self) -> int:
        """Messages that this rank hands to the engine per step; Horovod may fuse those that meet in one cycle."""
        return len(self.blocks)

    @property
    def bytes_per_step(self) -> int:
        """Bytes of these messages: those of the trainable parameters and of companions, to the byte."""
        return sum(block.buffer.nbytes for block in self.blocks)

    def _arrival(self, block: Block, name: str) -> Callable[[Tensor], None]:
        def arrive(parameter: Tensor) -> None:
            if parameter not in block.missing:
                raise RuntimeError(f"parameter {name}: a second gradient before `wait`")
            block.take(cast(nn.Parameter, parameter))
            self._start_full()

        return arrive

    def _start_full(self) -> None:
        """Start the full blocks in order, because torch.distributed matches the ranks' messages by order alone."""
        for block in self.blocks[len(self._handles) :]:
            if block.missing:
                return
            self.stamps.full(len(self._handles))
            self._handles.append(self._engine.start_average(block.buffer, block.name))

    def wait(self) -> None:
        """Return when the gradients of this step have been averaged.

        A parameter that the backward pass did not reach counts as zero. If no rank has reached it, its gradient stays
        None, so that the optimizer leaves it alone; to tell, the host reads back one number per such parameter.
        """
        self.stamps.waits()
        late = [pair for block in self.blocks for pair in block.give_up()]
        self._start_full()
        for index, (block, handle) in enumerate(zip(self.blocks, self._handles, strict=True)):
            self._engine.finish_average(handle, block.buffer)
            self.stamps.averaged(index)
        self.stamps.next_step()
        for parameter, view in late:
            parameter.grad = view if bool(view.any()) else None
        self._handles.clear()
        for block in self.blocks:
            block.missing.update(block.views)
