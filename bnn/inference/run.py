"""`bnn infer`: loads a posterior, lets the ranks draw, and writes what the draws say."""

from __future__ import annotations

import os
import resource
import shutil
import socket
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bnn import kernels, metrics
from bnn.engine import Engine
from bnn.errors import UserError
from bnn.inference.chunks import ArraysWriter, compute_chunks, draws_per_chunk, read_chunks
from bnn.inference.convergence import SETTLED_TOLERANCE, convergence, settled_draws
from bnn.inference.heldout import HeldOut, held_out
from bnn.inference.measures import PredictiveStatistics
from bnn.inference.predictor import Predictor
from bnn.inference.reliability import reliability
from bnn.inference.settings import InferSettings
from bnn.posterior import load_posterior
from bnn.posterior.facts import find_posterior, posterior_facts
from bnn.provenance import git_state, versions
from bnn.records import inference as records
from bnn.records.columns import write_table
from bnn.records.files import write_text
from bnn.records.summary import Verdict

WORK = ".chunks"
# The convergence of the true class's distribution is judged on so many images, spread over the split.
CONVERGENCE_IMAGES = 200


@dataclass
class Gathered:
    """What is collected while the chunks pass by."""

    statistics: PredictiveStatistics
    ranks: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    shown: list[np.ndarray] = field(default_factory=list)  # true class's softmax values of the images that are shown
    sampled: list[np.ndarray] = field(default_factory=list)  # and of those whose convergence is judged


