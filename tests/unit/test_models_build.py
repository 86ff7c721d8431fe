"""Built models run, train and can be traced at any image size; users' own models come in by name."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional

import bnn
from bnn.errors import UserError
from bnn.layers import BayesianLayer, PosteriorInit, ReparameterizationConv2d, bayesian_layers, kl_divergence, mean_only
from bnn.models.architectures import ARCHITECTURES
from bnn.models.build import BATCHNORM_EPS, build_model
from bnn.models.describe import describe
from bnn.posterior.trace import trace

SIZES = [(1, 28, 28), (3, 32, 32), (2, 17, 23)]


@pytest.mark.parametrize("shape", SIZES)
@pytest.mark.parametrize("kind", ["bnn", "cnn"])
@pytest.mark.parametrize("model", ARCHITECTURES)
def test_forward_backward_and_trace(model: str, kind: str, shape: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    network = build_model(model, kind, input_shape=shape, classes=7, width=0.125)
    seen: dict[str, tuple[int, ...]] = {}
    hooks = [
        module.register_forward_hook(lambda _m, _i, out, name=name: seen.update({name: tuple(out.shape)}))
        for name, module in network.named_children()
    ]
    images = torch.randn(2, *shape)
    logits = network(images)
    for hook in hooks:
        hook.remove()
    for row in describe(model, kind, shape, 7, 0.125).rows[1:]:
        channels, spatial = row.output_shape[-1], row.output_shape[1:-1]
        assert seen[row.module] == (2, channels, *spatial), row.name
    (functional.cross_entropy(logits, torch.tensor([0, 6])) + 1e-6 * kl_divergence(network)).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name

    network.eval()
    _, graph = trace(network, images, 0, {})
    with torch.no_grad(), mean_only(network):
        assert torch.equal(graph(images), network(images))


def test_kinds_estimators_and_initialisation() -> None:
    torch.manual_seed(0)
    init = PosteriorInit(prior_scale=0.5, mu_init_std=0.02, rho_init=-4.0, rho_init_std=0.3)
    network = build_model(
        "conv", "bnn", input_shape=(1, 28, 28), classes=10, width=0.25, estimator="reparameterization", init=init
    )
    layers = list(bayesian_layers(network))
    assert [layer.layer_index for layer in layers] == [0, 1, 2]
    assert isinstance(layers[0], ReparameterizationConv2d)
    big = layers[1]
    count = big.mu.numel()
    assert big.mu.std().item() == pytest.approx(0.02, rel=5 / (2 * count) ** 0.5)
    assert big.rho.mean().item() == pytest.approx(-4.0, abs=5 * 0.3 / count**0.5)
    assert big.rho.std().item() == pytest.approx(0.3, rel=5 / (2 * count) ** 0.5)
    assert big.prior_scale == 0.5
    assert all(layer.bias is not None and not layer.bias.any() for layer in layers)

    cnn = build_model("vgg16", "cnn", input_shape=(3, 32, 32), classes=10, width=0.5)
    assert not any(isinstance(module, BayesianLayer) for module in cnn.modules())
    kernel = cnn.get_submodule("conv3_2").weight
    limit = (6 / (9 * 128 + 9 * 128)) ** 0.5  # Glorot uniform
    assert isinstance(kernel, nn.Parameter)
    assert 0.99 * limit < kernel.abs().max().item() <= limit
    assert cnn.get_submodule("norm1_1").eps == BATCHNORM_EPS


def test_channels_last_gives_the_same_logits() -> None:
    torch.manual_seed(0)
    network = build_model("resnet18", "bnn", input_shape=(3, 32, 32), classes=10, width=0.125).eval()
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad(), mean_only(network):
        expected = network(images)
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        actual = network(images.to(memory_format=torch.channels_last))
    torch.testing.assert_close(actual, expected)


@pytest.fixture
def user_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "usernet.py").write_text(
        "from torch import nn\n"
        "def small(input_shape, classes):\n"
        "    c, h, w = input_shape\n"
        "    body = [nn.Conv2d(c, 4, 3, padding=1), nn.ReLU(), nn.Flatten()]\n"
        "    return nn.Sequential(*body, nn.Linear(4 * h * w, classes))\n"
        "def nothing(input_shape, classes): return 3\n"
        "def poolings(input_shape, classes): return nn.MaxPool2d(2)\n"
        "def one(input_shape): return small(input_shape, 2)\n"
        "number = 3\n"
    )
    (tmp_path / "needs.py").write_text("import no_such_package_anywhere\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in ("usernet", "needs"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return "usernet"


def test_a_users_model_as_both_kinds(user_module: str) -> None:
    cnn = build_model("usernet:small", "cnn", input_shape=(1, 8, 8), classes=3)
    assert isinstance(cnn, nn.Sequential)
    assert isinstance(cnn[0], nn.Conv2d)
    twin = build_model("usernet:small", "bnn", input_shape=(1, 8, 8), classes=3)
    assert [type(layer).__name__ for layer in bayesian_layers(twin)] == ["FastFlipoutConv2d", "FastFlipoutLinear"]
    assert twin(torch.randn(2, 1, 8, 8)).shape == (2, 3)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere.net:make", "nowhere.net:make: no module nowhere"),
        ("usernet.part:make", "no module usernet.part"),
        ("needs:make", "needs no_such_package_anywhere, which is not installed"),
        (":make", "is not the name of a module"),
        ("usernet:missing", "has no 'missing'"),
        ("usernet:", "has no ''"),
        ("usernet:number", "number is a int, not a function"),
        ("usernet:nothing", "returned a int, not a torch.nn.Module"),
        ("usernet:one", "cannot be called as function"),
        ("usernet:poolings", "usernet:poolings: MaxPool2d has no weights of linear maps"),
        ("vgg", "model vgg: unknown"),
    ],
)
def test_unusable_names_are_refused(user_module: str, name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        build_model(name, "bnn", input_shape=(1, 8, 8), classes=3)


def test_other_unusable_requests(user_module: str) -> None:
    with pytest.raises(UserError, match="width"):
        build_model("usernet:small", "bnn", input_shape=(1, 8, 8), classes=3, width=0.5)
    with pytest.raises(UserError, match="estimator magic: unknown"):
        build_model("fc", "bnn", input_shape=(1, 8, 8), classes=3, estimator="magic")
    with pytest.raises(UserError, match="kind dnn"):
        build_model("fc", "dnn", input_shape=(1, 8, 8), classes=3)


def test_the_package_offers_convert() -> None:
    assert isinstance(bnn.convert(nn.Linear(2, 3)), BayesianLayer)
    with pytest.raises(AttributeError, match="nonsense"):
        bnn.nonsense  # noqa: B018
