"""Biases with a posterior: what they draw, what they cost, what they are called, and what a conversion refuses."""

from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.distributions import Normal
from torch.distributions import kl_divergence as divergence
from torch.utils.checkpoint import checkpoint

import bnn
from bnn.errors import UserError
from bnn.layers import ESTIMATORS, BayesianLayer, NoiseKey, bayesian_layers, kl_divergence, mean_only, set_noise
from bnn.layers.biased import BiasedLayer
from bnn.layers.parameter import BayesianParameter
from bnn.layers.pretrained import conventional_names, load_conventional
from bnn.layers.report import report_text

WIDE = bnn.PosteriorInit(rho_init=-2.0, rho_init_std=0.5)
STILL = bnn.PosteriorInit(rho_init=-60.0, rho_init_std=0.0)  # sigma is 0 in all digits


class Everything(nn.Module):
    """A layer of each kind that has a bias: 2-d and 1-d convolution, LSTM, attention, dense, and norms."""

    def __init__(self) -> None:
        super().__init__()
        self.image, self.norm = nn.Conv2d(1, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.row = nn.Conv1d(6, 8, 3)
        self.mix = nn.LSTM(8, 6, batch_first=True)
        self.attend, self.scale = nn.MultiheadAttention(6, 2, batch_first=True, add_bias_kv=True), nn.LayerNorm(6)
        self.hidden, self.bare, self.head = nn.Linear(6, 7), nn.Linear(7, 7, bias=False), nn.Linear(7, 3)
        self.shift = nn.Parameter(torch.zeros(3))

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.image(x)))
        x = self.mix(self.row(x.flatten(2)).transpose(1, 2))[0]
        x = self.scale(x + self.attend(x, x, x, need_weights=False)[0])
        y: Tensor = self.head(torch.relu(self.bare(torch.relu(self.hidden(x.mean(1)))))) + self.shift
        return y


CONVENTIONAL = {"norm.weight", "norm.bias", "scale.weight", "scale.bias", "shift"}
IMAGES = (1, 6, 6)


def everything(seed: int = 0) -> Everything:
    torch.manual_seed(seed)
    model = Everything()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "bias" in name or name == "shift":
                parameter.normal_(0, 0.3)
    return model.eval()


