"""A pretrained conventional network as the start of a run: its weights are the posterior's means."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from bnn.errors import UserError
from bnn.layers import BayesianLayer, bayesian_layers
from bnn.layers.pretrained import load_conventional
from bnn.regular import require_regular
from bnn.settings import TrainSettings


def start_from(settings: TrainSettings, model: nn.Module) -> None:
    """Give `model`, of either kind, the start that `init` and `sigma_share` ask for; in place.

    Raises UserError naming the file, where it cannot be read or holds other tensors than the model needs.
    """
    if settings.init is not None:
        try:
            load_conventional(model, read_tensors(settings.init))
        except UserError as error:
            raise UserError(f"init: {settings.init}: {str(error).removeprefix(f'{settings.init}: ')}") from None
    if settings.sigma_share is not None and settings.kind == "bnn":
        share_sigma(model, settings.sigma_share, settings.rho_init)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file by name; nothing else is read, so that no file can run code."""
    try:
        require_regular(path)
        return load_file(path)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}") from None
    except SafetensorError as error:
        raise UserError(f"{path}: not a safetensors file ({error})") from None


@torch.no_grad()
def share_sigma(model: nn.Module, share: float, rho_least: float) -> None:
    """Set sigma = max(share |mu|, softplus(rho_least)) in every Bayesian layer (MOPED, Krishnan et al. 2020).

    The floor is for means near zero, whose sigma would leave no way to learn one.
    """
    for layer in bayesian_layers(model):
        floor = functional.softplus(torch.tensor(rho_least, dtype=torch.float64))
        set_sigma(layer, (share * layer.mu.double().abs()).clamp_min(floor.item()))


@torch.no_grad()
def set_sigma(layer: BayesianLayer, sigma: Tensor) -> None:
    """Give a layer's posterior these standard deviations, of its kernel's shape, in float64."""
    layer.rho.copy_(sigma + torch.log(-torch.expm1(-sigma)))  # the inverse of softplus, for small sigma, too
