"""Which rows a figure draws, how its series are called, and what it must say below."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from bnn.errors import UserError
from campaign.results.figures.style import COLOURS, KIND_NAMES, LINES, MODEL_NAMES, TINTS

if TYPE_CHECKING:
    from collections.abc import Sequence

Tables = Mapping[str, "pd.DataFrame"]


@dataclass(frozen=True)
class Series:
    """One curve or one set of bars: a kind of network in one variant."""

    kind: str
    variant: str
    label: str
    rank: int  # 0 for the main variant, 1, 2, ... for the others

    @property
    def colour(self) -> str:
        return COLOURS[self.kind]

    @property
    def face(self) -> str:
        """Fill of its bars: a BNN's are filled and a CNN's are not, as in the paper; other variants are lighter."""
        if self.kind == "cnn":
            return "white"
        return self.colour if self.rank == 0 else TINTS["bnn"]

    @property
    def line(self) -> object:
        return LINES[min(self.rank, len(LINES) - 1)]


class NothingToDrawError(UserError):
    """The cells of a figure have no value to draw; says why."""


def rows_of(table: pd.DataFrame, role: str, model: str = "", batch: int | None = None) -> pd.DataFrame:
    """The rows of a table that serve a role. Raises NothingToDrawError when there are none."""
    chosen = table[pd.Series([role in roles.split(",") for roles in table["roles"]], table.index, dtype=bool)]
    if model:
        chosen = chosen[chosen["model"] == model]
    if batch is not None:
        chosen = chosen[chosen["batch_size"] == batch]
    if chosen.empty:
        raise NothingToDrawError(f"no cell with role {role}{' of ' + model if model else ''} to draw")
    return chosen


def require_counted(rows: pd.DataFrame, column: str, what: str) -> pd.DataFrame:
    """Refuse a figure without a single value. Raises NothingToDrawError naming what is lacking and why."""
    if rows[column].notna().any():
        return rows
    raise NothingToDrawError(f"{what}: no repeat of its {len(rows)} points counts; the table of cells says why")


def batches(rows: pd.DataFrame) -> list[int]:
    """Batch sizes per rank, ascending."""
    return sorted(int(batch) for batch in rows["batch_size"].unique())


def nodes_of(rows: pd.DataFrame) -> list[int]:
    return sorted(int(nodes) for nodes in rows["nodes"].unique())


def main_variant(rows: pd.DataFrame) -> str:
    """`base` where there is one, else the variant with most rows."""
    names = rows["variant"].value_counts()
    return "base" if "base" in names.index else str(names.index[0])


def series_of(rows: pd.DataFrame) -> list[Series]:
    """Series in drawing order: main variant first, BNN before CNN."""
    main = main_variant(rows)
    variants = [main, *sorted(set(rows["variant"]) - {main})]
    pairs = rows[["kind", "variant", "implementation"]].drop_duplicates(["kind", "variant"])
    made = []
    for rank, variant in enumerate(variants):
        for kind in ("bnn", "cnn"):
            found = pairs[(pairs["kind"] == kind) & (pairs["variant"] == variant)]
            if len(found):
                name = f"{KIND_NAMES[kind]} ({found.iloc[0]['implementation']})"
                repeated = (pairs["implementation"] == found.iloc[0]["implementation"]).sum() > 1
                made.append(Series(kind, variant, f"{name}, {variant}" if repeated else name, rank))
    return made


def of_series(rows: pd.DataFrame, series: Series) -> pd.DataFrame:
    chosen = rows[(rows["kind"] == series.kind) & (rows["variant"] == series.variant)]
    return chosen.sort_values("nodes")


def model_name(model: str) -> str:
    return MODEL_NAMES.get(model, model)


def data_note(cells: pd.DataFrame) -> str:
    """Data set, repeats and every setting that departs from the paper's model: goes below each figure.

    Of cells that have no record only their number is said: nothing of them is drawn.
    """
    there = cells[cells["verdict"] != "MISSING"]
    there = there if len(there) else cells
    return data_words(there) + variant_words(there) + repeats_words(cells)


def variant_words(cells: pd.DataFrame) -> str:
    """Of every variant what departs from the paper's model; starts with a space unless empty."""
    found = {variant: departures(rows) for variant, rows in cells.groupby("variant")}
    return "".join(f" Variant {variant}: {', '.join(words)}." for variant, words in found.items() if words)


def data_words(cells: pd.DataFrame) -> str:
    """The data sets, and which images are made up."""
    parts = []
    for dataset in sorted(cells["dataset"].unique()):
        parts.append("synthetic images (made up, for throughput only)" if dataset == "synthetic" else str(dataset))
    return f"Data: {', '.join(parts)}."


def repeats_words(cells: pd.DataFrame) -> str:
    """How many repeats a point has, and how many are missing; starts with a space unless empty."""
    text = ""
    counts = cells[cells["counted"]].groupby(["model", "kind", "nodes", "batch_size", "variant"])["repeat"].count()
    if len(counts):
        low, high = int(counts.min()), int(counts.max())
        text += f" {low} repeat{'s' if low > 1 else ''}." if low == high else f" {low} to {high} repeats per point."
    missing = int((cells["verdict"] == "MISSING").sum())
    return text + (f" {missing} planned repeat{'s have' if missing > 1 else ' has'} no record." if missing else "")


def departures(rows: pd.DataFrame) -> list[str]:
    """What a variant's rows change of the paper's model."""
    found = [f"width {width:g}" for width in sorted(rows["width"].unique()) if width != 1]
    starts = sorted(rows["rho_init"].dropna().unique())
    return found + [f"rho starts at {rho:g} (the paper: -9)" for rho in starts if rho != -9]


def reasons_note(rows: pd.DataFrame, column: str, what: str) -> str:
    """Why some or all points have no value, each reason once."""
    reasons: Sequence[str] = sorted(set(rows.loc[rows[column] != "", column]))
    return f"{what}: {'; '.join(reasons)}." if reasons else ""
