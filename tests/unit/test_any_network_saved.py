"""What a posterior makes of a network is the network: in all that used to differ without a word."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import bnn
from bnn.errors import UserError
from bnn.inference.predictor import Predictor
from bnn.layers import bayesian_layers
from bnn.posterior import GraphNetwork, load_posterior, save_posterior
from bnn.posterior.network import attach, attach_tensor
from tests.support import own_models
from tests.support.networks import SHARP, at_means, off, saved, survives

IMAGE = (3, 12, 12)


def draw(network: GraphNetwork, images: Tensor) -> Tensor:
    [probabilities] = Predictor(network).probabilities(1, 0, 1, [images.clone()])
    return probabilities


class Alias(nn.Module):
    """`h += ...` changes `skip`, too. Without biases a black image shows nothing of it."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 3, bias=False), nn.Conv2d(3, 8, 3, bias=False)
        self.head = nn.Linear(8, 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        h = self.a(x)
        skip = h
        h += self.b(x)
        return self.head((h + skip).mean((2, 3)))


def test_an_alias_that_changes_with_its_value(tmp_path: Path) -> None:
    survives(Alias(), tmp_path / "p", IMAGE)


def test_a_hook_on_a_layer_counts_or_is_refused(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(800, 2, bias=False))
    model[1].register_forward_hook(lambda _module, _inputs, output: output * 3)
    survives(model, tmp_path / "p", IMAGE)


def wide_norm(channels: int) -> nn.Module:
    """A dense layer over the width of (N, C, H, W), BatchNorm over C behind it: not over what the layer makes."""
    model = nn.Sequential(
        nn.Conv2d(3, channels, 1), nn.Linear(12, 12), nn.BatchNorm2d(channels), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), nn.Linear(channels, 2),
    )  # fmt: skip
    return model


def padded_norm(**options: object) -> nn.Module:
    """BatchNorm behind a convolution whose form draws need not take."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, **options), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 3), nn.BatchNorm2d(4),
        nn.Flatten(), nn.LazyLinear(2),
    )  # fmt: skip


NORMED: dict[str, Callable[[], nn.Module]] = {
    "as wide as its channels": lambda: wide_norm(12),
    "of another width": lambda: wide_norm(8),
    "padding same": lambda: padded_norm(padding="same"),
    "padding same, dilated, in groups": lambda: padded_norm(padding="same", dilation=2, groups=1),
    "depthwise": lambda: nn.Sequential(
        nn.Conv2d(3, 6, 3, groups=3), nn.BatchNorm2d(6), nn.Flatten(), nn.Linear(600, 2)
    ),
    "over a vector": lambda: nn.Sequential(
        nn.Flatten(), nn.Linear(432, 9), nn.BatchNorm1d(9), nn.ReLU(), nn.Linear(9, 2)
    ),
}


@pytest.mark.parametrize("name", NORMED)
def test_a_norm_is_folded_only_where_it_belongs(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = NORMED[name]()
    images = torch.rand(4, *IMAGE)
    model(images)
    for norm in model:
        if isinstance(norm, nn.modules.batchnorm._BatchNorm):
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.2, 2)
            nn.init.uniform_(norm.weight, -2, 2)
    model.eval()
    loaded = saved(bnn.convert(model, init=SHARP), tmp_path / "p", IMAGE)
    with torch.no_grad():
        expected = model(images)
    assert off(at_means(loaded, images), expected) < 1e-5
    assert off(draw(loaded, images), torch.softmax(expected, 1)) < 1e-5


@pytest.mark.parametrize("name", ["norm_without_bias", "pools_with_indices", "tokens_first", "lenet"])
def test_what_is_saved_can_be_used_later(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = getattr(own_models, name)(IMAGE, 4).eval()
    loaded = saved(bnn.convert(model, init=SHARP), tmp_path / "p", IMAGE)
    images = torch.rand(5, *IMAGE)
    with torch.no_grad():
        expected = model(images)
    assert off(draw(loaded, images), torch.softmax(expected, 1)) < 1e-5
    assert off(draw(loaded, images[:1]), torch.softmax(expected[:1], 1)) < 1e-5


def test_dropout_that_is_never_off_is_refused_by_name(tmp_path: Path) -> None:
    twin = bnn.convert(own_models.always_drops(IMAGE, 4))
    with pytest.raises(UserError, match="dropout"):
        save_posterior(twin, tmp_path / "p", example_input=torch.rand(2, *IMAGE), step=0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["finished", "graph", "tensors", "dtype", "steps", "_steps", "forward_", "a-b", "0"])
def test_layers_may_be_called_anything(name: str, tmp_path: Path) -> None:
    model = nn.Sequential()
    model.add_module("flat", nn.Flatten())
    model.add_module(name, nn.Linear(12, 2))
    loaded = survives(model, tmp_path / "p", (3, 2, 2))
    assert name in dict(loaded.named_children())


@pytest.mark.parametrize("path", ["training", "a.training", "training.weight", "a..b", ""])
def test_names_that_no_module_can_have(path: str) -> None:
    with pytest.raises(UserError, match="impossible"):
        attach(nn.Module(), path, nn.Identity())
    with pytest.raises(UserError, match="impossible"):
        attach_tensor(nn.Module(), path, torch.zeros(1))


@pytest.mark.parametrize("by_layer", [True, False])
def test_a_group_norm_keeps_its_digits_where_channels_lie_last(by_layer: bool, tmp_path: Path) -> None:
    """ATen's kernel for that layout loses three digits where a mean is 200 of its standard deviations."""

    class Shifted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.head = nn.GroupNorm(4, 4), nn.Linear(4 * 36, 3)

        def forward(self, x: Tensor) -> Tensor:
            x = 21 + 0.1 * x
            x = self.norm(x) if by_layer else functional.group_norm(x, 4, self.norm.weight, self.norm.bias)
            return self.head(x.flatten(1))

    torch.manual_seed(0)
    model = Shifted().eval()
    loaded = saved(bnn.convert(model, init=SHARP), tmp_path / "p", (4, 6, 6))
    images = torch.rand(5, 4, 6, 6)
    with torch.no_grad():
        expected = torch.softmax(model.double()(images.double()), 1)
    assert off(draw(loaded, images).double(), expected) < 1e-4


