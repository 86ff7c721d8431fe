"""Before the first step: data, a trainer, and the state of an earlier attempt."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from bnn.data import Dataset, load_dataset
from bnn.data.pipeline import Schedule
from bnn.device import prepare_device
from bnn.engine import Engine
from bnn.errors import UserError
from bnn.heartbeat import Heartbeat
from bnn.layers import sigma_median
from bnn.layers.dropout import dropout_text
from bnn.layers.report import conversion_report, report_text
from bnn.model_names import is_own
from bnn.models.own import user_code
from bnn.posterior import GraphNetwork
from bnn.posterior.trace import trace
from bnn.settings import TrainSettings
from bnn.training.build import make_trainer
from bnn.training.checkpoint import load_checkpoint, optimizer_tensors
from bnn.training.choice import choose
from bnn.training.descent import steps_of
from bnn.training.evaluation import evaluated_images
from bnn.training.folder import open_folder
from bnn.training.implementation import conventional, implementation_of
from bnn.training.recorder import Recorder, RunFacts
from bnn.training.resume import find_checkpoint
from bnn.training.run import Run
from bnn.training.trainer import Trainer
from bnn.training.trial import trial_seconds
from bnn.training.waiting import stamp_exchange


def start_run(settings: TrainSettings, out: Path, engine: Engine, heartbeat: Heartbeat | None = None) -> Run:
    """Make everything ready on this rank: the same parameters everywhere, or those of the latest checkpoint.

    Data is read from files that are already there: a compute node never downloads.
    """
    heartbeat = heartbeat or Heartbeat(out, engine.rank)
    prepare_device(settings.device, settings.threads, engine)
    heartbeat.move("data")
    dataset = load_dataset(settings.dataset, settings.data_dir, **settings.dataset_options)
    if settings.evaluate != "none":
        evaluated_images(settings, dataset)  # refused before anything is trained
    size = len(dataset.train)
    schedule = Schedule(size, settings.batch_size, engine.size, settings.epochs, settings.seed, settings.sharding)
    steps = steps_of(settings, schedule)
    heartbeat.move("exchange")  # whose data is there waits for those that still read theirs
    first_step, kept = find_checkpoint(out, settings.fingerprint(), engine) or (0, None)
    heartbeat.move("start")
    choice = choose(settings, engine, partial(trial_seconds, dataset=dataset, schedule=schedule), kept)
    trainer = make_trainer(choice.settings, dataset, engine, schedule)
    start = trainer.posterior()
    sigma_start = sigma_median(start)
    recorded = record_once(trainer, start, dataset, heartbeat) if settings.save_posterior else None
    if start is not trainer.model:  # IVON's, made for the occasion: the one at the end has other layers
        recorded = None
    own = settings.kind == "bnn" and is_own(settings.model)
    conversion = conversion_report(start) if own and not settings.by_dropout else []
    del start
    trainer.to_training()
    if conversion and engine.rank == 0:
        print(f"model {settings.model}: {report_text(conversion)}", flush=True)
    if own and settings.by_dropout and engine.rank == 0:
        print(f"model {settings.model}: {dropout_text(trainer.model)}", flush=True)

    folder = open_folder(out, settings.fingerprint(), engine)
    earlier = load_checkpoint(out, first_step, trainer.model, trainer.optimizer, engine.rank) if first_step else None
    share_state(trainer, heartbeat, buffers=first_step == 0)
    heartbeat.move("exchange")
    waiting = stamp_exchange(trainer, steps - first_step)
    heartbeat.move("start")
    facts = RunFacts(
        attempt=folder.attempt,
        first_step=first_step,
        steps=steps,
        warmup_steps=settings.warmup_steps,
        engine=engine.name,
        implementation=implementation_of(settings, trainer.model),
        rank=engine.rank,
        ranks=engine.size,
        batch_size=settings.batch_size,
    )
    return Run(
        settings=settings,
        trainer=trainer,
        dataset=dataset,
        first_step=first_step,
        steps=steps,
        folder=folder,
        recorder=Recorder(facts, settings.device, earlier),
        heartbeat=heartbeat,
        waiting=waiting,
        evaluations=folder.evaluations(first_step),
        sigma_start=sigma_start,
        tried=choice.seconds,
        conversion=conversion,
        recorded=recorded,
    )


def record_once(trainer: Trainer, model: nn.Module, dataset: Dataset, heartbeat: Heartbeat) -> GraphNetwork | None:
    """The model's graph, on rank 0, which saves it at the end; None on the others, which wait for it.

    Raises UserError on every rank for a model that cannot be saved: before it is trained, not after.
    """
    engine, settings = trainer.engine, trainer.settings
    recorded, refusal = None, None
    if engine.rank == 0:
        try:
            with conventional(model), user_code(settings.model, model):
                _, recorded = trace(model, example_input(model, dataset), 0, {})
        except UserError as error:
            refusal = str(error)
    heartbeat.move("exchange")
    refusal = engine.gather(refusal, "recorded")[0]
    heartbeat.move("start")
    if refusal is not None:
        raise UserError(refusal)
    return recorded


def share_state(trainer: Trainer, heartbeat: Heartbeat, buffers: bool) -> None:
    """Give every rank rank 0's parameters and optimizer state, and its `buffers` where no rank has read its own."""
    engine, model = trainer.engine, trainer.model
    if buffers:
        engine.broadcast_([buffer for _, buffer in model.named_buffers()], "buffers")
    heartbeat.move("exchange")
    engine.broadcast_([parameter.data for parameter in model.parameters()], "parameters")
    engine.broadcast_(optimizer_tensors(trainer.optimizer).values(), "optimizer")
    heartbeat.move("start")


def example_input(model: nn.Module, dataset: Dataset) -> Tensor:
    """One image of zeros in the model's precision and on its device, to trace the model with."""
    first = next(model.parameters())
    return torch.zeros((1, *dataset.input_shape), dtype=first.dtype, device=first.device)
