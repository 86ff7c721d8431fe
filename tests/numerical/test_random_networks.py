"""Networks put together at random: saved, drawn, pruned and compacted they compute what the model computes."""

from __future__ import annotations

import copy
import tempfile

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from bnn.errors import UserError
from bnn.inference.draw_layers import draw_layer
from bnn.inference.predictor import INFERENCE_RANK, Predictor
from bnn.layers import NoiseKey, bayesian_layers, mean_only
from bnn.layers.noise import layer_seed
from bnn.posterior import GraphNetwork, load_posterior, save_posterior
from bnn.posterior.verify import difference
from bnn.pruning.apply import apply
from bnn.pruning.compact import compact, eliminate_dead
from bnn.pruning.criterion import select, why_kept
from bnn.pruning.levels import kernel_weights, verify
from bnn.pruning.snr import bayesian
from bnn.pruning.spaces import Spaces
from tests.support.random_networks import IMAGE, RandomNetwork, random_network

SEED, DRAWS = 5, 2
# Some of these networks lose many digits of float32 (a norm of what hardly varies): double precision is the judge.
ALLOWED = {torch.float64: 1e-9, torch.float32: 1e-3}


@torch.no_grad()
def sampled(model: RandomNetwork, images: Tensor, draw: int) -> Tensor:
    """What the model itself gives with each kernel replaced by its sample of a draw."""
    model = copy.deepcopy(model)
    for layer in bayesian_layers(model):
        drawing = draw_layer(layer)
        assert drawing is not None
        assert layer.layer_index is not None
        drawing.key(layer_seed(NoiseKey(SEED, draw, INFERENCE_RANK), layer.layer_index))
        layer.mu.copy_(drawing.weight)
    with mean_only(model):
        y: Tensor = model(images.clone())
        return y


def close(ours: Tensor, theirs: Tensor) -> bool:
    return difference(ours, theirs) <= ALLOWED[theirs.dtype]


def through_every_stage(seed: int, dtype: torch.dtype, biases: bool = False) -> bool:
    """Whether units could be removed. A network may be refused; what is not must be right."""
    model = random_network(seed, biases=biases).to(dtype)
    images = torch.rand(3, *IMAGE, dtype=dtype, generator=torch.Generator().manual_seed(seed))
    with tempfile.TemporaryDirectory() as folder:
        save_posterior(model, f"{folder}/whole", example_input=images, step=0)
        network = load_posterior(f"{folder}/whole")
    for draw in range(DRAWS):
        expected = sampled(model, images, draw)
        for fold, form in ((True, "dense"), (False, "dense"), (True, "csr")):
            predictor = Predictor(network, form=form, fold=fold)
            for blocks in ([images], [images[:2], images[2:]]):
                (made,) = predictor.logits(SEED, draw, draw + 1, blocks)
                assert close(made, expected), (model.names, fold, form)
    assert pruned(network, "weight")
    if not any(why_kept(space, bayesian(network)) is None for space in Spaces(network).groups()):
        with pytest.raises(UserError, match="no unit of this network can be removed"):
            select(network, percent=50.0, scope="global", by="unit")
        return False
    return pruned(network, "unit")


def pruned(network: GraphNetwork, by: str) -> bool:
    for percent in (50.0, 90.0):
        selection = select(network, percent=percent, scope="global", by=by)
        removed = apply(network, selection, "zero")
        masked = eliminate_dead(removed)
        small = compact(masked)
        verify(removed, masked, small, "zero")
        if by == "unit" and selection.units_removed:
            assert kernel_weights(small) < kernel_weights(network)
    return True


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 10_000_000))
def test_right_or_refused(dtype: torch.dtype, seed: int) -> None:
    through_every_stage(seed, dtype)


@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 10_000_000))
def test_right_or_refused_with_bayesian_biases(seed: int) -> None:
    through_every_stage(seed, (torch.float32, torch.float64)[seed % 2], biases=True)


def test_units_can_be_removed_from_some_of_them() -> None:
    for biases in (False, True):
        assert any(through_every_stage(seed, torch.float64, biases) for seed in range(3))
