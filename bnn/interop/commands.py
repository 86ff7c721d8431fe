"""`bnn import` and `bnn export`. Heavy imports happen inside the commands."""

from __future__ import annotations

from pathlib import Path

import click

from bnn.errors import UserError


@click.command("import")
@click.option("--from-tfp", "file", type=click.Path(path_type=Path), required=True, help=".npz of arrays by name")
@click.option("--model", required=True, help="vgg16, resnet18, conv, fc or package.module:function")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="folder for the posterior")
@click.option("--input-shape", metavar="C,H,W", help="of one image [default: the paper's, for our own models]")
@click.option("--classes", type=click.IntRange(min=1), default=10, show_default=True, help="outputs of the model")
@click.option("--width", type=float, default=1.0, show_default=True, help="factor on hidden channels")
def import_(file: Path, model: str, out: Path, input_shape: str | None, classes: int, width: float) -> None:
    """Make a posterior of a model trained with TensorFlow Probability, from its arrays."""
    shape = parse_shape(input_shape) if input_shape is not None else None
    from bnn.interop.tfp import import_tfp

    report = import_tfp(file, model, out, input_shape=shape, classes=classes, width=width)
    for layer, source, kind in report.layers:
        click.echo(f"{layer} <- {source} ({kind})")
    for statement in report.statements:
        click.echo(f"note: {statement}")
    click.echo(f"{len(report.layers)} layers  {out}")


@click.command()
@click.argument("posterior", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="FILE.pt2 (torch.export) or FILE.onnx")
def export(posterior: Path, out: Path) -> None:
    """Write the mean model of a posterior for other programs."""
    from bnn.interop.export import export_posterior

    export_posterior(posterior, out)
    click.echo(f"{out.stat().st_size:,} bytes  {out}")


def parse_shape(text: str) -> tuple[int, int, int]:
    """`1,28,28` as numbers. Raises UserError for anything else."""
    try:
        channels, height, width = (int(part) for part in text.split(","))
        if min(channels, height, width) < 1:
            raise ValueError(text)
    except ValueError:
        raise UserError(f"--input-shape {text}: expected C,H,W, for example 1,28,28") from None
    return channels, height, width
