"""What a model does between its layers is recorded as it happens: aliases, hooks, names, everyday operations."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import bnn
from bnn.errors import UserError
from bnn.layers import NoiseKey, PosteriorInit, mean_only, set_noise
from bnn.posterior import GraphNetwork, load_posterior, save_posterior
from bnn.posterior.trace import trace
from tests.support.networks import saved

WIDE = PosteriorInit(rho_init=-2.0)


def reloaded(model: nn.Module, shape: tuple[int, ...], folder: Path) -> tuple[nn.Module, GraphNetwork]:
    """The Bayesian twin in evaluation mode, and what was saved of it and loaded."""
    twin = bnn.convert(model.eval(), init=WIDE)
    return twin, saved(twin, folder / "p", shape)


def check_same(twin: nn.Module, loaded: nn.Module, shape: tuple[int, ...]) -> None:
    for batch in (1, 5):
        x = torch.rand(batch, *shape)
        with torch.no_grad():
            with mean_only(twin), mean_only(loaded):
                torch.testing.assert_close(loaded(x.clone()), twin(x.clone()), rtol=1e-5, atol=1e-6)
            for network in (twin, loaded):
                set_noise(network, NoiseKey(3, batch))
            torch.testing.assert_close(loaded(x.clone()), twin(x.clone()), rtol=1e-5, atol=1e-6)


class Alias(nn.Module):
    """What is added in place changes `skip`, too."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.out = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = self.a(x)
        skip = h
        h += self.b(x)
        return self.out((h + skip).mean([2, 3]))


class InPlace(nn.Module):
    """A ReLU in place changes what is read afterwards."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.relu, self.out = nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(inplace=True), nn.Linear(4 * 36, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = self.a(x)
        return self.out((self.relu(h) + h).flatten(1))


class TokensFirst(nn.Module):
    """The batch is the second axis of what a dense layer reads."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.dense, self.out = nn.Conv2d(3, 4, 3), nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        return self.out(self.dense(self.conv(x).flatten(2).permute(2, 0, 1)).mean(0))


class Windows(nn.Module):
    """The first axis is the batch times the number of windows; there is a class token, and attention."""

    def __init__(self) -> None:
        super().__init__()
        self.token, self.qkv, self.out = nn.Parameter(torch.randn(1, 1, 4)), nn.Linear(4, 12), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        n = x.shape[0]
        windows = (
            functional.pad(x, (0, 0, 0, 0, 0, 1)).unflatten(2, (2, 3)).permute(0, 2, 3, 4, 1).reshape(2 * n, -1, 4)
        )
        tokens = torch.cat([self.token.expand(2 * n, -1, -1), windows], 1)
        q, k, v = self.qkv(tokens).chunk(3, -1)
        return self.out(functional.scaled_dot_product_attention(q, k, v)[:, 0].reshape(n, 2, 4).mean(1))


class ActivatedNorm(nn.BatchNorm2d):
    def forward(self, x: Tensor) -> Tensor:
        statistics = (self.running_mean, self.running_var, self.weight, self.bias)
        return functional.relu(functional.batch_norm(x, *statistics, self.training, self.momentum or 0.0, self.eps))


def named(*names: str) -> nn.Module:
    model = nn.Sequential(nn.Flatten(), nn.Linear(108, 4))
    for name in names:
        model.add_module(name, nn.Linear(4, 4))
    return model


def hooked() -> nn.Module:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 2))
    model[1].register_forward_hook(lambda module, inputs, output: output * 3)
    return model


def activated() -> nn.Module:
    norm = ActivatedNorm(4)
    nn.init.uniform_(norm.running_var, 0.5, 2.0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), norm, nn.Flatten(), nn.Linear(64, 2))


@pytest.mark.parametrize(
    "make",
    [Alias, InPlace, TokensFirst, Windows, hooked, activated, lambda: named("finished", "graph", "forward_", "layers")],
)
def test_a_saved_network_computes_what_the_model_does(make, tmp_path: Path) -> None:
    torch.manual_seed(1)
    check_same(*reloaded(make(), (3, 6, 6), tmp_path), (3, 6, 6))


def test_a_norm_within_a_subclass_is_a_layer_again(tmp_path: Path) -> None:
    _, loaded = reloaded(activated(), (3, 6, 6), tmp_path)
    assert [node.type for node in loaded.graph.nodes if node.layer == "1"] == ["BatchNorm2d"]
    assert not loaded.tensors


