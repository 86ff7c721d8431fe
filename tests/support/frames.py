"""Made-up tables, whose values are known: of inference and pruning jobs, and of GPU and CPU sites at large batches."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from campaign.results.figures.context import Context, SiteRecords
from campaign.results.figures.sites import POINT_KEYS, devices_of
from campaign.results.tables.build import frame
from campaign.results.tables.inference_schemas import INFERENCE_TABLES, PRUNING_TABLES
from campaign.results.tables.points import throughput_rows
from campaign.results.tables.scaling import scaling_rows
from campaign.results.tables.schemas import CELLS, SCALING, THROUGHPUT

TYPES = {"int64": 0, "int32": 0, "float64": 0.5, "string": "", "bool": False}
PERCENTS = (0, 30, 60, 80, 90)
LAYERS = {"dense_1": 200_704, "dense_2": 65_536, "dense_3": 2_560}
Frames = dict[str, pd.DataFrame]


def cell(model: str = "vgg16", nodes: int = 1, repeat: int = 1, **more: Any) -> dict[str, Any]:
    """The identity of a cell."""
    identity = {
        "site": "toy", "dataset": "mnist", "model": model, "kind": "bnn", "nodes": nodes, "batch_size": 32,
        "variant": "base", "repeat": repeat,
    }  # fmt: skip
    return identity | more


def _frame(name: str, rows: list[dict[str, Any]]) -> pd.DataFrame:
    """A table with all its columns; those that `rows` do not give have a value of their type."""
    schema = (INFERENCE_TABLES | PRUNING_TABLES)[name]
    blank = {column.name: TYPES[column.type] for column in schema.columns}
    unknown = {key for row in rows for key in row} - set(blank)
    assert not unknown, f"table {name} has no columns {sorted(unknown)}"
    frame = pd.DataFrame([blank | row for row in rows], columns=schema.names)
    integers = {column.name: "Int64" for column in schema.columns if column.type in ("int64", "int32")}
    return frame.astype(integers)


def job(identity: dict[str, Any], **more: Any) -> dict[str, Any]:
    """What tables `inference` and `pruning_summary` say of a job that went well."""
    said = {
        "status": "OK", "verdict": "OK", "width": 1.0, "rho_init": -9.0, "roles": "pruning",
        "implementation": "bnn-flipout", "images": 10_000, "draws": 1000, "sigma_median": 0.012,
        "sigma_median_start": 0.018, "effective_bits": 1.9, "folder": "toy/x",
    }  # fmt: skip
    return identity | said | more


def softmax_values(images: int, draws: int, spread: float, seed: int = 0) -> np.ndarray:
    """(images, draws): broader from image to image; with a spread of 0 all draws alike."""
    generator = np.random.default_rng(seed)
    centres = np.linspace(0.97, 0.3, images)[:, None]
    noise = generator.standard_normal((images, draws)) * spread * np.linspace(0.2, 1.5, images)[:, None]
    return np.asarray(1 / (1 + np.exp(-(np.log(centres / (1 - centres)) + noise))))


def true_class(identity: dict[str, Any], values: np.ndarray, **more: Any) -> list[dict[str, Any]]:
    return [
        identity | more | {"image": 7 * label + 3, "label": label, "draw": draw, "probability": value}
        for label, row in enumerate(values)
        for draw, value in enumerate(row)
    ]


def inference_frames(posteriors: list[dict[str, Any]] | None = None) -> Frames:
    """Tables of inference; a posterior is a cell's identity with `made` (draws) and `spread` of its logits."""
    if posteriors is None:
        posteriors = [
            cell() | {"made": 1000, "spread": 1.0}, cell(nodes=2) | {"made": 1000, "spread": 2.0},
            cell("resnet18") | {"made": 400, "spread": 0.5},
        ]  # fmt: skip
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in INFERENCE_TABLES}
    for seed, given in enumerate(posteriors):
        identity = {key: value for key, value in given.items() if key not in ("made", "spread", "job")}
        made, spread = int(given["made"]), float(given["spread"])
        alike = spread == 0
        told: dict[str, Any] = {
            "draws": made, "accuracy": 0.975, "accuracy_single_draw": 0.96, "accuracy_single_draw_std": 0.004,
            "nll": 0.08, "brier": 0.04, "calibration_error": 0.0123, "calibration_error_debiased": 0.01,
            "aurc": 0.006, "accuracy_at_90_coverage": 0.99, "predictive_entropy": 0.11,
            "mutual_information": 0.03, "softmax_spread": 0.0 if alike else 0.05, "settled_tolerance": 0.01,
            "settled_draws": 10 if alike else 200, "seconds_startup": 2.0, "seconds_draws": 0.05 * made,
        }  # fmt: skip
        if alike:
            told |= {"status": "WARN", "reasons": "degenerate posterior: draws all alike"}
        rows["inference"].append(job(identity, **(told | given.get("job", {}))))
        rows["inference_true_class"] += true_class(identity, softmax_values(10, made, spread, seed))
        times = 0.05 + 0.01 * np.random.default_rng(seed).random(made)
        rows["inference_draws"] += [
            identity | {"draw": draw, "seconds": seconds, "rank": draw % 2} for draw, seconds in enumerate(times)
        ]
        for size in (10, 20, 50, 100, 200, 400):
            distance = 0.0 if alike else 0.06 * spread / np.sqrt(size)
            ends = {"distance": distance, "distance_low": 0.6 * distance, "distance_high": 1.8 * distance}
            rows["inference_convergence"].append(identity | {"draws": size, **ends})
        rows["inference_reliability"] += [identity | bin_ for bin_ in _bins()]
    return {name: _frame(name, found) for name, found in rows.items()}


