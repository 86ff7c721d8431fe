"""Draws in chunks, each a file: memory is bounded, ranks share them out, an interrupted run keeps those it has."""

from __future__ import annotations

import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from bnn.atomic import atomic_file
from bnn.engine import Engine
from bnn.errors import UserError
from bnn.inference.heldout import HeldOut
from bnn.inference.predictor import Predictor

CHUNK_BYTES = 64 * 2**20
CHUNKS = 32  # there are at least so many, if there are as many draws: an interrupted run loses one per rank


@dataclass(frozen=True)
class Chunk:
    """Draws first, ..., first + n - 1: probabilities (n, images, classes) float32, seconds (n,), the rank's number."""

    first: int
    probabilities: NDArray[np.float32]
    seconds: NDArray[np.float64]
    rank: int


def draws_per_chunk(draws: int, images: int, classes: int, together: int) -> int:
    """Draws of a chunk: a multiple of `together`, the draws that one pass makes. The number of ranks plays no part."""
    fits = CHUNK_BYTES // (4 * images * classes)
    count = max(1, min(fits, draws // CHUNKS))
    return -(-count // together) * together


def chunk_file(folder: Path, first: int) -> Path:
    return folder / f"chunk-{first:08d}.npz"


def compute_chunks(
    predictor: Predictor, images: HeldOut, draws: int, chunk: int, seed: int, engine: Engine, folder: Path, device: str
) -> None:
    """Compute this rank's share of the chunks and write each to `folder`; a chunk that is already there is skipped.

    Raises UserError for probabilities that are not finite, and when a file cannot be written.
    """
    blocks = images.blocks(predictor.block, device)
    firsts = range(0, draws, chunk)
    mine = [first for first in firsts[engine.rank :: engine.size] if not chunk_file(folder, first).exists()]
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("draws"))
    console = Console(stderr=True, quiet=engine.rank != 0)
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console) as bar:
        task = bar.add_task("inference", total=sum(min(chunk, draws - first) for first in mine))
        for first in mine:
            last = min(draws, first + chunk)
            made = np.empty((last - first, len(images), images.classes), np.float32)
            seconds = np.empty(last - first)
            values = predictor.probabilities(seed, first, last, blocks)
            for place in range(last - first):
                start = time.perf_counter()
                made[place] = next(values).cpu().numpy()
                seconds[place] = time.perf_counter() - start
                if not np.isfinite(made[place]).all():
                    raise UserError(f"draw {first + place}: probabilities that are not finite")
                bar.advance(task)
            if predictor.mode != "exact":
                seconds[:] = seconds.mean()  # one pass makes several draws
            write_chunk(folder, Chunk(first, made, seconds, engine.rank))


def write_chunk(folder: Path, chunk: Chunk) -> None:
    path = chunk_file(folder, chunk.first)
    try:
        with atomic_file(path) as aside, aside.open("wb") as stream:
            np.savez(stream, probabilities=chunk.probabilities, seconds=chunk.seconds, rank=chunk.rank)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None


def read_chunks(folder: Path, draws: int, chunk: int) -> Iterator[Chunk]:
    """All chunks in order. Raises UserError for one that is damaged."""
    for first in range(0, draws, chunk):
        path = chunk_file(folder, first)
        try:
            with np.load(path, allow_pickle=False) as found:
                yield Chunk(first, found["probabilities"], found["seconds"], int(found["rank"]))
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise UserError(f"{path}: damaged ({error}); delete it and run the same command again") from None


class ArraysWriter:
    """Writes draws.npz chunk by chunk: an uncompressed archive as `numpy.savez` makes it, never whole in memory."""

    def __init__(self, path: Path, shape: tuple[int, int, int]) -> None:
        self.archive = zipfile.ZipFile(path, "w", allowZip64=True)
        self.stream = self.archive.open("probabilities.npy", "w", force_zip64=True)
        header = {"descr": "<f4", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(self.stream, header)

    def add(self, probabilities: NDArray[np.float32]) -> None:
        self.stream.write(np.ascontiguousarray(probabilities, "<f4").tobytes())

    def close(self, **arrays: NDArray[np.int64]) -> None:
        """Add the small arrays and finish the archive."""
        self.stream.close()
        for name, values in arrays.items():
            with self.archive.open(f"{name}.npy", "w") as stream:
                np.lib.format.write_array(stream, values, allow_pickle=False)
        self.archive.close()
