"""What `convert` makes of any torch module: no weight stays conventional unsaid, and code that reads one is right."""

from __future__ import annotations

import copy
import threading
from collections import deque, namedtuple
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

import bnn
from bnn.layers import NoiseKey, PosteriorInit, bayesian_layers, kl_divergence, mean_only, set_noise

WIDE = PosteriorInit(rho_init=0.0)

KINDS: dict[str, Callable[[], nn.Module]] = {
    "LSTM": lambda: nn.LSTM(8, 16),
    "GRU": lambda: nn.GRU(8, 16, bidirectional=True),
    "RNN": lambda: nn.RNN(8, 16),
    "LSTMCell": lambda: nn.LSTMCell(8, 16),
    "Conv1d": lambda: nn.Conv1d(3, 16, 9),
    "Conv3d": lambda: nn.Conv3d(3, 8, 3),
    "ConvTranspose1d": lambda: nn.ConvTranspose1d(3, 8, 3),
    "ConvTranspose2d": lambda: nn.ConvTranspose2d(3, 8, 3),
    "ConvTranspose3d": lambda: nn.ConvTranspose3d(3, 8, 3),
    "Embedding": lambda: nn.Embedding(50, 16),
    "Bilinear": lambda: nn.Bilinear(4, 5, 6),
    "MultiheadAttention": lambda: nn.MultiheadAttention(16, 4),
    "TransformerEncoderLayer": lambda: nn.TransformerEncoderLayer(16, 4, 32),
}


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_weight_becomes_bayesian(name: str) -> None:
    model = nn.ModuleList([KINDS[name](), nn.Linear(8, 2)])
    twin = bnn.convert(model)
    weights = sum(p.numel() for p in model.parameters() if p.dim() > 1)
    assert sum(layer.mu.numel() for layer in bayesian_layers(twin)) >= weights


class Linear(nn.Linear):
    """A subclass under its parent's name, as timm has one."""


class Checked(nn.Linear):
    """A subclass that computes something of its own."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


@pytest.mark.parametrize("kind", [Linear, Checked])
def test_subclasses_compute_what_they_did(kind: type[nn.Linear]) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(kind(6, 5), nn.ReLU(), nn.Linear(5, 2))
    twin, x = bnn.convert(model), torch.rand(4, 6)
    with mean_only(twin):
        assert torch.allclose(twin(x), model(x), atol=1e-6)
    assert not torch.equal(twin(x), twin(x))


class ReadsWeight(nn.Module):
    """Reads its layer's weight in place of calling the layer."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(x.to(self.layer.weight.dtype), self.layer.weight, self.layer.bias)


def test_a_weight_that_is_read_is_the_mean_or_a_sample() -> None:
    torch.manual_seed(0)
    model, x = ReadsWeight(), torch.rand(3, 8)
    twin = bnn.convert(model, init=WIDE)
    with torch.no_grad():
        with mean_only(twin):
            assert torch.equal(twin(x), model(x))
        set_noise(twin, NoiseKey(1, 0))
        one = twin(x)
        set_noise(twin, NoiseKey(1, 0))
        assert torch.equal(twin(x), one)
        set_noise(twin, NoiseKey(1, 1))
        assert not torch.allclose(twin(x), one)
        samples = []
        for step in range(2000):
            set_noise(twin, NoiseKey(2, step))
            samples.append(twin(x))
    made = torch.stack(samples)
    variance = (x**2) @ twin.layer.sigma.T**2
    assert torch.allclose(made.mean(0), model(x), atol=5 * float(variance.sqrt().max()) / 2000**0.5)
    assert torch.allclose(made.var(0), variance, rtol=0.25)


def gradients(model: nn.Module, x: Tensor, step: int, recompute: bool) -> Tensor:
    model.zero_grad()
    set_noise(model, NoiseKey(1, step))
    y = checkpoint(model, x, use_reentrant=False) if recompute else model(x)
    y.square().mean().backward()
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


