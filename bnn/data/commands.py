"""What `bnn data ...` does, as plain functions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bnn.data import DATASETS, dataset_facts, dataset_recipe, load_dataset, prepare_dataset, resolve_data_dir
from bnn.data.recipe import Recipe
from bnn.errors import UserError
from bnn.records.files import write_text


def parse_pairs(pairs: Sequence[str]) -> dict[str, Any]:
    """Options given as "key=value" words. Raises UserError naming a word without "=" or a key given twice."""
    options: dict[str, Any] = {}
    for pair in pairs:
        key, separator, value = pair.partition("=")
        if not separator or not key:
            raise UserError(f"option {pair!r}: expected key=value")
        if key in options:
            raise UserError(f"option {key!r} is given twice")
        options[key] = value
    return options


def describe_datasets(console: Console) -> None:
    """Print a table of the data sets: what they are, their images, and their options with defaults."""
    table = Table("dataset", "what", "images", "classes", "training images", "options")
    for column in table.columns:
        column.overflow = "fold"  # a narrow terminal breaks lines; nothing is cut
    for name in DATASETS:
        recipe = dataset_recipe(name)
        fields = recipe.options.model_fields
        defaults = "\n".join(f"{key}={_shown(field.default)}" for key, field in fields.items())
        table.add_row(*map(Text, (name, recipe.title, *_images(name, recipe), defaults or "none")))
    console.print(table)


def prepare(
    name: str,
    data_dir: Path | None,
    options: dict[str, Any],
    record: Path | None = None,
    console: Console | None = None,
) -> None:
    """Download or generate a data set, then load it and print where it is and what it was made from.

    `record`, if given, is a JSON file for the same facts, which appears once all of it has been checked.
    """
    console = console or Console()
    prepare_dataset(name, data_dir, **options)
    dataset = load_dataset(name, data_dir, **options)
    console.print(
        f"{dataset.name} is ready in {resolve_data_dir(data_dir)}: {len(dataset.train):,} training and "
        f"{len(dataset.test):,} test images ({dataset.source}; {dataset.checksum or 'no checksum'})",
        markup=False, highlight=False, soft_wrap=True,
    )  # fmt: skip
    if record:
        facts = {
            "dataset": dataset.name, "options": options, "source": dataset.source, "checksum": dataset.checksum,
            "input_shape": dataset.input_shape, "classes": dataset.classes, "train_size": len(dataset.train),
            "test_size": len(dataset.test), "synthetic": dataset.synthetic,
        }  # fmt: skip
        record.parent.mkdir(parents=True, exist_ok=True)
        write_text(record, json.dumps(facts, indent=2))


def _images(name: str, recipe: Recipe) -> tuple[str, str, str]:
    """Shape, classes and number of the images that it has by default."""
    if recipe.own:
        return "your own", "", ""
    facts = dataset_facts(name)
    return "x".join(map(str, facts.input_shape or ())), str(facts.classes), f"{facts.train_size:,}"


def _shown(value: Any) -> str:
    if value is None:
        return ""
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