def test_sizes_follow_the_batch(tmp_path: Path) -> None:
    _, loaded = reloaded(Windows(), (3, 6, 6), tmp_path)
    shapes = [node.output_shape for node in loaded.graph.nodes]
    assert [(0, 2), 19, 12] in shapes  # two windows of 18 pixels, and the token
    assert shapes[-1] == [None, 2]


def test_a_layer_alone_and_a_loaded_network_can_be_saved(tmp_path: Path) -> None:
    twin, loaded = reloaded(nn.Linear(5, 2), (5,), tmp_path)
    check_same(twin, loaded, (5,))
    save_posterior(loaded, tmp_path / "again", example_input=torch.zeros(1, 5), step=7, extra={"note": 1})
    again = load_posterior(tmp_path / "again")
    assert (again.graph.step, again.graph.extra) == (7, {"note": 1})
    check_same(loaded, again, (5,))


class Noisy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.out = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(functional.dropout(x, 0.5))  # (training=True is its default)


class Counting(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.out = nn.Linear(3, 2)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.out(x)


class OneBatch(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.out = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(x) if len(x) < 3 else self.out(-x)


@pytest.mark.parametrize(
    ("model", "message"),
    [(Noisy(), r"operation aten\..*test_posterior_recording.py:\d+: "), (Counting(), "changes calls in its forward")],
)
def test_noise_without_a_key_and_side_effects_are_refused(model: nn.Module, message: str) -> None:
    with pytest.raises(UserError, match=message):
        trace(bnn.convert(model), torch.zeros(2, 3), 0, {})


class Centred(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.out = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(x - x.mean(0))


def test_a_model_that_mixes_examples_is_refused() -> None:
    with pytest.raises(UserError, match="Centred: what it gives for an example depends on the other examples"):
        trace(bnn.convert(Centred()), torch.zeros(2, 3), 0, {})


def test_a_model_that_looks_at_the_number_of_examples_is_refused() -> None:
    with pytest.raises(UserError, match="OneBatch"):
        trace(bnn.convert(OneBatch()), torch.zeros(2, 3), 0, {})


def test_tracing_leaves_no_key_on_layers_that_had_none() -> None:
    twin = bnn.convert(nn.Sequential(nn.Flatten(), nn.Linear(3, 3)), init=WIDE)
    before = dict(vars(twin[1]))
    trace(twin, torch.rand(4, 3), 0, {})
    assert vars(twin[1]).keys() == before.keys()
    assert not torch.equal(twin[1].weight, twin[1].weight)  # a new sample at every read, as before


def test_tracing_leaves_modes_and_noise_as_they_were() -> None:
    twin = bnn.convert(nn.Sequential(nn.Linear(3, 3), nn.Dropout()), init=WIDE).train()
    x = torch.rand(4, 3)
    outputs = []
    for tracing in (False, True):
        set_noise(twin, NoiseKey(5))
        torch.manual_seed(2)
        first = twin(x)
        if tracing:
            trace(twin, x, 0, {})
        outputs.append((first, twin(x)))
    assert all(module.training for module in twin.modules())
    assert torch.equal(outputs[0][1], outputs[1][1])


class PooledChannelsLast(nn.Module):
    """Squeezes what lies channels last, as behind a permutation: torch then writes strides down."""

    def __init__(self) -> None:
        super().__init__()
        self.mix, self.gate, self.head = nn.Linear(4, 4), nn.Conv2d(4, 4, 1), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.mix(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        x = x * torch.sigmoid(self.gate(functional.adaptive_avg_pool2d(x, 1)))
        return self.head(functional.adaptive_avg_pool2d(x, (1, 1)).flatten(1))


@pytest.mark.parametrize("size", [(5, 7), (1, 3), (1, 1)])
def test_strides_of_sides_of_one_are_no_operation(size: tuple[int, int]) -> None:
    model = bnn.convert(PooledChannelsLast()).eval()
    images = torch.rand(3, 4, *size)
    graph, network = trace(model, images, 0, {})
    assert not any("strided" in node.type for node in graph.nodes)
    with mean_only(model), mean_only(network), torch.no_grad():
        assert torch.allclose(network(images), model(images), atol=1e-6)


class Overlapping(nn.Module):
    """A matrix of overlapping parts of a vector."""

    def __init__(self) -> None:
        super().__init__()
        self.parts, self.head = nn.Parameter(torch.rand(9)), nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x @ self.parts.as_strided((4, 3), (2, 1)))


def test_other_strides_are_refused() -> None:
    with pytest.raises(UserError, match=r"operation aten\.as_strided"):
        trace(Overlapping(), torch.rand(2, 4), 0, {})
