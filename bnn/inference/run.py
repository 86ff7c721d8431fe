"""`bnn infer`: loads a posterior, lets the ranks draw, and writes what the draws say."""

from __future__ import annotations

import os
import shutil
import socket
import sys
import time
from pathlib import Path

from bnn import kernels, metrics
from bnn.device import peak_memory_bytes, prepare_device
from bnn.engine import Engine
from bnn.errors import UserError
from bnn.inference.chunks import compute_chunks, draws_per_chunk, read_chunks
from bnn.inference.convergence import SETTLED_TOLERANCE, convergence, settled_draws
from bnn.inference.heldout import held_out
from bnn.inference.predictor import Predictor
from bnn.inference.settings import HeldOutSettings, InferSettings
from bnn.inference.tables import FILES, gather, write_tables
from bnn.neighbours import NeighbourMeter, Neighbours, gather_neighbours
from bnn.posterior import load_posterior
from bnn.posterior.facts import find_posterior, posterior_facts
from bnn.provenance import git_state, versions
from bnn.records import inference as records
from bnn.records.columns import write_table
from bnn.records.files import write_text
from bnn.records.neighbours import NEIGHBOURS, NEIGHBOURS_FILE
from bnn.records.summary import Verdict

WORK = ".chunks"


def infer(settings: InferSettings, out: Path, engine: Engine, started_at: float) -> records.InferenceSummary | None:
    """Predict and write the records to `out`, inference.json last; returns the summary on rank 0.

    Every rank calls it. Draws that an interrupted run with the same settings has made are kept. Raises UserError as
    `prepare_device`, `load_posterior` and `held_out` do, and when `out` cannot be written.
    """
    meter = NeighbourMeter("startup")
    prepare_device(settings.device, settings.threads, engine)
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
    meter.enter("draws")
    compute_chunks(predictor, images, settings.draws, chunk, settings.seed, engine, work, settings.device)
    taken = time.perf_counter() - start
    meter.stop()
    seconds = engine.gather(taken, "seconds")
    neighbours = gather_neighbours(engine, meter)
    peaks = engine.gather(peak_memory_bytes(settings.device), "memory")
    hosts = engine.gather(socket.gethostname(), "hosts")
    if engine.rank != 0:
        engine.barrier("written")
        return None
    staging = out / f".partial-{os.getpid()}"
    staging.mkdir()
    try:
        gathered, of_truth = gather(read_chunks(work, settings.draws, chunk), settings.draws, images, staging)
        measured = gathered.statistics.summary()
        table = convergence(of_truth, seed=settings.seed)
        write_tables(gathered, table, images, staging)
        write_table(neighbours.frame(), staging / NEIGHBOURS_FILE, NEIGHBOURS)
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
            device=settings.device,
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
            neighbours=neighbours.phases,
            verdict=verdict(facts, measured["softmax_spread"], dirty, disturbed(neighbours, "draws", settings)),
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
        for name in (records.INFERENCE, NEIGHBOURS_FILE, *FILES):
            (out / name).unlink(missing_ok=True)
        for old in (*out.glob(".partial-*"), *(out / WORK).glob("*")):
            if old != work:
                shutil.rmtree(old, ignore_errors=True)
        work.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{out}: {error.strerror}") from None


def publish(staging: Path, out: Path) -> None:
    """Rename the staged files into place, the summary last."""
    for name in (*FILES, NEIGHBOURS_FILE, records.INFERENCE):
        os.replace(staging / name, out / name)


def noise_source(device: str) -> str:
    """What made the noise: results are the same for the same seed and the same source."""
    return f"philox ({kernels.isa()})" if device == "cpu" and kernels.available() else f"torch ({device})"


def disturbed(neighbours: Neighbours, phase: str, settings: HeldOutSettings) -> list[str]:
    """What disturbed the part that was measured."""
    return metrics.disturbances(neighbours.phases.get(phase), f"the {phase}", settings.foreign_limit)


def verdict(
    facts: records.PosteriorFacts, spread: float | None, dirty: bool | None, disturbances: list[str]
) -> Verdict:
    """OK, or WARN with the reasons."""
    reasons = disturbances + metrics.degenerate(facts.sigma_median, facts.sigma_median_start, spread)
    if dirty:
        reasons.insert(0, "the working tree had uncommitted changes")
    return Verdict(status="WARN" if reasons else "OK", reasons=reasons)
