"""Layers for exact Monte-Carlo draws: one sample of the kernel per draw, mu + scale * eps, which all images share.

The noise of a draw belongs to the weights that are left (mu or scale not zero), in the order (out, kh, kw, in) for
kernels of four dimensions and in their own for all others: a pruned network makes the same draws whether its zeros are
stored, skipped or removed. `scale` is sigma, or sigma times a factor of either sign where a BatchNorm has been folded
in.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from bnn import kernels
from bnn.layers.affine import BayesianConv2d, BayesianLinear, ConvGeometry
from bnn.layers.base import BayesianLayer
from bnn.layers.flipout_fast import ohwi

OPS = torch.ops.bnn_kernels
PADDING = 16  # of the rows of a sparse product (kSparsePadding in the kernels)


@dataclass(frozen=True)
class Fold:
    """An affine map y * factor + shift, (out,) each, that follows a layer and can be computed within it exactly."""

    factor: Tensor
    shift: Tensor


@dataclass(slots=True)
class Draw:
    """Which sample is in use: its 64-bit seed, and the sample itself where it is kept for further blocks of images."""

    seed: int = 0
    keep: bool = False
    kernel: Tensor | None = None


class DrawLayer(nn.Module):
    """The weights of a layer and their samples, which all layers use in the same way.

    `mu` is (out, in / groups, kh, kw), (out, in) or of any other shape; so is `scale`, which is None for a conventional
    layer. `weight` is the sample in that shape. `key(seed)`
    names the draw; with `keep` its sample is kept for further blocks of images, otherwise it is made as it is used.
    Form `csr` stores and multiplies only the weights that are left; a convolution then unfolds its input.
    """

    mu: Tensor
    scale: Tensor | None
    bias: Tensor | None
    starts: Tensor
    inputs: Tensor

    def __init__(
        self, mu: Tensor, scale: Tensor | None, bias: Tensor | None, form: str = "dense", fold: Fold | None = None
    ) -> None:
        super().__init__()
        self.shape = mu.shape
        self.fast = kernels.fits(mu)
        self.form = form if scale is not None else "dense"
        self.relu = False  # whether a ReLU that follows is done at once
        self.draw = Draw()
        self.index: Tensor | None = None  # places of the weights that are left; None: all are
        left = None if scale is None else stored((mu != 0) | (scale != 0))  # before a factor of zero hides some
        bias = None if bias is None else bias.detach().clone()
        if fold is not None:
            factor = fold.factor.view(-1, *[1] * (mu.dim() - 1))
            mu, scale = mu * factor, None if scale is None else scale * factor
            bias = fold.shift if bias is None else bias * fold.factor + fold.shift
        self.register_buffer("bias", bias)
        mu, scale = stored(mu), None if scale is None else stored(scale)
        if left is None or scale is None or (bool(left.all()) and self.form == "dense"):
            self.register_buffer("mu", mu)
            self.register_buffer("scale", scale)
            return
        self.index = left.flatten().nonzero()[:, 0]
        self.register_buffer("mu", mu.flatten()[self.index])
        self.register_buffer("scale", scale.flatten()[self.index])
        if self.form == "csr":
            columns = mu[0].numel()
            rows = torch.searchsorted(self.index, torch.arange(mu.shape[0] + 1, device=mu.device) * columns)
            self.starts, self.inputs = rows.int(), (self.index % columns).int()

    def key(self, seed: int, keep: bool = False) -> None:
        """Make the next forward passes use the sample named by this 64-bit seed."""
        self.draw.seed, self.draw.keep, self.draw.kernel = seed, keep, None

    @property
    def signed_seed(self) -> int:
        """The seed as the signed number that torch's operators take."""
        return self.draw.seed - 2**64 if self.draw.seed >= 2**63 else self.draw.seed

    def values(self) -> Tensor:
        """The kernel of this draw as it is stored; in the sparse form, the weights that are left."""
        draw = self.draw
        if self.scale is None:
            return self.mu
        if draw.kernel is not None:
            return draw.kernel
        if self.fast:
            made: Tensor = OPS.sample(self.mu, self.scale, self.signed_seed)
        else:
            generator = torch.Generator(device=self.mu.device).manual_seed(draw.seed)
            noise = torch.randn(self.mu.shape, generator=generator, device=self.mu.device, dtype=self.mu.dtype)
            made = torch.addcmul(self.mu, self.scale, noise)
        if self.index is not None and self.form == "dense":
            whole = made.new_zeros(self.stored_shape())
            whole.view(-1)[self.index] = made
            made = whole
        if draw.keep:
            draw.kernel = made
        return made

    @property
    def weight(self) -> Tensor:
        """The kernel of this draw, of the shape of the layer's own; not where BatchNorm has been folded in."""
        kernel = self.values().view(self.stored_shape())
        return kernel.permute(0, 3, 1, 2) if len(self.shape) == 4 else kernel

    def mean_and_scale(self) -> tuple[Tensor, Tensor | None]:
        """(mu, scale), from which the kernels sample as they go; (sample, None) where that does not work.

        It works if no weight has been pruned and the sample is used once.
        """
        whole = self.index is None and not self.draw.keep
        return (self.mu, self.scale) if whole else (self.values(), None)

    def stored_shape(self) -> list[int]:
        """Shape of the kernel as it is stored: (out, kh, kw, in) for (out, in, kh, kw), any other as it is."""
        return [self.shape[0], *self.shape[2:], self.shape[1]] if len(self.shape) == 4 else list(self.shape)

    def sparse(self, source: Tensor) -> Tensor:
        """The sparse kernel times `source` (inputs, columns), plus the bias: (outputs, columns)."""
        weights = self.values()
        if self.fast:
            product: Tensor = OPS.sparse(self.starts, self.inputs, weights, source, self.bias, self.relu)
            return product
        size = (self.shape[0], source.shape[0])
        matrix = torch.sparse_csr_tensor(self.starts, self.inputs, weights, size, check_invariants=False)
        product = matrix @ source
        return self.activated(product if self.bias is None else product.add_(self.bias[:, None]))

    def activated(self, y: Tensor) -> Tensor:
        """Outputs after the ReLU, if there is one."""
        return y.relu_() if self.relu else y