def images(count: int = 4, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.rand(count, *IMAGES, dtype=dtype, generator=torch.Generator().manual_seed(9))


def keyed(model: nn.Module, x: Tensor, key: NoiseKey) -> Tensor:
    set_noise(model, key)
    y: Tensor = model(x)
    return y


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_what_is_bayesian_and_under_which_names(estimator: str) -> None:
    model = everything()
    twin, plain = bnn.convert(model, estimator, biases=True), bnn.convert(model, estimator)
    rows = {row.name: row for row in bnn.conversion_report(twin)}
    parameters = dict(model.named_parameters())
    assert rows.keys() == parameters.keys()
    assert {name: row.shape for name, row in rows.items()} == {n: tuple(p.shape) for n, p in parameters.items()}
    assert {name for name, row in rows.items() if not row.bayesian} == CONVENTIONAL
    assert rows["norm.bias"].how == "a bias: it has no prior"
    assert rows["head.bias"].how == rows["row.bias"].how == "BayesianParameter (one sample per pass)"
    assert rows["head.weight"].how == ESTIMATORS[estimator][1].__name__
    assert "conventional:" not in report_text(list(rows.values()))
    with_priors = {row.name for row in bnn.conversion_report(plain) if row.bayesian}
    assert with_priors == {name for name in parameters.keys() - CONVENTIONAL if "bias" not in name}
    assert not any(isinstance(module, BiasedLayer) for module in plain.modules())
    with mean_only(twin), torch.no_grad():
        torch.testing.assert_close(twin(images()), model(images()))


@pytest.mark.parametrize("make", [lambda: nn.Linear(4, 3), lambda: nn.Conv2d(2, 3, 2), lambda: nn.GRU(2, 3)])
def test_a_layer_that_is_the_whole_model(make: Callable[[], nn.Module]) -> None:
    model = make()
    twin = bnn.convert(model, biases=True)
    assert [row.name for row in bnn.conversion_report(twin)] == list(conventional_names(twin))
    assert set(conventional_names(twin)) == set(model.state_dict())


def test_a_posterior_of_one_layer(tmp_path: Any) -> None:
    twin, x = bnn.convert(nn.Linear(4, 3), init=WIDE, biases=True), torch.rand(3, 4)
    bnn.save_posterior(twin, tmp_path / "posterior", example_input=x, step=0)
    loaded = bnn.load_posterior(tmp_path / "posterior")
    assert torch.equal(keyed(loaded, x, NoiseKey(1)), keyed(twin, x, NoiseKey(1)))
    ours, theirs = (bnn.predict(one, x, draws=3, seed=1).probability for one in (loaded, twin))
    torch.testing.assert_close(ours, theirs)


@settings(max_examples=15, deadline=None)
@given(
    chosen=st.sets(st.sampled_from(["image", "row", "mix", "attend", "attend.out_proj", "hidden", "head"]), min_size=1)
)
def test_where_is_of_a_layer_as_a_whole(chosen: set[str]) -> None:
    rows = bnn.conversion_report(bnn.convert(everything(), where=sorted(chosen), biases=True))
    assert {row.name.rpartition(".")[0] for row in rows if row.bayesian} == chosen
    for row in rows:
        layer = row.name.rpartition(".")[0]
        assert row.bayesian == (layer in chosen), row


@settings(max_examples=15, deadline=None)
@given(
    scale=st.floats(0.05, 20), rho=st.floats(-8, 3), seed=st.integers(0, 99), dtype=st.sampled_from(["float", "double"])
)
def test_the_kl_counts_biases(scale: float, rho: float, seed: int, dtype: str) -> None:
    twin = bnn.convert(everything(seed), init=bnn.PosteriorInit(scale, 0.1, rho, 0.3), biases=True)
    twin = getattr(twin, dtype)()
    parts = {row.name: row for row in bnn.conversion_report(twin) if row.bayesian}
    expected = 0.0
    for layer in bayesian_layers(twin):
        mu, rho = layer.mu.detach().double(), layer.rho.detach().double()
        posterior = Normal(mu, torch.nn.functional.softplus(rho))
        expected += float(divergence(posterior, Normal(0.0, scale)).sum())
    assert len(list(bayesian_layers(twin))) == len(parts)
    torch.testing.assert_close(float(kl_divergence(twin).detach()), expected, rtol=1e-4, atol=0)
    kl_divergence(twin).backward()
    biases = [module for name, module in twin.named_modules() if name.endswith("bias_posterior")]
    assert biases
    assert all(bool((part.grad != 0).all()) for one in biases for part in (one.mu, one.rho))


MAPS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "linear": (lambda: nn.Linear(4, 3), (4,)),
    "linear, rows": (lambda: nn.Linear(4, 3), (5, 4)),
    "conv2d": (lambda: nn.Conv2d(2, 3, 2), (2, 4, 4)),
    "conv1d": (lambda: nn.Conv1d(2, 3, 2), (2, 5)),
    "reflected": (lambda: nn.Conv2d(2, 3, 3, padding=1, padding_mode="reflect"), (2, 4, 4)),
    "transposed": (lambda: nn.ConvTranspose2d(2, 3, 2), (2, 3, 3)),
}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("kind", MAPS)
@pytest.mark.parametrize("estimator", ["flipout", "local-reparameterization"])
def test_one_sample_of_the_bias_serves_a_pass_with_the_moments_of_its_posterior(
    kind: str, estimator: str, training: bool
) -> None:
    make, shape = MAPS[kind]
    torch.manual_seed(3)
    twin = bnn.convert(make(), estimator, STILL, biases=True).train(training)
    posterior = twin.bias_posterior
    with torch.no_grad():
        for layer in bayesian_layers(twin):
            layer.mu.zero_()
        posterior.mu.copy_(torch.tensor([0.5, -1.0, 2.0]))
        posterior.rho.copy_(torch.tensor([-1.0, 0.0, 1.0]))
    x, draws = torch.rand(3, *shape), 1000
    seen = []
    channels = -1 if "linear" in kind else 1
    for step in range(draws):
        y = keyed(twin, x, NoiseKey(1, step)).detach().movedim(channels, 0).flatten(1)
        assert torch.equal(y, y[:, :1].expand_as(y)), "all examples and pixels have the same bias"
        seen.append(y[:, 0])
    values, sigma = torch.stack(seen).double(), posterior.sigma.detach().double()
    z_mean = (values.mean(0) - posterior.mu.detach()) / (sigma / math.sqrt(draws))
    z_std = (values.std(0) / sigma - 1) * math.sqrt(2 * draws)
    assert float(z_mean.abs().max()) < 4.5
    assert float(z_std.abs().max()) < 4.5
    apart = torch.corrcoef(values.t()) - torch.eye(3)
    assert float(apart.abs().max()) < 4.5 / math.sqrt(draws)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_same_key_draws_the_same_in_the_twin_a_copy_a_pickle_and_its_posterior(
    dtype: torch.dtype, tmp_path: Any
) -> None:
    twin, x = bnn.convert(everything().to(dtype), init=WIDE, biases=True).eval(), images(dtype=dtype)
    bnn.save_posterior(twin, tmp_path / "posterior", example_input=x, step=0)
    loaded = bnn.load_posterior(tmp_path / "posterior")
    others = [copy.deepcopy(twin), pickle.loads(pickle.dumps(twin)), loaded]  # noqa: S301  (of our own)
    with torch.no_grad():
        first = keyed(twin, x, NoiseKey(5, 0))
        assert not torch.allclose(first, keyed(twin, x, NoiseKey(5, 1)), atol=1e-3)
        for other in others:
            torch.testing.assert_close(keyed(other, x, NoiseKey(5, 0)), first)
            with mean_only(twin), mean_only(other):
                torch.testing.assert_close(other(x), twin(x))
    assert {layer.layer_index for layer in bayesian_layers(twin)} == set(range(len(list(bayesian_layers(twin)))))
    of_bias = {name for name, module in loaded.named_modules() if isinstance(module, BayesianParameter)}
    assert {"image.bias_posterior", "mix.bias_hh_l0_posterior", "attend.in_proj_bias_posterior"} <= of_bias


