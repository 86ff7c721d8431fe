"""What all layers with noise share: it is keyed by the layer's index, and a checkpoint of activations repeats it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import checkpoint

from bnn.kernels import traced
from bnn.layers.repeated import mark_pass, noise_of, repeated_mark


class NoisyLayer(nn.Module):
    """A layer that draws noise, in evaluation, too, but not inside `mean_only(model)`.

    `layer_index` names its noise within its model (`bnn.layers.base.number_layers`), None: not numbered so far.
    """

    layer_index: int | None = None
    mean_only = False
    generator: torch.Generator | None = None  # None: torch's default generator; see bnn.layers.noise.set_noise
    _calls = 0  # forward passes since the last key

    @property
    def key_seed(self) -> int | None:
        """The seed of this layer's key, None without a key."""
        raise NotImplementedError

    def seed_noise(self, seed: int) -> None:
        """Make the next forward pass draw the noise of this 64-bit seed."""
        raise NotImplementedError

    def noise_state(self) -> dict[str, Any]:
        """What says which noise comes next."""
        raise NotImplementedError

    def unkeyed(self) -> None:
        """Draw from torch's default generator from now on."""
        raise NotImplementedError

    def noisy(self, sample: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        """`sample(x)`, a pass whose noise a checkpoint of activations repeats."""
        if traced():
            return sample(x)
        if in_backward():
            with noise_of(self, repeated_mark(self)):
                return sample(x)
        self._calls += 1
        y = sample(x)
        if within_checkpoint():
            mark_pass(self, self.key_seed, self._calls, y)
        return y


def noisy_layers(model: nn.Module) -> Iterator[NoisyLayer]:
    """The layers of `model` that draw noise, in module order; a shared layer comes once."""
    return (module for module in model.modules() if isinstance(module, NoisyLayer))


def in_backward() -> bool:
    """Whether this is within a backward pass."""
    return torch._C._current_graph_task_id() != -1


def within_checkpoint() -> bool:
    """Whether torch.utils.checkpoint is what calls: only then is a pass worth a mark (bnn.layers.repeated)."""
    frame = sys._getframe()
    while (caller := frame.f_back) is not None:
        if caller.f_code.co_filename == checkpoint.__file__:
            return True
        frame = caller
    return False
