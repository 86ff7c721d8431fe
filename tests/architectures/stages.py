"""What is done with an architecture, stage by stage, and what is said of each: works, refused, traceback or different.

Every stage's result is compared with the model itself, in plain eager torch: its means with the conventional model that
it was made from, its draws with the twin whose means are set to the very sample of a draw, its pruned forms with the
network whose weights are set to zero. Logits are compared, relative to the largest of them.
"""

from __future__ import annotations

import copy
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

import bnn
from bnn.errors import UserError
from bnn.inference.draw_layers import draw_layer
from bnn.inference.predictor import INFERENCE_RANK, Predictor
from bnn.interop.export import export_posterior
from bnn.layers import BayesianLayer, NoiseKey, PosteriorInit, kl_divergence, mean_only, set_noise
from bnn.layers.noise import layer_seed
from bnn.posterior import GraphNetwork, load_posterior, save_posterior
from bnn.posterior.save import save_network
from bnn.pruning.apply import apply
from bnn.pruning.compact import compact, eliminate_dead
from bnn.pruning.criterion import select
from tests.architectures.table import Architecture

ALLOWED = 1e-5  # of the largest logit
INIT = PosteriorInit(rho_init=-5.0, rho_init_std=0.3)
WORKS, REFUSED, TRACEBACK, DIFFERENT, MISSING = "works", "refused", "traceback", "different", "not reached"


class DifferentError(Exception):
    """A stage computes something else than the model."""


@dataclass(frozen=True)
class Outcome:
    """What became of one stage. `detail`: a refusal's words, an error's last line, what a stage has to say; `seconds`
    are of one core."""

    stage: str
    result: str
    detail: str = ""
    seconds: float = 0.0


@dataclass
class State:
    """What stages hand on to later ones."""

    architecture: Architecture
    folder: Path
    model: nn.Module
    images: Tensor
    twin: nn.Module = field(default_factory=nn.Module)
    loaded: GraphNetwork = None  # type: ignore[assignment]

    @property
    def posterior(self) -> Path:
        return self.folder / "posterior"


def same(ours: Tensor, theirs: Tensor, what: str) -> str:
    """How far two outputs are apart. Raises DifferentError beyond what is allowed, and for what is not finite."""
    if ours.shape != theirs.shape:
        raise DifferentError(f"{what}: {list(ours.shape)} in place of {list(theirs.shape)}")
    if not bool(torch.isfinite(theirs).all()):
        raise DifferentError(f"{what}: the model itself gives what is not finite")
    largest = float((ours - theirs).abs().max() / theirs.abs().max())
    if not largest <= ALLOWED:
        raise DifferentError(f"{what}: off by {largest:.1e}")
    return f"{largest:.1e}"


def pictures(shape: tuple[int, ...], count: int = 4, seed: int = 1) -> Tensor:
    """Inputs (count, *shape) in [0, 1] that differ in more than their noise: coarse patterns of their own."""
    make = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, shape[0], *[3] * (len(shape) - 1), generator=make)
    fine = torch.rand(count, *shape, generator=make)
    return 0.7 * functional.interpolate(coarse, size=shape[1:]) + 0.3 * fine


@torch.no_grad()
def stir(model: nn.Module, images: Tensor, seed: int = 0) -> None:
    """Move every parameter that starts as a constant, so that no part of a network is idle or the identity; set the
    statistics of norms near those of its own activations, so that signals neither vanish nor grow.

    Layer scales of 1e-6, last norms of zero and statistics of 0 and 1 would hide a fault.
    """
    make = torch.Generator().manual_seed(seed)
    for name, tensor in model.named_parameters():
        if tensor.numel() < 2 or bool((tensor != tensor.flatten()[0]).any()):
            continue
        noise = torch.rand(tensor.shape, generator=make)
        zero = float(tensor.flatten()[0]) == 0 and not name.endswith(("weight", "gamma"))
        tensor.copy_((noise - 0.5) * 0.4 if zero else 0.6 + 0.8 * noise)
    norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
    model.train()(pictures(tuple(images.shape[1:]), 16, seed=2))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        if isinstance(norm.running_mean, Tensor) and isinstance(norm.running_var, Tensor):
            spread = norm.running_var.sqrt()
            norm.running_mean += 0.2 * spread * torch.randn(spread.shape, generator=make)
            # none far below the others: that would blow rounding up
            norm.running_var.mul_(0.5 + torch.rand(spread.shape, generator=make)).add_(0.5 * norm.running_var.mean())