def _bins() -> list[dict[str, Any]]:
    """15 bins; below 0.2 and between 0.4 and 0.467 there is no image."""
    made = []
    for index in range(15):
        low, high = index / 15, (index + 1) / 15
        count = 0 if index < 3 or index == 6 else round(1.9**index)
        known = {"confidence": (low + high) / 2, "accuracy": 0.9 * (low + high) / 2}
        empty = {"confidence": np.nan, "accuracy": np.nan}
        made.append({"bin": index, "low": low, "high": high, "count": count} | (known if count else empty))
    return made


def pruning_frames(cells: list[dict[str, Any]] | None = None, draws: int = 200) -> Frames:
    """Tables of pruning: of each cell three semantics by weight, and zero by unit."""
    if cells is None:
        cells = [cell(model, repeat=repeat) for model in ("conv", "fc") for repeat in (1, 2, 3)]
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in PRUNING_TABLES}
    sweeps = [("zero", "weight"), ("bprune", "weight"), ("mean-only", "weight"), ("zero", "unit")]
    for given in cells:
        identity = {key: value for key, value in given.items() if key != "job"}
        for semantics, by in sweeps:
            sweep = identity | {"semantics": semantics, "scope": "global", "by": by}
            told = {"draws": draws, "accuracy_unpruned": 0.98, "levels": len(PERCENTS), "largest_form": "csr"}
            told |= {"largest_percent": 80.0, "largest_speedup": 1.8} | given.get("job", {})
            rows["pruning_summary"].append(job(sweep, **told))
            told = {key: value for key, value in given.get("job", {}).items() if key in ("status", "width")}
            for level, percent in ((-1, 0), *enumerate(PERCENTS)):
                rows["pruning"].append(sweep | {"status": "OK", "verdict": "OK"} | told | _level(sweep, level, percent))
                if semantics == "zero" and by == "weight":
                    values = softmax_values(10, draws, 0.0 if percent == 30 else 0.5 + percent / 40, level + 1)
                    rows["pruning_true_class"] += true_class(sweep, values, level=level, percent=float(percent))
            rows["pruning_snr"] += [sweep | bin_ for bin_ in _ratios()]
    return {name: _frame(name, found) for name, found in rows.items()}


def _level(sweep: dict[str, Any], level: int, percent: float) -> dict[str, Any]:
    """Accuracy falls early for bprune; time falls with the zeros for true zeros; repeats differ by a little."""
    wobble = 0.002 * (sweep["repeat"] - 2)
    price = {"zero": 0.1, "mean-only": 0.3, "bprune": 4.0}[sweep["semantics"]] * (percent / 90) ** 4 * 0.16
    accuracy = 0.98 + wobble - price
    loss = 100 * price
    dense, unit = 0.2, sweep["by"] == "unit"
    csr = dense * (1.6 - 1.5 * percent / 100) if level >= 0 else np.nan
    compact = dense * (1 - percent / 100) if unit and level >= 0 else np.nan
    zero = sweep["semantics"] == "zero"
    best = np.nanmin([dense, csr, compact]) if zero else np.nan
    return {
        "level": level, "percent": float(percent), "percent_asked": float(percent), "accuracy": accuracy,
        "accuracy_loss": loss, "accuracy_loss_low": loss - 0.2, "accuracy_loss_high": loss + 0.2,
        "nll": 0.07 + 5 * price, "seconds": best, "seconds_dense": dense if zero else np.nan,
        "seconds_csr": csr if zero else np.nan, "seconds_compact": compact if zero else np.nan,
        "seconds_compact_csr": np.nan, "timed_draws": 20, "timed_images": 100, "speedup": dense / best,
        "form": "dense" if best == dense else "compact" if best == compact else "csr",
        "speedup_low": 0.95 * dense / best, "speedup_high": 1.05 * dense / best, "draws": 200, "images": 10_000,
    }  # fmt: skip


