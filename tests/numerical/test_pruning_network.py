"""Pruning: what is removed, to the weight; and that what is left computes the same when it is taken out for good."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from bnn.errors import UserError
from bnn.inference.predictor import Predictor
from bnn.layers import bayesian_layers, mean_only
from bnn.layers.convert import convert
from bnn.layers.kept_features import Select
from bnn.posterior import GraphNetwork, load_posterior
from bnn.posterior.save import save_network
from bnn.pruning.apply import apply
from bnn.pruning.compact import compact, eliminate_dead, weights_left
from bnn.pruning.criterion import Selection, left_of, select, unit_masks, unit_snr
from bnn.pruning.snr import bayesian, layer_snr, snr_histogram
from bnn.pruning.spaces import Spaces
from tests.support.posteriors import WIDE, branches, drawn, grouped, paper_network, traced

NETWORKS: dict[str, Callable[[], GraphNetwork]] = {
    "fc": lambda: paper_network("fc", 1 / 8),
    "conv": lambda: paper_network("conv", 1 / 32),
    "vgg16": lambda: paper_network("vgg16"),
    "resnet18": lambda: paper_network("resnet18"),
    "branches": branches,
    "grouped": grouped,
}
PERCENTS = (50.0, 90.0, 98.0)


def images_of(network: GraphNetwork, count: int = 3) -> torch.Tensor:
    return torch.rand(count, *network.graph.input_shape, generator=torch.Generator().manual_seed(5))


def close(a: torch.Tensor, b: torch.Tensor) -> bool:
    return torch.allclose(a, b, rtol=1e-5, atol=1e-5 * float(b.abs().max().clamp_min(1)))


def pruned(network: GraphNetwork, percent: float, by: str) -> tuple[GraphNetwork, Selection]:
    selection = select(network, percent=percent, scope="global", by=by)
    return apply(network, selection, "zero"), selection


@pytest.mark.parametrize("by", ["weight", "unit"])
@pytest.mark.parametrize("name", NETWORKS)
def test_masked_and_compacted_networks_agree(name: str, by: str) -> None:
    network = NETWORKS[name]()
    images = images_of(network)
    smaller = 0
    for percent in PERCENTS:
        masked, _ = pruned(network, percent, by)
        small = compact(masked)
        smaller += sum(a.mu.numel() < b.mu.numel() for a, b in zip(*map(bayesian_layers, (small, masked)), strict=True))
        with torch.no_grad(), mean_only(masked), mean_only(small):
            assert close(small(images), masked(images))
        dead = eliminate_dead(masked)
        for seed in range(2):
            whole = drawn(copy.deepcopy(dead), images, seed)
            assert close(drawn(copy.deepcopy(small), images, seed), whole)
            if percent == PERCENTS[0]:  # (at 98% of a narrow network every output may be constant)
                assert not close(whole, drawn(copy.deepcopy(dead), images, seed + 10))
    assert smaller > 0


@pytest.mark.parametrize("by", ["weight", "unit"])
@pytest.mark.parametrize("name", ["fc", "vgg16", "resnet18", "branches"])
def test_all_forms_make_the_same_draws(name: str, by: str) -> None:
    network = NETWORKS[name]()
    images = images_of(network, 17)
    masked, _ = pruned(network, 80.0, by)
    forms = [Predictor(eliminate_dead(masked)), Predictor(eliminate_dead(masked), form="csr"),
             Predictor(compact(masked)), Predictor(compact(masked), form="csr")]  # fmt: skip
    results = [torch.stack(list(form.probabilities(3, 0, 2, [images]))) for form in forms]
    for other in results[1:]:
        assert float((other - results[0]).abs().max()) < 1e-4
    assert float((results[0][0] - results[0][1]).abs().max()) > 1e-3


def test_dead_weights_do_not_matter_to_a_draw_of_the_masked_network() -> None:
    network = NETWORKS["fc"]()
    masked, _ = pruned(network, 90.0, "weight")
    dead = eliminate_dead(masked)
    removed = sum(int(weights_left(a).sum() - weights_left(b).sum())
                  for a, b in zip(bayesian_layers(masked), bayesian_layers(dead), strict=True))  # fmt: skip
    assert removed > 0
    images = images_of(network)
    # the same noise on the same weights: that of the masked network, then without what is dead
    for layer, left in zip(bayesian_layers(masked), bayesian_layers(dead), strict=True):
        noise = torch.randn(layer.mu.shape, generator=torch.Generator().manual_seed(layer.layer_index))
        with torch.no_grad():
            sample = layer.mu + layer.sigma * noise
            layer.mu.copy_(sample)
            left.mu.copy_(torch.where(weights_left(left), sample, torch.zeros(())))
    with torch.no_grad(), mean_only(masked), mean_only(dead):
        assert close(dead(images), masked(images))


@pytest.mark.parametrize("name", NETWORKS)
def test_percentages_by_weight_are_met_to_the_weight(name: str) -> None:
    network = NETWORKS[name]()
    total = sum(layer.mu.numel() for layer in bayesian_layers(network))
    for percent in (0.0, 12.5, 60.0, 99.0):
        chosen = select(network, percent=percent, scope="global", by="weight")
        gone = sum(int((~mask).sum()) for mask in chosen.keep.values())
        assert gone == round(percent / 100 * total)
        assert chosen.percent == pytest.approx(100 * gone / total)
        assert chosen.left == total - gone
        ratios = layer_snr(network)
        worst_kept = min(float(ratios[k][m].min()) for k, m in chosen.keep.items() if m.any())
        assert chosen.threshold == worst_kept
        best_gone = max((float(ratios[k][~m].max()) for k, m in chosen.keep.items() if not m.all()), default=0.0)
        assert best_gone <= worst_kept


def test_scope_layer_takes_the_same_share_of_every_layer() -> None:
    chosen = select(NETWORKS["vgg16"](), percent=75.0, scope="layer", by="weight")
    for mask in chosen.keep.values():
        assert int((~mask).sum()) == round(0.75 * mask.numel())


def test_a_threshold_removes_what_lies_below() -> None:
    network = NETWORKS["conv"]()
    chosen = select(network, threshold=0.7, scope="global", by="weight")
    for name, ratios in layer_snr(network).items():
        assert torch.equal(chosen.keep[name], ratios >= 0.7)
    assert select(network, threshold=0.0, scope="global", by="weight").percent == 0


def test_what_is_pruned_stays_pruned_and_counts() -> None:
    network = NETWORKS["fc"]()
    once, _ = pruned(network, 60.0, "weight")
    again = select(once, percent=30.0, scope="global", by="weight")
    assert again.percent == pytest.approx(60.0, abs=0.01)
    more, chosen = pruned(once, 80.0, "weight")
    assert chosen.percent == pytest.approx(80.0, abs=0.01)
    for before, after in zip(bayesian_layers(once), bayesian_layers(more), strict=True):
        assert not (weights_left(after) & ~weights_left(before)).any()


def test_semantics() -> None:
    network = NETWORKS["fc"]()
    chosen = select(network, percent=70.0, scope="global", by="weight")
    results = {name: apply(network, chosen, name) for name in ("zero", "bprune", "mean-only")}
    for name, before in bayesian(network).items():
        gone = ~chosen.keep[name]
        for semantics, result in results.items():
            layer = bayesian(result)[name]
            assert not layer.mu[gone].any()
            assert torch.equal(layer.mu[~gone], before.mu[~gone])
            assert torch.equal(layer.rho[~gone], before.rho[~gone])
            wanted = {"zero": 0.0, "bprune": math.log(2.0)}.get(semantics)
            if wanted is None:
                assert torch.equal(layer.sigma, before.sigma)
            else:
                assert torch.allclose(layer.sigma[gone], torch.tensor(wanted))
    assert all(not torch.isneginf(layer.rho).any() for layer in bayesian_layers(network))  # the input is left as it is


@pytest.mark.parametrize("name", [name for name in NETWORKS if name != "grouped"])  # (its few units are not enough)
def test_units_reach_the_percentage_with_as_few_as_possible(name: str) -> None:
    network = NETWORKS[name]()
    for percent in (30.0, 60.0):
        masked, chosen = pruned(network, percent, "unit")
        assert chosen.percent >= percent - 1e-9
        assert chosen.units is not None
        groups = Spaces(network).groups()
        for space, gone in zip(groups, chosen.units, strict=True):
            assert not gone.all()
            assert space.frozen is None or not gone.any()
        left = sum(int(weights_left(layer).sum()) for layer in bayesian_layers(masked))
        assert left == chosen.left
        # without the best of those that went it would not have been enough
        ratios = [
            unit_snr(network, space).masked_fill(~gone, -1) for space, gone in zip(groups, chosen.units, strict=True)
        ]
        best = max(range(len(groups)), key=lambda i: float(ratios[i].max()))
        fewer = [gone.clone() for gone in chosen.units]
        fewer[best][int(ratios[best].argmax())] = False
        kept = unit_masks(network, groups, fewer)
        assert 100 * (1 - left_of(network, kept) / sum(m.numel() for m in kept.values())) < percent


def test_classes_are_never_removed() -> None:
    network = NETWORKS["fc"]()
    masked, _ = pruned(network, 99.9, "unit")  # more than can go
    assert weights_left(list(bayesian_layers(masked))[-1]).flatten(1).any(1).all()


def test_channels_that_an_addition_joins_go_together() -> None:
    network = NETWORKS["resnet18"]()
    masked, _ = pruned(network, 70.0, "unit")
    layers = bayesian(masked)
    for stage in (1, 2, 3, 4):
        rows = [weights_left(layers[name]).flatten(1).any(1) for name in (f"conv{stage}_2", f"shortcut{stage}")]
        assert torch.equal(*rows)
    small = compact(masked)
    assert any(a.mu.shape[0] < b.mu.shape[0] for a, b in zip(*map(bayesian_layers, (small, masked)), strict=True))


def test_a_removed_unit_is_gated_to_zero() -> None:
    network = NETWORKS["vgg16"]()
    masked, chosen = pruned(network, 60.0, "unit")
    seen: dict[str, torch.Tensor] = {}
    masked(images_of(network), lambda node, value: seen.update({node.layer: value}) if node.layer else None)
    for space, gone in zip(Spaces(network).groups(), chosen.units or [], strict=True):
        for norm, first in space.norms:
            values = seen[norm][:, first : first + space.units]
            assert not values[:, gone].any()
            assert values[:, ~gone].any()


def test_what_is_not_understood_is_frozen_with_its_reason() -> None:
    reasons = [space.frozen for space in Spaces(grouped()).groups()]
    assert any(reason and "norm" in reason for reason in reasons)
    assert any(reason and "used twice" in reason for reason in reasons)
    assert "classes" in reasons
    assert None in reasons
    network = grouped()
    small = compact(pruned(network, 60.0, "unit")[0])
    assert small.get_submodule("conv").mu.shape == network.get_submodule("conv").mu.shape
    assert small.get_submodule("head").mu.shape[0] < network.get_submodule("head").mu.shape[0]


def test_no_unit_to_remove_is_said() -> None:
    model = nn.Sequential(nn.GroupNorm(1, 1), nn.Flatten(), nn.Linear(9, 3))
    network = traced(convert(model, init=WIDE), (1, 3, 3))
    with pytest.raises(UserError, match="no unit of this network"):
        select(network, percent=50.0, scope="global", by="unit")


def test_dead_inputs_are_left_out_by_a_select_layer(tmp_path: Path) -> None:
    masked, _ = pruned(NETWORKS["fc"](), 95.0, "weight")
    small = compact(masked)
    (chosen,) = [layer for layer in small.modules() if isinstance(layer, Select)]
    assert chosen.kept < chosen.features == 784
    save_network(small, tmp_path / "small")
    loaded = load_posterior(tmp_path / "small")
    images = images_of(loaded)
    with torch.no_grad(), mean_only(loaded), mean_only(small):
        assert torch.equal(loaded(images), small(images))
    assert (tmp_path / "small" / "LayerNames.txt").exists()


def test_an_index_outside_of_the_features_is_refused(tmp_path: Path) -> None:
    small = compact(pruned(NETWORKS["fc"](), 95.0, "weight")[0])
    (chosen,) = [layer for layer in small.modules() if isinstance(layer, Select)]
    chosen.index[0] = 784
    save_network(small, tmp_path / "bad")
    with pytest.raises(UserError, match="index: not among 784 features"):
        load_posterior(tmp_path / "bad")


@pytest.mark.parametrize("name", ["conv", "resnet18", "branches"])
def test_pruned_and_compacted_posteriors_are_saved_and_read(name: str, tmp_path: Path) -> None:
    masked, _ = pruned(NETWORKS[name](), 80.0, "unit")
    for number, network in enumerate((masked, compact(masked))):
        save_network(network, tmp_path / str(number))
        loaded = load_posterior(tmp_path / str(number))
        for a, b in zip(bayesian_layers(network), bayesian_layers(loaded), strict=True):
            assert torch.equal(a.mu, b.mu)
            assert torch.equal(a.sigma, b.sigma)
            assert a.layer_index == b.layer_index


@settings(max_examples=12)
@given(seed=st.integers(0, 10_000), share=st.floats(0.3, 0.98))
def test_random_masks_leave_the_outputs(seed: int, share: float) -> None:
    network = branches(seed)
    make = torch.Generator().manual_seed(seed)
    keep = {name: torch.rand(layer.mu.shape, generator=make) > share for name, layer in bayesian(network).items()}
    masked = apply(network, Selection(keep, None, 0.0, 0), "zero")
    small = compact(masked)
    images = images_of(network)
    with torch.no_grad(), mean_only(masked), mean_only(small):
        assert close(small(images), masked(images))
    assert close(drawn(small, images, 1), drawn(eliminate_dead(masked), images, 1))


def test_the_histogram_counts_every_weight_once_per_layer_and_once_in_all() -> None:
    network = NETWORKS["conv"]()
    table = snr_histogram(network)
    counts = table.groupby("layer")["count"].sum()
    assert counts[""] == sum(layer.mu.numel() for layer in bayesian_layers(network))
    for name, layer in bayesian(network).items():
        assert counts[name] == layer.mu.numel()
    middle = 20 * torch.log10(layer_snr(network)["conv2"].flatten())
    rows = table[table["layer"] == "conv2"]
    for row in rows[(rows["low"] >= -20) & (rows["high"] <= 20)].itertuples():
        assert row.count == int(((middle >= row.low) & (middle < row.high)).sum())
