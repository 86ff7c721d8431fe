"""What stamping the exchange costs a step: `python -m tests.support.stamp_cost`.

One process exchanges with an engine that answers at once, in turns with stamps and without, by the CPU time of the
process, which other programs do not add to.
"""

from __future__ import annotations

import random
import time
from typing import Any

import torch

from bnn.data import load_dataset
from bnn.data.pipeline import Schedule
from bnn.engine import SingleEngine
from bnn.exchange import Stamps
from bnn.metrics import ratio_interval
from bnn.settings import TrainSettings
from bnn.training.build import make_trainer
from bnn.training.stamps import ExchangeStamps
from bnn.training.trainer import Trainer

SETTINGS: dict[str, Any] = {
    "dataset": "synthetic", "dataset_options": {"shape": [3, 32, 32], "size": 64}, "model": "resnet18", "width": 0.125,
    "batch_size": 4, "engine": "single", "rho_init": -4.0,
}  # fmt: skip


class Alone(SingleEngine):
    """Says that there are two ranks, so that gradients are put into messages; nothing is added to them."""

    size = 2


def trainer(block_mb: float) -> tuple[Trainer, torch.Tensor, torch.Tensor]:
    torch.set_num_threads(1)
    settings = TrainSettings.model_validate(SETTINGS | {"gradient_block_mb": block_mb})
    dataset = load_dataset(settings.dataset, None, **settings.dataset_options)
    schedule = Schedule(len(dataset.train), settings.batch_size, 2, 1, 0, settings.sharding)
    made = make_trainer(settings, dataset, Alone(), schedule)
    made.to_training()
    return made, *made.batch(dataset.train, 0)


def main(block_mb: float, pairs: int = 300) -> None:
    made, images, targets = trainer(block_mb)
    kept = ExchangeStamps(len(made.exchange.blocks), 10 * pairs)
    seconds: dict[bool, list[float]] = {True: [], False: []}
    for pair in range(-5, pairs):
        for stamped in random.Random(pair).sample([True, False], 2):
            made.exchange.stamps = kept if stamped else Stamps()
            start = time.process_time()
            made.step(0, images, targets, lambda: None)
            if pair >= 0:
                seconds[stamped].append(time.process_time() - start)
    found = ratio_interval(seconds[True], seconds[False])
    milliseconds = 1000 * sorted(seconds[False])[pairs // 2]
    print(f"{len(made.exchange.blocks)} messages, step of {milliseconds:.2f} ms CPU time without stamps")
    print(f"with / without: {found.value:.4f} ({found.low:.4f} to {found.high:.4f}), {pairs} pairs")


if __name__ == "__main__":
    for block_mb in (16, 0):  # as it is by default; one message per parameter
        main(block_mb)
