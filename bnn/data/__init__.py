"""Data sets by name: `load_dataset` reads what is there, `prepare_dataset` alone downloads or generates.

Files lie in `<data-dir>/<dataset>/`. Compute nodes load; they never download, and nothing is substituted silently.
Importing this package loads no data set's module.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from rich.console import Console

from bnn.data.base import Dataset, DatasetFacts, Options, Split, parse_options, resolve_data_dir
from bnn.data.files import refuse_os_error
from bnn.data.recipe import Recipe
from bnn.errors import UserError

# Name of a data set: the module whose RECIPE makes it.
MODULES = {
    "cifar10": "bnn.data.cifar10",
    "mnist": "bnn.data.mnist",
    "mnist-sample": "bnn.data.mnist_sample",
    "infinite-mnist": "bnn.data.infinite_mnist",
    "synthetic": "bnn.data.synthetic",
    "images": "bnn.data.images",
    "arrays": "bnn.data.arrays",
}
DATASETS = tuple(MODULES)

__all__ = [
    "DATASETS", "Dataset", "DatasetFacts", "Split", "dataset_facts", "dataset_name", "dataset_recipe",
    "load_dataset", "prepare_dataset", "resolve_data_dir",
]  # fmt: skip


def dataset_recipe(name: str) -> Recipe:
    """The implementation of a data set. Raises UserError for an unknown name."""
    if name not in MODULES:
        raise UserError(f"unknown dataset {name!r} (datasets: {', '.join(DATASETS)})")
    recipe: Recipe = importlib.import_module(MODULES[name]).RECIPE
    return recipe


def _parsed(name: str, options: dict[str, Any]) -> tuple[Recipe, Options]:
    recipe = dataset_recipe(name)
    parsed = parse_options(name, recipe.options, options)
    if parsed.own_name in MODULES:
        raise UserError(f"{name}: option name={parsed.own_name!r}: is the name of another data set")
    return recipe, parsed


def dataset_name(name: str, options: dict[str, Any] | None = None) -> str:
    """What a data set is called in paths, records, tables and captions: its own name, if it has one. Reads no file.

    Raises UserError for an unknown data set, an unknown option or a wrong value.
    """
    return _parsed(name, options or {})[1].own_name or name


def dataset_facts(name: str, options: dict[str, Any] | None = None, data_dir: Path | str | None = None) -> DatasetFacts:
    """Image shape, number of classes and of training images; of files, reads what a preparation has noted, no more.

    Raises UserError for an unknown data set, an unknown option or a wrong value, and for a data set of one's own that
    has not been prepared in `data_dir` (see `resolve_data_dir`).
    """
    recipe, parsed = _parsed(name, options or {})
    return recipe.facts(resolve_data_dir(data_dir), parsed)


def load_dataset(name: str, data_dir: Path | str | None = None, /, **options: Any) -> Dataset:
    """Load a data set from `data_dir` (see `resolve_data_dir`); never downloads and never writes.

    Raises UserError for an unknown data set or option, and naming a file that is missing, truncated or damaged.
    """
    recipe, parsed = _parsed(name, options)
    folder = resolve_data_dir(data_dir)
    try:
        return recipe.load(folder, parsed)
    except OSError as error:
        refuse_os_error(name, folder, error)


def prepare_dataset(
    name: str, data_dir: Path | str | None = None, /, *, console: Console | None = None, **options: Any
) -> None:
    """Download or generate what a data set needs, unless it is there, and verify it; progress goes to stderr.

    Safe to call from several processes at once and to repeat after a kill: files appear whole or not at all.
    Raises UserError as `load_dataset` does, and when a download fails.
    """
    recipe, parsed = _parsed(name, options)
    folder = resolve_data_dir(data_dir)
    try:
        recipe.prepare(folder, parsed, console or Console(stderr=True))
    except OSError as error:
        refuse_os_error(name, folder, error)
