"""Whole runs, small ones, by the commands' own code: a resumed training, an inference, a pruning, energy, step time."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from bnn import metrics
from bnn.check.numerics import SIGMAS, agree, distance, exact_products
from bnn.check.outcome import AbsentError, Context, FaultError
from bnn.device import gpu_uuid, synchronize
from bnn.energy.counters import NotMeasurableError
from bnn.energy.meter import EnergyMeter, node_counters
from bnn.engine import Engine, SingleEngine
from bnn.heartbeat import Heartbeat
from bnn.inference.predictor import Predictor
from bnn.layers import PosteriorInit, bayesian_layers
from bnn.models.build import build_model
from bnn.posterior import GraphNetwork
from bnn.posterior.save import save_network
from bnn.posterior.schema import TENSORS_FILE
from bnn.posterior.trace import trace
from bnn.pruning.run import prune
from bnn.pruning.settings import PruneSettings
from bnn.records.columns import read_table
from bnn.records.pruning import PRUNING, PRUNING_FILE
from bnn.records.summary import Summary
from bnn.settings import TrainSettings

SHAPE, CLASSES = (1, 12, 12), 10
STEPS_PER_EPOCH, EPOCHS, STOP_AT = 4, 4, 10  # stopped in the third epoch, after the second's checkpoint
DRAWS, IMAGES = 600, 12
ENERGY_SECONDS = 3.0
BENCH_ROUNDS = 7


class StoppedError(Exception):
    """The run was stopped, as an interruption would."""


class Stopping(Heartbeat):
    """Ends a training in the middle of a step's end."""

    def advance(self, step: int) -> None:
        super().advance(step)
        if step == STOP_AT:
            raise StoppedError


def deterministic(device: str) -> None:
    """The same sums in the same order, where libraries can; call it before anything runs on a GPU."""
    exact_products(device)
    if device == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.backends.cudnn.benchmark = False
        torch.use_deterministic_algorithms(True, warn_only=True)


def training_settings(engine: Engine, device: str) -> TrainSettings:
    """A network with every kind of layer but the residual sum; the same number of steps on any number of ranks."""
    batch = 8
    options = {"shape": SHAPE, "classes": CLASSES, "size": STEPS_PER_EPOCH * batch * engine.size, "test_size": 32}
    return TrainSettings(
        dataset="synthetic", dataset_options=options, model="vgg16", width=1 / 16, batch_size=batch, epochs=EPOCHS,
        warmup_steps=2, rho_init=-4.0, learning_rate=1e-3, lr_scaling="none", checkpoint_epochs=1, evaluate="final",
        evaluate_draws=2, engine=engine.name, device=device,
    )  # fmt: skip


def resumed(engine: Engine, device: str, folder: Path) -> tuple[str, Path]:
    """Train to the end, and again with a stop and a resumption: the same weights. Every rank calls it.

    Returns a line and the posterior's folder. Raises FaultError.
    """
    from bnn.training.loop import train

    deterministic(device)
    settings = training_settings(engine, device)
    whole, twice = folder / "whole", folder / "twice"
    started = time.time()
    train(settings, whole, engine, started)
    try:
        train(settings, twice, engine, started, Stopping(twice, engine.rank))
    except StoppedError:
        pass
    else:
        raise FaultError("the run could not be stopped")
    summary = train(settings, twice, engine, started)
    posterior = Path("posterior") / f"step-{STEPS_PER_EPOCH * EPOCHS}"
    if engine.rank != 0:
        return "", whole / posterior
    assert summary is not None
    if summary.verdict.status == "INVALID" or summary.attempts != 2:
        raise FaultError(f"the resumed run: {summary.attempts} attempts, {'; '.join(summary.verdict.reasons)}")
    first, second = (load_file(run / posterior / TENSORS_FILE) for run in (whole, twice))
    off = compare(first, second, device)
    said = f"{STEPS_PER_EPOCH * EPOCHS} steps; stopped after {STOP_AT} and resumed, weights are "
    return said + ("the same bits" if off == 0 else f"off by {off:.1g}") + rate(summary), whole / posterior


def rate(summary: Summary) -> str:
    """The throughput, where there were steady steps."""
    steady = summary.throughput.steady
    return f"; {steady:.0f} samples/s" if steady else ""


def compare(first: dict[str, Tensor], second: dict[str, Tensor], device: str) -> float:
    """The largest distance of two runs' tensors: none on a CPU; on a GPU some sums may be of another order."""
    if first.keys() != second.keys():
        raise FaultError("the resumed run has other tensors")
    for name, tensor in first.items():
        agree(f"after the resumption {name}", second[name], tensor, 0.0 if device == "cpu" else 1e-4)
    return max(distance(second[name], tensor) for name, tensor in first.items())


def resume(context: Context) -> str:
    """One process: the same weights after a stop and a resumption."""
    return resumed(SingleEngine(), context.device, context.folder / "resume")[0]


def network(kind: str = "resnet18") -> GraphNetwork:
    """A posterior with noise that matters."""
    torch.manual_seed(4)
    init = PosteriorInit(rho_init=-2.0, rho_init_std=0.5)
    model = build_model(kind, "bnn", input_shape=SHAPE, classes=CLASSES, width=1 / 16, init=init).eval()
    return trace(model, torch.rand(2, *SHAPE), 1, {"settings": {"rho_init": -2.0}})[1]


