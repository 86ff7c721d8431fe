"""Flipout by this project's kernels: the same estimator as `bnn.layers.flipout`, at the cost of one convolution.

Example n of a batch sees the kernel W_n = mu + delta * (s_n r_n^T), delta = sigma * eps (Wen et al. 2018, eq. 3). The
kernels form W_n in cache and convolve once, where eq. 4 needs two convolutions; the weight gradient of each example is
computed once and added to the gradients of both mu and delta. Noise comes from a counter-based generator (Philox) and
is drawn together with the KL; the gradients of mu and rho leave the backward pass complete, KL included.

Whatever the kernels do not cover (a GPU, double precision, groups, dense layers on more than two dimensions) is
computed by the reference layers from which these are derived.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from bnn import kernels
from bnn.layers.affine import Pair
from bnn.layers.base import BayesianLayer, bayesian_layers
from bnn.layers.flipout import FlipoutConv2d, FlipoutLinear
from bnn.layers.noise import splitmix64

OPS = torch.ops.bnn_kernels


class FastFlipout(BayesianLayer):
    """What the convolution and the dense layer share: seeds, and the KL that comes with the noise."""

    _seed: int | None = None  # of the noise named last by set_noise
    _draws = 0  # forward passes since then
    _kl: tuple[Tensor, list[int]] | None = None  # KL of the last forward pass, and which values of mu and rho it is for

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_kl": None}  # what hangs on a graph can be neither copied nor pickled

    def seed_noise(self, seed: int) -> None:
        super().seed_noise(seed)
        self._seed, self._draws = seed, 0

    def noise_state(self) -> dict[str, Any]:
        return super().noise_state() | {"_seed": self._seed, "_draws": self._draws}

    def unkeyed(self) -> None:
        super().unkeyed()
        self._seed, self._draws = None, 0

    def next_seed(self) -> int:
        """Seed of the next forward pass, as a signed 64-bit number."""
        if self._seed is None:
            return int(torch.randint(-(2**63), 2**63 - 1, ()).item())
        seed = splitmix64((self._seed + self._draws) & (2**64 - 1))
        self._draws += 1
        return seed - 2**64 if seed >= 2**63 else seed

    def covers(self, x: Tensor) -> bool:
        """Whether the kernels compute this layer for this input."""
        return x.shape[0] > 0 and kernels.fits(x, self.mu, self.rho)

    def keep_kl(self, kl: Tensor) -> None:
        weights = (self.mu, self.rho)
        self._kl = None if any(w.is_inference() for w in weights) else (kl, self._values())

    def _values(self) -> list[int]:
        return [fact for w in (self.mu, self.rho) for fact in (id(w), w.data_ptr(), w._version)]

    def kl(self) -> Tensor:
        """The KL that the last forward pass computed, else (or once it has been asked for) computed anew."""
        kept, self._kl = self._kl, None
        if kept is None or kept[1] != self._values():
            return super().kl()
        graph = kept[0].grad_fn
        if graph is None:  # of a pass without gradients
            usable = not (torch.is_grad_enabled() and (self.mu.requires_grad or self.rho.requires_grad))
        else:
            usable = not getattr(graph, "spent", False)
        return kept[0] if usable else super().kl()


def lies_channels_last(*tensors: Tensor) -> bool:
    """Whether torch's own convolution of these tensors would give a channels_last output."""
    return any(t.is_contiguous(memory_format=torch.channels_last) and not t.is_contiguous() for t in tensors)


def ohwi(kernel: Tensor) -> Tensor:
    """The kernel in channels_last, with the strides that the kernels expect where a size of 1 leaves them open."""
    _, inputs, height, width = kernel.shape
    strides = (height * width * inputs, 1, width * inputs, inputs)
    return kernel.contiguous(memory_format=torch.channels_last).as_strided(kernel.shape, strides)


