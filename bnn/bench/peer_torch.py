"""The worker of bayesian-torch's Flipout: our networks' operations with its layers. Runs in the peers' environment.

Its layers as they come, with Bayesian biases, a sign per pixel and KL as a mean over weights, and torch's fused Adam.
NCHW: with channels_last it takes half as long again at batch 32 and the same at batch 128.
"""

from __future__ import annotations

import time
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from bnn.bench.protocol import Measured, Spec, serve
from bnn.models.architectures import Node, resolve
from bnn.models.ops import Add, BatchNorm, Conv, Dense, Flatten, GlobalAveragePool, MaxPool, Relu

RHO_INIT = -9.0


def build_layer(node: Node) -> nn.Module | None:
    """The layer of an operation that has parameters; None for one that has not."""
    # installed in the peers' environment only
    from bayesian_torch.layers.flipout_layers.conv_flipout import (  # type: ignore[import-not-found]
        Conv2dFlipout,
    )
    from bayesian_torch.layers.flipout_layers.linear_flipout import (  # type: ignore[import-not-found]
        LinearFlipout,
    )

    op, channels = node.op, node.in_shapes[0][0]
    layer: nn.Module
    if isinstance(op, Conv):
        layer = Conv2dFlipout(
            channels, op.channels, op.kernel, op.stride, op.padding, posterior_rho_init=RHO_INIT, bias=True
        )
        return layer
    if isinstance(op, Dense):
        layer = LinearFlipout(channels, op.units, posterior_rho_init=RHO_INIT, bias=True)
        return layer
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01) if isinstance(op, BatchNorm) else None


class Network(nn.Module):
    """Walks the operations as bnn.models.build.Network does, adding up the layers' KL."""

    def __init__(self, nodes: list[Node]) -> None:
        super().__init__()
        self.nodes = nodes
        for node in nodes:
            layer = build_layer(node)
            if layer is not None:
                self.add_module(node.op.name, layer)
        self.last_use = {name: index for index, node in enumerate(nodes) for name in node.inputs}

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (N, classes) of images (N, C, H, W), and the KL as the package defines it; 0 in evaluation."""
        kl = x.new_zeros(())
        values = {self.nodes[0].op.name: x}
        del x
        for index, node in enumerate(self.nodes[1:], start=1):
            op, inputs = node.op, [values[name] for name in node.inputs]
            for name in node.inputs:
                if self.last_use[name] == index:
                    del values[name]
            match op:
                case Conv() | Dense():
                    result = getattr(self, op.name)(inputs[0], return_kl=self.training)
                    values[op.name], term = result if self.training else (result, 0.0)
                    kl = kl + term
                case BatchNorm():
                    values[op.name] = getattr(self, op.name)(inputs[0])
                case Relu():
                    values[op.name] = functional.relu(inputs[0], inplace=True)
                case MaxPool():
                    values[op.name] = functional.max_pool2d(inputs[0], op.size, ceil_mode=op.ceil)
                case GlobalAveragePool():
                    values[op.name] = functional.adaptive_avg_pool2d(inputs[0], 1)
                case Add():
                    values[op.name] = inputs[0] + inputs[1]
                case Flatten():
                    values[op.name] = inputs[0].flatten(1)
                case _:
                    raise TypeError(f"no bayesian-torch layer for {op}")
        return values[self.nodes[-1].op.name], kl


class BayesianTorch:
    """The network, its fused Adam and one fixed batch."""

    def __init__(self, spec: Spec) -> None:
        torch.set_num_threads(spec.threads)
        torch.manual_seed(spec.seed)
        self.spec = spec
        self.model = Network(resolve(spec.model, spec.shape, spec.classes, spec.width))
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-4, fused=True)
        self.images = torch.rand(spec.batch, *spec.shape)
        self.labels = torch.randint(spec.classes, (spec.batch,))
        self._inference_input = self.images[:0]

    def facts(self) -> dict[str, Any]:
        """The worker's hello."""
        named = list(self.model.named_parameters())
        statistics = sum(b.numel() for name, b in self.model.named_buffers() if "running" in name)
        bias_rho = sum(p.numel() for name, p in named if name.endswith("rho_bias"))
        total = sum(p.numel() for _, p in named) + statistics
        return {
            "resolved": self.spec.implementation,
            "parameters_total": total,
            "versions": {
                "torch": version("torch"),
                "bayesian-torch": version("bayesian-torch"),
                "ISA of torch": torch.backends.cpu.get_cpu_capability(),
            },
            "notes": [
                f"{total - bias_rho:,} parameters as ours, and {bias_rho:,} for its biases' uncertainty",
                "signs are drawn per pixel and KL is a mean over a layer's weights, as the package has it",
            ],
        }

    def step(self) -> Measured:
        """Forward pass with KL, loss, backward pass, update."""
        self.model.train()
        start = time.perf_counter()
        logits, kl = self.model(self.images)
        loss = functional.cross_entropy(logits, self.labels) + kl / self.spec.train_size
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        value = float(loss.detach())
        return Measured(time.perf_counter() - start, None, value)

    def noise_and_kl(self) -> float | None:
        """Not to be told from outside."""
        return None

    @torch.inference_mode()
    def draws(self, images: int, draws: int) -> Measured:
        """A forward pass in evaluation mode per draw: Flipout draws anew in each."""
        self.model.eval()
        if len(self._inference_input) != images:
            self._inference_input = torch.rand(images, *self.spec.shape)
        start = time.perf_counter()
        total = torch.zeros(images, self.spec.classes)
        for _ in range(draws):
            total += functional.softmax(self.model(self._inference_input)[0], dim=1)
        mean = total / draws
        return Measured(time.perf_counter() - start, None, float(mean.mean()))


def main() -> None:
    serve(BayesianTorch)
