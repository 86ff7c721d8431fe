"""What `bnn infer` does: loads a posterior, lets the ranks draw, and writes what the draws say."""

from __future__ import annotations

import shutil
import socket
import time
from pathlib import Path

from bnn import kernels
from bnn.commands.output import errors_named, made_before, make_ready, staged
from bnn.commands.progress import counted
from bnn.device import peak_memory_bytes, prepare_device
from bnn.engine import Engine
from bnn.inference.chunks import compute_chunks, draws_per_chunk, missing_chunks, read_chunks
from bnn.inference.convergence import SETTLED_TOLERANCE, convergence, settled_draws
from bnn.inference.heldout import held_out
from bnn.inference.mixture import Mixture, member_facts, refuse_twins
from bnn.inference.settings import InferSettings
from bnn.inference.severities import Shift
from bnn.inference.shift import shifted
from bnn.inference.summary import held_out_summary
from bnn.inference.tables import FILES, gather, write_tables
from bnn.neighbours import NeighbourMeter, gather_neighbours
from bnn.posterior import load_posterior
from bnn.posterior.facts import find_posterior
from bnn.records import inference as records
from bnn.records.columns import write_table
from bnn.records.files import write_text
from bnn.records.neighbours import NEIGHBOURS, NEIGHBOURS_FILE

WORK = ".chunks"
RECORDS = (*FILES, NEIGHBOURS_FILE, records.INFERENCE)  # in the order in which they are published


def infer(settings: InferSettings, out: Path, engine: Engine, started_at: float) -> records.InferenceSummary | None:
    """Predict and write the records to `out`, inference.json last; returns the summary on rank 0.

    Every rank calls it. Draws that an interrupted run with the same settings has made are kept. Raises UserError as
    `prepare_device`, `load_posterior`, `held_out`, `shifted` and `Mixture` do, for a posterior that is given twice, and
    when `out` cannot be written.
    """
    meter = NeighbourMeter("startup")
    prepare_device(settings.device, settings.threads, engine)
    folders = [find_posterior(path, settings.step) for path in (settings.posterior, *settings.others)]
    networks = [load_posterior(folder).to(settings.device) for folder in folders]
    facts = [member_facts(*each) for each in zip(folders, networks, strict=True)]
    refuse_twins(facts)
    members = facts if len(facts) > 1 else []
    made = made_before(out / records.INFERENCE, records.InferenceSummary, settings.labels, facts[0].sha256)
    if made and [member.sha256 for member in made.members] == [member.sha256 for member in members]:
        return made if engine.rank == 0 else None
    images = held_out(settings, networks[0])
    if settings.shift is not None:
        images = shifted(images, Shift.parse(settings.shift))
    mixture = Mixture(folders, networks, settings.mode)
    settings = settings.model_copy(update={"draws": mixture.draws(settings.draws)})
    together = mixture.together(len(images))
    chunk = draws_per_chunk(settings.draws, len(images), images.classes, together)
    if settings.draws_at_once is not None:
        chunk = -(-settings.draws_at_once // together) * together
    work = out / WORK / settings.fingerprint(",".join(each.sha256 for each in facts), chunk)
    if engine.rank == 0:
        with errors_named(out):
            make_ready(out, RECORDS, work)
    engine.barrier("prepared")
    startup = time.time() - started_at
    start = time.perf_counter()
    meter.enter("draws")
    mine = missing_chunks(settings.draws, chunk, engine, work)
    with counted("inference", sum(map(len, mine)), "draws", shown=engine.rank == 0) as drawn:
        compute_chunks(mixture, images, mine, settings.seed, engine.rank, work, settings.device, drawn)
    taken = time.perf_counter() - start
    meter.stop()
    seconds = engine.gather(taken, "seconds")
    neighbours = gather_neighbours(engine, meter)
    peaks = engine.gather(peak_memory_bytes(settings.device), "memory")
    hosts = engine.gather(socket.gethostname(), "hosts")
    if engine.rank != 0:
        engine.barrier("written")
        return None
    with errors_named(out), staged(out, RECORDS) as staging:
        gathered, of_truth = gather(read_chunks(work, settings.draws, chunk), settings.draws, images, staging)
        measured = gathered.statistics.summary()
        table = convergence(of_truth, seed=settings.seed)
        write_tables(gathered, table, images, staging)
        write_table(neighbours.frame(), staging / NEIGHBOURS_FILE, NEIGHBOURS)
        common = held_out_summary(
            settings, facts[0], images, neighbours, members=members, measured="draws",
            spread=measured["softmax_spread"], hosts=hosts, started_at=started_at,
        )  # fmt: skip
        summary = records.InferenceSummary(
            **common,
            members=members,
            shift=settings.shift,
            dataset_checksum=images.checksum,
            classes=images.classes,
            mode=settings.mode,
            form=mixture.predictors[0].form,
            noise=noise_source(settings.device),
            block=mixture.predictors[0].block,
            engine=engine.name,
            ranks=engine.size,
            **measured,
            settled_draws=settled_draws(table),
            settled_tolerance=SETTLED_TOLERANCE,
            seconds_startup=startup,
            seconds_draws=max(seconds),
            peak_memory_bytes=max(peaks),
        )
        write_text(staging / records.INFERENCE, summary.model_dump_json(indent=2))
    shutil.rmtree(out / WORK, ignore_errors=True)
    engine.barrier("written")
    return summary


def noise_source(device: str) -> str:
    """What made the noise: results are the same for the same seed and the same source."""
    return f"philox ({kernels.isa()})" if device == "cpu" and kernels.available() else f"torch ({device})"
