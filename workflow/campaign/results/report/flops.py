"""What one image costs, counted, beside the paper's "FLOP rate"."""

from __future__ import annotations

from typing import Any

from bnn.flops.formulae import implementation_flops, paper_flop_rate, step_flops
from bnn.models.describe import INPUT_SHAPES, describe
from campaign.results.report import published
from campaign.results.report.grid import Column, grid
from campaign.results.report.words import DASH

Row = dict[str, Any]
IMPLEMENTATIONS = ("cnn", "bnn-flipout", "bnn-flipout-reference")
COLUMNS = (
    Column("model", "model"), Column("implementation", "implementation", look="tight"),
    Column("multiply-adds of the layers (M)", "macs", look="n"),
    Column("on padding", "padding", look="n", meaning="Share of the multiply-adds whose input is a padded zero."),
    Column("forward (MFLOP)", "forward", look="n"), Column("input gradient", "input", look="n"),
    Column("weight gradient", "weight", look="n"), Column("training step", "total", look="n strong"),
    Column("per step (MFLOP)", "step", look="n", meaning="Noise, KL and optimizer (Adam), whatever the batch."),
    Column('"FLOP rate" recomputed (M)', "rate", look="n",
           meaning="The paper's count per parameter: 61 for every kernel weight of a Flipout layer, 2 for every "
           "other."),
    Column("printed (M)", "printed", look="published"), Column("agree", "agreement"),
)  # fmt: skip


def flops_table() -> Row:
    """A row per model of the paper and way to compute it."""
    said = {None: "", True: "yes", False: "NO"}
    rows = [row | {"agreement": said[row["agrees"]]} for row in flops_rows()]
    return grid("flops-table", "FLOPs per image", COLUMNS, rows)


def flops_rows() -> list[Row]:
    """A row per model of the paper and way to compute it: nothing here is measured."""
    return [_row(model, name) for model in INPUT_SHAPES for name in IMPLEMENTATIONS]


def _row(model: str, implementation: str) -> Row:
    kind = implementation[:3]
    described = describe(model, kind, INPUT_SHAPES[model])
    flops = implementation_flops(described, implementation)
    assert flops is not None
    printed = published.FLOP_RATE.get((model, kind))
    rate = paper_flop_rate(described)
    return {
        "model": model,
        "implementation": implementation,
        "macs": million(described.macs),
        "padding": f"{100 * described.padding_macs / described.macs:.1f}%",
        "forward": million(flops.forward),
        "input": million(flops.input_gradient),
        "weight": million(flops.weight_gradient),
        "total": million(flops.total),
        "step": million(step_flops(described, kind == "bnn")),
        "rate": f"{rate / 1e6:,.2f}",
        "printed": DASH if printed is None else f"{printed:,.2f}",
        "agrees": None if printed is None else f"{rate / 1e6:.2f}" == f"{printed:.2f}",
    }


def million(value: float) -> str:
    """In millions, to one of them where that is three digits or more."""
    return f"{value / 1e6:,.0f}" if value >= 1e8 else f"{value / 1e6:.3g}"


def claim() -> Row:
    """The paper's ratio of BNN to CNN in its own count, and in FLOPs of a forward pass, for VGG-16."""
    bnn, cnn = (describe("vgg16", kind) for kind in ("bnn", "cnn"))
    two, one = (implementation_flops(bnn, name) for name in ("bnn-flipout-reference", "bnn-flipout"))
    base = implementation_flops(cnn, "cnn")
    assert two is not None
    assert one is not None
    assert base is not None
    return {
        "rates": f"{paper_flop_rate(bnn) / paper_flop_rate(cnn):.1f}",
        "reference": f"{two.total / base.total:.2f}",
        "ours": f"{one.total / base.total:.2f}",
    }
