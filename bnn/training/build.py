"""Makes a trainer: the model, its optimizer and the exchange of its gradients, as the settings describe them."""

from __future__ import annotations

import torch
from torch import nn

from bnn import kernels
from bnn.data import Dataset
from bnn.data.pipeline import Schedule
from bnn.engine import Engine
from bnn.errors import UserError
from bnn.exchange import NO_COMPANIONS, Companions, GradientExchange
from bnn.ivon import Ivon
from bnn.layers import PosteriorInit
from bnn.model_names import is_own
from bnn.models.build import build_model
from bnn.models.normalise import channel_norm, normalised
from bnn.models.outputs import ChosenOutput
from bnn.settings import TrainSettings
from bnn.training.descent import learning_rate, make_optimizer
from bnn.training.fit import fit
from bnn.training.forward import make_forward
from bnn.training.implementation import with_kernels
from bnn.training.ivon import ivon_options, make_ivon, make_twin
from bnn.training.layout import lay_out, layout_of
from bnn.training.pretrained import start_from
from bnn.training.task import make_task
from bnn.training.trainer import DTYPES, Trainer


def make_trainer(settings: TrainSettings, dataset: Dataset, engine: Engine, schedule: Schedule) -> Trainer:
    """A trainer whose parameters are the same on every rank that calls this with the same settings.

    `settings` name one baseline, not cnn-best. Raises UserError as `make_model`.
    """
    task = make_task(settings, dataset)
    model = make_model(settings, dataset)
    held = hold_modes(model)
    chosen = choose_output(settings, model)
    layout = fit(settings, model, dataset, task)
    if chosen is not None and not chosen.used:
        raise UserError(
            f"output {settings.output}: model {settings.model} gives one tensor; there is nothing to choose"
        )
    twin, companions = None, NO_COMPANIONS
    optimizer: torch.optim.Optimizer
    if settings.by_ivon:
        options = ivon_options(settings, len(dataset.train))
        twin = make_twin(settings, model, options)
        optimizer = ivon = make_ivon(model, twin, learning_rate(settings, engine.size), options)
        if settings.ivon_noise == "rank":
            companions = Companions(frozenset(ivon.noisy), ivon.product)
    else:
        optimizer = make_optimizer(settings, model, engine.size)
    exchange = GradientExchange(engine, model.named_parameters(), settings.gradient_block_mb, companions)
    if isinstance(optimizer, Ivon):
        optimizer.products = exchange.companions
    return Trainer(
        settings=settings,
        engine=engine,
        schedule=schedule,
        model=model,
        task=task,
        layout=layout,
        held=held,
        forward=make_forward(settings, model),
        optimizer=optimizer,
        exchange=exchange,
        twin=twin,
    )


def make_model(settings: TrainSettings, dataset: Dataset) -> nn.Module:
    """The model in the run's precision and on its device; seeded, so that it is the same in every attempt.

    Raises UserError for a baseline that wants kernels where there are none, for an `init` that does not fit, and for a
    pattern of `where` that fits no layer.
    """
    torch.manual_seed(settings.seed)
    init = PosteriorInit(settings.prior_scale, settings.mu_init_std, settings.rho_init, settings.rho_init_std)
    without_kernels = settings.estimator == "flipout" and not settings.kernels_fit  # library kernels: the reference's
    conventional = settings.conventional
    model = build_model(
        settings.model,
        "cnn" if conventional else "bnn",
        input_shape=dataset.input_shape,
        classes=dataset.classes,
        width=settings.width,
        estimator="flipout-reference" if without_kernels or conventional else settings.estimator,
        init=init,
        where=None if conventional or settings.where is None else settings.where_patterns,
        biases=settings.bayesian_biases and not conventional,
        dropout=settings.dropout_rate if settings.by_dropout else None,
    )
    if settings.batchnorm_momentum is not None:
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.momentum = settings.batchnorm_momentum
    model = model.to(device=settings.device, dtype=DTYPES[settings.precision])
    start_from(settings, model)
    if settings.normalisation == "channels":
        norm = channel_norm(dataset.train).to(device=settings.device, dtype=DTYPES[settings.precision])
        model = normalised(model, norm)
    if not is_own(settings.model):
        lay_out(model, layout_of(settings, model))  # before kernels and optimizer take hold of its parameters
    if settings.by_ivon or settings.by_dropout:
        return with_kernels(model) if settings.kernels_fit and kernels.available() else model
    return with_kernels(model) if settings.kind == "cnn" and settings.baseline == "cnn-kernels" else model


def hold_modes(model: nn.Module) -> tuple[nn.Module, ...]:
    """Put a model that was handed over in evaluation mode into training mode, whole.

    Returns the parts that stay in evaluation mode while it trains: those of a model in training mode that were put
    into evaluation mode on purpose, such as a BatchNorm with frozen statistics.
    """
    if not model.training:
        model.train()
        return ()
    return tuple(module for module in model.modules() if not module.training)


def choose_output(settings: TrainSettings, model: nn.Module) -> ChosenOutput | None:
    """Let the model return the output that the settings name, if they name one."""
    if settings.output is None:
        return None
    chosen = ChosenOutput(settings.model, settings.output)
    model.register_forward_hook(chosen)
    return chosen