class DrawConv2d(DrawLayer):
    """2-d convolution. Input (N, C_in, H, W), output (N, C_out, H', W')."""

    def __init__(
        self,
        mu: Tensor,
        scale: Tensor | None,
        bias: Tensor | None,
        form: str = "dense",
        fold: Fold | None = None,
        *,
        geometry: ConvGeometry,
    ) -> None:
        super().__init__(mu, scale, bias, form if geometry.groups == 1 else "dense", fold)
        self.geometry = geometry

    def forward(self, x: Tensor) -> Tensor:
        if self.form == "csr":
            return self.unfolded(x)
        if not self.fast or self.geometry.groups != 1:
            kernel = self.values().view(self.stored_shape()).permute(0, 3, 1, 2)
            return self.activated(functional.conv2d(x, kernel, self.bias, *self.geometry))
        mu, scale = (
            t if t is None else ohwi(t.view(self.stored_shape()).permute(0, 3, 1, 2)) for t in self.mean_and_scale()
        )
        x = x.contiguous(memory_format=torch.channels_last)
        geometry = self.geometry.ungrouped
        y: Tensor = OPS.sampled_conv(x, mu, scale, self.signed_seed, self.bias, *geometry, self.relu)
        return y

    def unfolded(self, x: Tensor) -> Tensor:
        """The convolution as a sparse product with the unfolded input."""
        stride, padding, dilation = self.geometry.ungrouped
        size = self.geometry.output_size(x.shape[2:], self.shape[2:])
        columns = functional.unfold(x, self.shape[2:], dilation, padding, stride)
        taps = self.shape[2] * self.shape[3]  # unfold gives (in, kh, kw), the kernel is stored (kh, kw, in)
        source = columns.view(len(x), self.shape[1], taps, -1).permute(2, 1, 0, 3).reshape(taps * self.shape[1], -1)
        return self.sparse(source).reshape(self.shape[0], len(x), *size).transpose(0, 1)


