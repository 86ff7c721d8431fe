"""Keyed dropout: masks as torch's, one set of them per draw, the same in a model, its posterior and its predictions."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from bnn.errors import UserError
from bnn.inference.predictor import INFERENCE_RANK, Predictor
from bnn.interop.export import mean_network
from bnn.layers import NoiseKey, kl_divergence, mean_only, set_noise
from bnn.layers.convert import convert
from bnn.layers.dropout import KeyedDropout, dropout_text, key_dropout
from bnn.models.build import build_model
from bnn.posterior import load_posterior, save_posterior

SEED = 7


class Reused(nn.Module):
    """One layer of dropout in three places, of two shapes, and one of whole channels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(2, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.conv2 = nn.Conv2d(6, 6, 3, padding=1)
        self.drop, self.channels = nn.Dropout(0.3), nn.Dropout2d(0.4)
        self.head = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.drop(torch.relu(self.norm(self.conv1(x))))
        x = self.drop(torch.relu(self.conv2(self.channels(x))))
        return self.head(self.drop(x.mean((2, 3))))


def keyed(model: nn.Module) -> nn.Module:
    key_dropout(model)
    return model.eval()


@settings(max_examples=40, deadline=None)
@given(
    p=st.sampled_from([0.05, 0.3, 0.5, 0.9]),
    channels=st.booleans(),
    rest=st.lists(st.integers(1, 5), min_size=0, max_size=2),
    training=st.booleans(),
    seed=st.integers(0, 2**63),
)
def test_masks_are_zeros_and_unbiased_factors(
    p: float, channels: bool, rest: list[int], training: bool, seed: int
) -> None:
    layer = KeyedDropout(p, channels).train(training)
    layer.seed_noise(seed)
    x = torch.full((4, 50, *rest), 2.0)
    y = layer(x)
    assert y.shape == x.shape
    factor = 2.0 / (1 - p)
    assert bool(((y == 0) | torch.isclose(y, torch.tensor(factor))).all())
    masks = y if training else y[:1]
    assert training or bool((y == y[:1]).all()), "one mask for all in evaluation"
    assert not training or p in (0.05, 0.9) or not bool((y == y[:1]).all()), "one for each while it trains"
    if channels and rest:
        masks = masks.flatten(2)
        assert bool((masks == masks[..., :1]).all())
        masks = masks[..., 0]
    dropped = int((masks == 0).sum())
    assert stats.binomtest(dropped, masks.numel(), p).pvalue > 1e-7


def test_the_same_key_gives_the_same_masks_and_the_mean_gives_the_input() -> None:
    layer = KeyedDropout(0.5)
    x = torch.ones(3, 40)
    set_noise(layer, NoiseKey(1, 2))
    first, second = layer(x), layer(x)
    set_noise(layer, NoiseKey(1, 2))
    assert torch.equal(layer(x), first)
    assert not torch.equal(first, second), "a second pass without a new key goes on"
    set_noise(layer, NoiseKey(1, 3))
    assert not torch.equal(layer(x), first)
    with mean_only(layer):
        assert layer(x) is x
    assert float(kl_divergence(layer)) == 0


def test_a_checkpoint_of_activations_repeats_the_masks() -> None:
    layer = nn.Sequential(nn.Linear(5, 30), KeyedDropout(0.5), nn.Linear(30, 1)).train()
    x = torch.rand(4, 5)

    def gradient(run: Any) -> Tensor:
        layer.zero_grad()
        set_noise(layer, NoiseKey(3))
        run(x).sum().backward()
        assert layer[0].weight.grad is not None
        return layer[0].weight.grad.clone()  # type: ignore[no-any-return]

    plain = gradient(layer)
    assert torch.equal(gradient(lambda x: checkpoint(layer, x, use_reentrant=False)), plain)


def test_draws_of_a_posterior_are_the_models_own(tmp_path: Path) -> None:
    """Also where a layer of dropout has several places, and however images are divided."""
    torch.manual_seed(0)
    model = keyed(Reused())
    images = torch.rand(7, 2, 5, 5)
    save_posterior(model, tmp_path / "p", example_input=images[:1], step=1)
    network = load_posterior(tmp_path / "p")
    for fold, form in itertools.product((True, False), ("dense", "csr")):
        predictor = Predictor(network, fold=fold, form=form)
        for blocks in ([images], [images[:3], images[3:]]):
            for draw, made in enumerate(predictor.logits(SEED, 0, 3, blocks)):
                set_noise(model, NoiseKey(SEED, draw, INFERENCE_RANK))
                assert torch.allclose(made, model(images), atol=1e-5)
    alone = [next(predictor.logits(SEED, draw, draw + 1, [images])) for draw in range(3)]
    assert len({tuple(values.flatten().tolist()) for values in alone}) == 3
    with mean_only(model):
        assert torch.allclose(mean_network(network)(images), model(images), atol=1e-6)
    with pytest.raises(UserError, match="mode flipout: of Bayesian layers"):
        Predictor(network, "flipout")


def test_the_mean_of_draws_is_that_over_all_masks() -> None:
    torch.manual_seed(1)
    layers = nn.Sequential(nn.Linear(3, 6), nn.ReLU(), nn.Dropout(0.4), nn.Linear(6, 3))
    x = torch.rand(2, 3)
    hidden = torch.relu(layers[0](x))
    exact = torch.zeros(2, 3, dtype=torch.float64)
    for mask in itertools.product((0.0, 1.0), repeat=6):
        kept = torch.tensor(mask)
        weight = 0.6 ** sum(mask) * 0.4 ** (6 - sum(mask))
        exact += weight * torch.softmax(layers[3](hidden * kept / 0.6), 1).double()
    from bnn.inference.predict import predict

    found = predict(keyed(layers), x, draws=4000)
    error = (found.probability - exact.detach()).abs() / (found.probability_std / 4000**0.5)
    assert float(error.max()) < 5


def test_predictions_are_distributed_as_torchs_dropout_makes_them() -> None:
    torch.manual_seed(2)
    model = Reused()
    image = torch.rand(1, 2, 5, 5)
    with torch.no_grad():
        model.eval()
        model.drop.train()
        model.channels.train()
        theirs = torch.stack([model(image)[0] for _ in range(1500)])
        ours_model = keyed(model)
        ours = []
        for draw in range(1500):
            set_noise(ours_model, NoiseKey(5, draw))
            ours.append(ours_model(image)[0])
    for name in range(4):
        assert stats.ks_2samp(theirs[:, name].numpy(), torch.stack(ours)[:, name].numpy()).pvalue > 1e-4


def test_networks_of_the_paper_drop_channels_before_all_layers_but_the_first() -> None:
    counts = {"vgg16": 10, "resnet18": 13, "conv": 2, "fc": 2}
    for name, count in counts.items():
        shape = (1, 28, 28) if name in ("conv", "fc") else (3, 32, 32)
        options: dict[str, Any] = {"input_shape": shape, "classes": 10, "width": 1 / 16}
        torch.manual_seed(3)
        model = build_model(name, "cnn", dropout=0.25, **options)
        layers = [module for module in model.modules() if isinstance(module, KeyedDropout)]
        assert len(layers) == count
        assert {(layer.p, layer.channels) for layer in layers} == {(0.25, True)}
        torch.manual_seed(3)
        plain = build_model(name, "cnn", **options)
        assert model.state_dict().keys() == plain.state_dict().keys()
        x = torch.rand(2, *shape)
        with torch.no_grad(), mean_only(model.eval()):
            assert torch.equal(model(x), plain.eval()(x))


class WithFunction(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(functional.dropout(x, 0.5, self.training))


class Odd(nn.Dropout):
    pass


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (nn.Sequential(nn.Linear(2, 2)), "no layer of dropout with p > 0"),
        (nn.Sequential(nn.Dropout(0.0), nn.Linear(2, 2)), "no layer of dropout with p > 0"),
        (WithFunction(), "no layer of dropout with p > 0"),
        (nn.Sequential(nn.AlphaDropout(0.5), nn.Linear(2, 2)), "layer 0: the noise of a AlphaDropout has no key"),
        (nn.Sequential(nn.Linear(2, 2), Odd(0.5)), "layer 1: the noise of a Odd has no key"),
    ],
)
def test_what_has_no_key_is_refused_by_name(model: nn.Module, words: str) -> None:
    with pytest.raises(UserError, match=words):
        key_dropout(model)


