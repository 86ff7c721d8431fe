"""The records of an inference from its chunks, which pass by once and in order."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from bnn.errors import UserError
from bnn.inference.chunks import ArraysWriter, Chunk
from bnn.inference.heldout import HeldOut
from bnn.inference.measures import PredictiveStatistics
from bnn.inference.reliability import reliability
from bnn.records import inference as records
from bnn.records.columns import write_table

FILES = (
    records.ARRAYS_FILE, records.PREDICTIONS_FILE, records.IMAGES_FILE, records.DRAWS_FILE, records.TRUE_CLASS_FILE,
    records.RELIABILITY_FILE, records.CONVERGENCE_FILE,
)  # fmt: skip


# The convergence of the true class's distribution is judged on so many images, spread over the split.
CONVERGENCE_IMAGES = 200


@dataclass
class Gathered:
    """The results that are collected while the chunks are read once, in order."""

    statistics: PredictiveStatistics
    ranks: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    shown: list[np.ndarray] = field(default_factory=list)  # true class's softmax values of the images that are shown
    sampled: list[np.ndarray] = field(default_factory=list)  # and of those whose convergence is judged


def gather(chunks: Iterable[Chunk], total: int, images: HeldOut, staging: Path) -> tuple[Gathered, np.ndarray]:
    """Pass all chunks by once, in order: draws.npz, statistics, and the true class's softmax values (draws, images)."""
    gathered = Gathered(PredictiveStatistics(len(images), images.classes, images.labels))
    shown = images.first_of_classes()
    sampled = np.unique(np.linspace(0, len(images) - 1, min(len(images), CONVERGENCE_IMAGES)).astype(np.int64))
    shape = (total, len(images), images.classes)
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
    arrays.close(image=images.indices, label=images.labels)
    return gathered, np.concatenate(gathered.sampled)


def write_tables(gathered: Gathered, table: pd.DataFrame, images: HeldOut, staging: Path) -> None:
    """Write the Parquet records."""
    statistics, shown = gathered.statistics, images.first_of_classes()
    predictions = statistics.predictions()
    predictions["image"] = images.indices[predictions["image"]]
    write_table(predictions, staging / records.PREDICTIONS_FILE, records.PREDICTIONS)
    by_image = statistics.images()
    by_image.insert(0, "image", images.indices)
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
            "image": np.repeat(images.indices[shown], draws),
            "label": np.repeat(images.labels[shown], draws),
            "draw": np.tile(np.arange(draws), len(shown)),
            "probability": of_truth.T.reshape(-1).astype(np.float64),
        }
    )
