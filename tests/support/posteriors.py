"""Small networks as posteriors have them: random weights, running statistics that are not those of the start."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from bnn.layers import BayesianLayer, PosteriorInit, bayesian_layers
from bnn.layers.convert import convert
from bnn.models.build import build_model
from bnn.posterior import GraphNetwork
from bnn.posterior.trace import trace
from bnn.pruning.compact import weights_left

WIDE = PosteriorInit(rho_init=-2.0, rho_init_std=0.5)
IMAGE = {"vgg16": (3, 32, 32), "resnet18": (3, 32, 32), "conv": (1, 28, 28), "fc": (1, 28, 28)}


def stir(model: nn.Module, seed: int = 0) -> nn.Module:
    """Give norms statistics and factors of either sign, and layers biases, in place."""
    make = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                module.running_mean.copy_(torch.randn(module.num_features, generator=make) * 0.2)
                module.running_var.copy_(torch.rand(module.num_features, generator=make) + 0.5)
                module.weight.copy_(torch.randn(module.num_features, generator=make))
                module.bias.copy_(torch.randn(module.num_features, generator=make) * 0.3)
            elif isinstance(module, BayesianLayer | nn.Conv2d | nn.Linear) and module.bias is not None:
                module.bias.copy_(torch.randn(module.bias.shape, generator=make) * 0.3)
    return model


def paper_network(name: str, width: float = 1 / 16, seed: int = 0, kind: str = "bnn") -> GraphNetwork:
    """One of the paper's four, narrow."""
    torch.manual_seed(seed)
    shape = IMAGE[name]
    model = build_model(name, kind, input_shape=shape, classes=10, width=width, init=WIDE)
    return traced(model, shape, seed)


def traced(model: nn.Module, shape: tuple[int, int, int], seed: int = 0) -> GraphNetwork:
    """The graph of any model, after `stir`."""
    return trace(stir(model, seed).eval(), torch.rand(2, *shape), 0, {})[1]


class Written(nn.Module):
    """A forward pass over named layers."""

    def __init__(self, forward: Callable[[Any, Tensor], Tensor], **layers: nn.Module) -> None:
        super().__init__()
        for name, layer in layers.items():
            self.add_module(name, layer)
        self.written = forward

    def forward(self, x: Tensor) -> Tensor:
        return self.written(self, x)


class Branches(nn.Module):
    """Two convolutions side by side, a sigmoid whose zero is not zero, BatchNorm on the sum of two, a dense head."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Conv2d(2, 5, 3, padding=1), nn.Conv2d(2, 3, 1)
        self.first, self.second = nn.Conv2d(8, 6, 3, padding=1), nn.Conv2d(8, 6, 1)
        self.norm = nn.BatchNorm2d(6)
        self.head = nn.Linear(6 * 9, 7)
        self.last = nn.Linear(7, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([torch.relu(self.left(x)), torch.sigmoid(self.right(x))], dim=1)
        x = nn.functional.avg_pool2d(self.norm(self.first(x) + self.second(x)), 2, padding=1)
        return self.last(torch.tanh(self.head(x.flatten(1))))


class Grouped(nn.Module):
    """What the analysis of channels does not understand: a norm over groups of channels, a layer used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.twice = nn.Conv2d(2, 4, 3), nn.GroupNorm(2, 4), nn.Conv2d(4, 4, 1)
        self.head, self.last = nn.Linear(4, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.twice(torch.relu(self.twice(self.norm(self.conv(x)))))
        # (tanh: the one hidden unit that half of the weights leave may be a ReLU that is 0 for every image)
        return self.last(torch.tanh(self.head(x.mean((2, 3)))))


def branches(seed: int = 0) -> GraphNetwork:
    torch.manual_seed(seed)
    return traced(convert(Branches(), init=WIDE), (2, 4, 4), seed)


def grouped(seed: int = 0) -> GraphNetwork:
    torch.manual_seed(seed)
    return traced(convert(Grouped(), init=WIDE), (2, 6, 6), seed)


@torch.no_grad()
def drawn(network: GraphNetwork, images: Tensor, seed: int) -> Tensor:
    """Logits for one sample of all kernels, in double precision: noise by rank among the weights that are left."""
    network = network.double()
    for layer in bayesian_layers(network):
        order = (0, 2, 3, 1) if layer.mu.dim() == 4 else (0, 1)
        mu, sigma, left = (t.permute(order) for t in (layer.mu, layer.sigma, weights_left(layer)))
        make = torch.Generator().manual_seed(seed + 1000 * layer.layer_index)
        sample = mu.clone()
        sample[left] += sigma[left] * torch.randn(int(left.sum()), generator=make, dtype=torch.float64)
        back = (0, 3, 1, 2) if mu.dim() == 4 else (0, 1)
        layer.mu.copy_(sample.permute(back))
        layer.mean_only = True
    return network(images.double())
