"""The paper's tables 1-6, layer by layer, from a transcription in which its printed slips are marked."""

from __future__ import annotations

import csv
import io
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from bnn.errors import UserError
from bnn.models.architectures import ARCHITECTURES, PAPER_INPUT
from bnn.models.build import build_model, count_parameters
from bnn.models.describe import describe
from bnn.models.tables import print_models

# A slip is "column=right value; ..." or "row not printed". Types are truncated where the paper truncates them.
TABLES = list(csv.DictReader((Path(__file__).parents[1] / "data" / "paper_tables.csv").read_text().splitlines()))
TOTALS = [
    ("1", "vgg16", "bnn", 18_829_066, 18_823_178),
    ("2", "vgg16", "cnn", 9_421_898, 9_416_010),
    ("3", "resnet18", "bnn", 9_814_026, 9_810_058),
    ("4", "resnet18", "cnn", 4_912_458, 4_908_490),
    ("5", "conv", "bnn", 3_802_122, 3_802_122),
    ("6", "fc", "bnn", 538_122, 538_122),
]
SLIPS = {"1": 0, "2": 3, "3": 6, "4": 1, "5": 6, "6": 4}  # rows of each table that carry a mark


def shape_of(text: str) -> list[int]:
    return [int(size) for size in re.findall(r"\d+", text)]


def corrected(row: dict[str, str]) -> dict[str, str]:
    slips = [] if row["slip"] in ("", "row not printed") else row["slip"].split("; ")
    fixes = dict(slip.split("=", 1) for slip in slips)
    assert fixes.keys() <= row.keys()
    assert all(row[column] != value for column, value in fixes.items()), f"{row['layer']}: no slip"
    return {**row, **fixes}


@pytest.mark.parametrize(("table", "model", "kind", "total", "trainable"), TOTALS)
def test_layers_are_those_of_the_table(table: str, model: str, kind: str, total: int, trainable: int) -> None:
    printed = [corrected(row) for row in TABLES if row["table"] == table]
    description = describe(model, kind, PAPER_INPUT[model])
    assert len(description.rows) == len(printed)
    for row, expected in zip(description.rows, printed, strict=True):
        assert row.name == expected["layer"]
        assert row.type.startswith(expected["type"])
        assert list(row.output_shape[1:]) == shape_of(expected["output_shape"]), row.name
        assert row.output_shape[0] is None
        assert row.parameters == int(expected["params"]), row.name
        if expected["connected_to"]:
            assert "|".join(row.connected_to) == expected["connected_to"], row.name
    assert sum(bool(row["slip"]) for row in printed) == SLIPS[table]
    assert (description.parameters, description.trainable) == (total, trainable)


@pytest.mark.parametrize(("table", "model", "kind", "total", "trainable"), TOTALS)
def test_built_models_have_the_tables_totals(table: str, model: str, kind: str, total: int, trainable: int) -> None:
    built = build_model(model, kind, input_shape=PAPER_INPUT[model], classes=10)
    assert count_parameters(built) == (total, trainable)


@pytest.mark.parametrize("kind", ["bnn", "cnn"])
@pytest.mark.parametrize("model", ARCHITECTURES)
@pytest.mark.parametrize("width", [0.01, 0.3, 1.5])
def test_every_built_layer_has_the_described_parameters(model: str, kind: str, width: float) -> None:
    shape = (2, 19, 24)
    built = build_model(model, kind, input_shape=shape, classes=7, width=width)
    for row in describe(model, kind, shape, 7, width).rows[1:]:
        assert count_parameters(built.get_submodule(row.module)) == (row.parameters, row.trainable), row.name


def test_forward_costs_are_the_known_multiply_adds() -> None:
    assert describe("vgg16", "cnn").macs == 228_267_008
    assert describe("resnet18", "cnn").macs == 257_627_136
    assert describe("fc", "bnn", (1, 28, 28)).macs == describe("fc", "bnn", (1, 28, 28)).kernel_weights == 268_800


def test_printed_tables_show_every_layer_and_total() -> None:
    out = io.StringIO()
    print_models(console=Console(file=out, width=140))
    text = out.getvalue()
    for row in TABLES:
        assert corrected(row)["layer"] in text
    for _, _, _, total, trainable in TOTALS:
        assert f"Total params: {total:,}" in text
        assert f"Trainable params: {trainable:,}" in text
    out.truncate(0)
    print_models(["conv"], "cnn", (3, 32, 32), classes=5, width=0.5, console=Console(file=out, width=140))
    assert "conv cnn, 32x32x3, 5 classes, width 0.5" in out.getvalue()
    assert "vgg16" not in out.getvalue()


def test_a_users_model_is_built_and_called() -> None:
    out, name = io.StringIO(), "tests.support.own_models:in_eval_mode"
    print_models([name], None, (1, 9, 9), classes=7, console=Console(file=out, width=140))
    text = out.getvalue()
    for kind in ("bnn", "cnn"):
        built = build_model(name, kind, input_shape=(1, 9, 9), classes=7)
        total, trainable = count_parameters(built)
        assert f"{name} {kind}, images 1x9x9, 7 classes" in " ".join(text.split())
        assert f"Total params: {total:,}\nTrainable params: {trainable:,}" in re.sub(r" +\n", "\n", text)
        for path, module in built.named_children():
            assert f"{path} ({type(module).__name__})" in text
    assert "(N, 7)" in text
    assert "not called" not in text


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("no_such_module:net", {}, "no module no_such_module"),
        ("tests.support.own_models:lenet", {"width": 0.5}, "width 0.5 applies to the built-in models"),
        (
            "tests.support.own_models:rgb",
            {"input_shape": (1, 9, 9)},
            "own_models:rgb: RuntimeError",
        ),
        ("tests.support.own_models:lenet", {"kind": "dnn"}, "kind dnn: unknown"),
    ],
)
def test_a_users_model_that_cannot_be_shown_is_refused(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        print_models([name], **options)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("vgg17", "bnn"), "model vgg17: unknown"),
        (("vgg16", "dnn"), "kind dnn: unknown"),
        (("conv", "bnn", (1, 5, 28)), "inputs of .* too small: conv2"),
        (("conv", "bnn", (1, 1, 1)), "too small: pool1"),
        (("fc", "bnn", (0, 28, 28)), "input shape"),
        (("fc", "bnn", (1, 28, 28), 0), "classes"),
        (("fc", "bnn", (1, 28, 28), 10, 0.0), "width"),
        (("fc", "bnn", (1, 28, 28), 10, float("nan")), "width"),
    ],
)
def test_impossible_requests_are_refused(arguments: tuple[object, ...], message: str) -> None:
    with pytest.raises(UserError, match=message):
        describe(*arguments)  # type: ignore[arg-type]


def test_describing_needs_no_torch() -> None:
    code = "import sys, bnn, bnn.models.describe, bnn.models.tables; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
