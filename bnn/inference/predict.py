"""Predictions for a program that has a model, or a posterior, and a tensor of inputs: `bnn.predict`.

Of classes, one per input or one per pixel; `bnn.predict_values` (bnn.inference.predict_values) is of regressions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from bnn.errors import UserError
from bnn.inference.measures import PredictiveStatistics
from bnn.inference.predictor import Predictor, softmax
from bnn.inference.tasks import task_of
from bnn.layers.base import modes_kept
from bnn.layers.noise import noisy_layers
from bnn.posterior import GraphNetwork, load_posterior
from bnn.posterior.facts import find_posterior
from bnn.posterior.trace import trace

MOST_SEEDS = 2**63


@dataclass(frozen=True)
class Prediction:
    """What S draws of the weights say about N inputs. All tensors are float64 on the CPU; entropies are in nats.

    Of a segmentation, every pixel is classified: (N, classes, H, W) then stands for (N, classes), (N, H, W) for (N,).

    `predictive_entropy` = `expected_entropy` + `mutual_information`: the whole uncertainty, the part that every network
    of the posterior has by itself (aleatoric), and the part by which they disagree (epistemic; Houlsby et al. 2011,
    Depeweg et al. 2018). That is so for mode="exact"; in the others no one network is behind a draw of all inputs, and
    the parts are approximate where outputs' correlations are lost (see `bnn.inference.predictor`).
    """

    probability: Tensor  # (N, classes): mean of the softmax over the draws (the paper's eq. 4)
    probability_std: Tensor  # (N, classes): standard deviation over the draws (n - 1); NaN for a single draw
    predictive_entropy: Tensor  # (N,): entropy of `probability`
    expected_entropy: Tensor  # (N,): mean over the draws of each one's entropy
    mutual_information: Tensor  # (N,): between the class and the weights
    variation_ratio: Tensor  # (N,): share of the draws whose class is not the most frequent one
    draws: int

    @property
    def label(self) -> Tensor:
        """The class of largest probability, int64 (N,); the first one of a tie."""
        return self.probability.argmax(1)


def predict(
    model: nn.Module | Path | str, inputs: Tensor, draws: int = 100, *, seed: int = 1, mode: str = "exact"
) -> Prediction:
    """The predictive distribution of `model` for `inputs` by Monte-Carlo draws of its weights (the paper's eq. 4).

    `model`: a posterior's folder (or a cell's, whose newest posterior is taken), what `load_posterior` returned, or any
    model with Bayesian layers that returns logits, (N, classes) or of every pixel (N, classes, H, W); such a one is
    traced, and is as it was afterwards. `inputs`: floating-point (N, C, H, W), scaled as in training; they are moved to
    where the model lies, in its precision. `seed` and its index name a draw: the same seed gives the same result for
    the same inputs and draws; with mode="exact" also for `inputs` divided in any way, up to rounding. `mode`: exact,
    flipout or local-reparameterization (`bnn.inference.predictor` says what each is). Memory: four float64 values per
    input (or pixel) and class.

    Raises UserError for a model that has no Bayesian layer, or cannot be recorded or read; for inputs that do not fit
    it; for the posterior of a regression; for an impossible number of draws, seed or mode; for probabilities that are
    not finite.
    """
    with network_for(model, inputs, draws, seed, "predict") as (network, batch):
        classes, size = check_output(network)
        predicted = len(batch) * prod(size)
        statistics = PredictiveStatistics(predicted, classes, np.zeros(predicted, np.int64))
        for draw, output in enumerate(outputs(network, batch, draws, seed, mode, class_probabilities)):
            statistics.add(draw, output.reshape(1, predicted, classes).cpu().numpy())
    return summed_up(statistics, (len(batch), *size))


@contextmanager
def network_for(
    model: nn.Module | Path | str, inputs: Tensor, draws: int, seed: int, function: str
) -> Iterator[tuple[GraphNetwork, Tensor]]:
    """The graph of what was given to `function`, and the inputs where and as its parameters are.

    A module is in evaluation mode within this context and as it was afterwards. Raises UserError as `predict` says.
    """
    check_arguments(inputs, draws, seed, function)
    if isinstance(model, nn.Module):
        given: nn.Module = model
    elif isinstance(model, str | Path):
        given = load_posterior(find_posterior(Path(model)))
    else:
        raise UserError(f"{function}: a {type(model).__name__} is neither a model nor the folder of a posterior")
    if next(noisy_layers(given), None) is None:
        raise UserError(f"{named(model)}: no Bayesian layer in it, and so nothing to draw (bnn.convert makes them)")
    like = next(given.parameters())
    batch = inputs.detach().to(like.device, given.dtype if isinstance(given, GraphNetwork) else like.dtype)
    with modes_kept(given):
        network = given if isinstance(given, GraphNetwork) else trace(given, batch[:2], 0, {})[1]
        shape, wanted = list(batch.shape[1:]), network.graph.input_shape
        if shape != wanted:
            raise UserError(f"{function}: inputs of shape {['N', *shape]}; this posterior takes {['N', *wanted]}")
        yield network, batch


def outputs(
    network: GraphNetwork, inputs: Tensor, draws: int, seed: int, mode: str, end: Callable[[Tensor], Tensor]
) -> Iterator[Tensor]:
    """Of each draw the network's output for all inputs, after `end`, which keeps the first dimension."""
    predictor = Predictor(network, mode)
    blocks = [in_memory_order(block) for block in inputs.split(predictor.block)]
    yield from predictor.drawn(seed, 0, draws, blocks, end)


