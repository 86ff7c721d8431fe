"""Embeddings as Bayesian parameters: a padding row is no weight."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import bnn
from bnn.errors import UserError
from bnn.layers import NoiseKey, PosteriorInit, kl_divergence, mean_only, set_noise
from bnn.layers.parameter import BayesianParameter
from bnn.posterior import load_posterior, save_posterior

WIDE = PosteriorInit(rho_init=0.0)


class Words(nn.Module):
    """Takes the rounded inputs for words."""

    def __init__(self, kind: type[nn.Embedding | nn.EmbeddingBag] = nn.Embedding, padding: int | None = 0) -> None:
        super().__init__()
        self.words, self.out = kind(6, 4, padding_idx=padding), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.words(x.long())
        return self.out(y.mean(1) if y.dim() == 3 else y)


@settings(max_examples=20, deadline=None)
@given(padding=st.integers(-6, 5), kind=st.sampled_from([nn.Embedding, nn.EmbeddingBag]))
def test_a_padding_row_has_no_noise_no_gradient_and_no_divergence(
    padding: int, kind: type[nn.Embedding | nn.EmbeddingBag]
) -> None:
    torch.manual_seed(0)
    model = Words(kind, padding)
    with torch.no_grad():
        model.words.weight[padding] = 7.0
    for mean_from in ("module", "random"):
        twin = bnn.convert(model, init=WIDE, mean_from=mean_from)  # type: ignore[arg-type]
        posterior = twin.words.weight_posterior
        set_noise(twin, NoiseKey(1))
        assert torch.equal(twin.words.weight[padding], torch.full((4,), 7.0))
        others = [row for row in range(6) if row != padding % 6]
        assert not torch.isclose(twin.words.weight[others], posterior.mu[others]).any()
        (twin(torch.arange(6.0).repeat(2, 1)).square().sum() + kl_divergence(twin)).backward()
        for part in (posterior.mu, posterior.rho):
            assert not part.grad[padding].any()
            assert part.grad[others].all()
        rest = BayesianParameter((5, 4))
        with torch.no_grad():
            rest.mu.copy_(posterior.mu[others])
            rest.rho.copy_(posterior.rho[others])
        torch.testing.assert_close(posterior.kl(), rest.kl())


@pytest.mark.parametrize("padding", [None, 2, -1])
def test_a_padding_row_is_saved_and_drawn(padding: int | None, tmp_path: Path) -> None:
    torch.manual_seed(0)
    twin, x = bnn.convert(Words(padding=padding), init=WIDE).eval(), torch.arange(6.0).repeat(3, 1)
    save_posterior(twin, tmp_path / "p", example_input=torch.zeros(1, 6), step=0)
    loaded = load_posterior(tmp_path / "p")
    [posterior] = [layer for layer in loaded.modules() if isinstance(layer, BayesianParameter)]
    assert posterior.fixed_row == (None if padding is None else padding % 6)
    for network in (twin, loaded):
        set_noise(network, NoiseKey(2, 3))
    with torch.no_grad():
        torch.testing.assert_close(loaded(x), twin(x))
        torch.testing.assert_close(kl_divergence(loaded), kl_divergence(twin))
    row = torch.full((2, 6), float(posterior.fixed_row or 0))
    made = bnn.predict(loaded.to(torch.float32), row, draws=6, seed=1)
    assert made.probability.shape == (2, 3)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.Embedding(3, 2, max_norm=1.0), "layer 0: max_norm=1"),
        (lambda: nn.EmbeddingBag(3, 2, max_norm=0.5), "layer 0: max_norm=0.5"),
        (lambda: nn.Embedding(3, 2, sparse=True), "layer 0: sparse=True"),
        (lambda: nn.EmbeddingBag(3, 2, sparse=True), "layer 0: sparse=True"),
    ],
)
def test_what_a_sample_cannot_do_is_refused(make: Callable[[], nn.Module], message: str) -> None:
    model = nn.Sequential(make(), nn.Linear(2, 2))
    with pytest.raises(UserError, match=message):
        bnn.convert(model)
    bnn.convert(model, where=["1"])  # a conventional embedding may


def test_a_row_that_is_not_there_is_refused() -> None:
    for row in (-1, 3, True, 1.0):
        with pytest.raises(ValueError, match="there is no such row"):
            BayesianParameter((3, 2), row)  # type: ignore[arg-type]


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("padded", [False, True])
def test_an_encoder_with_a_padding_mask_in_evaluation(norm_first: bool, padded: bool) -> None:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, norm_first=norm_first)
    model = nn.TransformerEncoder(layer, 2, enable_nested_tensor=not norm_first).eval()
    twin, x = bnn.convert(model).eval(), torch.randn(3, 5, 8)
    mask = torch.zeros(3, 5, dtype=torch.bool)
    mask[:, 3:] = padded
    with torch.no_grad():
        assert twin(x, src_key_padding_mask=mask).shape == x.shape
        with mean_only(twin):
            expected, found = (
                net.train()(x, src_key_padding_mask=mask) for net in (no_dropout(model), no_dropout(twin))
            )
    torch.testing.assert_close(found, expected)


def no_dropout(model: nn.Module) -> nn.Module:
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        elif isinstance(module, nn.MultiheadAttention):
            module.dropout = 0.0
    return model
