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
    sigma_median,
)
from bnn.layers.flipout import FlipoutConv2d, FlipoutLinear
from bnn.layers.flipout_fast import FastFlipoutConv2d, FastFlipoutLinear
from bnn.layers.local_reparameterization import LocalReparameterizationConv2d, LocalReparameterizationLinear
from bnn.layers.noise import NoiseKey, number_layers, numbered_layers, set_noise
from bnn.layers.reparameterization import ReparameterizationConv2d, ReparameterizationLinear

# Name of an estimator -> its classes. `flipout` takes this project's kernels where they fit, else it is the reference.
ESTIMATORS: dict[str, tuple[type[BayesianConv2d], type[BayesianLinear]]] = {
    "flipout": (FastFlipoutConv2d, FastFlipoutLinear),
    "flipout-reference": (FlipoutConv2d, FlipoutLinear),
    "reparameterization": (ReparameterizationConv2d, ReparameterizationLinear),
    "local-reparameterization": (LocalReparameterizationConv2d, LocalReparameterizationLinear),
}


def estimator_layers(name: str) -> tuple[type[BayesianConv2d], type[BayesianLinear]]:
    """Convolution and dense class of an estimator. Raises UserError for an unknown name."""
    if not isinstance(name, str) or name not in ESTIMATORS:
        raise UserError(f"estimator {name}: unknown; there are {', '.join(ESTIMATORS)}")
    return ESTIMATORS[name]


__all__ = [
    "ESTIMATORS",
    "BayesianConv2d",
    "BayesianLayer",
    "BayesianLinear",
    "FastFlipoutConv2d",
    "FastFlipoutLinear",
    "FlipoutConv2d",
    "FlipoutLinear",
    "LocalReparameterizationConv2d",
    "LocalReparameterizationLinear",
    "NoiseKey",
    "PosteriorInit",
    "ReparameterizationConv2d",
    "ReparameterizationLinear",
    "bayesian_layers",
    "estimator_layers",
    "kl_divergence",
    "mean_only",
    "number_layers",
    "numbered_layers",
    "set_noise",
    "sigma_median",
]