def check_arguments(inputs: Tensor, draws: int, seed: int, function: str) -> None:
    """Raise UserError, naming the function that was called, for arguments that no model takes."""
    if not isinstance(inputs, Tensor) or not inputs.is_floating_point():
        what = f"a tensor of {inputs.dtype}" if isinstance(inputs, Tensor) else f"a {type(inputs).__name__}"
        raise UserError(f"{function}: inputs are {what}; give a floating-point tensor, scaled as in training")
    if inputs.dim() < 2 or len(inputs) == 0:
        raise UserError(f"{function}: inputs of shape {list(inputs.shape)}; give at least one, as (N, ...)")
    if not inputs.isfinite().all():
        raise UserError(f"{function}: inputs hold values that are not finite")
    if not isinstance(draws, int) or isinstance(draws, bool) or draws < 1:
        raise UserError(f"{function}: draws={draws!r}: must be a whole number from 1 on")
    if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < MOST_SEEDS:
        raise UserError(f"{function}: seed={seed!r}: must be a whole number from 0 to 2^63 - 1")


def check_output(network: GraphNetwork) -> tuple[int, tuple[int, ...]]:
    """Number of classes, and the pixels' dimensions (none where an input has one class).

    Raises UserError for the posterior of a regression, and for an output that is no logits.
    """
    if task_of(network.graph) == "regression":
        raise UserError("predict: the posterior was trained for regression; bnn.predict_values predicts values")
    output = network.graph.nodes[-1].output_shape or []
    sizes = [size for size in output[1:] if isinstance(size, int)]
    if len(sizes) < 1 or len(output) != len(sizes) + 1 or output[0] is not None or sizes[0] < 2:
        raise UserError(
            f"predict: the model's output has shape {output}, not (N, classes), or (N, classes, ...) for pixels, with "
            "two classes or more"
        )
    return sizes[0], tuple(sizes[1:])


def class_probabilities(logits: Tensor) -> Tensor:
    """Softmax over the classes of logits (N, classes, ...), float32 (N, ..., classes)."""
    if logits.dim() == 2:
        return softmax(logits)
    return torch.softmax(logits.movedim(1, -1), -1).float()


def in_memory_order(block: Tensor) -> Tensor:
    """The block as the convolutions take it: images in channels_last."""
    return block.contiguous(memory_format=torch.channels_last) if block.dim() == 4 else block.contiguous()


def summed_up(statistics: PredictiveStatistics, shape: tuple[int, ...]) -> Prediction:
    """The prediction of what has `shape`, (N,) or (N, H, W), from statistics whose rows are in that order."""
    images = statistics.images()
    total, mutual, ratio = (
        torch.from_numpy(images[name].to_numpy(np.float64, copy=True)).reshape(shape)
        for name in ("predictive_entropy", "mutual_information", "variation_ratio")
    )
    probability, std = (
        torch.from_numpy(values).reshape(*shape, statistics.classes).movedim(-1, 1).contiguous()
        for values in (statistics.probability, statistics.probability_std)
    )
    return Prediction(
        probability=probability,
        probability_std=std,
        predictive_entropy=total,
        expected_entropy=total - mutual,
        mutual_information=mutual,
        variation_ratio=ratio,
        draws=statistics.count,
    )


def named(model: nn.Module | Path | str) -> str:
    return type(model).__name__ if isinstance(model, nn.Module) else str(model)
