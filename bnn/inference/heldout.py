"""The images that are predicted, checked against the network that predicts them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bnn.data import load_dataset
from bnn.data.base import Images, Labels, evenly_spread
from bnn.errors import UserError
from bnn.inference.settings import HeldOutSettings
from bnn.inference.tasks import refuse_other_tasks
from bnn.posterior import GraphNetwork


@dataclass(frozen=True)
class HeldOut:
    """Images (N, C, H, W) uint8 and labels (N,), their `indices` (N,) in the split; name, source and checksum of
    their data set."""

    images: Images
    labels: Labels
    indices: NDArray[np.int64]
    classes: int
    name: str
    source: str
    checksum: str | None

    def __len__(self) -> int:
        return len(self.labels)

    def blocks(self, size: int, device: str = "cpu") -> list[Tensor]:
        """The images in [0, 1], float32, channels_last, in blocks of at most `size`."""
        made = []
        for low in range(0, len(self), size):
            block = torch.from_numpy(np.array(self.images[low : low + size])).to(device)  # a copy: theirs is read-only
            made.append(block.float().div_(255).contiguous(memory_format=torch.channels_last))
        return made

    def first_of_classes(self) -> NDArray[np.int64]:
        """Position here of the first image of every class that is there, by class."""
        _, first = np.unique(self.labels, return_index=True)
        return first.astype(np.int64)


def held_out(settings: HeldOutSettings, network: GraphNetwork) -> HeldOut:
    """Load the images. Raises UserError for a data set, shape or labels that do not fit the network."""
    refuse_other_tasks(network.graph)
    dataset = load_dataset(settings.dataset, settings.data_dir, **settings.dataset_options)
    if dataset.task != "classification":
        raise UserError(f"{settings.dataset}: its targets are of {dataset.task}; predictions are judged by one label")
    split = dataset.test if settings.split == "test" else dataset.train
    indices = evenly_spread(split, settings.images, "--images", settings.dataset, settings.split)
    shape, wanted = list(split.images.shape[1:]), network.graph.input_shape
    if shape != wanted:
        raise UserError(f"{settings.dataset}: images of shape {shape}; this posterior takes {wanted}")
    output = network.graph.nodes[-1].output_shape or []
    if len(output) != 2 or output[0] is not None or not isinstance(output[1], int):
        raise UserError(f"posterior: its output has shape {output}, not (N, classes)")
    labels = np.asarray(split.labels)[indices]
    if int(labels.max()) >= output[1] or int(labels.min()) < 0:
        raise UserError(
            f"{settings.dataset}: label {int(labels.max())} out of range: this posterior has {output[1]} classes"
        )
    images = split.images if len(indices) == len(split) else split.images[indices]
    return HeldOut(images, labels, indices, output[1], dataset.name, dataset.source, dataset.checksum)
