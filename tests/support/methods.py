"""Made-up tables of methods, whose values are known: costs, NLL and calibration of six methods, clean and shifted."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from campaign.results.tables.build import frame
from campaign.results.tables.schemas import TABLES

# Cost, NLL, calibration error, seconds per image of a draw, draws.
MADE = {
    "deterministic": (1.0, 1.10, 0.120, 1e-4, 1), "temperature-scaled": (1.0, 0.98, 0.030, 1e-4, 1),
    "IVON": (1.03, 0.90, 0.025, 1.1e-4, 50), "flipout": (2.1, 0.95, 0.040, 3e-4, 50),
    "local reparameterization": (1.9, 1.02, 0.050, 3e-4, 50), "reparameterization": (1.2, 1.25, 0.060, 2e-4, 50),
}  # fmt: skip
SHIFTS = {"": 1.0, "rotation:3": 1.5, "rotation:1": 1.1, "noise:5": 1.9}


def ends(name: str, value: float, half: float) -> dict[str, float]:
    return {name: value, f"{name}_low": value * (1 - half), f"{name}_high": value * (1 + half)}


def method_rows(half: float = 0.03, **changes: dict[str, Any]) -> list[dict[str, Any]]:
    """Rows of table `methods`; `changes` are by method, with spaces as underscores."""
    rows = []
    for method, (cost, nll, error, seconds, draws) in MADE.items():
        own = cost == 1.0
        for shift, factor in SHIFTS.items():
            kind = "cnn" if own else "bnn"
            row: dict[str, Any] = dict.fromkeys(TABLES["methods"].names) | point(method, kind)
            row |= {
                "shift": shift, "implementation": kind, "width": 0.25, "threads": 1, "repeats": 3, "repeats_planned": 3,
                "verdict": "OK", "images": 1000, "draws": draws, "baseline": "cnn-kernels (base)", "cost_repeats": 3,
                "ood": "mnist" if not shift else "", "interval_method": "t-interval on log", "reason": "",
            }  # fmt: skip
            row |= dict.fromkeys(("seconds_to_nll", "seconds_to_nll_low", "seconds_to_nll_high"), math.nan)
            row |= ends("cost", cost, 0.0 if own else half / 2) | ends("nll", nll * factor, half)
            row |= ends("calibration_error_debiased", error * factor, 3 * half)
            row |= ends("calibration_error", 1.1 * error * factor, 2 * half)
            row |= ends("accuracy", 0.7 / factor, half) | ends("seconds_per_image", seconds * draws, half)
            row |= ends("brier", 0.4 * factor, half) | ends("aurc", 0.1 * factor, half)
            row |= ends("ood_auroc_entropy", 0.9, half) | ends("ood_auroc_information", 0.85, half)
            rows.append(row | changes.get(method.replace(" ", "_").replace("-", "_"), {}))
    return rows


def timed_rows(target: float = 1.6) -> list[dict[str, Any]]:
    """Those rows where half of the methods have a training time to an NLL."""
    times = {"deterministic": 10.0, "IVON": 11.0, "flipout": 40.0}
    return [
        row | {"nll_target": target, "nll_reached": 3} | ends("seconds_to_nll", times[row["method"]], 0.05)
        if row["method"] in times
        else row | {"nll_target": target, "nll_reached": 0}
        for row in method_rows()
    ]


def point(method: str, kind: str) -> dict[str, Any]:
    variant = "base" if kind == "cnn" else method.replace(" ", "-")
    return {
        "site": "toy", "dataset": "photographs", "model": "resnet18", "kind": kind, "nodes": 1, "batch_size": 64,
        "variant": variant, "method": method,
    }  # fmt: skip


def method_frames(rows: list[dict[str, Any]] | None = None) -> dict[str, pd.DataFrame]:
    """Tables `methods` and `method_draws`."""
    of_draws = []
    for method, (cost, nll, _, seconds, draws) in MADE.items():
        for size in (1, 2, 5, 10, 20, 50):
            if size <= draws and method != "temperature-scaled":
                row = point(method, "cnn" if cost == 1.0 else "bnn") | {"draws": size, "repeats": 3}
                value = nll * (1 + (0.4 / size if draws > 1 else 0))
                of_draws.append(row | ends("nll", value, 0.03) | ends("seconds_per_image", size * seconds, 0.05))
    made = {"methods": method_rows() if rows is None else rows, "method_draws": of_draws}
    return {name: frame(found, TABLES[name]) for name, found in made.items()}
