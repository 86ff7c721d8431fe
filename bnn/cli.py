"""The command line: `bnn train`, `bnn infer`, `bnn prune`, ... Heavy imports happen inside commands."""

from __future__ import annotations

from pathlib import Path

import click

from bnn import __version__
from bnn.bench.commands import bench
from bnn.check.commands import check
from bnn.commands.collector import seldom
from bnn.commands.options import ImageShape, Known, dataset_names, model_names
from bnn.commands.saying import errors_said
from bnn.inference.commands import infer
from bnn.interop.commands import export, import_
from bnn.pruning.commands import prune
from bnn.strictjson import parse_object
from bnn.training.commands import train


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(__version__)
def cli() -> None:
    """Train Bayesian and conventional networks, infer with them and prune them, on one rank or many."""


@cli.command()
@click.argument("names", nargs=-1, type=Known(model_names))
@click.option("--kind", type=click.Choice(["bnn", "cnn"]), help="only this kind")
@click.option("--width", type=float, default=1.0, show_default=True, help="factor on hidden channels")
@click.option("--shape", type=ImageShape(), help="of the images [default: the paper's, else 3,32,32]")
@click.option("--classes", type=click.IntRange(min=2), default=10, show_default=True, help="number of classes")
def models(
    names: tuple[str, ...], kind: str | None, width: float, shape: tuple[int, int, int] | None, classes: int
) -> None:
    """Print models layer by layer: output shapes, parameters, multiply-adds (the paper's tables 1 to 6).

    NAMES: vgg16, resnet18, conv, fc or package.module:function; none: the four.
    """
    from rich.console import Console

    from bnn.models.tables import print_models

    print_models(list(names) or None, kind, shape, classes, width, Console())


for command in (train, bench, check, infer, prune, import_, export):
    cli.add_command(command)


@cli.group()
def data() -> None:
    """List data sets, and download or generate them."""


@data.command("list")
def list_datasets() -> None:
    """The data sets and what each needs."""
    from rich.console import Console

    from bnn.data.commands import describe_datasets

    describe_datasets(Console())


@data.command("prepare")
@click.argument("name", type=Known(dataset_names))
@click.option("--data-dir", type=click.Path(path_type=Path), help="folder (default: BNN_DATA_DIR, else results/data)")
@click.option("--option", "pairs", multiple=True, metavar="KEY=VALUE", help="an option of the data set; repeatable")
@click.option("--options", "text", help="all options of the data set, as JSON")
@click.option("--record", type=click.Path(path_type=Path), help="write what was prepared to this JSON file")
def prepare_data(
    name: str, data_dir: Path | None, pairs: tuple[str, ...], text: str | None, record: Path | None
) -> None:
    """Download or generate a data set, check it, and say what it is."""
    from bnn.data.commands import parse_pairs, prepare

    options = parse_object(text, "--options") if text else {}
    prepare(name, data_dir, {**options, **parse_pairs(pairs)}, record)


def main() -> None:
    """Entry point: an error a user can cause is one line and exit code 2."""
    seldom()
    with errors_said():
        cli.main(standalone_mode=False)


if __name__ == "__main__":
    main()