def test_a_transformers_fast_path_does_not_pass_dropout_by(tmp_path: Path) -> None:
    torch.manual_seed(4)
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.2, batch_first=True)
    model = keyed(nn.Sequential(nn.TransformerEncoder(layer, 2), nn.Flatten(), nn.Linear(40, 3)))
    assert "6 layers of dropout (p = 0.2)" in dropout_text(model)
    assert "weights of 2 layers of attention is off" in dropout_text(model)
    x = torch.rand(3, 5, 8)
    with torch.no_grad():
        made = []
        for draw in range(2):
            set_noise(model, NoiseKey(1, draw))
            made.append(model(x))
    assert not torch.allclose(*made)
    save_posterior(model, tmp_path / "p", example_input=x[:1], step=1)
    drawn = next(Predictor(load_posterior(tmp_path / "p")).logits(1, 0, 1, [x]))
    set_noise(model, NoiseKey(1, 0, INFERENCE_RANK))
    with torch.no_grad():
        assert torch.allclose(drawn, model(x), atol=1e-5)


def test_masks_and_sampled_weights_go_together(tmp_path: Path) -> None:
    torch.manual_seed(5)
    model = keyed(convert(Reused()))
    images = torch.rand(3, 2, 5, 5)
    save_posterior(model, tmp_path / "p", example_input=images[:1], step=1)
    predictor = Predictor(load_posterior(tmp_path / "p"))
    a, b = predictor.logits(SEED, 0, 2, [images])
    assert not torch.allclose(a, b)
    assert torch.equal(next(predictor.logits(SEED, 1, 2, [images])), b)


@pytest.mark.parametrize(
    "given",
    [{"p": 1.0}, {"p": -0.1}, {"p": "half"}, {"p": True}, {"channels": 1}, {"layer_index": "a"}, {"p": float("nan")}],
)
def test_impossible_arguments(given: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="="):
        KeyedDropout(**given)
