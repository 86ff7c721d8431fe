"""The end of a run: its records, from all ranks, the summary last."""

from __future__ import annotations

import resource
import time
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
from torch import nn

from bnn import metrics
from bnn.engine import Engine
from bnn.layers import sigma_median
from bnn.models.architectures import ARCHITECTURES
from bnn.models.build import count_parameters
from bnn.models.describe import describe
from bnn.posterior import save_posterior
from bnn.provenance import gather_provenance
from bnn.records import (
    POSTERIOR,
    PROVENANCE,
    STEPS,
    STEPS_FILE,
    SUMMARY,
    Evaluation,
    Provenance,
    Summary,
    Throughput,
    Verdict,
    read_table,
    write_table,
)
from bnn.settings import TrainSettings
from bnn.training.folder import RunFolder, write_text


@dataclass(frozen=True)
class Outcome:
    """What the loop hands over. Times are seconds since 1970; rows are this rank's."""

    rows: pd.DataFrame
    evaluations: list[Evaluation]
    failed_step: int | None
    steps: int
    steps_per_epoch: int
    train_size: int
    process_start: float
    training_start: float
    sigma_start: float | None
    input_shape: tuple[int, int, int]
    classes: int


def merge_rows(folder: RunFolder, rows: pd.DataFrame, engine: Engine) -> pd.DataFrame:
    """Write this rank's rows, and on rank 0 return those of all ranks (elsewhere: this rank's)."""
    parts = [folder.staging / f"steps-rank-{rank}.parquet" for rank in range(engine.size)]
    write_table(rows, parts[engine.rank], STEPS)
    engine.barrier("rows")
    if engine.rank != 0:
        return rows
    merged = pd.concat([read_table(part, STEPS) for part in parts], ignore_index=True)
    write_table(merged.sort_values(["step", "rank"]), folder.staging / STEPS_FILE, STEPS)
    for part in parts:
        part.unlink()
    return merged


def peak_memory_bytes(settings: TrainSettings) -> int:
    """Largest memory of this rank so far: the GPU's where one is used, else resident."""
    if settings.device == "cuda":
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def macs_forward(settings: TrainSettings, outcome: Outcome) -> int | None:
    """Multiply-adds per image of the conventional layers' forward pass; None for a user's model."""
    if settings.model not in ARCHITECTURES:
        return None
    return describe(settings.model, settings.kind, outcome.input_shape, outcome.classes, settings.width).macs


def last_epoch_accuracy(rows: pd.DataFrame, steps_per_epoch: int) -> float | None:
    """Mean training accuracy over the last epoch that was completed; None when none was."""
    steps = metrics.per_step(rows)
    whole = steps.groupby("epoch").filter(lambda epoch: len(epoch) == steps_per_epoch)
    return None if whole.empty else float(whole[whole["epoch"] == whole["epoch"].max()]["accuracy"].mean())


def summarise(
    settings: TrainSettings, folder: RunFolder, model: nn.Module, outcome: Outcome, rows: pd.DataFrame,
    provenance: Provenance, peak_memory: int,
) -> Summary:  # fmt: skip
    """The summary of a run from the rows of all its ranks."""
    steps = metrics.per_step(rows)
    paper, paper_std = metrics.throughput_paper(rows)
    sigma = sigma_median(model)
    judged_sigma = sigma if settings.save_posterior else None  # a throughput run is not asked to learn its noise
    attempts = int(rows["attempt"].nunique())
    status, reasons = metrics.verdict(
        rows, len(provenance.ranks), cv_limit=settings.cv_limit, attempts=attempts,
        mixed_hardware=provenance.mixed_hardware(), dirty=provenance.git_dirty,
        sigma_median=judged_sigma, sigma_median_start=outcome.sigma_start,
    )  # fmt: skip
    last, (total, trainable) = steps.iloc[-1], count_parameters(model)
    warmup = steps[steps["phase"] == metrics.WARMUP]["seconds"].sum()
    finite = outcome.failed_step is None
    return Summary(
        hash=settings.fingerprint(),
        labels=settings.labels,
        engine=rows["engine"].iloc[0],
        implementation=settings.implementation,
        ranks=len(provenance.ranks),
        attempts=attempts,
        verdict=Verdict(status=status, reasons=reasons),
        throughput=Throughput(
            steady=metrics.throughput_steady(rows),
            steady_std=metrics.throughput_steady_std(rows),
            all_steps=metrics.throughput_all(rows),
            paper=paper,
            paper_std=paper_std,
            steady_steps=len(metrics.steady(rows)),
            coefficient_of_variation=metrics.coefficient_of_variation(rows),
        ),
        steps=len(steps),
        steps_per_epoch=outcome.steps_per_epoch,
        epochs_completed=len(steps) // outcome.steps_per_epoch,
        train_size=outcome.train_size,
        samples=int(steps["samples"].sum()),
        seconds_total=time.time() - outcome.process_start,
        seconds_startup=outcome.training_start - outcome.process_start,
        seconds_training=float(steps["seconds"].sum()),
        seconds_warmup=float(warmup),
        seconds_steady=float(steps["seconds"].sum() - warmup),
        parameters_total=total,
        parameters_trainable=trainable,
        macs_forward_per_image=macs_forward(settings, outcome),
        peak_memory_bytes=peak_memory,
        loss=float(last["loss"]) if finite else None,
        nll=float(last["nll"]) if finite else None,
        kl=float(last["kl"]) if finite else None,
        accuracy_running=float(last["accuracy_running"]),
        accuracy_last_epoch=last_epoch_accuracy(rows, outcome.steps_per_epoch),
        sigma_median=sigma if finite else None,
        sigma_median_start=outcome.sigma_start,
        evaluations=outcome.evaluations,
        manifest=folder.manifest(),
    )


def finish(
    settings: TrainSettings, folder: RunFolder, model: nn.Module, engine: Engine, outcome: Outcome
) -> Summary | None:
    """Write all records and publish them; returns the summary on rank 0. Every rank must call it."""
    rows = merge_rows(folder, outcome.rows, engine)
    memory = max(engine.gather(peak_memory_bytes(settings), "memory"))
    provenance = gather_provenance(engine, outcome.process_start)
    summary = None
    if engine.rank == 0:
        folder.write_cell(settings)
        write_text(folder.staging / PROVENANCE, provenance.model_dump_json(indent=2))
        if settings.save_posterior and outcome.failed_step is None:
            save_into(folder.staging / POSTERIOR, settings, model, outcome)
        summary = summarise(settings, folder, model, outcome, rows, provenance, memory)
        write_text(folder.staging / SUMMARY, summary.model_dump_json(indent=2))
        folder.publish()
    engine.barrier("published")
    return summary


def save_into(folder: Path, settings: TrainSettings, model: nn.Module, outcome: Outcome) -> None:
    """Write the trained posterior as `step-N` under `folder`."""
    first = next(model.parameters())
    example = torch.zeros((1, *outcome.input_shape), dtype=first.dtype, device=first.device)
    save_posterior(
        model, folder / f"step-{outcome.steps}", example_input=example, step=outcome.steps,
        extra={"settings": settings.science()},
    )  # fmt: skip