def test_a_bias_has_noise_of_its_own() -> None:
    """No layer's noise is another's: weights without noise, and one bias after the other with it."""
    twin, x = bnn.convert(everything().double(), init=STILL, biases=True).eval(), images(dtype=torch.float64)
    with mean_only(twin), torch.no_grad():
        plain = twin(x)
    seen = []
    for name, module in twin.named_modules():
        if isinstance(module, BayesianParameter) and "bias" in name:
            kept = module.rho.detach().clone()
            with torch.no_grad():
                module.rho.fill_(0.0)
                seen.append(keyed(twin, x, NoiseKey(2)))
                module.rho.copy_(kept)
            assert float((seen[-1] - plain).abs().max()) > 1e-8, name
    assert len(seen) == len([name for name in dict(everything().named_parameters()) if "bias" in name]) - 2


def test_pretrained_weights_are_taken_under_the_conventional_names() -> None:
    other, twin = everything(7), bnn.convert(everything(), biases=True, init=WIDE).eval()
    assert set(conventional_names(twin)) == set(other.state_dict())
    spread = {name: value.clone() for name, value in twin.state_dict().items() if name.endswith("rho")}
    load_conventional(twin, other.state_dict())
    assert all(torch.equal(twin.state_dict()[name], value) for name, value in spread.items())
    with mean_only(twin), torch.no_grad():
        torch.testing.assert_close(twin(images()), other(images()))
    without = {name: value for name, value in other.state_dict().items() if name != "head.bias"}
    with pytest.raises(UserError, match=r"missing: head\.bias"):
        load_conventional(twin, without)


