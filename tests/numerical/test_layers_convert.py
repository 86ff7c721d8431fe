"""The Bayesian twin of a model: the same function where sigma is nil, and nothing lost on the way."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from bnn.errors import UserError
from bnn.layers import BayesianLayer, FlipoutConv2d, PosteriorInit, ReparameterizationLinear, bayesian_layers
from bnn.layers.convert import convert
from bnn.models.architectures import ARCHITECTURES, PAPER_INPUT
from bnn.models.build import build_model

NARROW = PosteriorInit(rho_init=-60.0, rho_init_std=0.0)


class Nested(nn.Module):
    """A residual block inside a model, one convolution used twice, and a module under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(2, 4, 3, padding="same", bias=False), nn.BatchNorm2d(4))
        self.twice = nn.Conv2d(4, 4, 3, padding=1, groups=2, dilation=1)
        self.alias = self.twice
        self.head = nn.ModuleDict({"out": nn.Linear(4, 3)})
        self.head["again"] = self.head["out"]

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu()
        x = x + self.alias(self.twice(x))
        x = x.mean((2, 3))
        return self.head["out"](x) - self.head["again"](2 * x)


@pytest.mark.parametrize("model", ARCHITECTURES)
def test_without_uncertainty_the_twin_is_its_cnn(model: str) -> None:
    torch.manual_seed(0)
    shape = PAPER_INPUT[model]
    cnn = build_model(model, "cnn", input_shape=shape, classes=10, width=0.125)
    twin = convert(cnn, init=NARROW)
    images = torch.randn(3, *shape)
    torch.testing.assert_close(twin(images), cnn(images))
    counts = [sum(p.numel() for p in net.parameters()) for net in (cnn, twin)]
    assert counts[1] == counts[0] + sum(layer.rho.numel() for layer in bayesian_layers(twin))


def test_sequential() -> None:
    source = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 2, bias=False)).double().eval()
    before = {name: value.clone() for name, value in source.state_dict().items()}
    twin = convert(source, "reparameterization", PosteriorInit(prior_scale=2.0, rho_init=-60.0))
    assert [type(layer) for layer in twin.children()] == [ReparameterizationLinear, nn.Tanh, ReparameterizationLinear]
    first, second = bayesian_layers(twin)
    assert first.prior_scale == 2.0
    assert second.bias is None
    assert not first.training
    x = torch.randn(3, 5, dtype=torch.float64)
    torch.testing.assert_close(twin(x), source(x))
    with torch.no_grad():
        first.mu.zero_()
    assert all(torch.equal(value, before[name]) for name, value in source.state_dict().items())


def test_nested_and_shared_modules() -> None:
    torch.manual_seed(0)
    source = Nested()
    twin = convert(source, init=NARROW)
    assert isinstance(twin, Nested)
    assert twin.alias is twin.twice
    assert twin.head["again"] is twin.head["out"]
    assert twin.stem[0].padding == (1, 1)
    assert [layer.layer_index for layer in bayesian_layers(twin)] == [0, 1, 2]
    x = torch.randn(3, 2, 6, 6)
    torch.testing.assert_close(twin(x), source(x))
    assert isinstance(source.twice, nn.Conv2d)


def test_a_single_layer_and_a_random_mean() -> None:
    torch.manual_seed(0)
    source = nn.Conv2d(8, 32, 3, stride=2)
    twin = convert(source, mean_from="random", init=PosteriorInit(mu_init_std=0.7))
    assert isinstance(twin, FlipoutConv2d)
    assert twin.stride == (2, 2)
    assert twin.mu.std().item() == pytest.approx(0.7, rel=5 / (2 * twin.mu.numel()) ** 0.5)
    assert twin.bias is not None
    assert not twin.bias.any()


def test_bayesian_layers_stay() -> None:
    twin = convert(nn.Linear(2, 2))
    again = convert(nn.Sequential(twin, nn.Linear(2, 2)))
    first, second = bayesian_layers(again)
    assert isinstance(twin, BayesianLayer)
    assert type(first) is type(second) is type(twin)
    assert torch.equal(first.rho, twin.rho)


class Hiding(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.seen, self.parts = nn.Linear(2, 2), [nn.Linear(2, 2)]


def tied() -> nn.Module:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].weight = model[0].weight
    return model


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (nn.Sequential(nn.ReLU()), "Sequential has no weights of linear maps"),
        (nn.Sequential(nn.LazyLinear(3)), "layer 0: a LazyLinear has no weight yet"),
        (nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(2, 2))), "layer 0: its weight is parametrized"),
        (nn.Sequential(nn.utils.weight_norm(nn.Linear(2, 2))), "layer 0: it has forward hooks"),
        (nn.Sequential(nn.utils.spectral_norm(nn.Linear(2, 2))), "hooks"),
        (Hiding(), "parts: a Linear that is registered nowhere: layers in a list"),
        (tied(), "tied"),
    ],
)
def test_what_would_be_lost_is_refused(module: nn.Module, message: str) -> None:
    with pytest.raises(UserError, match=message):
        convert(module)


def test_wrong_options_are_refused() -> None:
    with pytest.raises(UserError, match="mean_from 'zero'"):
        convert(nn.Linear(2, 2), mean_from="zero")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="estimator magic"):
        convert(nn.Linear(2, 2), "magic")


def hooked(kind: str) -> nn.Module:
    model = nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2))
    match kind:
        case "backward":
            model[0].register_full_backward_hook(lambda *_: None)
        case "backward-pre":
            model[0].register_full_backward_pre_hook(lambda *_: None)
        case "weight":
            model[0].weight.register_hook(lambda gradient: gradient)
        case "norm":
            model[1].weight.register_post_accumulate_grad_hook(lambda _: None)
    return model


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("backward", "layer 0: it has backward hooks"),
        ("backward-pre", "layer 0: it has backward hooks"),
        ("weight", r"parameter 0\.weight: it has hooks on its gradient"),
        ("norm", r"parameter 1\.weight: it has hooks on its gradient"),
    ],
)
def test_hooks_that_a_copy_would_lose_are_refused(kind: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        convert(hooked(kind))


def test_a_tied_bias_is_refused() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model[1].bias = model[0].bias
    with pytest.raises(UserError, match="layer 0: its bias is tied"):
        convert(model)