@torch.no_grad()
def inference(context: Context) -> str:
    """The mean of draws on the device against one of other draws in float64 on the CPU, within what chance allows."""
    exact_products(context.device)
    posterior = network()
    images = torch.rand(IMAGES, *SHAPE, generator=torch.Generator().manual_seed(6))
    reference = torch.stack([plain_draw(posterior, images, seed) for seed in range(DRAWS)])
    predictor = Predictor(network().to(context.device))
    block = images.to(context.device).contiguous(memory_format=torch.channels_last)
    start = time.perf_counter()
    drawn = torch.stack([each.cpu() for each in predictor.probabilities(1, 0, DRAWS, [block])]).double()
    seconds = time.perf_counter() - start
    if not bool(torch.isfinite(drawn).all()):
        raise FaultError("probabilities that are not finite")
    error = ((drawn.var(0) + reference.var(0)) / DRAWS).sqrt()
    strayed = float(((drawn.mean(0) - reference.mean(0)).abs() / error.clamp_min(1e-7)).max())
    if not strayed <= SIGMAS:
        raise FaultError(f"mean probabilities stray by {strayed:.1f} standard errors from those in float64")
    return f"means of {DRAWS} draws stray by {strayed:.1f} standard errors; {DRAWS * IMAGES / seconds:.0f} images/s"


def plain_draw(posterior: GraphNetwork, images: Tensor, seed: int) -> Tensor:
    """Softmax values (N, classes) of one sample of all kernels, in float64, by torch's own layers."""
    make = torch.Generator().manual_seed(seed)
    posterior = posterior.double()
    kept = [(layer, layer.mu.clone()) for layer in bayesian_layers(posterior)]
    for layer, mu in kept:
        layer.mu.add_(layer.sigma * torch.randn(mu.shape, generator=make, dtype=torch.float64))
        layer.mean_only = True
    values = torch.softmax(posterior(images.double()), 1)
    for layer, mu in kept:
        layer.mu.copy_(mu)
    return values


def pruning(context: Context) -> str:
    """A sweep over weights and one over units: what is left is what was asked for, on the device."""
    exact_products(context.device)
    folder = context.folder / "pruning"
    save_network(network("fc"), folder / "posterior")
    common: dict[str, Any] = {
        "posterior": folder / "posterior", "dataset": "synthetic", "images": 50, "draws": 10, "device": context.device,
        "dataset_options": {"shape": SHAPE, "classes": CLASSES, "size": 50, "test_size": 50}, "percent": (50, 90),
    }  # fmt: skip
    said = []
    for by in ("weight", "unit"):
        summary = prune(PruneSettings(**common, by=by), folder / by, time.time())
        rows = read_table(folder / by / PRUNING_FILE, PRUNING)
        pruned = rows[rows["level"] >= 0]
        if summary.device != context.device:
            raise FaultError(f"the sweep ran on {summary.device}")
        short = pruned["percent"] < pruned["percent_asked"] - 0.1
        if by == "weight" and bool((short | (pruned["percent"] > pruned["percent_asked"] + 0.1)).any()):
            raise FaultError(f"{list(pruned['percent_asked'])}% asked for, {list(pruned['percent'].round(1))}% removed")
        if not bool(np.isfinite(pruned[["accuracy", "nll", "seconds", "speedup"]].to_numpy(float)).all()):
            raise FaultError(f"by {by}: values that are not finite")
        last = pruned.iloc[-1]
        said.append(f"by {by} {last['percent']:.0f}%: {last['form']} {last['speedup']:.2f}x")
    return "; ".join(said)


def energy(context: Context) -> str:
    """The counters move while something is computed, by a power that can be."""
    gpus = [gpu_uuid()] if context.device == "cuda" else []
    try:
        source, counters = node_counters(gpus)
    except NotMeasurableError as error:
        raise AbsentError(str(error)) from None
    meter = EnergyMeter(source, counters)
    factor = torch.rand(1024, 1024, device=context.device)
    start = time.perf_counter()
    meter.start()
    while time.perf_counter() - start < ENERGY_SECONDS:
        factor = (factor @ factor).div_(512)
        synchronize(context.device)
    meter.stop()
    watts = meter.joules / (time.perf_counter() - start)
    if meter.reason is not None:
        raise AbsentError(f"{source}: {meter.reason}")
    if not 0.5 < watts < 50_000:
        raise FaultError(f"{source}: {watts:.3g} W while computing")
    return f"{source}: {watts:.0f} W while computing"


def step_time(context: Context) -> str:
    """A training step of the BNN and of the CNN, in turns."""
    from bnn.bench.protocol import Spec
    from bnn.bench.worker import Ours

    model, width, batch, steps = ("vgg16", 1.0, 128, 10) if context.device == "cuda" else ("resnet18", 0.25, 16, 2)
    subjects = {}
    for kind in ("bnn", "cnn"):
        settings = {"kind": kind, "device": context.device}
        spec = Spec(kind, model, width, (3, 32, 32), 10, batch, torch.get_num_threads(), 1, 10_000, settings)
        subjects[kind] = Ours(spec)
        for _ in range(3):
            subjects[kind].step()
    times: dict[str, list[float]] = {kind: [] for kind in subjects}
    order = list(subjects)
    for number in range(BENCH_ROUNDS):
        random.Random(number).shuffle(order)
        for kind in order:
            synchronize(context.device)
            start = time.perf_counter()
            for _ in range(steps):
                loss = subjects[kind].step().value
            synchronize(context.device)
            times[kind].append((time.perf_counter() - start) / steps)
            if not np.isfinite(loss):
                raise FaultError(f"{kind}: a loss of {loss}")
    ratio = metrics.ratio_interval(times["bnn"], times["cnn"])
    middle = {kind: 1000 * sorted(values)[BENCH_ROUNDS // 2] for kind, values in times.items()}
    shown = f"BNN {middle['bnn']:.1f} ms, CNN {middle['cnn']:.1f} ms"
    return f"{model} x {width:g}, batch {batch}: {shown}, ratio {ratio.value:.2f} ({ratio.low:.2f} to {ratio.high:.2f})"