def test_random_means_of_biases_start_at_zero_and_frozen_ones_stay_frozen() -> None:
    model = everything()
    for name in ("hidden.bias", "mix.bias_ih_l0", "row.weight"):
        model.get_parameter(name).requires_grad_(False)
    twin = bnn.convert(model, mean_from="random", biases=True)
    names = conventional_names(twin)
    for name, value in names.items():
        if "bias" in name and name not in CONVENTIONAL:
            assert not value.any(), name
    frozen = {name for name, value in names.items() if isinstance(value, nn.Parameter) and not value.requires_grad}
    assert frozen == {"hidden.bias", "mix.bias_ih_l0", "row.weight"}
    kl_divergence(twin).backward()
    assert twin.hidden.bias_posterior.rho.grad is None
    assert twin.hidden.layer.rho.grad is not None
    assert twin.row.weight_posterior.rho.grad is None
    assert twin.row.bias_posterior.rho.grad is not None


def test_a_wrapped_layer_is_read_as_a_conventional_one_is() -> None:
    twin = bnn.convert(nn.Sequential(nn.Conv2d(4, 6, 3, 2, 1, 2, 2), nn.Flatten(), nn.Linear(6, 2)), biases=True)
    conv, dense = twin[0], twin[2]
    assert isinstance(conv, BiasedLayer)
    sizes = conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride, conv.padding, conv.dilation, conv.groups
    assert sizes == (4, 6, (3, 3), (2, 2), (1, 1), (2, 2), 2)
    assert (dense.in_features, dense.out_features) == (6, 2)
    assert not hasattr(dense, "stride")
    assert not hasattr(conv, "mu"), "half of a posterior is none"
    conv.stride = (1, 1)
    assert conv.layer.stride == (1, 1)
    set_noise(twin, NoiseKey(4))
    assert torch.equal(conv.bias, conv.bias)
    assert not torch.equal(conv.bias, conv.bias_posterior.mu)
    assert torch.equal(dense.weight, dense.weight)
    with mean_only(twin):
        assert torch.equal(conv.bias, conv.bias_posterior.mu)
        assert torch.equal(conv.weight, conv.layer.mu)
    with pytest.raises(ValueError, match=r"a bias of shape \(2,\) does not fit"):
        BiasedLayer(conv.layer, dense.bias_posterior)


def test_printing_draws_nothing() -> None:
    twin = bnn.convert(everything(), biases=True)
    before = torch.get_rng_state()
    assert "bias_posterior" in repr(twin)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("estimator", ["flipout", "reparameterization"])
def test_a_checkpoint_of_activations_repeats_their_noise(estimator: str, reentrant: bool) -> None:
    twin = bnn.convert(everything(), estimator, bnn.PosteriorInit(rho_init=0.0), biases=True)
    other, x = copy.deepcopy(twin), images().requires_grad_()
    keyed(twin, x, NoiseKey(1)).square().sum().backward()
    set_noise(other, NoiseKey(1))
    y = checkpoint(other, x, use_reentrant=reentrant)
    set_noise(other, NoiseKey(2))
    y.square().sum().backward()
    for (name, ours), theirs in zip(other.named_parameters(), twin.parameters(), strict=True):
        if theirs.grad is None:  # of a part that attention's two biases of its own do not pass
            assert ours.grad is None, name
        else:
            torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-5, msg=lambda m, name=name: name + m)


