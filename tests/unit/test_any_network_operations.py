"""What people write between their layers, and the layers they take: each is kept by a posterior, with equal outputs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bnn.inference.predictor import Predictor
from tests.support.networks import Op, at_means, behind, off, survives

SHAPE = (3, 4, 4)
OPERATIONS: dict[str, Callable[[nn.Module, Tensor], Tensor]] = {
    "buffer": lambda s, x: x - s.m,
    "layer scale": lambda s, x: x * s.s,
    "squeeze": lambda s, x: x.unsqueeze(1).squeeze(1),
    "slice": lambda s, x: x[:, :, 1:],
    "last of an axis": lambda s, x: x[:, :, -1],
    "every second": lambda s, x: x[..., ::2],
    "ellipsis and None": lambda s, x: x[:, None, ..., 1:3],
    "chunk": lambda s, x: x.chunk(3, 1)[0],
    "split": lambda s, x: torch.cat(x.split([1, 2], 1)[::-1], 1),
    "unbind": lambda s, x: x.unbind(1)[2],
    "contiguous": lambda s, x: x.contiguous(),
    "permute and view": lambda s, x: x.permute(0, 2, 3, 1).contiguous().view(x.shape[0], -1, 3),
    "relu6": lambda s, x: F.relu6(8 * x),
    "hardtanh": lambda s, x: F.hardtanh(2 * x),
    "hardswish": lambda s, x: F.hardswish(4 * x - 2),
    "hardsigmoid": lambda s, x: F.hardsigmoid(4 * x - 2),
    "elu": lambda s, x: F.elu(x - 0.5),
    "leaky relu": lambda s, x: F.leaky_relu(x - 0.5, 0.3),
    "gelu by tanh": lambda s, x: F.gelu(x - 0.5, approximate="tanh"),
    "pad": lambda s, x: F.pad(x, (1, 1)),
    "pad by reflection": lambda s, x: F.pad(x, (1, 1, 2, 0), mode="reflect"),
    "pad by replication": lambda s, x: F.pad(x, (1, 0, 0, 2), mode="replicate"),
    "interpolate": lambda s, x: F.interpolate(x, scale_factor=2.0),
    "interpolate bilinear": lambda s, x: F.interpolate(x, size=(7, 5), mode="bilinear", align_corners=False),
    "interpolate corners": lambda s, x: F.interpolate(x, size=(7, 5), mode="bilinear", align_corners=True),
    "interpolate bilinear, smoothed": lambda s, x: F.interpolate(x, size=(3, 2), mode="bilinear", antialias=True),
    "interpolate bicubic, smoothed": lambda s, x: F.interpolate(x, size=(3, 5), mode="bicubic", antialias=True),
    "sampled from a grid": lambda s, x: F.grid_sample(x, x.permute(0, 2, 3, 1)[..., :2], align_corners=False),
    "sampled from a grid in a volume": lambda s, x: F.grid_sample(
        x[:, None], x.permute(0, 2, 3, 1)[:, None] * 2 - 1, mode="nearest", padding_mode="border", align_corners=True
    ),
    "amax": lambda s, x: x.amax((2, 3)),
    "amin": lambda s, x: x.amin(1),
    "max with indices": lambda s, x: x.max(1)[0],
    "sum": lambda s, x: x.sum((2, 3)),
    "var": lambda s, x: x.var((2, 3)),
    "std": lambda s, x: x.std(1, unbiased=False),
    "cumsum": lambda s, x: x.cumsum(2),
    "norm": lambda s, x: F.normalize(x, dim=1),
    "matmul": lambda s, x: x @ x,
    "einsum": lambda s, x: torch.einsum("nchw,ndhw->ncd", x, x),
    "baddbmm": lambda s, x: torch.baddbmm(x[:, 0], x[:, 1], x[:, 2], beta=0.5, alpha=2.0),
    "median": lambda s, x: x.median(2)[0],
    "kth value": lambda s, x: x.kthvalue(3, 2)[0],
    "quantile": lambda s, x: x.quantile(0.3, 2),
    "cummax": lambda s, x: x.cummax(2)[0],
    "cummin": lambda s, x: x.cummin(3)[0],
    "logcumsumexp": lambda s, x: x.logcumsumexp(2),
    "fmax and fmin": lambda s, x: torch.fmax(x, s.m) - torch.fmin(x, s.m),
    "logaddexp": lambda s, x: torch.logaddexp(x, s.m) + torch.logaddexp2(x, -x),
    "copysign": lambda s, x: torch.copysign(x, s.m - x),
    "heaviside": lambda s, x: torch.heaviside(x - 0.5, s.m),
    "x log y": lambda s, x: torch.xlogy(x, x + 1),
    "sinc": lambda s, x: torch.sinc(x),
    "NaN to a number": lambda s, x: torch.nan_to_num(x / (x > 0.3), nan=0.1, posinf=0.2),
    "neg": lambda s, x: -x,
    "abs": lambda s, x: (x - 0.5).abs(),
    "clamp": lambda s, x: x.clamp(0.2, 0.8),
    "sqrt": lambda s, x: x.sqrt(),
    "exp": lambda s, x: x.exp(),
    "log": lambda s, x: (x + 1).log(),
    "pow": lambda s, x: x**2,
    "reciprocal": lambda s, x: 1 / (x + 1),
    "softplus": lambda s, x: F.softplus(x),
    "logsumexp": lambda s, x: torch.logsumexp(x, 1),
    "softmax": lambda s, x: F.softmax(x, -1),
    "layer_norm": lambda s, x: F.layer_norm(x, (4, 4)),
    "group_norm": lambda s, x: F.group_norm(x, 3),
    "float": lambda s, x: x.float(),
    "expand": lambda s, x: x.expand(-1, -1, -1, -1),
    "expand to the batch": lambda s, x: torch.cat([s.s.view(1, 1, 3, 1).expand(x.shape[0], 3, -1, 4), x], 2),
    "repeat": lambda s, x: x.repeat(1, 2, 1, 1),
    "unflatten": lambda s, x: x.unflatten(1, (3, 1)),
    "roll": lambda s, x: x.roll((1, -1), (2, 3)),
    "flip": lambda s, x: x.flip(3),
    "where": lambda s, x: torch.where(x > s.m, x, -x),
    "masked fill": lambda s, x: x.masked_fill(x > 0.5, 0.1),
    "tril": lambda s, x: x.tril(),
    "stack": lambda s, x: torch.stack([x, x * 2], 2),
    "meshgrid": lambda s, x: x * torch.meshgrid(torch.arange(4.0), torch.arange(4.0), indexing="ij")[0],
    "gather by index": lambda s, x: x[:, [2, 0]],
    "one hot": lambda s, x: F.one_hot((x * 3).long(), 4).float(),
    "bins": lambda s, x: torch.bucketize(x, s.s.flatten().sort()[0]).float(),
    "sorted into": lambda s, x: torch.searchsorted(torch.arange(5.0), 5 * x, right=True).float(),
    "scattered and added": lambda s, x: torch.zeros_like(x).scatter_add(2, (x * 4).long(), x),
    "scattered and reduced": lambda s, x: x.scatter_reduce(2, (x * 4).long(), x + 1, "amax"),
    "rows added": lambda s, x: x.index_add(1, torch.tensor([2, 0]), x[:, :2], alpha=0.5),
    "bilinear": lambda s, x: F.bilinear(x, x.flip(3), s.s.flatten()[0] + torch.arange(32.0).view(2, 4, 4)),
    "trilinear": lambda s, x: torch._trilinear(x[:, 0], x[:, 1], x[:, 2], [2], [1], [3], [1], 1),
    "the length of a tensor": lambda s, x: x.view(len(x), len(x[0]), -1) * len(s.s),
    "pairs": lambda s, x: (x @ x.mT)[:, :, *torch.triu_indices(4, 4, 1)] + x[:, :, *torch.tril_indices(3, 4)][..., :6],
    "erfinv, lgamma, digamma": lambda s, x: torch.erfinv(x * 0.9) + torch.lgamma(x + 1) + torch.digamma(x + 1),
    "a layer of one row": lambda s, x: x * s.last(torch.ones(s.last.in_features)).sum() if hasattr(s, "last") else x,
    "lerp": lambda s, x: torch.lerp(x, x.flip(2), 0.3),
    "addcmul": lambda s, x: torch.addcmul(x, x, x, value=0.5),
    "in place": lambda s, x: (x * 1).add_(s.m).mul_(2).relu_(),
    "in place on an alias": lambda s, x: augmented(x),
    "written into a part": lambda s, x: written(x),
    "attention": lambda s, x: F.scaled_dot_product_attention(x, x, x),
    "average pool with a divisor": lambda s, x: F.avg_pool2d(x, 2, divisor_override=1),
    "average pool without padding": lambda s, x: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False),
    "unfold": lambda s, x: F.unfold(x, 2),
    "windows that overlap": lambda s, x: x.unfold(3, 3, 1).amax(-1),
    "pixel shuffle": lambda s, x: F.pixel_shuffle(x.repeat(1, 4, 1, 1), 2),
    "eval-mode dropout": lambda s, x: F.dropout(x, 0.5, s.training),
    "a number from a shape": lambda s, x: x * (x.shape[1] ** -0.5),
    "flatten and view by size": lambda s, x: x.view(x.size(0), -1),
}
MODULES: dict[str, Callable[[], nn.Module]] = {
    "PReLU": nn.PReLU,
    "PReLU by channel": lambda: nn.PReLU(3, 0.1),
    "Mish": nn.Mish,
    "Hardsigmoid": nn.Hardsigmoid,
    "Hardswish": nn.Hardswish,
    "Hardtanh": lambda: nn.Hardtanh(0.2, 0.6),
    "CELU": lambda: nn.CELU(0.5),
    "SELU": nn.SELU,
    "Softsign": nn.Softsign,
    "Softplus": lambda: nn.Softplus(2.0, 5.0),
    "LogSigmoid": nn.LogSigmoid,
    "Threshold": lambda: nn.Threshold(0.5, -1.0),
    "GLU": lambda: nn.GLU(3),
    "InstanceNorm2d": lambda: nn.InstanceNorm2d(3),
    "LocalResponseNorm": lambda: nn.LocalResponseNorm(2),
    "RMSNorm": lambda: nn.RMSNorm(4),
    "LayerNorm without bias": lambda: nn.LayerNorm(4, bias=False),
    "BatchNorm2d without affine": lambda: nn.BatchNorm2d(3, affine=False),
    "BatchNorm2d without bias": lambda: nn.BatchNorm2d(3, bias=False),
    "GroupNorm without bias": lambda: nn.GroupNorm(3, 3, bias=False),
    "Dropout2d": nn.Dropout2d,
    "AlphaDropout": nn.AlphaDropout,
    "ReflectionPad2d": lambda: nn.ReflectionPad2d(1),
    "ReplicationPad2d": lambda: nn.ReplicationPad2d((1, 0, 2, 1)),
    "ConstantPad2d": lambda: nn.ConstantPad2d(1, 0.5),
    "ZeroPad2d": lambda: nn.ZeroPad2d(1),
    "CircularPad2d": lambda: nn.CircularPad2d(1),
    "Upsample": lambda: nn.Upsample(scale_factor=2),
    "UpsamplingBilinear2d": lambda: nn.UpsamplingBilinear2d(scale_factor=2),
    "PixelShuffle": lambda: nn.PixelShuffle(1),
    "PixelUnshuffle": lambda: nn.PixelUnshuffle(2),
    "ChannelShuffle": lambda: nn.ChannelShuffle(3),
    "Unflatten": lambda: nn.Unflatten(1, (3, 1)),
    "LPPool2d": lambda: nn.LPPool2d(2, 2),
    "Softmax2d": nn.Softmax2d,
    "Softmax": lambda: nn.Softmax(1),
    "AdaptiveMaxPool2d": lambda: nn.AdaptiveMaxPool2d(1),
    "MaxPool2d with ceil": lambda: nn.MaxPool2d(3, 2, ceil_mode=True),
    "AvgPool2d with ceil": lambda: nn.AvgPool2d(3, 2, 1, ceil_mode=True, count_include_pad=False),
    "AvgPool2d with a divisor": lambda: nn.AvgPool2d(2, divisor_override=1),
    "ConvTranspose2d": lambda: nn.ConvTranspose2d(3, 5, 3, 2, 1, output_padding=1),
    "ConvTranspose2d in groups": lambda: nn.ConvTranspose2d(3, 6, 2, groups=3, bias=False),
    "Conv2d reflecting": lambda: nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect"),
    "Conv2d circular": lambda: nn.Conv2d(3, 4, 3, padding=1, padding_mode="circular"),
    "Conv2d same": lambda: nn.Conv2d(3, 4, 3, padding="same", dilation=2),
    "Conv2d same of an even kernel": lambda: nn.Conv2d(3, 4, 2, padding="same"),
    "Conv2d depthwise": lambda: nn.Conv2d(3, 6, 3, groups=3),
    "Conv2d odd strides": lambda: nn.Conv2d(3, 4, (1, 3), (2, 1), (0, 2), (1, 2)),
}


def augmented(x: Tensor) -> Tensor:
    """`+=` on an alias changes what the other name stands for."""
    h = x * 2
    skip = h
    h += x
    return h + skip


def written(x: Tensor) -> Tensor:
    """A slice that is assigned to."""
    y = torch.zeros_like(x)
    y[:, 1:] = x[:, 1:] * 3
    return y


@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_of_every_day(name: str, tmp_path: Path) -> None:
    torch.manual_seed(1)
    survives(Op(OPERATIONS[name], SHAPE), tmp_path / "p", SHAPE)


@pytest.mark.parametrize("name", MODULES)
def test_layers_of_every_day(name: str, tmp_path: Path) -> None:
    torch.manual_seed(1)
    loaded = survives(behind(MODULES[name](), SHAPE).eval(), tmp_path / "p", SHAPE)
    images = torch.rand(4, *SHAPE)
    for layer in loaded.modules():
        if hasattr(layer, "rho"):
            layer.rho.data.fill_(-60.0)
    [draw] = Predictor(loaded).probabilities(1, 0, 1, [images.clone()])
    assert off(draw, torch.softmax(at_means(loaded, images), 1)) < 1e-5