def test_arguments_that_nobody_gives(tmp_path: Path) -> None:
    survives(own_models.Branching(12, 2), tmp_path / "p", (3, 2, 2))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_every_precision_is_drawn_in(dtype: torch.dtype, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = (
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(400, 3))
        .to(dtype)
        .eval()
    )
    loaded = saved(bnn.convert(model, init=SHARP), tmp_path / "p", IMAGE, dtype)
    assert {layer.mu.dtype for layer in bayesian_layers(loaded)} == {dtype}
    images = torch.rand(4, *IMAGE, dtype=dtype)
    with torch.no_grad():
        expected = torch.softmax(model(images), 1)
    assert off(draw(loaded, images).to(dtype), expected) < 1e-5


REFUSED: dict[str, tuple[Callable[[Tensor], object], str]] = {
    "several outputs": (lambda x: (x, x), "tensor"),
    "a mapping": (lambda x: {"out": x}, "tensor"),
    "decided by its data": (lambda x: x if x.sum() > 0 else -x, ""),
    "a number read from its data": (lambda x: x * float(x.mean()), ""),
    "noise": (lambda x: x + torch.randn_like(x), "rand"),
    "a complex spectrum": (lambda x: torch.fft.fft2(x).real, "fft|complex"),
}


class Calls(nn.Module):
    def __init__(self, function: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.function, self.mix = function, nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor) -> object:
        return self.function(self.mix(x).flatten(1))


@pytest.mark.parametrize("name", REFUSED)
def test_what_no_graph_holds_is_refused_in_one_line(name: str, tmp_path: Path) -> None:
    function, words = REFUSED[name]
    with pytest.raises(UserError) as caught:
        save_posterior(bnn.convert(Calls(function)), tmp_path / "p", example_input=torch.rand(2, 3, 4, 4), step=0)
    assert "\n" not in str(caught.value)
    assert re.search(words, str(caught.value)), str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_predictions_that_depend_on_the_other_examples_are_refused(tmp_path: Path) -> None:
    twin = bnn.convert(Calls(lambda x: x - x.mean(0)))
    with pytest.raises(UserError, match=r"examples|batch"):
        save_posterior(twin, tmp_path / "p", example_input=torch.rand(2, 3, 4, 4), step=0)


def test_a_posterior_knows_nothing_of_the_models_code(tmp_path: Path) -> None:
    survives(Alias(), tmp_path / "p", IMAGE)
    text = (tmp_path / "p" / "graph.json").read_text()
    assert "Alias" not in text
    assert str(Path(__file__).parent) not in text
    assert load_posterior(tmp_path / "p").graph.schema_version == 2
