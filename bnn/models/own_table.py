"""A user's model, layer by layer: built, and called once to see the shapes."""

from __future__ import annotations

from typing import Any

import torch
from rich.table import Table
from torch import Tensor, nn

from bnn.errors import UserError
from bnn.layers import BayesianLayer, mean_only
from bnn.models.build import build_model, count_parameters
from bnn.models.describe import KINDS
from bnn.models.ops import Shape
from bnn.models.outputs import described
from bnn.models.own import user_code

BATCH = 2  # images of the one call


def own_table(name: str, kind: str, input_shape: Shape, classes: int) -> Table:
    """A row for each layer of `package.module:function` and for each module with parameters of its own.

    Layers stand in module order with the shape of their last output, as torch has it. Raises UserError naming the model
    where it cannot be built, or random images (2, C, H, W) of `input_shape` do not go through it.
    """
    if kind not in KINDS:
        raise UserError(f"kind {kind}: unknown; there are {', '.join(KINDS)}")
    torch.manual_seed(0)
    model = build_model(name, kind, input_shape=input_shape, classes=classes)
    model.eval()
    shapes = output_shapes(name, model, input_shape)
    total, trainable = count_parameters(model)
    table = Table(
        title=f"{name} {kind}, images {'x'.join(map(str, input_shape))}, {classes} classes",
        title_justify="left",
        caption=(
            f"Total params: {total:,}\nTrainable params: {trainable:,}\nNon-trainable params: {total - trainable:,}"
        ),
        caption_justify="left",
    )
    table.add_column("Layer (type)", overflow="fold")
    table.add_column("Output shape", overflow="fold")
    table.add_column("Param #", justify="right", no_wrap=True)
    for path, module in model.named_modules():
        if is_row(module):
            label = f"{path or 'model'} ({type(module).__name__})"
            table.add_row(label, shapes.get(path, "not called"), f"{own_parameters(module):,}")
    return table


def is_row(module: nn.Module) -> bool:
    """Whether a module is a layer, or has parameters of its own beside those of its layers."""
    return isinstance(module, BayesianLayer) or next(module.children(), None) is None or own_parameters(module) > 0


def own_parameters(module: nn.Module) -> int:
    """Parameters and running statistics, as `count_parameters` counts them, without those of modules inside."""
    statistics = sum(buffer.numel() for buffer in module.buffers(recurse=False) if buffer.is_floating_point())
    return sum(parameter.numel() for parameter in module.parameters(recurse=False)) + statistics


def output_shapes(name: str, model: nn.Module, input_shape: Shape) -> dict[str, str]:
    """What each module that is called returns, by its path."""
    shapes: dict[str, str] = {}

    def watch(path: str) -> Any:
        def note(_module: nn.Module, _inputs: Any, output: Any) -> None:
            shapes[path] = described(output) if isinstance(output, Tensor | tuple | list | dict) else ""

        return note

    for path, module in model.named_modules():
        module.register_forward_hook(watch(path))
    with user_code(name, model), torch.no_grad(), mean_only(model):
        first = next(model.parameters(), torch.zeros(()))
        model(torch.rand(BATCH, *input_shape).to(first.dtype))
    return shapes
