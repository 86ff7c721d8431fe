"""What `bnn infer` does: loads a posterior, lets the ranks draw, and writes what the draws say."""

from __future__ import annotations

import shutil
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bnn import kernels
from bnn.commands.output import errors_named, made_before, make_ready, staged
from bnn.commands.progress import counted
from bnn.device import peak_memory_bytes, prepare_device
from bnn.engine import Engine
from bnn.inference.chunks import compute_chunks, draws_per_chunk, missing_chunks, read_chunks
from bnn.inference.convergence import SETTLED_TOLERANCE, convergence, settled_draws
from bnn.inference.heldout import HeldOut, held_out
from bnn.inference.mixture import Mixture, member_facts, refuse_twins
from bnn.inference.ood import judged, outside
from bnn.inference.settings import InferSettings
from bnn.inference.severities import Shift
from bnn.inference.shift import shifted
from bnn.inference.summary import held_out_summary
from bnn.inference.tables import FILES, gather, write_tables
from bnn.inference.temperature import temperature_of
from bnn.neighbours import NeighbourMeter, gather_neighbours
from bnn.posterior import load_posterior
from bnn.posterior.facts import find_posterior
from bnn.records import inference as records
from bnn.records.columns import write_table
from bnn.records.files import write_text
from bnn.records.neighbours import NEIGHBOURS, NEIGHBOURS_FILE

WORK = ".chunks"
RECORDS = (
    *FILES,
    records.OOD_IMAGES_FILE,
    NEIGHBOURS_FILE,
    records.INFERENCE,
)  # in the order in which they are published


@dataclass(frozen=True)
class Part:
    """Images whose draws are made in one phase, so many per chunk, which lie in a folder of their own."""

    phase: str
    images: HeldOut
    chunk: int
    folder: Path


def infer(settings: InferSettings, out: Path, engine: Engine, started_at: float) -> records.InferenceSummary | None:
    """Predict and write the records to `out`, inference.json last; returns the summary on rank 0.

    Every rank calls it. Draws that an interrupted run with the same settings has made are kept. Raises UserError as
    `prepare_device`, `load_posterior`, `held_out`, `shifted`, `outside`, `Mixture` and `temperature_of` do, for a
    posterior that is given twice, and when `out` cannot be written.
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
    others = outside(settings, images)
    mixture = Mixture(folders, networks, settings.mode)
    settings = settings.model_copy(update={"draws": mixture.draws(settings.draws)})
    temperature = temperature_of(settings, mixture, networks[0], engine)
    mixture.temperature = temperature.value
    parts = parted(settings, mixture, facts, images, others, out / WORK)
    if engine.rank == 0:
        with errors_named(out):
            make_ready(out, RECORDS, parts[0].folder)
            parts[-1].folder.mkdir(exist_ok=True)
    engine.barrier("prepared")
    startup = time.time() - started_at
    taken = make_draws(mixture, parts, settings, engine, meter)
    meter.stop()
    seconds = engine.gather(taken, "seconds")
    neighbours = gather_neighbours(engine, meter)
    peaks = engine.gather(peak_memory_bytes(settings.device), "memory")
    hosts = engine.gather(socket.gethostname(), "hosts")
    if engine.rank != 0:
        engine.barrier("written")
        return None
    left = tuple(name for name in RECORDS if others or name != records.OOD_IMAGES_FILE)
    with errors_named(out), staged(out, left) as staging:
        chunks = [read_chunks(part.folder, settings.draws, part.chunk) for part in parts]
        gathered, of_truth = gather(chunks[0], settings.draws, images, staging)
        measured = gathered.statistics.summary()
        table = convergence(of_truth, seed=settings.seed)
        write_tables(gathered, table, images, staging)
        of_others = judged(chunks[1], settings, others, gathered.statistics.images(), staging) if others else None
        write_table(neighbours.frame(), staging / NEIGHBOURS_FILE, NEIGHBOURS)
        common = held_out_summary(
            settings, facts[0], images, neighbours, members=members, measured="draws",
            spread=measured["softmax_spread"], hosts=hosts, started_at=started_at,
        )  # fmt: skip
        summary = records.InferenceSummary(
            **common,
            members=members,
            shift=settings.shift,
            ood=of_others,
            temperature=temperature.value,
            temperature_fit=temperature.fit,
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


def parted(
    settings: InferSettings, mixture: Mixture, facts: Sequence[records.PosteriorFacts], images: HeldOut,
    others: HeldOut | None, work: Path,
) -> list[Part]:  # fmt: skip
    """The held-out images, and those of another data set if there are any; the chunks of both lie in `work`."""
    chunk = chunk_of(settings, mixture, images)
    folder = work / settings.fingerprint(",".join(each.sha256 for each in facts), chunk, mixture.temperature)
    parts = [Part("draws", images, chunk, folder)]
    if others:
        chunk = chunk_of(settings, mixture, others)
        parts.append(Part("ood", others, chunk, folder / settings.ood_fingerprint(chunk)))
    return parts


def make_draws(
    mixture: Mixture, parts: Sequence[Part], settings: InferSettings, engine: Engine, meter: NeighbourMeter
) -> float:
    """Make this rank's share of the chunks that are missing; returns the seconds that the first part took."""
    missing = [missing_chunks(settings.draws, part.chunk, engine, part.folder) for part in parts]
    taken = []
    with counted("inference", sum(len(c) for m in missing for c in m), "draws", shown=engine.rank == 0) as drawn:
        for part, mine in zip(parts, missing, strict=True):
            start = time.perf_counter()
            meter.enter(part.phase)
            compute_chunks(mixture, part.images, mine, settings.seed, engine.rank, part.folder, settings.device, drawn)
            taken.append(time.perf_counter() - start)
    return taken[0]


def chunk_of(settings: InferSettings, mixture: Mixture, images: HeldOut) -> int:
    """Draws per chunk, of such images."""
    together = mixture.together(len(images))
    if settings.draws_at_once is not None:
        return -(-settings.draws_at_once // together) * together
    return draws_per_chunk(settings.draws, len(images), images.classes, together)


def noise_source(device: str) -> str:
    """What made the noise: results are the same for the same seed and the same source."""
    return f"philox ({kernels.isa()})" if device == "cpu" and kernels.available() else f"torch ({device})"
