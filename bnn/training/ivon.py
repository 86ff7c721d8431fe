"""Training by IVON: which parameters have a posterior, and the Bayesian twin that is evaluated and saved.

The weights that `bnn.layers.convert` makes Bayesian have noise; biases, norms' scales and parameters of modules of a
user's own have none, as with every other estimator.
"""

from __future__ import annotations

import copy

import torch
from torch import nn

from bnn.errors import UserError
from bnn.ivon import Ivon, IvonOptions
from bnn.layers import PosteriorInit, bayesian_layers
from bnn.layers.convert import convert
from bnn.layers.pretrained import conventional_names
from bnn.models.own import user_code
from bnn.settings import TrainSettings
from bnn.training.implementation import conventional
from bnn.training.pretrained import set_sigma

TWIN = "reparameterization"  # one sample of the weights for all images of a draw, as in training


def ivon_options(settings: TrainSettings, train_size: int) -> IvonOptions:
    """What the settings ask of IVON for a training set of this size."""
    clip = settings.ivon_clip_radius
    return IvonOptions(
        ess=settings.ivon_ess or float(train_size),
        delta=settings.ivon_delta,
        hess_init=settings.ivon_hess_init,
        beta1=settings.ivon_beta1,
        beta2=settings.ivon_beta2,
        rescale=settings.ivon_rescale,
        **({} if clip is None else {"clip_radius": clip}),
    )


def make_twin(settings: TrainSettings, model: nn.Module, options: IvonOptions) -> nn.Module:
    """The Bayesian twin of a conventional model, without memory (on the device `meta`): names, shapes and the prior.

    It has to be made before gradients are exchanged, whose hooks no copy has. Raises UserError as `convert`.
    """
    with conventional(model), user_code(settings.model, model), torch.random.fork_rng(devices=[]):
        return convert(model, TWIN, PosteriorInit(prior_scale=options.prior_scale)).to("meta")


def make_ivon(model: nn.Module, twin: nn.Module, rate: float, options: IvonOptions) -> Ivon:
    """The optimizer of `model` whose noisy parameters are the Bayesian ones of its `twin`.

    Raises UserError for a frozen one: nothing would learn its posterior.
    """
    means = {id(layer.mu) for layer in bayesian_layers(twin)}
    names = {name for name, tensor in conventional_names(twin).items() if id(tensor) in means}
    noisy: list[nn.Parameter] = []
    plain: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if name in names and not parameter.requires_grad:
            raise UserError(f"estimator ivon: parameter {name} is frozen (requires_grad) and would have no posterior")
        (noisy if name in names else plain).append(parameter)
    return Ivon(noisy, plain, rate, options)


@torch.no_grad()
def posterior_of(model: nn.Module, twin: nn.Module, optimizer: Ivon) -> nn.Module:
    """A Bayesian model whose posterior is what the optimizer has learnt so far: mu = m, softplus(rho) = sigma.

    It shares no memory with `model`, whose parameters must hold their means, and is in evaluation mode.
    """
    tensors = model.state_dict(keep_vars=True)
    made = copy.deepcopy(twin).to_empty(device=next(model.parameters()).device)
    targets = conventional_names(made)
    for name, target in targets.items():
        target.copy_(tensors[name])
    buffers = dict(model.named_buffers())
    for name, buffer in made.named_buffers():  # those that no state_dict has, too
        buffer.copy_(buffers[name])
    names = {id(target): name for name, target in targets.items()}
    noisy = {id(parameter): parameter for parameter in optimizer.noisy}
    for layer in bayesian_layers(made):
        set_sigma(layer, optimizer.sigma(noisy[id(tensors[names[id(layer.mu)]])]))
    return made.eval()
