"""The end of a run: its records, from all ranks, the summary last."""

from __future__ import annotations

import math
import time

import pandas as pd
import torch

from bnn import metrics
from bnn.device import peak_memory_bytes
from bnn.energy import RunEnergy
from bnn.layers import sigma_median
from bnn.layers.report import ConvertedParameter
from bnn.models.build import count_parameters
from bnn.models.describe import MODELS, describe
from bnn.models.own import user_code
from bnn.neighbours import Neighbours
from bnn.posterior import save_posterior
from bnn.posterior.trace import current
from bnn.provenance import gather_provenance
from bnn.records import (
    POSTERIOR,
    PROVENANCE,
    STEPS,
    STEPS_FILE,
    SUMMARY,
    Provenance,
    Summary,
    Throughput,
    Verdict,
    read_table,
    write_table,
)
from bnn.records.files import write_text
from bnn.records.neighbours import NEIGHBOURS, NEIGHBOURS_FILE
from bnn.records.summary import ParameterRow
from bnn.training.blocks import gradient_blocks
from bnn.training.implementation import conventional
from bnn.training.run import Run
from bnn.training.start import example_input


def merge_rows(run: Run) -> pd.DataFrame:
    """Write this rank's rows, and on rank 0 return those of all ranks (elsewhere: this rank's)."""
    rows, engine, folder = run.recorder.frame(), run.trainer.engine, run.folder
    parts = [folder.staging / f"steps-rank-{rank}.parquet" for rank in range(engine.size)]
    write_table(rows, parts[engine.rank], STEPS)
    run.heartbeat.move("exchange")
    run.waiting.stage(engine, folder.staging)
    engine.barrier("rows")
    if engine.rank != 0:
        return rows
    run.heartbeat.move("end")
    frames = [read_table(part, STEPS) for part in parts]
    run.waiting.fill(frames, engine, folder.staging, folder.attempt, run.first_step)
    merged = pd.concat(frames, ignore_index=True)
    write_table(merged.sort_values(["step", "rank"]), folder.staging / STEPS_FILE, STEPS)
    for part in parts:
        part.unlink()
    return merged


def macs_forward(run: Run) -> int | None:
    """Multiply-adds per image of the conventional layers' forward pass; None for a user's model."""
    settings, dataset = run.settings, run.dataset
    if settings.model not in MODELS:
        return None
    return describe(settings.model, settings.kind, dataset.input_shape, dataset.classes, settings.width).macs


def parameter_row(row: ConvertedParameter) -> ParameterRow:
    return ParameterRow(name=row.name, shape=list(row.shape), bayesian=row.bayesian, how=row.how)


def finite_result(run: Run) -> bool:
    """Whether all parameters and held-out metrics are finite: no later loss would show a spoilt last update."""
    evaluated = all(evaluation.nll is not None for evaluation in run.evaluations)
    return evaluated and all(bool(torch.isfinite(value).all()) for value in run.trainer.posterior().parameters())


def last_epoch_accuracy(steps: pd.DataFrame, epochs_completed: int) -> float | None:
    """Mean training accuracy over the last epoch that was completed; None when none was, and for a regression."""
    done = steps[steps["epoch"] < epochs_completed]
    mean = done[done["epoch"] == done["epoch"].max()]["accuracy"].mean()
    return None if math.isnan(mean) else float(mean)


def steady_samples(run: Run, steps: pd.DataFrame) -> int:
    """Training samples of the steady steps of this attempt, all ranks together; `steps` has one row per step."""
    mine = steps[(steps["attempt"] == run.folder.attempt) & (steps["phase"] == metrics.STEADY)]
    return int(mine["samples"].sum())


