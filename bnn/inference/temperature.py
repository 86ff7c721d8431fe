"""Temperature scaling: all logits are divided by one number before the softmax (Guo et al. 2017).

`fit` finds the number with the least NLL of the predictive distribution, which is the mean of the draws' softmax:
every draw is scaled and all share the number ("joint calibrate and pool" of Rahaman, Thiery 2021). Of a conventional
network, which has one draw, that is Guo's. Guo fits on images that were held out from training, as split test does with
those that are not predicted. On training images, where a network knows them by heart, the number comes out too small;
where it tells all of them right there is none, which is said.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor

from bnn.data.base import evenly_spread
from bnn.engine import Engine
from bnn.errors import UserError
from bnn.inference.heldout import HeldOut, held_out
from bnn.inference.mixture import Mixture
from bnn.inference.settings import FIT, InferSettings
from bnn.posterior import GraphNetwork
from bnn.records.inference import TemperatureFit

LOWEST, HIGHEST = 1 / 32, 32.0
GRID = 41  # temperatures that are tried first: of a mixture the NLL may have several minima
USUAL_IMAGES = 1000
MOST_DRAWS = 100
MOST_LOGITS = 1 << 24  # of fewer draws, where classes are many: they are kept in memory


@dataclass(frozen=True)
class Temperature:
    """What logits are divided by, and how it was found; `fit` is None of one that was given."""

    value: float = 1.0
    fit: TemperatureFit | None = None


def temperature_of(settings: InferSettings, mixture: Mixture, network: GraphNetwork, engine: Engine) -> Temperature:
    """The temperature that the settings ask for; every rank calls it and gets rank 0's. Draws are those of `mixture`.

    Raises UserError, on every rank, as `fitted` and `held_out`.
    """
    if settings.temperature is None:
        return Temperature()
    if settings.temperature != FIT:
        return Temperature(float(settings.temperature))
    found, problem = None, None
    if engine.rank == 0:
        try:
            found = fitted(mixture, fitting_images(settings, network), settings)
        except UserError as error:
            problem = str(error)
    told = None if found is None or found.fit is None else [found.value, found.fit.model_dump()]
    told, problem = engine.gather([told, problem], "temperature")[0]
    if problem is not None:
        raise UserError(problem)
    return Temperature(told[0], TemperatureFit(**told[1]))


def split_of(settings: InferSettings) -> Literal["train", "test"]:
    """The split whose images a temperature is fitted on."""
    return settings.temperature_split or "train"


def fitting_images(settings: InferSettings, network: GraphNetwork) -> HeldOut:
    """Images as they are of the split to fit on, evenly spread: as many as asked for, else 1,000, or all if fewer.

    Of the test split no image is among those that are predicted of it. Raises UserError where none is left.
    """
    split = split_of(settings)
    every = held_out(settings.model_copy(update={"split": split, "images": None}), network)
    free, words = every.indices, str(split)
    if split == settings.split == "test":
        free = np.setdiff1d(free, evenly_spread(every, settings.images, "--images", settings.dataset, split))
        words = f"other {split}"
        if not len(free):
            raise UserError(
                f"--temperature-split {split}: all {len(every):,} {split} images of {settings.dataset} are predicted, "
                "and none is left to fit on: predict fewer (--images)"
            )
    asked = settings.temperature_images or min(USUAL_IMAGES, len(free))
    chosen = free[evenly_spread(free, asked, "--temperature-images", settings.dataset, words)]
    return replace(every, images=every.images[chosen], labels=every.labels[chosen], indices=every.indices[chosen])


def fitted(mixture: Mixture, images: HeldOut, settings: InferSettings) -> Temperature:
    """The temperature that suits these images best, by the first draws. Raises UserError as `best_temperature`."""
    members = len(mixture.predictors)
    fits = max(1, min(MOST_DRAWS, MOST_LOGITS // (len(images) * images.classes)) // members) * members
    draws = min(settings.draws, fits)
    logits = torch.empty(draws, len(images), images.classes)
    blocks = mixture.blocks(images, settings.device)
    for share in mixture.shares(range(draws)):
        values = mixture.drawn(settings.seed, share, blocks, lambda output: output)
        for place, of_draw in zip(share.places, values, strict=True):
            logits[place] = of_draw.float().cpu()
    if not bool(torch.isfinite(logits).all()):
        raise UserError("--temperature fit: the network gives logits that are not finite")
    labels = torch.from_numpy(np.asarray(images.labels, np.int64))
    value = best_temperature(logits, labels)
    before, after = (nll_at(each, logits, labels) for each in (1.0, value))
    return Temperature(
        value,
        TemperatureFit(split=split_of(settings), images=len(images), draws=draws, nll_before=before, nll_after=after),
    )


def nll_at(temperature: float, logits: Tensor, labels: Tensor) -> float:
    """Mean NLL, nats, of the mean over draws of softmax(logits / temperature), in float64.

    `logits`: (draws, images, classes); `labels`: int64 (images,).
    """
    rows = torch.arange(len(labels))
    of_label = torch.stack([(each.double() / temperature).log_softmax(1)[rows, labels] for each in logits])
    return float(-(of_label.logsumexp(0) - math.log(len(logits))).mean())


def best_temperature(logits: Tensor, labels: Tensor) -> float:
    """The temperature in [1/32, 32] with the least `nll_at`, to 6 digits.

    Raises UserError where the NLL still falls at an end: the images cannot tell.
    """
    tried = np.linspace(math.log(LOWEST), math.log(HIGHEST), GRID)
    values = [nll_at(math.exp(each), logits, labels) for each in tried]
    least = int(np.argmin(values))
    if least in (0, GRID - 1) or not values[least] < min(values[0], values[-1]):
        raise UserError(
            f"--temperature fit: the NLL of {len(labels)} images is least at temperature {math.exp(tried[least]):g}, "
            "where the search ends: these images do not tell it; fit on images that the network has not seen "
            "(--temperature-split test), or give a number"
        )
    found = minimize_scalar(
        lambda each: nll_at(math.exp(each), logits, labels),
        bounds=(tried[least - 1], tried[least + 1]), method="bounded", options={"xatol": 1e-7},
    )  # fmt: skip
    return math.exp(float(found.x))