@torch.no_grad()
def means(network: nn.Module, images: Tensor) -> Tensor:
    with mean_only(network):
        return network(images.clone())


def bayesian(network: nn.Module) -> dict[str, BayesianLayer]:
    """The Bayesian layers by name, each once."""
    return {name: layer for name, layer in network.named_modules() if isinstance(layer, BayesianLayer)}


def plain_twin(twin: nn.Module, kernels: dict[str, Tensor]) -> nn.Module:
    """A copy of the twin whose means are `kernels`, by layer."""
    copied = copy.deepcopy(twin)
    with torch.no_grad():
        for name, layer in bayesian(copied).items():
            layer.mu.copy_(kernels[name])
    return copied


def convert(state: State) -> str:
    """The twin computes, at its means, what the conventional model does."""
    state.twin = bnn.convert(state.model, init=INIT)
    state.twin.eval(), state.model.eval()
    with torch.no_grad():
        expected = state.model(state.images.clone())
    if float((expected[1:] - expected[0]).abs().max() / expected.abs().max()) < 1e-3:
        raise AssertionError("this test sees nothing: all inputs give the same logits")
    said = same(means(state.twin, state.images), expected, "means of the twin")
    weights = sum(layer.mu.numel() for layer in bayesian(state.twin).values())
    return f"{said}; {weights / sum(p.numel() for p in state.model.parameters()):.1%} Bayesian"


def train(state: State) -> str:
    """One step by autograd: every parameter of the twin's layers has a gradient, and moves."""
    twin = state.twin.train()
    labels = torch.arange(len(state.images)) % 10
    set_noise(twin, NoiseKey(1, 0))
    loss = functional.cross_entropy(twin(state.images.clone()), labels) + kl_divergence(twin) / 50_000
    loss.backward()
    for name, parameter in twin.named_parameters():
        if name.endswith(("mu", "rho")) and (parameter.grad is None or not bool(torch.isfinite(parameter.grad).all())):
            raise AssertionError(f"{name}: no finite gradient")
    with torch.no_grad():
        for parameter in twin.parameters():
            if parameter.grad is not None:
                parameter.sub_(1e-4 * parameter.grad.sign())
                parameter.grad = None
    twin.eval()
    return ""


def save(state: State) -> str:
    save_posterior(state.twin, state.posterior, example_input=state.images[:2], step=1)
    return ""


def load(state: State) -> str:
    state.loaded = load_posterior(state.posterior)
    return f"{len(state.loaded.graph.nodes)} nodes"


def mean(state: State) -> str:
    return same(means(state.loaded, state.images), means(state.twin, state.images), "mean network")


@torch.no_grad()
def keyed(state: State) -> str:
    """Two passes whose noise has a name."""
    said, outputs = [], []
    for step in range(2):
        pair = []
        for network in (state.loaded, state.twin):
            set_noise(network, NoiseKey(5, step))
            pair.append(network(state.images.clone()))
        said.append(same(pair[0], pair[1], f"keyed pass {step}"))
        outputs.append(pair[0])
    if torch.equal(*outputs):
        raise AssertionError("two keys give the same")
    return " ".join(said)


def sample(layer: BayesianLayer, seed: int, draw: int) -> Tensor:
    """The kernel of one exact draw, of the layer's own shape, as the definition of draws has it."""
    drawn = draw_layer(layer)
    assert drawn is not None
    assert layer.layer_index is not None
    drawn.key(layer_seed(NoiseKey(seed, draw, INFERENCE_RANK), layer.layer_index))
    return drawn.weight


@torch.inference_mode()
def logits(predictor: Predictor, images: Tensor, draw: int) -> Tensor:
    predictor.key(3, draw, keep=False)
    return predictor.network(predictor.prepared(images.clone()))