def _ratios() -> list[dict[str, Any]]:
    made = []
    for place, (layer, size) in enumerate({**LAYERS, "": sum(LAYERS.values())}.items()):
        edges = np.arange(-60, 42, 2.0)
        share = np.exp(-0.5 * ((edges[:-1] + 14 - 4 * place) / 9) ** 2)
        counts = np.round(size * share / share.sum())
        made += [
            {"layer": layer, "low": low, "high": high, "count": int(count)}
            for low, high, count in zip(edges[:-1], edges[1:], counts, strict=True)
        ]
    return made


def large_batch_site(
    name: str,
    device: str,
    counts: tuple[int, ...],
    rate: float,
    *,
    loss: float = 0.04,
    ranks_per_node: int = 1,
    repeats: int = 2,
    whole: bool = True,
    verdicts: dict[tuple[int, int], str] | None = None,
    engines: dict[int, str] | None = None,
    **identity: Any,
) -> tuple[dict[str, Any], Frames]:
    """Plan and tables of a made-up site at node counts `counts`: BNNs of `rate` samples/s per rank, CNNs of twice that.

    Every doubling of the ranks loses the fraction `loss`. `verdicts` are by (nodes, repeat), `engines` by nodes; more
    keywords change the cells' identity and labels. Points and efficiencies are computed by campaign.results.tables.
    """
    rows = []
    for kind in ("bnn", "cnn"):
        for nodes in counts:
            ranks = nodes * ranks_per_node
            for repeat in range(1, repeats + 1):
                speed = rate * ranks * (1 - loss) ** np.log2(ranks) * (1 + 0.02 * (repeat - 1.5))
                speed *= 1 if kind == "bnn" else 2 - 0.1 * (ranks > 1)
                verdict = (verdicts or {}).get((nodes, repeat), "OK")
                place = {
                    "site": name, "dataset": "infinite-mnist", "model": "vgg16", "kind": kind, "nodes": nodes,
                    "batch_size": 512, "variant": "base", "repeat": repeat,
                }  # fmt: skip
                labels = {
                    "study": "made up", "roles": "large-batch", "engine": (engines or {}).get(nodes, "horovod"),
                    "implementation": "bnn-flipout" if kind == "bnn" else "cnn", "ranks": ranks, "synthetic": False,
                    "width": 1.0, "rho_init": -9.0 if kind == "bnn" else np.nan,
                }  # fmt: skip
                rows.append(place | labels | _measured(speed, verdict, whole) | identity)
    cells = frame([dict.fromkeys(CELLS.names) | row for row in rows], CELLS)
    throughput = frame(throughput_rows(cells), THROUGHPUT)
    frames = {"cells": cells, "throughput": throughput}
    frames["scaling"] = frame(scaling_rows(cells, throughput), SCALING)
    return _plan_of(name, device, rows), frames


def _measured(speed: float, verdict: str, whole: bool) -> dict[str, Any]:
    if verdict == "MISSING":
        return {"verdict": verdict, "reasons": "", "counted": False, "epochs_asked": 12}
    epoch = 100_000 / speed
    return {
        "verdict": verdict, "reasons": "", "counted": verdict in ("OK", "WARN"), "attempts": 1, "threads": 1,
        "throughput_steady": speed, "throughput_steady_std": 0.03 * speed, "throughput_all": 0.9 * speed,
        "throughput_paper": 0.95 * speed, "throughput_paper_std": 0.2 * speed, "steady_steps": 20,
        "epoch_seconds": epoch, "seconds_total": 9 + 12 * epoch, "seconds_startup": 9.0, "steps": 24,
        "epochs_asked": 12, "epochs_completed": 12 if whole else 0, "train_size": 100_000,
    }  # fmt: skip


def _plan_of(name: str, device: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """What plan.json says of the cells, as far as figures ask for it."""
    keys = [*POINT_KEYS, "repeat"]
    cells = [
        {key: row[key] for key in keys} | {"roles": [row["roles"]], "settings": {"device": device}} for row in rows
    ]
    node_label = "GPUs" if device == "cuda" else "nodes"
    return {
        "campaign": "made up", "site": {"name": name, "title": f"made-up machine {name}", "node_label": node_label},
        "cells": cells,
    }  # fmt: skip


def context_of(own: tuple[dict[str, Any], Frames], *others: tuple[dict[str, Any], Frames]) -> Context:
    """What a figure of the first site is told of itself and of the others."""
    beside = [SiteRecords(p["site"]["name"], p["site"]["title"], devices_of(p), frames) for p, frames in others]
    return Context.from_plan(own[0], tuple(beside))