def test_autocast_gives_what_conventional_layers_give() -> None:
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(64, 3))
    twin = bnn.convert(model, "flipout-reference", biases=True)
    with torch.autocast("cpu", torch.bfloat16), mean_only(twin):
        ours, theirs = twin(images()), model(images())
        assert twin[0](images()).dtype == model[0](images()).dtype == torch.bfloat16
    assert ours.dtype == theirs.dtype
    torch.testing.assert_close(ours, theirs, rtol=0.02, atol=0.02)
    ours.sum().backward()
    assert all(p.grad is None or p.grad.dtype == torch.float32 for p in twin.parameters())


def test_torch_compile_records_a_whole_model() -> None:
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Conv1d(4, 4, 1), nn.Flatten(), nn.Linear(64, 3))
    model.insert(1, nn.Flatten(2))
    twin = bnn.convert(model, "flipout-reference", WIDE, biases=True).eval()
    compiled = torch.compile(twin, backend="eager", fullgraph=True)
    torch.manual_seed(1)
    ours = compiled(images())
    torch.manual_seed(1)
    torch.testing.assert_close(ours, twin(images()))
    ours.sum().backward()
    assert twin[0].bias_posterior.rho.grad is not None


def test_what_holds_a_layer_holds_the_wrapped_one() -> None:
    model = nn.Module()
    model.layer = nn.Linear(2, 2)
    model.held = [model.layer, (model.layer,)]
    twin = bnn.convert(model, biases=True)
    assert twin.held[0] is twin.held[1][0] is twin.layer
    assert isinstance(twin.layer, BiasedLayer)
    shared = nn.Linear(3, 3)
    twin = bnn.convert(nn.Sequential(shared, shared), biases=True)
    assert twin[0] is twin[1]
    assert len(list(bayesian_layers(twin))) == 2


def tied() -> nn.Module:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model[1].bias = model[0].bias
    return model


def tied_to_a_norm() -> nn.Module:
    model = nn.Sequential(nn.LSTM(2, 2), nn.LayerNorm(8))
    model[1].bias = model[0].bias_ih_l0
    return model


def hooked() -> nn.Module:
    model = nn.Sequential(nn.Linear(2, 2))
    model[0].bias.register_hook(lambda gradient: gradient)
    return model


def held() -> nn.Module:
    model = nn.Sequential(nn.GRU(2, 2))
    model.held = [model[0].bias_ih_l0]
    return model


def taken() -> nn.Module:
    model = nn.Sequential(nn.Conv1d(2, 2, 2))
    model[0].bias_posterior = 1
    return model


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (tied, "layer 0: its bias is tied"), (tied_to_a_norm, "layer 0: its bias_ih_l0 is tied"),
        (hooked, r"parameter 0\.bias: it has hooks"), (held, r"held: it holds 0\.bias_ih_l0, which is sampled now"),
        (taken, "Conv1d: the name bias_posterior is taken"),
    ],
)  # fmt: skip
def test_what_a_conversion_would_undo_is_refused(make: Callable[[], nn.Module], message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        bnn.convert(make(), biases=True)
    assert "\n" not in str(error.value)


def test_a_choice_that_is_none_is_refused() -> None:
    with pytest.raises(UserError, match="biases='yes': must be True or False"):
        bnn.convert(nn.Linear(2, 2), biases="yes")  # type: ignore[arg-type]


def test_layers_that_are_bayesian_already_stay_as_they_are() -> None:
    plain = bnn.convert(everything(), where=["row", "hidden"])
    twin = bnn.convert(plain, biases=True)
    rows = {row.name: row.bayesian for row in bnn.conversion_report(twin)}
    assert not rows["row.bias"]
    assert not rows["hidden.bias"]
    assert rows["mix.bias_ih_l0"]
    assert rows["head.bias"]
    again = bnn.convert(nn.ModuleList([bnn.convert(everything(), biases=True), nn.Linear(2, 2)]))
    assert sum(isinstance(module, BayesianLayer) for module in again.modules()) == len(rows) - len(CONVENTIONAL) + 1
