"""A model is recorded before it is trained; the files saved afterwards are those of a new recording, to the byte."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import bnn
import bnn.posterior.trace as tracing
from bnn.engine import SingleEngine
from bnn.errors import UserError
from bnn.layers.base import bayesian_layers
from bnn.models.build import build_model
from bnn.posterior import save_posterior
from bnn.posterior.trace import current, trace
from bnn.training import start
from tests.fuzz.seeds import Mixed, Recurrent
from tests.support.networks import WIDE


class OwnNorm(nn.BatchNorm2d):
    def forward(self, x: Tensor) -> Tensor:
        statistics = (self.running_mean, self.running_var, self.weight, self.bias)
        return functional.relu(functional.batch_norm(x, *statistics, self.training, 0.1, self.eps))


class Kept(nn.Module):
    """A buffer that becomes another tensor, a plain tensor, and a number."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.last = nn.Conv2d(2, 3, 3), OwnNorm(3), nn.Linear(3, 2)
        self.register_buffer("centre", torch.rand(2, 1, 1))
        self.plain, self.number = torch.rand(3, 1, 1), 1.0

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.conv(x - self.centre)) * self.plain + torch.tensor([[[0.25]]])
        return self.last(y.mean((2, 3)) * self.number)


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "vgg16": (lambda: build_model("vgg16", "bnn", input_shape=(3, 32, 32), classes=10, width=1 / 16), (3, 32, 32)),
    "resnet18": (
        lambda: build_model("resnet18", "bnn", input_shape=(3, 32, 32), classes=10, width=1 / 16),
        (3, 32, 32),
    ),
    "kept": (lambda: bnn.convert(Kept(), init=WIDE), (2, 5, 5)),
    "mixed": (lambda: bnn.convert(Mixed(), init=WIDE), (2, 4, 4)),
    "recurrent": (lambda: bnn.convert(Recurrent(), init=WIDE), (1, 2, 2)),
    "a layer": (lambda: bnn.convert(nn.Linear(4, 3), init=WIDE), (4,)),
}


@torch.no_grad()
def train(model: nn.Module) -> None:
    """New values in the same tensors, as training leaves them; running statistics too."""
    make = torch.Generator().manual_seed(1)
    for layer in bayesian_layers(model):
        layer.mu.add_(torch.randn(layer.mu.shape, generator=make) * 0.1)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_var.add_(torch.rand(module.running_var.shape, generator=make))


def files(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


@pytest.mark.parametrize("name", list(NETWORKS))
def test_the_files_are_those_of_a_new_recording(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make, shape = NETWORKS[name]
    torch.manual_seed(0)
    model, example = make(), torch.zeros(1, *shape)
    _, recorded = trace(model, example, 0, {})
    model.train()
    train(model)
    if isinstance(model, Kept):
        model.centre, model.plain = torch.rand(2, 1, 1), torch.rand(3, 1, 1)
        model.norm.running_mean = torch.rand(3)
    save_posterior(model, tmp_path / "anew", example_input=example, step=7, extra={"a": 1})
    with monkeypatch.context() as patched:
        patched.setattr(tracing, "record", None)  # nothing is recorded a second time
        network = current(model, recorded, example, 7, {"a": 1})
    save_posterior(network, tmp_path / "once", example_input=example, step=7, extra={"a": 1})
    assert files(tmp_path / "once") == files(tmp_path / "anew")
    assert all(module.training for module in model.modules())


def test_a_model_that_computes_something_else_now_is_recorded_anew(tmp_path: Path) -> None:
    model, example = bnn.convert(Kept(), init=WIDE), torch.zeros(1, 2, 5, 5)
    _, recorded = trace(model, example, 0, {})
    model.number = 3.0
    save_posterior(model, tmp_path / "anew", example_input=example, step=7)
    save_posterior(current(model, recorded, example, 7, {}), tmp_path / "once", example_input=example, step=7)
    assert files(tmp_path / "once") == files(tmp_path / "anew")


def test_a_model_that_cannot_be_saved_any_more_is_refused() -> None:
    model, example = bnn.convert(Kept(), init=WIDE), torch.zeros(1, 2, 5, 5)
    _, recorded = trace(model, example, 0, {})
    model.register_forward_hook(lambda module, inputs, output: output - output.mean(0))
    with pytest.raises(UserError, match="depends on the other examples"):
        current(model, recorded, example, 7, {})


class Rank(SingleEngine):
    """A rank of several, which hears what rank 0 says."""

    def __init__(self, rank: int, said: str | None) -> None:
        super().__init__()
        self.rank, self.said = rank, said

    def gather(self, value: Any, label: str) -> list[Any]:
        return [self.said if self.rank else value, value]


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("said", [None, "layer x: cannot be saved"])
def test_rank_0_records_and_all_ranks_hear_of_a_refusal(
    rank: int, said: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def record(*_: Any) -> tuple[None, str]:
        assert rank == 0
        if said is not None:
            raise UserError(said)
        return None, "the network"

    monkeypatch.setattr(start, "trace", record)
    trainer: Any = SimpleNamespace(engine=Rank(rank, said), settings=SimpleNamespace(model="fc"))
    model = nn.Linear(2, 2)
    dataset: Any = SimpleNamespace(input_shape=(2,))
    heartbeat: Any = SimpleNamespace(move=lambda where: None)
    if said is None:
        assert start.record_once(trainer, model, dataset, heartbeat) == (None if rank else "the network")
    else:
        with pytest.raises(UserError, match=said):
            start.record_once(trainer, model, dataset, heartbeat)
