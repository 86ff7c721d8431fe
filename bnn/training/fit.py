"""Whether a model fits its data, tried once before it is trained, and how tensors lie in memory for it then."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from bnn.data import Dataset
from bnn.errors import UserError
from bnn.layers import kl_divergence
from bnn.layers.base import modes_kept
from bnn.model_names import is_own
from bnn.models.outputs import described
from bnn.models.own import user_code
from bnn.settings import TrainSettings
from bnn.training.forward import autocast
from bnn.training.layout import NarrowError, NoneNarrow, lay_out, layout_of
from bnn.training.task import Task
from bnn.training.trainer import form_of

COUNTS = (2, 3)  # of images: two sizes, so that a batch size that the model has fixed shows


def fit(settings: TrainSettings, model: nn.Module, dataset: Dataset, task: Task) -> torch.memory_format:
    """Lay the model out in memory and return how: channels_last where the settings want it and the model can.

    A user's model is tried on the first images: forward and backward in training mode, forward in evaluation mode. One
    that fails with channels_last, as `x.view` behind a convolution does, is tried with contiguous tensors; so is one
    that does not stand it (bnn.training.layout), and the built-in ones, too, are contiguous then. Its buffers,
    gradients, modes and torch's default generator are then what they were. The built-in ones take what they are given.

    Raises UserError naming the model for one that does not go through, or whose output does not fit the task.
    """
    wanted = layout_of(settings, model)
    if not is_own(settings.model):
        lay_out(model, wanted)
        return wanted
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise UserError(f"model {settings.model}: no parameter of it is to be trained (requires_grad)")
    for layout in dict.fromkeys((wanted, torch.contiguous_format)):
        last = layout == torch.contiguous_format
        try:
            with undisturbed(model, settings.seed):
                lay_out(model, layout)
                attempt(settings, model, dataset, task, layout)
            return layout
        except UserError:
            raise
        except NarrowError as error:
            if last:
                raise UserError(f"model {settings.model}: {error}; leave its tensors contiguous") from None
        except Exception as error:
            if last:
                with user_code(settings.model, model):
                    raise error
    raise AssertionError("unreachable")


def attempt(
    settings: TrainSettings, model: nn.Module, dataset: Dataset, task: Task, layout: torch.memory_format
) -> None:
    """Take the model through what training and evaluation do with it."""
    form = form_of(settings, layout)
    forward = model if settings.mixed_precision == "none" else autocast(model, settings)
    for count in COUNTS:
        images, targets = form.tensors(dataset.train, np.arange(count) % len(dataset.train))
        with NoneNarrow():
            output = forward(images)
        check_output(settings, output, task, images)
        (task.nll(output, targets) + kl_divergence(model) / len(dataset.train)).backward()
        with modes_kept(model), torch.no_grad():
            model.eval()
            check_output(settings, model(images), task, images)


def check_output(settings: TrainSettings, output: object, task: Task, images: Tensor) -> None:
    """Raise UserError for an output that is not what the task needs, naming both."""
    given = f"model {settings.model}: gives {described(output)} for images {list(images.shape[1:])}"
    if not isinstance(output, Tensor):
        hint = "; name the one that counts with --output" if settings.output is None else ""
        raise UserError(f"{given}; one tensor is needed{hint}")
    allowed = task.shapes(len(images))
    if tuple(output.shape) not in allowed:
        needed = " or ".join(f"({', '.join(['N', *map(str, shape[1:])])})" for shape in allowed)
        raise UserError(f"{given}; {settings.task} on {settings.dataset} needs {needed}")
    if not output.is_floating_point():
        raise UserError(f"{given} of {output.dtype}; floating-point numbers are needed")
    if settings.task != "regression" and are_probabilities(output):
        raise UserError(
            f"model {settings.model}: its outputs are probabilities, which sum to 1 over classes; it must return "
            "logits, whose softmax is taken here"
        )


def are_probabilities(output: Tensor) -> bool:
    """Whether outputs (N, classes, ...) are what a softmax gives: none below 0, and 1 together."""
    return bool((output >= 0).all()) and bool(((output.double().sum(1) - 1).abs() < 1e-3).all())


@contextmanager
def undisturbed(model: nn.Module, seed: int) -> Iterator[None]:
    """Within this context the model may be run: afterwards it is what it was.

    That is its buffers, modes and gradients, and what its modules keep in numbers or words, such as a count of passes.
    """
    plain = (int, float, str, bool, type(None))
    facts = [
        (module, {key: value for key, value in vars(module).items() if isinstance(value, plain)})
        for module in model.modules()
    ]
    kept = [
        (module, name, buffer, buffer.clone())
        for module in model.modules()
        for name, buffer in module._buffers.items()
        if buffer is not None and not is_lazy(buffer)
    ]
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() and torch.cuda.is_initialized() else []
    try:
        with torch.random.fork_rng(devices):
            torch.manual_seed(seed)
            yield
    finally:
        for module, values in facts:
            module.__dict__.update(values)
        with torch.no_grad():
            for module, name, buffer, before in kept:
                module._buffers[name] = buffer.copy_(before)
        model.zero_grad(set_to_none=True)
