"""What a run needs before its first step: data, model, optimizer."""

from __future__ import annotations

import torch
from torch import nn

from bnn.data import load_dataset
from bnn.data.base import Dataset
from bnn.engine import Engine
from bnn.errors import UserError
from bnn.layers import PosteriorInit
from bnn.models.build import build_model
from bnn.settings import TrainSettings
from bnn.training.batches import DTYPES


def prepare_device(settings: TrainSettings, engine: Engine) -> None:
    """Threads and device of this rank. Raises UserError when the GPU is absent or this torch has no code for it."""
    torch.set_num_threads(settings.threads)
    if settings.device == "cpu":
        return
    if not torch.cuda.is_available():
        raise UserError(f"device cuda: rank {engine.rank} sees no GPU")
    torch.cuda.set_device(engine.local_rank % torch.cuda.device_count())
    major, minor = torch.cuda.get_device_capability()
    if f"sm_{major}{minor}" not in torch.cuda.get_arch_list():
        raise UserError(f"device cuda: this torch holds no code for sm_{major}{minor} ({torch.cuda.get_device_name()})")


def make_model(settings: TrainSettings, dataset: Dataset) -> nn.Module:
    """The model in the run's precision, device and memory format; the same on every rank (seeded)."""
    torch.manual_seed(settings.seed)
    init = PosteriorInit(settings.prior_scale, settings.mu_init_std, settings.rho_init, settings.rho_init_std)
    model = build_model(
        settings.model,
        settings.kind,
        input_shape=dataset.input_shape,
        classes=dataset.classes,
        width=settings.width,
        estimator=settings.estimator,
        init=init,
    )
    model = model.to(device=settings.device, dtype=DTYPES[settings.precision])
    return model.to(memory_format=torch.channels_last) if settings.tuned else model


def make_optimizer(settings: TrainSettings, model: nn.Module, ranks: int) -> torch.optim.Optimizer:
    """Adam or RMSProp (decay 0.9, as TensorFlow's) with the learning rate of this many ranks."""
    rate = settings.learning_rate * (ranks if settings.lr_scaling == "ranks" else 1)
    if settings.optimizer == "rmsprop":
        return torch.optim.RMSprop(model.parameters(), lr=rate, alpha=0.9)
    return torch.optim.Adam(model.parameters(), lr=rate, fused=True if settings.tuned else None)


def open_dataset(settings: TrainSettings) -> Dataset:
    """The data set, from files that are already there: a compute node never downloads."""
    return load_dataset(settings.dataset, settings.data_dir, **settings.dataset_options)

