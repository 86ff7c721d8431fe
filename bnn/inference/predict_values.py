"""Predictions of a regression for a program: `bnn.predict_values`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from bnn.errors import UserError
from bnn.inference.predict import network_for, outputs
from bnn.inference.tasks import task_of
from bnn.posterior import GraphNetwork


@dataclass(frozen=True)
class ValuePrediction:
    """What S draws of the weights say about D values of each of N inputs. All tensors are float64 (N, D) on the CPU.

    variance = `epistemic_std`^2 + `aleatoric_std`^2, the law of total variance for the mixture of the draws' Gaussians
    (Kendall and Gal 2017, eq. 9): by how much the networks of the posterior disagree, and the noise of the targets that
    each of them expects.
    """

    mean: Tensor  # mean over the draws
    epistemic_std: Tensor  # standard deviation of the draws' means (n - 1); NaN for a single draw
    aleatoric_std: Tensor  # root of the mean over the draws of the variances that they predict
    draws: int

    @property
    def std(self) -> Tensor:
        """Standard deviation of the predictive distribution, (N, D)."""
        return (self.epistemic_std.square() + self.aleatoric_std.square()).sqrt()


def predict_values(
    model: nn.Module | Path | str,
    inputs: Tensor,
    values: int,
    draws: int = 100,
    *,
    observation_std: float | None = None,
    seed: int = 1,
    mode: str = "exact",
) -> ValuePrediction:
    """The predictive distribution of a regression's `values` D for `inputs`, by Monte-Carlo draws of its weights.

    `model`, `inputs`, `draws`, `seed` and `mode` are those of `bnn.predict`. A model that gives (N, D) predicts means,
    whose targets have the standard deviation `observation_std` (by default that of its training); one that gives
    (N, 2 D) predicts means and logarithms of variances (Nix and Weigend 1994).

    Raises UserError as `bnn.predict` does, for a posterior that was trained for another task, for an output of another
    shape, and for an `observation_std` that is missing, not above 0, or given for a model that predicts variances.
    """
    with network_for(model, inputs, draws, seed, "predict_values") as (network, batch):
        noise = check_values(network, values, observation_std)
        total = squares = torch.zeros(len(batch), values, dtype=torch.float64)
        variance = torch.zeros_like(total)
        for count, output in enumerate(outputs(network, batch, draws, seed, mode, torch.Tensor.double), 1):
            if not output.isfinite().all():
                raise UserError(f"predict_values: draw {count - 1} gives values that are not finite")
            mean = output[:, :values].cpu()
            total = total + mean
            if count > 1:  # Youngs and Cramer's updating formula (1971), as in bnn.inference.measures
                squares = squares + (count * mean - total).square() / (count * (count - 1))
            variance = variance + (output[:, values:].exp().cpu() if noise is None else noise**2)
    spread = (squares / (draws - 1)).sqrt() if draws > 1 else torch.full_like(total, math.nan)
    return ValuePrediction(total / draws, spread, (variance / draws).sqrt(), draws)


def check_values(network: GraphNetwork, values: int, observation_std: float | None) -> float | None:
    """The standard deviation of targets about predicted means; None where variances are predicted, too.

    Raises UserError for a network that does not predict so many values, as `predict_values` says.
    """
    task, output = task_of(network.graph), network.graph.nodes[-1].output_shape or []
    if task not in (None, "regression"):
        raise UserError(f"predict_values: the posterior was trained for {task}; bnn.predict predicts classes")
    if not isinstance(values, int) or isinstance(values, bool) or values < 1:
        raise UserError(f"predict_values: values={values!r}: must be a whole number from 1 on")
    if output not in ([None, values], [None, 2 * values]):
        raise UserError(
            f"predict_values: the model's output has shape {output}, not (N, {values}) or (N, {2 * values}) for "
            f"{values} values"
        )
    if output[1] == 2 * values:
        if observation_std is not None:
            raise UserError("predict_values: observation_std: the model predicts variances itself")
        return None
    if observation_std is None and task is not None:
        observation_std = float(network.graph.extra["settings"].get("observation_std", 1.0))
    if observation_std is None:
        raise UserError("predict_values: observation_std: the standard deviation of the targets must be given")
    if not (math.isfinite(observation_std) and observation_std > 0):
        raise UserError(f"predict_values: observation_std={observation_std!r}: must be above 0")
    return observation_std
