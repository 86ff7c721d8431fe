"""`bnn import` and `bnn export`. Heavy imports happen inside the commands."""

from __future__ import annotations

from pathlib import Path

import click

from bnn.commands.options import ImageShape, Known, OutFolder, model_names


@click.command("import")
@click.option("--from-tfp", "file", type=click.Path(path_type=Path), required=True, help=".npz of arrays by name")
@click.option(
    "--model", type=Known(model_names), required=True, help="vgg16, resnet18, conv, fc or package.module:function"
)
@click.option("--out", type=OutFolder(path_type=Path), required=True, help="folder for the posterior")
@click.option("--input-shape", type=ImageShape(), help="of one image [default: the paper's, for our own models]")
@click.option("--classes", type=click.IntRange(min=1), default=10, show_default=True, help="outputs of the model")
@click.option("--width", type=float, default=1.0, show_default=True, help="factor on hidden channels")
def import_(
    file: Path, model: str, out: Path, input_shape: tuple[int, int, int] | None, classes: int, width: float
) -> None:
    """Make a posterior of a model trained with TensorFlow Probability, from its arrays."""
    from bnn.interop.tfp import import_tfp

    report = import_tfp(file, model, out, input_shape=input_shape, classes=classes, width=width)
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
