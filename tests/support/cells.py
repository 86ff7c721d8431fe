"""Records of made-up cells, written with bnn.records exactly as a run of `bnn train` leaves them.

For tests of what is computed from records: known step times in, known tables and figures out.
"""

from __future__ import annotations

import functools
import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bnn import metrics
from bnn.models.describe import describe
from bnn.records import (
    CELL,
    PROVENANCE,
    STEPS,
    STEPS_FILE,
    SUMMARY,
    CellRecord,
    Evaluation,
    Provenance,
    RankProvenance,
    Summary,
    Throughput,
    Verdict,
    write_table,
)
from bnn.records.files import MPI
from bnn.records.mpi import MPI_CALLS, profile_name
from bnn.settings import TrainSettings
from campaign.names.cell import Cell
from campaign.results.tables.build import build_tables
from tests.support.bench import WITH_PEERS, bench_entry, write_bench

SITE: dict[str, Any] = {
    "name": "toy", "title": "Toy machine, 2 cores", "node_label": "ranks on one machine", "profiler": {"kind": "bnn"},
}  # fmt: skip
START = 1_700_000_000.0


def entry(
    dataset: str = "synthetic",
    model: str = "vgg16",
    kind: str = "bnn",
    nodes: int = 1,
    batch_size: int = 16,
    variant: str = "base",
    repeat: int = 1,
    roles: tuple[str, ...] = ("scaling",),
    study: str = "study",
    **settings: Any,
) -> dict[str, Any]:
    """One cell of plan.json; further keywords are settings of the run."""
    run = TrainSettings(
        dataset=dataset, model=model, kind=kind, batch_size=batch_size, **({"epochs": 64, "max_steps": 12} | settings)
    )
    identity = {
        "site": SITE["name"], "dataset": dataset, "model": model, "kind": kind, "nodes": nodes,
        "batch_size": batch_size, "variant": variant, "repeat": repeat,
    }  # fmt: skip
    more = {"study": study, "roles": list(roles), "ranks": nodes, "fingerprint": run.fingerprint()}
    return identity | more | {"settings": run.model_dump(mode="json")}


def plan(cells: list[dict[str, Any]], bench: Sequence[dict[str, Any]] = (), **site: Any) -> dict[str, Any]:
    """A plan of these cells and benchmarks."""
    named = {"campaign": "toy campaign", "site": SITE | site, "accuracy_targets": [0.4, 0.6]}
    return named | {"cells": cells, "bench": list(bench)}