@pytest.mark.parametrize(
    "estimator", ["flipout", "flipout-reference", "reparameterization", "local-reparameterization"]
)
def test_checkpointing_changes_no_gradient(estimator: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(64, 3), nn.Tanh(), nn.Linear(3, 2))
    twin, x = bnn.convert(model, estimator, init=WIDE), torch.rand(6, 2, 6, 6)
    for step in range(3):
        plain, again = (gradients(twin, x, step, recompute) for recompute in (False, True))
        assert torch.allclose(plain, again, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_divergence_of_a_model_in_half_precision_is_right(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(200, 100)
    expected = float(kl_divergence(bnn.convert(layer)).detach())
    assert float(kl_divergence(bnn.convert(layer.to(dtype))).detach()) == pytest.approx(expected, rel=0.01)


@pytest.mark.xfail(reason="the kernels have no second derivatives; flipout-reference has", raises=RuntimeError)
def test_gradients_of_gradients() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(16, 1))
    for estimator in ("flipout-reference", "flipout"):
        twin, x = bnn.convert(model, estimator), torch.rand(3, 3, 4, 4, requires_grad=True)
        set_noise(twin, NoiseKey(3))
        [slope] = torch.autograd.grad(twin(x).sum(), x, create_graph=True)
        slope.square().sum().backward()
        assert all(bool(torch.isfinite(layer.mu.grad).all()) for layer in bayesian_layers(twin)), estimator


def test_gradients_of_gradients_by_the_reference() -> None:
    twin, x = bnn.convert(nn.Linear(4, 1), "flipout-reference"), torch.rand(3, 4, requires_grad=True)
    [slope] = torch.autograd.grad(twin(x).sum(), x, create_graph=True)
    slope.square().sum().backward()
    assert bool(twin.mu.grad.any())


@pytest.mark.parametrize("mode", ["reflect", "circular", "replicate"])
def test_padding_of_every_kind(mode: str) -> None:
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1, padding_mode=mode)), torch.rand(2, 2, 6, 6)
    twin = bnn.convert(model)
    with mean_only(twin):
        assert torch.allclose(twin(x), model(x), atol=1e-6)


@pytest.mark.parametrize("kernel", [2, 4, (3, 2)])
def test_same_padding_of_an_even_kernel(kernel: int | tuple[int, int]) -> None:
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Conv2d(2, 3, kernel, padding="same")), torch.rand(2, 2, 7, 7)
    twin = bnn.convert(model)
    with mean_only(twin):
        assert torch.allclose(twin(x), model(x), atol=1e-6)


class Holding(nn.Module):
    """A layer that is registered, and held a second time by `hold(layer)`."""

    def __init__(self, hold: Callable[[nn.Linear], Any], kind: type[nn.Module] = nn.Linear) -> None:
        super().__init__()
        self.layer = kind(6, 6)
        self.__dict__["also"] = hold(self.layer)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


Pair = namedtuple("Pair", "first second")
HELD: dict[str, Callable[[nn.Linear], Any]] = {
    "attribute": lambda layer: layer,
    "list": lambda layer: [layer],
    "dict": lambda layer: {"a": {"b": layer}},
    "tuple": lambda layer: (1, (layer,)),
    "namedtuple": lambda layer: Pair(layer, 2),
    "set": lambda layer: {layer},
    "deque": lambda layer: deque([layer]),
}