def infer(settings: InferSettings, out: Path, engine: Engine, started_at: float) -> records.InferenceSummary | None:
    """Predict and write the records to `out`, inference.json last; returns the summary on rank 0.

    Every rank calls it. Draws that an interrupted run with the same settings has made are kept. Raises UserError as
    `load_posterior` and `held_out` do, and when `out` cannot be written.
    """
    folder = find_posterior(settings.posterior, settings.step)
    network = load_posterior(folder).to(settings.device)
    facts = posterior_facts(folder, network)
    images = held_out(settings, network)
    predictor = Predictor(network, settings.mode)
    together = predictor.passes(len(images))
    chunk = draws_per_chunk(settings.draws, len(images), images.classes, together)
    if settings.draws_at_once is not None:
        chunk = -(-settings.draws_at_once // together) * together
    work = out / WORK / settings.fingerprint(facts.sha256, chunk)
    if engine.rank == 0:
        prepare(out, work)
    engine.barrier("prepared")
    startup = time.time() - started_at
    start = time.perf_counter()
    compute_chunks(predictor, images, settings.draws, chunk, settings.seed, engine, work, settings.device)
    seconds = engine.gather(time.perf_counter() - start, "seconds")
    peaks = engine.gather(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, "memory")
    hosts = engine.gather(socket.gethostname(), "hosts")
    if engine.rank != 0:
        engine.barrier("written")
        return None
    staging = out / f".partial-{os.getpid()}"
    staging.mkdir()
    try:
        gathered, of_truth = gather(read_chunks(work, settings.draws, chunk), settings, images, staging)
        measured = gathered.statistics.summary()
        table = convergence(of_truth, seed=settings.seed)
        write_tables(gathered, table, images, staging)
        revision, dirty = git_state()
        summary = records.InferenceSummary(
            posterior=facts,
            labels=settings.labels,
            dataset=settings.dataset,
            dataset_source=images.source,
            dataset_checksum=images.checksum,
            split=settings.split,
            images=len(images),
            classes=images.classes,
            draws=settings.draws,
            seed=settings.seed,
            mode=settings.mode,
            form=predictor.form,
            noise=noise_source(settings.device),
            block=predictor.block,
            engine=engine.name,
            ranks=engine.size,
            threads=settings.threads,
            **measured,
            settled_draws=settled_draws(table),
            settled_tolerance=SETTLED_TOLERANCE,
            seconds_startup=startup,
            seconds_draws=max(seconds),
            peak_memory_bytes=max(peaks),
            started_at=started_at,
            stopped_at=time.time(),
            command=sys.argv,
            versions=versions(),
            hosts=sorted(set(hosts)),
            git_revision=revision,
            git_dirty=dirty,
            verdict=verdict(facts, measured["softmax_spread"], dirty),
        )
        write_text(staging / records.INFERENCE, summary.model_dump_json(indent=2))
        publish(staging, out)
    except OSError as error:
        raise UserError(f"{out}: {error.strerror}") from None
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    shutil.rmtree(out / WORK, ignore_errors=True)
    engine.barrier("written")
    return summary


def prepare(out: Path, work: Path) -> None:
    """Make the folder ready: an earlier result goes, chunks of other settings too."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name in (records.INFERENCE, *FILES):
            (out / name).unlink(missing_ok=True)
        for old in (*out.glob(".partial-*"), *(out / WORK).glob("*")):
            if old != work:
                shutil.rmtree(old, ignore_errors=True)
        work.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{out}: {error.strerror}") from None


FILES = (
    records.ARRAYS_FILE, records.PREDICTIONS_FILE, records.IMAGES_FILE, records.DRAWS_FILE, records.TRUE_CLASS_FILE,
    records.RELIABILITY_FILE, records.CONVERGENCE_FILE,
)  # fmt: skip


def publish(staging: Path, out: Path) -> None:
    """Rename the staged files into place, the summary last."""
    for name in (*FILES, records.INFERENCE):
        os.replace(staging / name, out / name)


def gather(chunks: Any, settings: InferSettings, images: HeldOut, staging: Path) -> tuple[Gathered, np.ndarray]:
    """Pass all chunks by once, in order: draws.npz, statistics, and the true class's softmax values (draws, images)."""
    gathered = Gathered(PredictiveStatistics(len(images), images.classes, images.labels))
    shown = images.first_of_classes()
    sampled = np.unique(np.linspace(0, len(images) - 1, min(len(images), CONVERGENCE_IMAGES)).astype(np.int64))
    shape = (settings.draws, len(images), images.classes)
    arrays = ArraysWriter(staging / records.ARRAYS_FILE, shape)
    for chunk in chunks:
        if chunk.probabilities.shape[1:] != shape[1:]:
            raise UserError(f"chunk of draw {chunk.first}: shape {chunk.probabilities.shape}, expected {shape[1:]}")
        arrays.add(chunk.probabilities)
        gathered.statistics.add(chunk.first, chunk.probabilities)
        gathered.ranks += [chunk.rank] * len(chunk.seconds)
        gathered.seconds += chunk.seconds.tolist()
        gathered.shown.append(chunk.probabilities[:, shown, images.labels[shown]])
        gathered.sampled.append(chunk.probabilities[:, sampled, images.labels[sampled]])
    arrays.close(image=np.arange(len(images)), label=images.labels)
    return gathered, np.concatenate(gathered.sampled)


def write_tables(gathered: Gathered, table: pd.DataFrame, images: HeldOut, staging: Path) -> None:
    """Write the Parquet records."""
    statistics, shown = gathered.statistics, images.first_of_classes()
    write_table(statistics.predictions(), staging / records.PREDICTIONS_FILE, records.PREDICTIONS)
    by_image = statistics.images()
    by_image.insert(0, "image", np.arange(len(images)))
    write_table(by_image, staging / records.IMAGES_FILE, records.IMAGES)
    draws = statistics.draws().assign(seconds=gathered.seconds, rank=gathered.ranks)
    write_table(draws, staging / records.DRAWS_FILE, records.DRAWS)
    write_table(
        true_class(np.concatenate(gathered.shown), shown, images), staging / records.TRUE_CLASS_FILE, records.TRUE_CLASS
    )
    of_mean = reliability(statistics.probability, images.labels)
    write_table(of_mean, staging / records.RELIABILITY_FILE, records.RELIABILITY)
    write_table(table, staging / records.CONVERGENCE_FILE, records.CONVERGENCE)


def true_class(of_truth: np.ndarray, shown: np.ndarray, images: HeldOut) -> pd.DataFrame:
    """Softmax values (draws, shown images) of the true class as rows of the table TRUE_CLASS."""
    draws = len(of_truth)
    return pd.DataFrame(
        {
            "image": np.repeat(shown, draws),
            "label": np.repeat(images.labels[shown], draws),
            "draw": np.tile(np.arange(draws), len(shown)),
            "probability": of_truth.T.reshape(-1).astype(np.float64),
        }
    )


def noise_source(device: str) -> str:
    """What made the noise: results are the same for the same seed and the same source."""
    return f"philox ({kernels.isa()})" if device == "cpu" and kernels.available() else f"torch ({device})"


def verdict(facts: records.PosteriorFacts, spread: float | None, dirty: bool | None) -> Verdict:
    """OK, or WARN with the reasons."""
    reasons = metrics.degenerate(facts.sigma_median, facts.sigma_median_start, spread)
    if dirty:
        reasons.insert(0, "the working tree had uncommitted changes")
    return Verdict(status="WARN" if reasons else "OK", reasons=reasons)
