"""What recording could lose without a word is recorded as it is, or refused by name."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import bnn
from bnn.errors import UserError
from bnn.layers.base import bayesian_layers
from bnn.posterior import load_posterior, save_posterior
from bnn.posterior.layer_types import STANDARD, is_leaf
from bnn.posterior.trace import trace
from tests.support.networks import WIDE, at_means, behind, off, saved

SHAPE = (2, 6, 6)
LAYERS: dict[str, Callable[[], nn.Module]] = {
    "Conv2d": lambda: nn.Conv2d(2, 2, 3), "BatchNorm2d": lambda: nn.BatchNorm2d(2), "Tanh": nn.Tanh,
    "ReLU": nn.ReLU, "MaxPool2d": lambda: nn.MaxPool2d(2), "Identity": nn.Identity, "Dropout": nn.Dropout,
    "GroupNorm": lambda: nn.GroupNorm(1, 2),
}  # fmt: skip


@pytest.mark.parametrize("kind", sorted(LAYERS))
def test_a_forward_pass_that_was_replaced_on_the_object_is_recorded(kind: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    layer = LAYERS[kind]()
    assert kind in STANDARD
    assert is_leaf(layer)
    model = nn.Sequential(bnn.convert(nn.Sequential(nn.Conv2d(2, 2, 1)), init=WIDE), behind(layer, SHAPE)).eval()
    own = layer.forward = lambda x: 3 * type(layer).forward(layer, x) + 1  # type: ignore[method-assign]
    assert not is_leaf(layer)
    images = torch.rand(3, *SHAPE)
    loaded = saved(model, tmp_path / "p", SHAPE)
    assert off(at_means(loaded, images), at_means(model, images)) < 1e-6
    assert layer.__dict__["forward"] is own


def test_another_method_that_was_replaced_counts_too(tmp_path: Path) -> None:
    conv = nn.Conv2d(2, 2, 3)
    model = nn.Sequential(bnn.convert(nn.Sequential(nn.Conv2d(2, 2, 1))), behind(conv, SHAPE)).eval()
    conv._conv_forward = lambda x, weight, bias: functional.conv2d(x, weight.abs(), bias)  # type: ignore[method-assign]
    images = torch.rand(3, *SHAPE)
    assert off(at_means(saved(model, tmp_path / "p", SHAPE), images), at_means(model, images)) < 1e-6


def test_a_bayesian_layer_whose_forward_pass_was_replaced_is_refused(tmp_path: Path) -> None:
    model = bnn.convert(behind(nn.Conv2d(2, 2, 3), SHAPE)).eval()
    layer = next(bayesian_layers(model))
    own = layer.forward = lambda x: 3 * type(layer).forward(layer, x)  # type: ignore[method-assign]
    with pytest.raises(UserError, match="layer 0: its forward was replaced on the object"):
        save_posterior(model, tmp_path / "p", example_input=torch.rand(2, *SHAPE), step=0)
    assert layer.__dict__["forward"] is own


def test_threads_record_one_after_the_other() -> None:
    """Each its own model. What is process-wide, the leaf layers and torch's settings, is afterwards as it was."""

    def model(seed: int) -> nn.Module:
        torch.manual_seed(seed)
        body = [layer for _ in range(seed) for layer in (nn.Conv2d(2, 2, 3, padding=1), nn.Tanh(), nn.BatchNorm2d(2))]
        return bnn.convert(behind(nn.Sequential(*body), SHAPE), init=WIDE).eval()

    models = [model(seed) for seed in (1, 4, 2, 3)]
    expected = [trace(model, torch.zeros(1, *SHAPE), 0, {})[0].nodes for model in models]
    found: dict[int, object] = {}
    ready, stderr = threading.Barrier(len(models)), sys.stderr

    def work(number: int) -> None:
        ready.wait()
        try:
            found[number] = trace(models[number], torch.zeros(1, *SHAPE), 0, {})[0].nodes
        except BaseException as error:
            found[number] = error

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(models))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[number] for number in range(len(models))] == expected
    assert sys.stderr is stderr
    assert torch.backends.mha.get_fastpath_enabled()


