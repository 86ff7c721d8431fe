"""How the training loop calls its model: as it is, compiled, in mixed precision."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from bnn.errors import UserError
from bnn.model_names import is_own
from bnn.models.own import user_code
from bnn.settings import TrainSettings

Forward = Callable[[Tensor], Tensor]
LOW = {"bfloat16": torch.bfloat16}


def make_forward(settings: TrainSettings, model: nn.Module) -> Forward:
    """A function from images to logits that trains `model`, whose own forward pass stays what it was.

    Evaluation, tracing and saving go on with the model itself: they see no compiler and full precision.
    """
    forward: Forward = compiled(model) if settings.compiled else model
    if settings.mixed_precision != "none":
        forward = autocast(forward, settings)
    return told_by_name(forward, settings.model, model) if is_own(settings.model) else forward


def told_by_name(forward: Forward, name: str, model: nn.Module) -> Forward:
    """`forward` of a user's model, whose exceptions become UserErrors that name the model and the place."""

    def named(images: Tensor) -> Tensor:
        with user_code(name, model):
            return forward(images)

    return named


def compiled(model: nn.Module) -> Forward:
    """The model as torch.compile makes it at its first call, which raises UserError where that does not work."""
    from torch._dynamo.exc import TorchDynamoException
    from torch._inductor.exc import CppCompileError

    function = torch.compile(model)

    def forward(images: Tensor) -> Tensor:
        try:
            return function(images)
        except (TorchDynamoException, CppCompileError) as error:
            lines = str(error).strip().splitlines() or [type(error).__name__]
            raise UserError(f"torch.compile does not work here: {lines[0]}") from error

    return forward


def autocast(forward: Forward, settings: TrainSettings) -> Forward:
    """`forward` with convolutions and matrix products in the low precision; its logits have the parameters' own."""

    def cast(images: Tensor) -> Tensor:
        with torch.autocast(settings.device, dtype=LOW[settings.mixed_precision]):
            logits = forward(images)
        return logits.to(images.dtype) if isinstance(logits, Tensor) else logits

    return cast