def flat(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [one for item in value.values() for one in flat(item)]
    return [one for item in value for one in flat(item)] if isinstance(value, tuple | list | set | deque) else [value]


@pytest.mark.parametrize("name", HELD)
def test_a_layer_that_is_held_twice_is_bayesian_in_both_places(name: str) -> None:
    model = Holding(HELD[name])
    twin = bnn.convert(model)
    (found,) = [one for one in flat(twin.also) if isinstance(one, nn.Module)]
    assert found is twin.layer
    assert isinstance(found, bnn.BayesianLayer)
    assert type(twin.also) is type(model.also) or name == "attribute"
    assert model.layer in flat(model.also)  # the original keeps its own


class Helper:
    def __init__(self, what: Any) -> None:
        self.what = what


STALE: dict[str, tuple[Callable[[nn.Linear], Any], str]] = {
    "bound method": (lambda layer: layer.forward, "also: a method that holds layer layer"),
    "partial": (
        lambda layer: partial(functional.linear, weight=layer.weight),
        r"also: a partial that holds layer\.weight",
    ),
    "closure": (lambda layer: lambda x: 2 * layer(x), "also: a function that holds layer layer"),
    "default": (lambda layer: lambda x, f=layer: f(x), "also: a function that holds"),
    "nested closure": (lambda layer: [partial(lambda f, x: f(x), lambda x: -layer(x))], "also: a function that holds"),
    "parameter in a list": (lambda layer: [layer.weight], r"also: a container that holds layer\.weight"),
    "object": (lambda layer: Helper([layer]), "also: a object that holds layer layer"),
    "optimizer": (
        lambda layer: torch.optim.SGD(layer.parameters(), 0.1),
        r"also: a object that holds layer\.(weight|bias)",
    ),
    "layer in no module": (lambda _: [nn.Linear(2, 2)], "also: layers in a list; use torch's ModuleList"),
}


@pytest.mark.parametrize("name", STALE)
def test_what_would_go_on_with_the_old_weights_is_refused(name: str) -> None:
    hold, what = STALE[name]
    with pytest.raises(bnn.UserError, match=what):
        bnn.convert(Holding(hold))


def test_a_method_of_a_module_around_the_layer_and_a_list_that_holds_itself_are_no_harm() -> None:
    model, endless = Holding(lambda layer: [1]), []  # type: ignore[var-annotated]
    endless.append(endless)
    outer = nn.Sequential(model)
    outer.__dict__["call"], outer.__dict__["endless"] = model.forward, endless
    twin = bnn.convert(outer)
    x = torch.rand(3, 6)
    with mean_only(twin):
        assert torch.equal(twin.call(x), twin(x))  # type: ignore[operator]
    assert twin.call.__self__.layer is twin[0].layer  # type: ignore[union-attr, index]


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_a_recurrent_layer_forgets_its_conventional_weights(kind: type[nn.RNNBase]) -> None:
    twin = bnn.convert(nn.Sequential(kind(5, 6, 2)))
    kept = [value for value in vars(twin[0]).values() if isinstance(value, list)]  # type: ignore[index]
    assert not any(isinstance(one, nn.Parameter) and one.dim() > 1 for values in kept for one in values)
    again = copy.deepcopy(twin)
    for model in (twin, again):
        set_noise(model, NoiseKey(3))
    x = torch.rand(4, 2, 5)
    assert torch.equal(twin(x)[0], again(x)[0])


@pytest.mark.parametrize("options", [{"padding_idx": 2}, {"max_norm": 1.0}, {"sparse": True}])
def test_an_embedding_whose_rows_torch_keeps_is_conventional_and_says_so(options: dict[str, Any]) -> None:
    twin = bnn.convert(nn.Sequential(nn.Embedding(9, 4, **options), nn.Linear(4, 2)), init=WIDE)
    (row,) = [row for row in bnn.conversion_report(twin) if row.name == "0.weight"]
    assert (row.bayesian, row.how) == (
        False, "an embedding with a row for padding, a largest norm or sparse gradients"
    )  # fmt: skip
    twin(torch.tensor([2, 3])).sum().backward()


@pytest.mark.parametrize(
    "estimator", ["flipout", "flipout-reference", "reparameterization", "local-reparameterization"]
)
@pytest.mark.parametrize("reentrant", [False, True])
def test_two_keys_before_a_backward_pass_of_checkpointing_are_refused(estimator: str, reentrant: bool) -> None:
    twin = bnn.convert(nn.Sequential(nn.Linear(6, 5), nn.LSTM(5, 4)), estimator, init=WIDE)
    x = torch.rand(3, 6, requires_grad=True)

    def loss(step: int) -> Tensor:
        set_noise(twin, NoiseKey(1, step))
        return checkpoint(lambda y: twin(y)[0], x, use_reentrant=reentrant).sum()

    loss(0).backward()
    loss(1).backward()  # in turn: right
    with pytest.raises(bnn.UserError, match="forward passes under two noise keys in training mode"):
        (loss(2) + loss(3)).backward()


def test_evaluations_between_two_steps_do_not_confuse_checkpointing() -> None:
    twin, x = bnn.convert(nn.Sequential(nn.Linear(6, 5)), init=WIDE), torch.rand(3, 6)
    for step in range(3):
        set_noise(twin, NoiseKey(1, step))
        checkpoint(twin, x, use_reentrant=False).sum().backward()
        twin.eval()
        for draw in range(3):
            set_noise(twin, NoiseKey(2, draw))
            twin(x)
        twin.train()


def test_a_transformer_with_padded_sequences_is_evaluated_layer_by_layer() -> None:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True, dropout=0.0)
    model = nn.TransformerEncoder(layer, 2).eval()
    twin, x = bnn.convert(model).eval(), torch.rand(2, 5, 16)
    padded = torch.tensor([[False] * 5, [False] * 3 + [True] * 2])
    with torch.no_grad(), mean_only(twin):
        found = twin(x, src_key_padding_mask=padded)
    model.train()  # torch's own layer by layer pass; there is no dropout
    assert torch.allclose(found[~padded], model(x, src_key_padding_mask=padded)[~padded], atol=1e-5)


LAZY = (nn.LazyConv1d, nn.LazyConv2d, nn.LazyConv3d, nn.LazyConvTranspose2d)


@pytest.mark.parametrize("kind", [*LAZY, nn.LazyLinear])
def test_a_layer_without_weights_yet_is_refused(kind: type[nn.Module]) -> None:
    layer = kind(4, 3) if kind in LAZY else kind(4)  # type: ignore[arg-type]
    with pytest.raises(bnn.UserError, match=r"layer 0: a Lazy\w+ has no weight yet; run the model once before"):
        bnn.convert(nn.Sequential(layer))


def test_a_model_that_cannot_be_copied_is_refused() -> None:
    model = nn.Sequential(nn.Linear(2, 2))
    model.__dict__["lock"] = threading.Lock()
    with pytest.raises(bnn.UserError, match="Sequential: it cannot be copied"):
        bnn.convert(model)