class FlipoutConvolution(torch.autograd.Function):
    """(x, mu, rho, bias) -> (output, KL in nats). Input (N, C_in, H, W), output (N, C_out, H', W'), KL 0-dim.

    `geometry`: stride, padding and dilation in pixels.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        mu: Tensor,
        rho: Tensor,
        bias: Tensor | None,
        seed: int,
        prior: float,
        geometry: tuple[Pair, Pair, Pair],
    ) -> tuple[Tensor, Tensor]:
        channels_last = lies_channels_last(x, mu)
        x = x.contiguous(memory_format=torch.channels_last)
        mu, rho = ohwi(mu), ohwi(rho)
        delta, kl = OPS.perturb(mu, rho, seed, prior)
        signs = OPS.signs(seed, False, x.shape[0], x.shape[1]), OPS.signs(seed, True, x.shape[0], mu.shape[0])
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x, mu, rho, delta, *signs)
        ctx.prior, ctx.geometry = prior, geometry
        y = OPS.conv(x, mu, delta, *signs, bias, *geometry)
        return y if channels_last else y.contiguous(), kl

    @staticmethod
    @kernels.once
    def backward(ctx: Any, gradient: Tensor | None, kl_weight: Tensor | None) -> tuple[Tensor | None, ...]:
        x, mu, rho, delta, *signs = ctx.saved_tensors
        ctx.spent = True  # a backward pass frees the graph: the KL cannot be differentiated any more
        want_x, want_mu, want_rho, want_bias = ctx.needs_input_grad[:4]
        grads: list[Tensor | None] = [None, None, None, None]
        if gradient is not None:
            gradient = gradient.contiguous(memory_format=torch.channels_last)
            if want_x:
                grads[0] = OPS.conv_input_gradient(gradient, mu, delta, *signs, x.shape[2:], *ctx.geometry)
            if want_bias:
                grads[3] = gradient.sum((0, 2, 3))
        if want_mu or want_rho:
            if gradient is not None:
                pair = OPS.conv_weight_gradient(x, gradient, *signs, mu.shape[2:], *ctx.geometry)
            else:
                pair = torch.zeros_like(mu), torch.zeros_like(mu)
            OPS.chain_(mu, rho, delta, ctx.prior, kl_weight, *pair)
            grads[1:3] = [grad if want else None for grad, want in zip(pair, (want_mu, want_rho), strict=True)]
        return (*grads, None, None, None)


class Perturbation(torch.autograd.Function):
    """(mu, rho) -> (delta, KL in nats), delta = softplus(rho) * eps of mu's shape."""

    @staticmethod
    def forward(ctx: Any, mu: Tensor, rho: Tensor, seed: int, prior: float) -> tuple[Tensor, Tensor]:
        mu, rho = mu.contiguous(), rho.contiguous()
        delta, kl = OPS.perturb(mu, rho, seed, prior)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(mu, rho, delta)
        ctx.prior = prior
        return delta, kl

    @staticmethod
    @kernels.once
    def backward(ctx: Any, gradient: Tensor | None, kl_weight: Tensor | None) -> tuple[Tensor | None, ...]:
        mu, rho, delta = ctx.saved_tensors
        ctx.spent = True
        of_mu = torch.zeros_like(mu)
        of_rho = torch.zeros_like(mu) if gradient is None else gradient.clone(memory_format=torch.contiguous_format)
        OPS.chain_(mu, rho, delta, ctx.prior, kl_weight, of_mu, of_rho)
        return of_mu, of_rho, None, None


class FastFlipoutConv2d(FastFlipout, FlipoutConv2d):
    """Convolution by Flipout (Wen et al. 2018, eq. 3), by the kernels. Shapes and errors as of `BayesianConv2d`."""

    def covers(self, x: Tensor) -> bool:
        return self.groups == 1 and super().covers(x)

    def sample(self, x: Tensor) -> Tensor:
        if not self.covers(x):
            return super().sample(x)
        seed, geometry = self.next_seed(), (self.stride, self.padding, self.dilation)
        y, kl = FlipoutConvolution.apply(x, self.mu, self.rho, self.bias, seed, self.prior_scale, geometry)
        self.keep_kl(kl)
        return y


class FastFlipoutLinear(FastFlipout, FlipoutLinear):
    """Dense layer by Flipout (Wen et al. 2018, eq. 4), its noise and KL by the kernels.

    Shapes and errors as of `BayesianLinear`. There are two matrix products: an example has too few outputs to pay for
    weights of its own.
    """

    def covers(self, x: Tensor) -> bool:
        return x.dim() == 2 and super().covers(x)

    def sample(self, x: Tensor) -> Tensor:
        if not self.covers(x):
            return super().sample(x)
        seed = self.next_seed()
        delta, kl = Perturbation.apply(self.mu, self.rho, seed, self.prior_scale)
        self.keep_kl(kl)
        flipped = x * OPS.signs(seed, False, x.shape[0], self.in_features)
        output_signs = OPS.signs(seed, True, x.shape[0], self.out_features)
        mean = functional.linear(x, self.mu, self.bias)
        return torch.addcmul(mean, functional.linear(flipped, delta), output_signs)


def kernels_used(model: nn.Module) -> bool:
    """Whether the kernels compute the Flipout layers of `model`. Convolutions with groups, if any, stay plain torch."""
    fast = [layer for layer in bayesian_layers(model) if isinstance(layer, FastFlipout)]
    return bool(fast) and all(kernels.fits(layer.mu) for layer in fast)
