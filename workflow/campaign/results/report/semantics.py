"""What the paper counted otherwise, each beside its correction: the report's part on variant `paper-semantics`.

Two things change what is computed, and are told by two runs of one seed: every rank shuffles the whole training set
(`sharding: unsharded`), and the KL of dense layers counts twice (`dense_kl: twice`). Two change only what is said of a
run, and are told by one: the mean rate of all steps, start-up among them, and the training accuracy as a mean since the
first step.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from campaign.results.report.cells import anchor
from campaign.results.report.grid import Column, grid
from campaign.results.report.words import DASH, number, percent, with_spread
from campaign.results.tables.schemas import IDENTITY_KEYS, LABEL_KEYS

if TYPE_CHECKING:
    import pandas as pd

VARIANT = "paper-semantics"
# A twin differs in its variant, and may be asked for by another study.
SHARED = [*(key for key in IDENTITY_KEYS if key != "variant"), *(k for k in LABEL_KEYS if k not in ("study", "roles"))]
Row = dict[str, Any]
COLUMNS = (
    Column("run", "run", "", "wide", href="cell"),
    Column("quantity", "quantity", "", "wide"),
    Column("as the paper counts", "paper", "", "n"),
    Column("corrected", "corrected", "", "n strong"),
    Column("from", "twin", "", "", "The run that the correction is read off: the same run, or its twin without "
           "the paper's semantics, of the same seed.", href="other"),
    Column("what differs", "why", "", "wide"),
)  # fmt: skip


def semantics_section(tables: Mapping[str, pd.DataFrame]) -> Row | None:
    """`runs` (how many have the paper's semantics), `without` (of these, how many have no twin) and `table`.

    None where no run has them.

    Runs that are INVALID or MISSING have no rows; one without a twin that counts has the rows of itself alone.
    """
    cells = tables["cells"]
    counted = cells[cells["counted"].fillna(False).astype(bool)]
    ours = counted[counted["variant"] == VARIANT]
    if ours.empty:
        return None
    rows: list[Row] = []
    twins = 0
    for cell in ours.to_dict("records"):
        twin = twin_of(cell, counted)
        twins += twin is not None
        rows += [_row(cell, cell, *said) for said in of_one_run(cell)]
        rows += [] if twin is None else [_row(cell, twin, *said) for said in of_two_runs(cell, twin)]
    rows = [row for row in rows if {row["paper"], row["corrected"]} != {DASH}]  # such as what was not evaluated
    return {
        "runs": len(ours), "without": len(ours) - twins,
        "table": grid("semantics-table", "The paper's semantics beside their corrections", COLUMNS, rows),
    }  # fmt: skip


def twin_of(cell: Mapping[str, Any], cells: pd.DataFrame) -> Row | None:
    """The run of `cells` that differs in its variant alone and did as many steps.

    None where there is none; where there are more, that whose variant comes first by name.
    """
    alike = cells[cells["variant"] != VARIANT]
    for key in [*SHARED, "steps"]:
        alike = alike[alike[key] == cell[key]]
    return None if alike.empty else alike.sort_values("variant", kind="stable").iloc[0].to_dict()


def of_one_run(cell: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    """Quantity, as the paper counts, corrected, what differs: two definitions on the records of one run."""
    return [
        (
            "throughput ± its standard deviation (samples/s)",
            with_spread(cell["throughput_paper"], cell["throughput_paper_std"]),
            with_spread(cell["throughput_steady"], cell["throughput_steady_std"]),
            "the mean of all steps' rates has the start-up in it, and its error bar has it above all",
        ),
        (
            "training accuracy at the end",
            percent(cell["accuracy_running"]),
            percent(cell["accuracy_last_epoch"]),
            "the mean since the first step, against the mean of the last epoch",
        ),
    ]


def of_two_runs(cell: Mapping[str, Any], twin: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    """The same of what two trainings came to."""
    ranks = int(cell["ranks"])
    seen = 1 - (1 - 1 / ranks) ** ranks
    rows = [
        (
            "KL in the loss at the last step (nats)", number(cell["kl"], 4), number(twin["kl"], 4),
            "that of dense layers is in it twice",
        ),
        (
            "held-out accuracy", percent(cell["held_out_accuracy"]), percent(twin["held_out_accuracy"]),
            "of what was trained so",
        ),
    ]  # fmt: skip
    if ranks > 1:
        why = (
            f"{ranks} ranks that each shuffle the whole set leave some out and see others again; computed, not counted"
        )
        rows.append(("training examples that an epoch visits, expected", percent(seen), percent(1.0), why))
    return rows


def _row(cell: Mapping[str, Any], other: Mapping[str, Any], quantity: str, paper: str, corrected: str, why: str) -> Row:
    run = f"{cell['model']}, {cell['implementation']}, {cell['dataset']}, batch {cell['batch_size']}"
    return {
        "record": {key: cell[key] for key in (*IDENTITY_KEYS, "ranks", "verdict")},
        "run": f"{run}, N = {cell['nodes']}, repeat {cell['repeat']}", "cell": f"#{anchor(cell)}",
        "quantity": quantity, "paper": paper, "corrected": corrected, "why": why,
        "twin": "the same run" if other is cell else str(other["variant"]), "other": f"#{anchor(other)}",
    }  # fmt: skip