def write_cell(
    results: Path,
    cell: dict[str, Any],
    *,
    seconds: float = 0.5,
    jitter: float = 0.02,
    steps: int | None = None,
    train_size: int = 50_000,
    startup: float = 3.0,
    accuracy: Callable[[int], float] = lambda step: 0.1,
    attempts: int = 1,
    status: str | None = None,
    reasons: tuple[str, ...] = (),
    host: str = "node-{rank}",
    seed: int = 0,
    profiled: bool = True,
    **summary: Any,
) -> Summary:
    """Write the four records of a finished cell whose steady steps take `seconds` on average (exactly if jitter is 0).

    `steps` defaults to the settings' max_steps, or else to all epochs. `summary` overrides fields of the summary.
    """
    settings = TrainSettings.model_validate(cell["settings"])
    identity = Cell(**{key: cell[key] for key in Cell.__dataclass_fields__})
    folder = results / identity.folder
    folder.mkdir(parents=True)
    ranks = cell["ranks"]
    per_epoch = max(1, train_size // (settings.batch_size * ranks))
    count = steps or settings.max_steps or per_epoch * settings.epochs
    frame = _steps(settings, ranks, count, per_epoch, seconds, jitter, accuracy, seed)
    mean, std = metrics.throughput_paper(frame)
    rows = metrics.per_step(frame)
    judged, why = metrics.verdict(frame, ranks, cv_limit=settings.cv_limit, attempts=attempts)
    training = float(rows["seconds"].sum())
    shape = (1, 28, 28) if "mnist" in settings.dataset else (3, 32, 32)
    model = describe(settings.model, settings.kind, shape, 10, settings.width)
    bayesian = settings.kind == "bnn"
    fields: dict[str, Any] = {
        "hash": settings.fingerprint(),
        "labels": identity.labels(),
        "engine": settings.engine,
        "implementation": settings.implementation,
        "ranks": ranks,
        "attempts": attempts,
        "verdict": Verdict(status=status or judged, reasons=[*reasons, *why]),
        "throughput": Throughput(
            steady=metrics.throughput_steady(frame),
            steady_std=metrics.throughput_steady_std(frame),
            all_steps=metrics.throughput_all(frame),
            paper=mean,
            paper_std=std,
            steady_steps=len(metrics.steady(frame)),
            coefficient_of_variation=metrics.coefficient_of_variation(frame),
        ),
        "steps": count,
        "steps_per_epoch": per_epoch,
        "epochs_completed": count // per_epoch,
        "train_size": train_size,
        "samples": int(rows["samples"].sum()),
        "seconds_total": startup + training,
        "seconds_startup": startup,
        "seconds_training": training,
        "seconds_warmup": float(rows.loc[rows["phase"] == "warmup", "seconds"].sum()),
        "seconds_steady": float(rows.loc[rows["phase"] == "steady", "seconds"].sum()),
        "parameters_total": model.parameters,
        "parameters_trainable": model.trainable,
        "clock_error_seconds": 0.0,
        "macs_forward_per_image": model.macs * (2 if bayesian else 1),
        "peak_memory_bytes": 600_000_000,
        "loss": 2.3,
        "nll": 2.2,
        "kl": 1000.0 if bayesian else 0.0,
        "accuracy_running": float(rows["accuracy_running"].iloc[-1]),
        "accuracy_last_epoch": float(rows["accuracy"].iloc[-1]),
        "sigma_median": 0.019 if bayesian else None,
        "sigma_median_start": 0.018 if bayesian else None,
        "evaluations": [_evaluation(count)] if settings.evaluate != "none" else [],
        "manifest": {},
    }
    record = Summary(**(fields | summary))
    write_table(frame, folder / STEPS_FILE, STEPS)
    (folder / CELL).write_text(CellRecord(settings=settings, hash=settings.fingerprint()).model_dump_json())
    (folder / PROVENANCE).write_text(_provenance(ranks, settings.threads, host, training).model_dump_json())
    (folder / SUMMARY).write_text(record.model_dump_json())
    if profiled:
        write_profiles(folder / MPI, ranks, frame, model.trainable)
    return record


def write_profiles(folder: Path, ranks: int, steps: pd.DataFrame, trainable: int, **changes: Any) -> None:
    """An MPI profile of every rank: one fused gradient of all parameters per step, 100 control messages per second.

    `changes` are columns of rank 0's gradients in steady steps.
    """
    for rank in range(ranks):
        mine = steps[steps["rank"] == rank]
        rows = [_calls("startup", 3.0, "MPI_Comm_rank", "", "", 0, 5)]
        for phase in ("warmup", "steady"):
            part = mine[mine["phase"] == phase]
            seconds = float(part["seconds"].sum())
            if ranks > 1 and len(part):
                rows.append(_calls(phase, seconds, "MPI_Allreduce", "MPI_SUM", "MPI_FLOAT", 4 * trainable, len(part)))
                if phase == "steady" and rank == 0:
                    rows[-1] |= changes
            count = max(1, round(100 * seconds))
            rows.append(_calls(phase, seconds, "MPI_Allreduce", "MPI_BAND", "MPI_LONG_LONG_INT", 16, count))
        rows.append(_calls("evaluation", 1.0, "MPI_Allgatherv", "", "MPI_UINT8_T", 40, 2))
        whole = {"job": "1", "rank": rank, "size": ranks, "finalized": True, "overhead_ns": 50.0}
        frame = pd.DataFrame([row | whole for row in rows])
        write_table(frame, folder / f"{profile_name('1', rank)}.parquet", MPI_CALLS)
        (folder / profile_name("1", rank)).write_text(_profile_text(rank, ranks, frame))


def _calls(
    phase: str, seconds: float, routine: str, operator: str, datatype: str, size: int, calls: int
) -> dict[str, Any]:
    return {
        "phase": phase, "phase_seconds": seconds, "routine": routine, "operator": operator, "datatype": datatype,
        "bytes_low": size // 2 + 1 if size else 0, "bytes_high": size, "calls": calls, "bytes": size * calls,
        "seconds": 0.001 * calls,
    }  # fmt: skip


def _profile_text(rank: int, ranks: int, frame: pd.DataFrame) -> str:
    """The text form of a profile, as far as a reader asks for it: routines and totals."""
    rule = "-" * 65
    lines = [
        f"Data for MPI rank {rank} of {ranks}:", "Times and statistics from MPI_Init() to MPI_Finalize().", rule,
        "MPI Routine                        #calls     avg. bytes      time(sec)", rule,
    ]  # fmt: skip
    for routine, rows in frame.groupby("routine"):
        calls = rows["calls"].sum()
        lines.append(f"{routine}    {calls}    {rows['bytes'].sum() / calls:.1f}    {rows['seconds'].sum():.3f}")
    elapsed = 4.0 + frame.drop_duplicates("phase").query("phase in ('warmup', 'steady')")["phase_seconds"].sum()
    lines += [
        rule, f"total communication time = {frame['seconds'].sum():.3f} seconds.",
        f"total elapsed time       = {elapsed:.3f} seconds.", f"user cpu time            = {elapsed:.3f} seconds.",
        "system time              = 0.100 seconds.", "max resident set size    = 100.0 MiB.", "", rule,
        "Message size distributions:", "",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _steps(
    settings: TrainSettings,
    ranks: int,
    count: int,
    per_epoch: int,
    seconds: float,
    jitter: float,
    accuracy: Callable[[int], float],
    seed: int,
) -> pd.DataFrame:
    generator = np.random.default_rng(seed)
    step = np.arange(count)
    warmup = step < settings.warmup_steps
    reached = np.array([accuracy(each) for each in range(count)], dtype=float)
    shares = {
        "data": 0.02, "forward": 0.30, "backward": 0.50, "exchange": 0.08, "late": 0.03, "reduction": 0.045,
        "negotiation": 0.015, "transfer": 0.03, "hidden": 0.02, "optimizer": 0.09, "between": 0.01,
    }  # fmt: skip
    frames = []
    for rank in range(ranks):
        took = np.full(count, 4.0 * seconds)
        took[~warmup] = seconds * (1.0 + jitter * generator.standard_normal(int((~warmup).sum())))
        ended = START + np.cumsum(took)
        frames.append(
            pd.DataFrame(
                {
                    "attempt": 1, "step": step, "epoch": step // per_epoch,
                    "phase": np.where(warmup, "warmup", "steady").astype(object),
                    "engine": settings.engine, "implementation": settings.implementation, "rank": rank, "ranks": ranks,
                    "started_at": np.concatenate([[START], ended[:-1]]), "ended_at": ended,
                    "samples": settings.batch_size, "seconds": took,
                    **{f"seconds_{part}": share * took for part, share in shares.items()},
                    "late_rank": ranks - 1, "seconds_injected": 0.0,
                    "loss": 2.3, "nll": 2.2, "kl": 1.0, "beta": settings.beta,
                    "accuracy": reached, "accuracy_running": np.cumsum(reached) / (step + 1),
                }
            )
        )  # fmt: skip
    return pd.concat(frames, ignore_index=True)


def _evaluation(step: int) -> Evaluation:
    return Evaluation(
        step=step,
        epoch=1,
        draws=10,
        images=1000,
        accuracy=0.91,
        accuracy_single_draw=0.9,
        nll=0.3,
        draw_spread=0.05,
        seconds=1.0,
    )


def _provenance(ranks: int, threads: int, host: str, seconds: float) -> Provenance:
    shared = {
        "cpu_model": "Toy CPU @ 2.0 GHz", "cores": 2, "threads": threads, "memory_bytes": 8 * 2**30, "gpu": None,
        "python": "3.11.2", "platform": "Linux-6.1", "versions": {"torch": "2.13.0", "horovod": "0.28.1"},
        "mpi_library": "MPICH 5.0.2", "environment": {"OMP_NUM_THREADS": str(threads)}, "modules": [],
        "started_at": START, "stopped_at": START + seconds,
    }  # fmt: skip
    each = [
        RankProvenance(
            rank=r, local_rank=r, hostname=host.format(rank=r), pid=100 + r, affinity=[r], **shared  # type: ignore[arg-type]
        )
        for r in range(ranks)
    ]  # fmt: skip
    return Provenance(command=["bnn", "train"], git_revision="0123456789abcdef", git_dirty=False, ranks=each)


@functools.cache
def built_campaign() -> tuple[dict[str, Any], dict[str, pd.DataFrame]]:
    """Plan and tables of `small_campaign`, made once for all tests; not to be changed."""
    with tempfile.TemporaryDirectory() as folder:
        made = small_campaign(Path(folder))
        return made, build_tables(made, Path(folder))


def small_campaign(results: Path) -> dict[str, Any]:
    """The shape of a local campaign: 1 and 2 ranks, every role, both kinds, a reference variant, 3 repeats.

    One repeat is INVALID, one warns, one is missing, and one CNN is never accurate enough. One benchmark of two is
    measured, with its peers.
    """
    cells: list[dict[str, Any]] = []
    number = 0

    def add(seconds: float, write: bool = True, accuracy: Any = None, run: Any = None, **identity: Any) -> None:
        nonlocal number
        number += 1
        cells.append(entry(**identity))
        drift = 1 + 0.03 * np.sin(number)
        if write:
            more = {"accuracy": accuracy} if accuracy else {}
            write_cell(results, cells[-1], seconds=seconds * drift, seed=number, **(more | (run or {})))

    for repeat in (1, 2, 3):
        for model, pace in (("vgg16", 1.0), ("resnet18", 1.25)):
            for nodes, loss in ((1, 1.0), (2, 1.15)):
                for batch in (16, 32) if model == "vgg16" else (16,):
                    last = nodes == 2 and repeat == 3 and model == "vgg16"
                    bad = {"status": "INVALID", "reasons": ("non-finite loss at step 7 on rank 1",)} if last else {}
                    warn = {"jitter": 0.2} if repeat == 2 and model == "resnet18" else {}
                    unit = pace * loss * batch / 16
                    place = {"model": model, "nodes": nodes, "batch_size": batch, "repeat": repeat}
                    add(0.9 * unit, kind="bnn", run=(bad if batch == 16 else {}) | warn, **place)
                    add(0.4 * unit, kind="cnn", run=warn, **place)
                    if batch == 16 and model == "vgg16":
                        reference = {"variant": "reference", **place}
                        add(1.3 * unit, kind="bnn", estimator="flipout-reference", **reference)
                        add(0.5 * unit, kind="cnn", baseline="cnn-plain", **reference)
        for nodes in (1, 2):
            for kind, seconds, speed in (("bnn", 0.08, 12), ("cnn", 0.03, 5)):
                trained = {"dataset": "mnist-sample", "width": 0.25, "rho_init": -4.0, "epochs": 3, "max_steps": None}
                top = 0.55 if kind == "bnn" and nodes == 2 else 0.9
                add(
                    seconds,
                    accuracy=lambda step, speed=speed, top=top: min(top, 0.1 + step / speed * 0.2),
                    run={"train_size": 1280},
                    write=not (repeat == 3 and nodes == 2 and kind == "cnn"),
                    kind=kind, nodes=nodes, batch_size=32, variant="trained", repeat=repeat, roles=("accuracy",),
                    evaluate="final", **trained,
                )  # fmt: skip
                for batch in (64, 128) if repeat < 3 else ():
                    add(
                        seconds * batch / 16 * (0.9 if batch == 128 else 1) * (1.2 if nodes == 2 else 1),
                        run={"train_size": 100_000}, dataset="infinite-mnist", kind=kind, nodes=nodes, epochs=12,
                        batch_size=batch, variant="narrow", repeat=repeat, roles=("large-batch",), width=0.25,
                        rho_init=-4.0,
                    )  # fmt: skip
    benchmarks = [bench_entry(), bench_entry(batch=128)]
    write_bench(results, benchmarks[0], WITH_PEERS)
    made = plan(cells, benchmarks)
    (results / SITE["name"] / "plan.json").write_text(json.dumps(made))
    return made