class DrawLinear(DrawLayer):
    """Dense layer. Input (N, *, in), output (N, *, out)."""

    def forward(self, x: Tensor) -> Tensor:
        if self.form == "csr":
            flat = x.reshape(-1, x.shape[-1])
            # the transposed output is the next sparse layer's input as it lies
            return self.sparse(flat.t()).t().reshape(*x.shape[:-1], self.shape[0])
        if self.fast and x.dim() == 2:  # faster than the library's matrix product
            y: Tensor = OPS.sampled_linear(x, *self.mean_and_scale(), self.signed_seed, self.bias, self.relu)
            return y
        return self.activated(functional.linear(x, self.values(), self.bias))

    def laid_out(self, x: Tensor) -> Tensor:
        """Inputs (N, in) as a sparse layer reads them: a view of their transpose, its rows padded."""
        padded = x.new_zeros(x.shape[1], -(-len(x) // PADDING) * PADDING)
        padded[:, : len(x)] = x.t()
        return padded[:, : len(x)].t()


class DrawAffine(DrawLayer):
    """Any other Bayesian layer: its own function of an input and a sample of its kernel. Or a parameter, without input.

    Inputs and outputs are the layer's own. `layer` is a copy without parameters, which only knows the function.
    """

    def __init__(self, layer: BayesianLayer) -> None:
        super().__init__(layer.mu, layer.sigma.detach(), layer.bias)
        self.affine = without_parameters(layer).affine

    def forward(self, x: Tensor) -> Tensor:
        return self.affine(x, self.weight, self.bias)


def without_parameters(layer: BayesianLayer) -> BayesianLayer:
    """A layer of the same type and settings without tensors."""
    copy: BayesianLayer = object.__new__(type(layer))
    copy.__dict__ = dict(layer.__dict__) | {"_parameters": dict.fromkeys(layer._parameters), "generator": None}
    return copy


def stored(kernel: Tensor) -> Tensor:
    """A kernel as it is stored: (out, kh, kw, in) for one of four dimensions, any other as it is."""
    kernel = kernel.detach()
    kernel = kernel.permute(0, 2, 3, 1) if kernel.dim() == 4 else kernel
    return torch.empty(kernel.shape, dtype=kernel.dtype, device=kernel.device).copy_(kernel)  # no odd strides


def is_dense(layer: nn.Module) -> bool:
    """Whether a layer is a matrix product over the last axis, ours or torch's, and nothing else."""
    if isinstance(layer, BayesianLinear):
        return type(layer).affine is BayesianLinear.affine
    return type(layer) is nn.Linear


def is_convolution(layer: nn.Module) -> bool:
    """Whether a layer is a 2-d convolution, ours or torch's, that pads zeros, as many on both sides."""
    if isinstance(layer, BayesianConv2d):
        known = type(layer).affine is BayesianConv2d.affine
    else:
        known = type(layer) is nn.Conv2d
    return known and getattr(layer, "padding_mode", "zeros") == "zeros" and not isinstance(layer.padding, str)


def draw_layer(layer: nn.Module, form: str = "dense", fold: Fold | None = None) -> DrawLayer | None:
    """The layer for draws of a Bayesian layer, or of a conventional convolution or dense layer; None for any other.

    A BatchNorm can be folded in where `is_dense` or `is_convolution`.
    """
    scale = layer.sigma.detach() if isinstance(layer, BayesianLayer) else None
    dense, convolution = is_dense(layer), is_convolution(layer)
    if dense or convolution:
        kernel = layer.mu if isinstance(layer, BayesianLayer) else layer.weight
        assert isinstance(kernel, Tensor)
        bias = layer.bias
        assert bias is None or isinstance(bias, Tensor)
        if dense:
            return DrawLinear(kernel, scale, bias, form, fold)
        return DrawConv2d(kernel, scale, bias, form, fold, geometry=ConvGeometry.of(layer))
    assert fold is None
    return DrawAffine(layer) if isinstance(layer, BayesianLayer) else None
