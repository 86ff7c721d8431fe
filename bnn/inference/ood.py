"""Images of another data set than the posterior's, and whether its uncertainty tells them from the held-out ones."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from bnn.data import load_dataset
from bnn.data.base import evenly_spread
from bnn.errors import UserError
from bnn.inference.chunks import Chunk
from bnn.inference.detection import detection
from bnn.inference.heldout import HeldOut
from bnn.inference.measures import PredictiveStatistics
from bnn.inference.settings import InferSettings
from bnn.records import inference as records
from bnn.records.columns import write_table


def outside(settings: InferSettings, inside: HeldOut) -> HeldOut | None:
    """The images of `--ood`, from the same split as those inside; None where none are asked for. Labels are all 0.

    Raises UserError for a data set that cannot be loaded, is the held-out images' own, or has images of another shape.
    """
    name = settings.ood
    if name is None:
        return None
    if (name, settings.ood_options) == (settings.dataset, settings.dataset_options):
        raise UserError(f"--ood {name}: the held-out images are of this data set; give another one")
    dataset = load_dataset(name, settings.data_dir, **settings.ood_options)
    if dataset.checksum is not None and dataset.checksum == inside.checksum:
        raise UserError(f"--ood {name}: these are the held-out images' own data set ({dataset.checksum})")
    split = dataset.test if settings.split == "test" else dataset.train
    shape, wanted = list(split.images.shape[1:]), list(inside.images.shape[1:])
    if shape != wanted:
        raise UserError(f"--ood {name}: images of shape {shape}; those of {settings.dataset} have {wanted}")
    indices = evenly_spread(split, settings.ood_images, "--ood-images", name, settings.split)
    labels = np.zeros(len(indices), np.int64)
    origin = (dataset.name, dataset.source, dataset.checksum)
    return HeldOut(split.images[indices], labels, indices, inside.classes, *origin)


def judged(
    chunks: Iterable[Chunk], settings: InferSettings, images: HeldOut, inside: pd.DataFrame, staging: Path
) -> records.OutOfDistribution:
    """Write the table of the images outside; `inside` is that of the held-out ones (`PredictiveStatistics.images`)."""
    statistics = PredictiveStatistics(len(images), images.classes, images.labels)
    for chunk in chunks:
        statistics.add(chunk.first, chunk.probabilities)
    table = statistics.images().assign(image=images.indices)[records.OOD_IMAGES.names]
    write_table(table, staging / records.OOD_IMAGES_FILE, records.OOD_IMAGES)
    by = {name: detection(inside[name].to_numpy(), table[name].to_numpy()) for name in records.UNCERTAINTIES}
    return records.OutOfDistribution(
        dataset=str(settings.ood),
        dataset_options=settings.ood_options,
        dataset_source=images.source,
        dataset_checksum=images.checksum,
        images=len(images),
        predictive_entropy=float(table["predictive_entropy"].mean()),
        mutual_information=float(table["mutual_information"].mean()),
        by_predictive_entropy=by["predictive_entropy"],
        by_mutual_information=by["mutual_information"],
    )
