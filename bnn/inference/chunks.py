"""Draws in chunks, each a file: memory is bounded, ranks share them out, an interrupted run keeps those it has."""

from __future__ import annotations

import time
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bnn.atomic import atomic_file
from bnn.engine import Engine
from bnn.errors import UserError
from bnn.inference.heldout import HeldOut
from bnn.inference.mixture import Mixture

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


def missing_chunks(draws: int, chunk: int, engine: Engine, folder: Path) -> list[range]:
    """The draws of each chunk that this rank has still to make: its share of all chunks, without those in `folder`."""
    firsts = range(0, draws, chunk)[engine.rank :: engine.size]
    return [range(first, min(draws, first + chunk)) for first in firsts if not chunk_file(folder, first).exists()]


def compute_chunks(
    mixture: Mixture, images: HeldOut, chunks: Iterable[range], seed: int, rank: int, folder: Path, device: str,
    drawn: Callable[[int], object],
) -> None:  # fmt: skip
    """Make the draws of each of `chunks` and write it to `folder`; `drawn` is told how many more draws are made.

    Raises UserError for probabilities that are not finite, and when a file cannot be written.
    """
    blocks = mixture.blocks(images, device)
    for chunk in chunks:
        made = np.empty((len(chunk), len(images), images.classes), np.float32)
        seconds = np.empty(len(chunk))
        for share in mixture.shares(chunk):
            values = mixture.probabilities(seed, share, blocks)
            for place in share.places:
                start = time.perf_counter()
                made[place] = next(values).cpu().numpy()
                seconds[place] = time.perf_counter() - start
                if not np.isfinite(made[place]).all():
                    raise UserError(f"draw {chunk[place]}: probabilities that are not finite")
                drawn(1)
            if mixture.predictors[share.member].mode != "exact":
                mine = slice(share.places.start, share.places.stop, share.places.step)
                seconds[mine] = seconds[mine].mean()  # one pass makes several draws
        write_chunk(folder, Chunk(chunk.start, made, seconds, rank))


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