def summarise(
    run: Run,
    rows: pd.DataFrame,
    provenance: Provenance,
    peak_memory: int,
    process_start: float,
    training_start: float,
    energy: RunEnergy,
    neighbours: Neighbours,
) -> Summary:
    """The summary of a run from the rows of all its ranks; both starts are in seconds since 1970."""
    settings, trainer = run.settings, run.trainer
    model, schedule = trainer.posterior(), trainer.schedule
    steps = metrics.per_step(rows)
    paper, paper_std = metrics.throughput_paper(rows)
    sigma = sigma_median(model)
    judged_sigma = sigma if settings.save_posterior else None  # a throughput run is not asked to learn its noise
    attempts = int(rows["attempt"].nunique())
    steady_load = neighbours.phases.get(metrics.STEADY)
    on_purpose = [f"an experiment: {settings.fault.words}"] if settings.fault else []
    status, reasons = metrics.verdict(
        rows, len(provenance.ranks), cv_limit=settings.cv_limit, attempts=attempts,
        mixed_hardware=provenance.mixed_hardware(), dirty=provenance.git_dirty,
        sigma_median=judged_sigma, sigma_median_start=run.sigma_start,
        draw_spread=run.evaluations[-1].draw_spread if run.evaluations else None,
        finite=finite_result(run),
        disturbed=on_purpose + metrics.disturbances(steady_load, "the steady steps", settings.foreign_limit),
    )  # fmt: skip
    last, (total, trainable) = steps.iloc[-1], count_parameters(model)
    warmup = steps[steps["phase"] == metrics.WARMUP]["seconds"].sum()
    finite = run.recorder.failed_step is None
    samples = steady_samples(run, steps)
    return Summary(
        hash=settings.fingerprint(),
        labels=settings.labels,
        engine=rows["engine"].iloc[0],
        implementation=run.recorder.facts.implementation,
        resolved_implementation=trainer.implementation,
        implementation_seconds=run.tried,
        memory_layout="channels_last" if trainer.layout == torch.channels_last else "contiguous",
        conversion=[parameter_row(row) for row in run.conversion] or None,
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
        steps_per_epoch=schedule.epoch_samples / schedule.step_samples,
        epochs_completed=schedule.completed(len(steps)),
        train_size=schedule.n,
        samples=int(steps["samples"].sum()),
        seconds_total=time.time() - process_start,
        seconds_startup=training_start - process_start,
        seconds_training=float(steps["seconds"].sum()),
        seconds_warmup=float(warmup),
        seconds_steady=float(steps["seconds"].sum() - warmup),
        parameters_total=total,
        parameters_trainable=trainable,
        gradient_messages_per_step=trainer.exchange.messages_per_step,
        gradient_bytes_per_step=trainer.exchange.bytes_per_step,
        gradient_blocks=gradient_blocks(run, rows[rows["rank"] == 0]),
        fault=settings.fault.words if settings.fault else None,
        clock_error_seconds=run.waiting.error,
        macs_forward_per_image=macs_forward(run),
        peak_memory_bytes=peak_memory,
        energy_joules=energy.joules if attempts == 1 else None,  # nobody has kept what earlier attempts took
        energy_steady_joules=energy.steady_joules,
        joules_per_sample=energy.steady_joules / samples if energy.steady_joules and samples else None,
        energy_source=energy.source,
        neighbours=neighbours.phases,
        loss=float(last["loss"]) if finite else None,
        nll=float(last["nll"]) if finite else None,
        kl=float(last["kl"]) if finite else None,
        accuracy_running=None if math.isnan(last["accuracy_running"]) else float(last["accuracy_running"]),
        accuracy_last_epoch=last_epoch_accuracy(steps, schedule.completed(len(steps))),
        sigma_median=sigma if finite else None,
        sigma_median_start=run.sigma_start,
        evaluations=run.evaluations,
        manifest=run.folder.manifest(),
    )


def finish(
    run: Run, process_start: float, training_start: float, energy: RunEnergy, neighbours: Neighbours
) -> Summary | None:
    """Write all records and publish them; returns the summary on rank 0. Every rank must call it."""
    settings, engine, folder, heartbeat = run.settings, run.trainer.engine, run.folder, run.heartbeat
    heartbeat.move("end")
    rows = merge_rows(run)
    heartbeat.move("exchange")
    memory = max(engine.gather(peak_memory_bytes(settings.device), "memory"))
    provenance = gather_provenance(engine, settings.device, process_start)
    summary = None
    if engine.rank == 0:
        heartbeat.move("end")
        folder.write_cell(settings)
        write_text(folder.staging / PROVENANCE, provenance.model_dump_json(indent=2))
        write_table(neighbours.frame(), folder.staging / NEIGHBOURS_FILE, NEIGHBOURS)
        if settings.save_posterior and run.recorder.failed_step is None and finite_result(run):
            write_posterior(run)
        summary = summarise(run, rows, provenance, memory, process_start, training_start, energy, neighbours)
        write_text(folder.staging / SUMMARY, summary.model_dump_json(indent=2))
        folder.publish()
    engine.barrier("published")
    heartbeat.move("end")
    return summary


def write_posterior(run: Run) -> None:
    """Stage the trained posterior as `posterior/step-N`: the graph recorded at the start, with the tensors of now."""
    model, extra = run.trainer.posterior(), {"settings": run.settings.science()}
    example = example_input(model, run.dataset)
    with conventional(model), user_code(run.settings.model, model):
        step = run.recorder.done
        network = model if run.recorded is None else current(model, run.recorded, example, step, extra)
        folder = run.folder.staging / POSTERIOR / f"step-{step}"
        save_posterior(network, folder, example_input=example, step=step, extra=extra)
