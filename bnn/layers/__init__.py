"""Bayesian layers in plain torch, the registry of estimators, the noise and the conversion of conventional models."""

from __future__ import annotations

from bnn.errors import UserError
from bnn.layers.affine import BayesianConv2d, BayesianLinear
from bnn.layers.base import (
    BayesianLayer,
    PosteriorInit,
    bayesian_layers,
    kl_divergence,
    mean_only,
    number_layers,
    sigma_median,
)
from bnn.layers.flipout import FlipoutConv2d, FlipoutLinear
from bnn.layers.noise import NoiseKey, set_noise
from bnn.layers.reparameterization import ReparameterizationConv2d, ReparameterizationLinear

# Name of an estimator -> its classes. A faster `flipout` may take the place of the reference behind the same interface.
ESTIMATORS: dict[str, tuple[type[BayesianConv2d], type[BayesianLinear]]] = {
    "flipout": (FlipoutConv2d, FlipoutLinear),
    "flipout-reference": (FlipoutConv2d, FlipoutLinear),
    "reparameterization": (ReparameterizationConv2d, ReparameterizationLinear),
}


def estimator_layers(name: str) -> tuple[type[BayesianConv2d], type[BayesianLinear]]:
    """Convolution and dense class of an estimator. Raises UserError for an unknown name."""
    if name not in ESTIMATORS:
        raise UserError(f"estimator {name}: unknown; there are {', '.join(ESTIMATORS)}")
    return ESTIMATORS[name]


__all__ = [
    "ESTIMATORS",
    "BayesianConv2d",
    "BayesianLayer",
    "BayesianLinear",
    "FlipoutConv2d",
    "FlipoutLinear",
    "NoiseKey",
    "PosteriorInit",
    "ReparameterizationConv2d",
    "ReparameterizationLinear",
    "bayesian_layers",
    "estimator_layers",
    "kl_divergence",
    "mean_only",
    "number_layers",
    "set_noise",
    "sigma_median",
]
