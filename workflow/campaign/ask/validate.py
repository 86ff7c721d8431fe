"""What a schema cannot see: settings that do not exist, models and data sets unknown, points that cannot run."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bnn.errors import UserError
from bnn.models.describe import MODELS
from bnn.settings import SettingsError, TrainSettings, parse_settings
from campaign.ask.datasets import called, image_shape, train_size
from campaign.ask.studies import Study
from campaign.io.schema import did_you_mean
from campaign.site.launchers import Placement
from campaign.site.site import Site

USER_MODEL = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
# Settings that are said elsewhere, and where.
SAID_ELSEWHERE = {
    "dataset": "a study's dataset",
    "dataset_options": "a study's dataset_options",
    "model": "a study's models",
    "kind": "a study's kinds",
    "batch_size": "a study's batch_sizes",
    "seed": "the campaign's seed",
    "labels": "the cell's identity",
    "data_dir": "the environment variable BNN_DATA_DIR",
}


def resolve_settings(layers: Sequence[tuple[str, dict[str, Any]]], owned: dict[str, Any]) -> TrainSettings:
    """One run's settings: later layers win, and `owned` is what the grid sets.

    Each layer comes with its file and key path. Raises UserError naming the layer's key that is wrong.
    """
    known = TrainSettings.model_fields
    source: dict[str, str] = {}
    merged: dict[str, Any] = {}
    for origin, values in layers:
        for key, value in values.items():
            if key in SAID_ELSEWHERE:
                raise UserError(f"{origin}.{key}: not set here but by {SAID_ELSEWHERE[key]}")
            if key not in known:
                raise UserError(f"{origin}.{key}: unknown setting{did_you_mean(key, set(known) - set(SAID_ELSEWHERE))}")
            if isinstance(value, bool) and known[key].annotation is not bool:
                raise UserError(f"{origin}.{key}: {value!r} is not a value of this setting")
            source[key] = origin
        merged |= values
    try:
        return parse_settings(merged | owned, "settings")
    except SettingsError as error:
        layer = source.get(error.key.split(".")[0], "settings")
        raise UserError(f"{layer}.{error.key}: {error.what}") from None


def check_room(study: Study, settings: TrainSettings, site: Site, nodes: int, per_node: int) -> Placement:
    """Where the ranks of this point lie.

    Raises UserError when the site's hardware has no room for it (hardware threads, GPUs), or its scheduler does not
    say what the engine must know.
    """
    room = site.hardware.cores_per_node * site.hardware.threads_per_core
    try:
        placement = site.place(nodes, per_node, settings.threads)
    except ValueError as error:
        raise UserError(f"{study.origin}.nodes: {error} on {site.name} (nodes_per_machine)") from None
    needed = placement.per_machine * settings.threads
    if needed > room:
        raise UserError(
            f"{study.origin}.nodes: {nodes * per_node} ranks x {settings.threads} threads need {needed} hardware "
            f"threads on a node, {site.name} has {room}"
        )
    if settings.device == "cuda" and not site.has_gpus:
        raise UserError(f"{study.origin}: device cuda, but {site.name} has no GPUs (hardware.gpus_per_node)")
    if settings.device == "cuda" and placement.per_machine > site.hardware.gpus_per_node:
        raise UserError(
            f"{study.origin}.nodes: {placement.per_machine} ranks on a machine need a GPU each, {site.name} has "
            f"{site.hardware.gpus_per_node}"
        )
    if settings.engine == "torch" and site.scheduler.kind == "cobalt" and placement.machines > 1:
        raise UserError(f"{study.origin}: engine torch must be told rank 0's host, which Cobalt's jobs do not know")
    return placement


def check_other_images(study: Study, data_dir: Path | None = None) -> None:
    """Raises UserError where another data set's images, which are to be told from the study's, have another shape."""
    for section in study.sections:
        if section.ood is None:
            continue
        shape = image_shape(study.dataset, study.dataset_options, study.origin, data_dir)
        other = image_shape(*section.ood.data, f"{section.origin}.ood", data_dir)
        if shape and other and shape != other:
            name = called(study.dataset, study.dataset_options, study.origin)
            raise UserError(f"{section.origin}.ood: images of shape {list(other)}; those of {name} have {list(shape)}")


def check_point(study: Study, settings: TrainSettings, nodes: int, ranks: int, data_dir: Path | None = None) -> None:
    """Raises UserError when this point cannot take one step: unknown model or data set, too few images.

    So it does for faults on purpose in a study that is no experiment, or on a rank that is not there.
    """
    if settings.model not in MODELS and not USER_MODEL.fullmatch(settings.model):
        hint = did_you_mean(settings.model, MODELS)
        raise UserError(
            f"{study.origin}.models[{study.models.index(settings.model)}]: unknown model {settings.model!r}{hint}"
            " or package.module:function"
        )
    if settings.fault is not None and not study.experiment:
        raise UserError(
            f"{study.origin}: setting fault ({settings.fault.words}) is for experiments; say so by experiment: true"
        )
    if settings.fault is not None and settings.fault.rank >= ranks:
        raise UserError(f"{study.origin}.nodes: fault.rank {settings.fault.rank}, but a point has {ranks} ranks")
    images = train_size(study.dataset, study.dataset_options, study.origin, data_dir)
    batch = settings.batch_size
    # disjoint shards take every image of an epoch; unsharded ones drop each rank's last partial batch
    epoch = images if settings.sharding == "disjoint" else images // batch * batch
    if settings.epochs * epoch < batch * ranks:
        at = study.batch_sizes.index(batch)
        name = called(study.dataset, study.dataset_options, study.origin)
        raise UserError(
            f"{study.origin}.batch_sizes[{at}]: batch {batch} on {ranks} ranks ({nodes} nodes) takes {batch * ranks:,} "
            f"images a step, {settings.epochs} epochs of {name} have {settings.epochs * epoch:,}"
        )
    if settings.engine == "single" and ranks > 1:
        raise UserError(f"{study.origin}.nodes: engine single runs one rank, this point has {ranks}")
