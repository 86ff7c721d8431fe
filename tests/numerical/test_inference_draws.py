"""Monte-Carlo draws: exact in distribution, the same for any form, block and division of the work."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from bnn import kernels
from bnn.errors import UserError
from bnn.inference.fold import fold_batchnorm, fold_relu
from bnn.inference.predictor import Predictor, images_per_block
from bnn.layers import bayesian_layers
from bnn.layers.convert import convert
from bnn.posterior import GraphNetwork
from tests.support.posteriors import WIDE, branches, grouped, paper_network, traced

NETWORKS: dict[str, Callable[[], GraphNetwork]] = {
    "fc": lambda: paper_network("fc"),
    "conv": lambda: paper_network("conv", 1 / 32),
    "vgg16": lambda: paper_network("vgg16"),
    "resnet18": lambda: paper_network("resnet18"),
    "branches": branches,
    "grouped": grouped,
}


def images_of(network: GraphNetwork, count: int = 7) -> Tensor:
    return torch.rand(count, *network.graph.input_shape, generator=torch.Generator().manual_seed(2))


def draws(predictor: Predictor, blocks: list[Tensor], last: int = 3, first: int = 0, seed: int = 1) -> Tensor:
    return torch.stack(list(predictor.probabilities(seed, first, last, blocks)))


def norms(network: GraphNetwork) -> int:
    return sum(node.type.startswith("BatchNorm") for node in network.graph.nodes)


@pytest.mark.parametrize("name", NETWORKS)
def test_folding_changes_no_draw(name: str) -> None:
    network = NETWORKS[name]()
    images = images_of(network)
    plain, folded = (draws(Predictor(network, fold=fold), [images]) for fold in (False, True))
    assert float((plain - folded).abs().max()) < 1e-5
    assert float((plain[0] - plain[1]).abs().max()) > 1e-3


def test_every_batchnorm_behind_a_layer_or_a_sum_is_folded() -> None:
    for name, left in {"vgg16": 0, "resnet18": 0, "branches": 0}.items():
        network = NETWORKS[name]()
        graph, folds = fold_batchnorm(network.graph, network.layers)
        assert sum(node.type.startswith("BatchNorm") for node in graph.nodes) == left
        assert norms(network) > 0
        assert folds
    network = NETWORKS["resnet18"]()
    _, folds = fold_batchnorm(network.graph, network.layers)
    assert {"conv1_2", "shortcut1"} <= set(folds)  # the norm behind their sum is in both
    assert torch.equal(folds["conv1_2"].factor, folds["shortcut1"].factor)
    assert not (folds["conv1_2"].shift.any() and folds["shortcut1"].shift.any())  # and its shift in one


class Read(nn.Module):
    """A BatchNorm that cannot be folded: somebody else reads what it reads. A layer that is used twice. A ReLU too."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.twice = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1)
        self.after, self.head = nn.BatchNorm2d(4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        x = torch.relu(x) + self.norm(x)
        x = self.after(self.twice(torch.relu(self.twice(x))))
        return self.head(x.mean((2, 3)))


def test_what_others_read_or_is_used_twice_is_not_folded() -> None:
    network = traced(convert(Read(), init=WIDE), (1, 5, 5))
    graph, folds = fold_batchnorm(network.graph, network.layers)
    assert not folds
    assert graph.nodes == network.graph.nodes
    assert fold_relu(network.graph, network.layers) == (network.graph, set())
    images = images_of(network)
    assert torch.equal(draws(Predictor(network), [images]), draws(Predictor(network, fold=False), [images]))


@pytest.mark.parametrize("name", NETWORKS)
def test_the_sparse_form_makes_the_same_draws(name: str) -> None:
    network = NETWORKS[name]()
    images = images_of(network, 19)
    dense, sparse = (draws(Predictor(network, form=form), [images]) for form in ("dense", "csr"))
    assert float((dense - sparse).abs().max()) < 1e-4


@pytest.mark.parametrize("name", ["fc", "branches"])
def test_without_kernels_forms_and_folding_agree_too(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "available", lambda: False)
    network = NETWORKS[name]()
    images = images_of(network)
    results = [draws(Predictor(network, form=form, fold=fold), [images])
               for form, fold in (("dense", True), ("dense", False), ("csr", True))]  # fmt: skip
    assert all(float((other - results[0]).abs().max()) < 1e-4 for other in results[1:])
    assert float((results[0][0] - results[0][1]).abs().max()) > 1e-3


@pytest.mark.parametrize("name", NETWORKS)
def test_a_draw_is_named_by_seed_and_index(name: str) -> None:
    network = NETWORKS[name]()
    predictor = Predictor(network)
    images = images_of(network)
    all_at_once = draws(predictor, [images], 6)
    assert torch.equal(torch.cat([draws(predictor, [images], 2), draws(predictor, [images], 6, 2)]), all_at_once)
    assert torch.equal(draws(Predictor(network), [images], 6), all_at_once)
    assert len({tuple(one.flatten().tolist()) for one in all_at_once}) == 6
    assert not torch.equal(draws(predictor, [images], 6, seed=2), all_at_once)


def test_several_blocks_share_the_weights_of_a_draw() -> None:
    network = NETWORKS["vgg16"]()
    images = images_of(network, 9)
    predictor = Predictor(network)
    assert float((draws(predictor, [images[:4], images[4:]]) - draws(predictor, [images])).abs().max()) < 1e-5


def test_blocks_depend_on_the_network_alone() -> None:
    assert images_per_block(NETWORKS["fc"]()) == 1024
    wide = paper_network("vgg16", 1.0)
    assert images_per_block(wide) == 128  # of 64 maps of 32 x 32


def dense_layer() -> GraphNetwork:
    """Logits of one dense layer, of which mean and covariance are known."""
    torch.manual_seed(3)
    return traced(convert(nn.Sequential(nn.Flatten(), nn.Linear(6, 2)), init=WIDE), (1, 2, 3))


@pytest.mark.parametrize(("mode", "shared"), [("exact", True), ("local-reparameterization", False)])
def test_mean_and_covariance_of_logits(mode: str, shared: bool) -> None:
    network = dense_layer()
    (layer,) = bayesian_layers(network)
    x = images_of(network, 3)
    count = 20_000
    values = []
    predictor = Predictor(network, mode)
    for probabilities in predictor.probabilities(1, 0, count, [x]):
        logit = probabilities.double().log()
        values.append(logit[:, 0] - logit[:, 1])
    made = torch.stack(values)
    features, sigma = x.flatten(1).double(), layer.sigma.double()
    mean = features @ (layer.mu[0] - layer.mu[1]).double() + float(layer.bias[0] - layer.bias[1])
    covariance = (features * (sigma[0] ** 2 + sigma[1] ** 2)) @ features.t()
    if not shared:  # images are drawn apart
        covariance = covariance.diag().diag()
    spread = covariance.diag().sqrt()
    assert bool(((made.mean(0) - mean).abs() < 5 * spread / count**0.5).all())
    error = 5 * torch.outer(spread, spread) * (2 / count) ** 0.5
    assert bool(((torch.cov(made.t()) - covariance).abs() < error).all())
    if shared:  # successive draws have nothing in common
        centred = (made - made.mean(0)) / made.std(0)
        assert bool(((centred[1:] * centred[:-1]).mean(0).abs() < 5 / count**0.5).all())


def test_flipout_has_the_right_distribution_for_every_image() -> None:
    network = dense_layer()
    x = images_of(network, 2)
    exact = draws(Predictor(network), [x], 4000)
    flipped = draws(Predictor(network, "flipout"), [x], 4000 * 8)
    for image in range(2):
        a, b = exact[:, image, 0], flipped[::3, image, 0]  # (draws of one pass are correlated)
        grid = torch.linspace(0.05, 0.95, 19)
        distance = max(abs(float((a < g).float().mean() - (b < g).float().mean())) for g in grid)
        assert distance < 0.06


@pytest.mark.parametrize("mode", ["flipout", "local-reparameterization"])
def test_other_modes_are_named_by_index_too(mode: str) -> None:
    network = NETWORKS["fc"]()
    images = images_of(network, 300)
    predictor = Predictor(network, mode)
    assert predictor.passes(300) == 3
    whole = draws(predictor, [images], 7)
    assert torch.equal(torch.cat([draws(predictor, [images], 3), draws(predictor, [images], 7, 3)]), whole)
    assert len({tuple(one.flatten().tolist()) for one in whole}) == 7


def test_the_network_is_left_as_it_is() -> None:
    network = NETWORKS["resnet18"]()
    before = copy.deepcopy(network.state_dict())
    graph = network.graph
    for mode in ("exact", "flipout", "local-reparameterization"):
        draws(Predictor(network, mode), [images_of(network)], 1)
    assert network.graph is graph
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    with pytest.raises(UserError, match="mode best: unknown"):
        Predictor(network, "best")


class Mixed(nn.Module):
    """A conventional stem and a Bayesian head; groups."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 4, 3, groups=2)
        self.middle = nn.Conv2d(4, 4, 1, groups=2)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.middle(torch.relu(self.stem(x)))).mean((2, 3)))


def test_groups_and_conventional_layers() -> None:
    model = convert(Mixed(), init=WIDE)
    plain = nn.Conv2d(2, 4, 3, groups=2)
    model.stem = plain
    network = traced(model, (2, 5, 5))
    images = images_of(network)
    predictor = Predictor(network)
    assert predictor.stem is not None  # computed once for all draws
    made = draws(predictor, [images], 4)
    assert float((made[0] - made[1]).abs().max()) > 1e-3
    reference = draws(Predictor(network, fold=False), [images], 4)
    assert float((made - reference).abs().max()) < 1e-5