def test_a_model_draws_its_own_noise_while_another_is_recorded() -> None:
    """A training goes on while another thread saves a posterior: torch tells all threads that it exports."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(2, 3, 3), nn.Tanh(), nn.Flatten(), nn.Linear(48, 2))
    model, x = bnn.convert(network, init=WIDE), torch.rand(3, *SHAPE)
    key = bnn.NoiseKey(1, 0)

    def passes() -> list[Tensor]:
        bnn.set_noise(model, key)
        with torch.no_grad():
            return [model(x), model(x)]

    expected, over = passes(), threading.Event()

    def work() -> None:
        other = bnn.convert(behind(nn.Sequential(nn.Conv2d(2, 2, 3)), SHAPE)).eval()
        for _ in range(3):
            trace(other, torch.zeros(1, *SHAPE), 0, {})
        over.set()

    other = threading.Thread(target=work)
    other.start()
    exporting = 0
    while not over.is_set():
        exporting += torch.compiler.is_compiling()
        assert all(map(torch.equal, passes(), expected))
    other.join()
    assert exporting, "nothing was recorded meanwhile"


class Stubborn(nn.Dropout):
    """Monte-Carlo dropout as it is written by hand."""

    def train(self, mode: bool = True) -> nn.Module:
        return super().train(True)


class Watchful(nn.Module):
    """A model that turns one of its layers on again whenever it changes its mode."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.dense, self.noisy = nn.Linear(4, 4), layer

    def forward(self, x: Tensor) -> Tensor:
        return self.noisy(self.dense(x))

    def train(self, mode: bool = True) -> nn.Module:
        super().train(mode)
        self.noisy.train(True)
        return self


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: Watchful(nn.Dropout(0.2)), "layer noisy: a Dropout "),
        (lambda: Watchful(nn.AlphaDropout(0.2)), "layer noisy: a AlphaDropout "),
        (lambda: Watchful(nn.BatchNorm1d(4)), "layer noisy: a BatchNorm1d "),
        (lambda: nn.Sequential(nn.Linear(4, 4), Stubborn(0.2)), "layer 1: a Stubborn "),
    ],
)
def test_what_stays_in_training_mode_is_refused(make: Callable[[], nn.Module], named: str, tmp_path: Path) -> None:
    twin = bnn.convert(make())
    with pytest.raises(UserError, match=f"^{named}that stays in training mode after model.eval"):
        save_posterior(twin, tmp_path / "p", example_input=torch.rand(2, 4), step=0)
    assert not (tmp_path / "p").exists()


def test_a_dropout_that_drops_nothing_may_stay_as_it_is(tmp_path: Path) -> None:
    save_posterior(bnn.convert(Watchful(nn.Dropout(0.0))), tmp_path / "p", example_input=torch.rand(2, 4), step=0)
    assert load_posterior(tmp_path / "p")


class Limited(nn.Module):
    """Its forward pass limits its weight in place, as networks for EEG do."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how, self.first, self.last = how, nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        weight = self.first.weight
        if self.how == "data":
            weight.data = torch.renorm(weight.data, 2, 0, 0.1)
        elif self.how == "clamp":
            weight.data.clamp_(-0.1, 0.1)
        else:
            with torch.no_grad():
                weight.mul_(0.5)
        return self.last(torch.tanh(self.first(x)))


@pytest.mark.parametrize("how", ["data", "clamp", "in place"])
def test_a_weight_that_is_changed_in_place_is_refused_and_its_mean_stays(how: str, tmp_path: Path) -> None:
    twin = bnn.convert(Limited(how))
    before = twin.first.mu.detach().clone()  # type: ignore[union-attr]
    with pytest.raises(UserError, match="layer first: the model's forward pass changes its weight in place"):
        save_posterior(twin, tmp_path / "p", example_input=torch.rand(2, 4), step=0)
    assert torch.equal(twin.first.mu, before)  # type: ignore[arg-type,union-attr]
    assert not (tmp_path / "p").exists()
