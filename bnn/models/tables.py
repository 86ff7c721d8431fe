"""`bnn models`: prints the models as the paper's tables 1-6 do."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from bnn.errors import UserError
from bnn.model_names import is_own
from bnn.models.architectures import ARCHITECTURES, PAPER_INPUT
from bnn.models.describe import KINDS, Description, describe
from bnn.models.ops import Shape


def model_table(description: Description) -> Table:
    """One model as a table with a row per layer and its totals below."""
    shape = "x".join(str(size) for size in (*description.input_shape[1:], description.input_shape[0]))
    wide = "" if description.width == 1 else f", width {description.width:g}"
    table = Table(
        title=f"{description.model} {description.kind}, {shape}, {description.classes} classes{wide}",
        title_justify="left",
        caption=(
            f"Total params: {description.parameters:,}\nTrainable params: {description.trainable:,}\n"
            f"Non-trainable params: {description.parameters - description.trainable:,}\n"
            f"Multiply-adds per image (conventional forward pass): {description.macs:,}"
        ),
        caption_justify="left",
    )
    # a narrow terminal breaks names in two lines; a number is never cut
    table.add_column("Layer (type)", overflow="fold")
    table.add_column("Output shape", no_wrap=True)
    table.add_column("Param #", justify="right", no_wrap=True)
    table.add_column("Connected to", overflow="fold", min_width=12)
    for row in description.rows:
        shape = f"({', '.join(str(size) for size in row.output_shape)})"
        table.add_row(f"{row.name} ({row.type})", shape, f"{row.parameters:,}", ", ".join(row.connected_to))
    return table


def print_models(
    names: Sequence[str] | None = None,
    kind: str | None = None,
    input_shape: Shape | None = None,
    classes: int = 10,
    width: float = 1.0,
    console: Console | None = None,
) -> None:
    """Print models (default: all four, both kinds, at the paper's input shapes) to `console` (default: stdout).

    A user's own model, `package.module:function`, is built and called. Raises UserError for an unknown model or kind
    and for impossible sizes, before anything is printed.
    """
    console = console or Console()
    tables = [
        table_of(name, each, input_shape or PAPER_INPUT.get(name, (3, 32, 32)), classes, width)
        for name in (names or ARCHITECTURES)
        for each in ([kind] if kind else KINDS)
    ]
    for table in tables:
        console.print(table)
        console.print()


def table_of(name: str, kind: str, input_shape: Shape, classes: int, width: float) -> Table:
    """One model as a table: a built-in one from its description, a user's own one built and called once."""
    if not is_own(name):
        return model_table(describe(name, kind, input_shape, classes, width))
    if width != 1.0:
        raise UserError(f"model {name}: width {width:g} applies to the built-in models only")
    from bnn.models.own_table import own_table  # needs torch, as no built-in model's table does

    return own_table(name, kind, input_shape, classes)