def exact(state: State, network: GraphNetwork | None = None) -> str:
    """Two exact draws of a network, BatchNorm and ReLU folded where they are, against eager with the same weights."""
    network = state.loaded if network is None else network
    predictor, said = Predictor(network), []
    for draw in range(2):
        kernels = {name: sample(layer, 3, draw) for name, layer in bayesian(network).items()}
        expected = means(plain_twin(state.twin, kernels), state.images)
        ours = logits(predictor, state.images, draw)
        said.append(same(ours, expected, f"exact draw {draw}"))
        [softmax] = predictor.probabilities(3, draw, draw + 1, [state.images.clone()])
        if not torch.allclose(softmax, torch.softmax(ours, 1), atol=1e-6):
            raise DifferentError(f"exact draw {draw}: probabilities are not the softmax of its logits")
    return " ".join(said)


def pruned(state: State, by: str, percent: float) -> str:
    """Removed, masked, compacted, saved and loaded: all the same as eager with the weights that are left."""
    selection = select(state.loaded, percent=percent, scope="global", by=by)
    removed = apply(state.loaded, selection, "zero")
    said = [exact(state, removed)] if by == "weight" else []
    expected = means(removed, state.images)
    masked = eliminate_dead(removed)
    small = compact(masked)
    save_network(small, state.folder / by)
    forms = {"without dead units": masked, "compacted": small, "saved": load_posterior(state.folder / by)}
    for what, network in forms.items():
        said.append(same(means(network, state.images), expected, f"by {by}, {what}"))
    for draw in range(2):
        whole, cut = (logits(Predictor(network), state.images, draw) for network in (masked, small))
        said.append(same(cut, whole, f"by {by}, exact draw {draw} of the compacted network"))
    if by == "unit":
        before, after = (sum(layer.mu.numel() for layer in bayesian(n).values()) for n in (removed, small))
        return f"{selection.units_removed} units, {1 - after / before:.0%} of the weights"
    return said[0]


def by_weight(state: State) -> str:
    return pruned(state, "weight", 50.0)


def by_unit(state: State) -> str:
    return pruned(state, "unit", 20.0)


def export(state: State) -> str:
    file = state.folder / "mean.pt2"
    export_posterior(state.posterior, file)
    program = torch.export.load(file).module()
    with torch.no_grad():
        return same(program(state.images.clone()), means(state.twin, state.images), "exported")


# A stage, and the stages that must have worked before.
STAGES: dict[str, tuple[Callable[[State], str], tuple[str, ...]]] = {
    "convert": (convert, ()),
    "train": (train, ("convert",)),
    "save": (save, ("convert",)),
    "load": (load, ("save",)),
    "mean": (mean, ("load",)),
    "keyed": (keyed, ("load",)),
    "draws": (exact, ("load",)),
    "by weight": (by_weight, ("load",)),
    "by unit": (by_unit, ("load",)),
    "export": (export, ("load",)),
}


def outcome(stage: str, run: Callable[[State], str], state: State) -> Outcome:
    start = time.process_time()
    try:
        result, detail = WORKS, run(state)
    except UserError as error:
        text = str(error)
        result, detail = (REFUSED, text) if text and "\n" not in text else (TRACEBACK, f"more than one line: {text!r}")
    except DifferentError as error:
        result, detail = DIFFERENT, str(error)
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        text = " ".join(str(error).split())[:300]
        result, detail = TRACEBACK, f"{type(error).__name__}: {text} ({Path(where.filename).name}:{where.lineno})"
    return Outcome(stage, result, detail, round(time.process_time() - start, 2))


def outcomes(architecture: Architecture) -> list[dict[str, Any]]:
    """All stages of one architecture."""
    torch.manual_seed(0)
    model = architecture.make()
    images = pictures(architecture.shape)
    stir(model, images)
    found: dict[str, Outcome] = {}
    with TemporaryDirectory() as folder:
        state = State(architecture, Path(folder), model, images)
        for stage, (run, needs) in STAGES.items():
            if all(found[name].result == WORKS for name in needs):
                found[stage] = outcome(stage, run, state)
            else:
                found[stage] = Outcome(stage, MISSING)
    return [asdict(one) for one in found.values()]
