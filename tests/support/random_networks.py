"""Small networks of everyday operations, put together at random from a seed: images in, logits out."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from bnn.layers import BayesianLayer
from bnn.layers.convert import convert
from tests.support.posteriors import WIDE

CLASSES = 3
IMAGE = (3, 8, 8)
Step = Callable[[Tensor], Tensor]


class RandomNetwork(nn.Module):
    """`length` operations, chosen by the seed among OPERATIONS, and a head. `names`: what was chosen."""

    def __init__(self, seed: int, length: int = 4) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.choose = random.Random(seed)
        running.append(self)
        self.parts = nn.ModuleList()
        self.numbers = nn.ParameterList()
        self.names: list[str] = []
        steps: list[Step] = []
        x = torch.rand(2, *IMAGE)
        for _ in range(length):
            name = self.choose.choice(list(OPERATIONS))
            steps.append(OPERATIONS[name](self, x))
            self.names.append(name)
            with torch.no_grad():
                x = steps[-1](x)
        name = self.choose.choice(list(HEADS))
        steps.append(HEADS[name](self, x))
        self.names.append(name)
        self.steps = steps
        del self.choose
        running.pop()

    def part(self, module: nn.Module) -> Part:
        """A module of this network, as steps call it."""
        self.parts.append(module)
        return Part(len(self.parts) - 1)

    def forward(self, x: Tensor) -> Tensor:
        running.append(self)
        try:
            for step in self.steps:
                x = step(x)
        finally:
            running.pop()
        return x


running: list[RandomNetwork] = []  # whose parts are meant: a network is copied, and then has parts of its own


@dataclass(frozen=True)
class Part:
    """The module of that number in the network that is running."""

    place: int

    def __call__(self, x: Tensor) -> Tensor:
        y: Tensor = running[-1].parts[self.place](x)
        return y


def conv(m: RandomNetwork, inputs: int, outputs: int, **more: Any) -> Any:
    kernel = m.choose.choice((1, 3))
    return m.part(nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=m.choose.random() < 0.7, **more))


def plain_conv(m: RandomNetwork, x: Tensor) -> Step:
    mode = m.choose.choice(("zeros", "zeros", "reflect", "circular"))
    return conv(m, x.shape[1], m.choose.choice((4, 6)), padding_mode=mode)


def strided_conv(m: RandomNetwork, x: Tensor) -> Step:
    return conv(m, x.shape[1], m.choose.choice((4, 6)), stride=m.choose.choice((1, 2)))


def same_conv(m: RandomNetwork, x: Tensor) -> Step:
    return m.part(nn.Conv2d(x.shape[1], 4, m.choose.choice((2, 3)), padding="same"))


def grouped_conv(m: RandomNetwork, x: Tensor) -> Step:
    return m.part(nn.Conv2d(x.shape[1], x.shape[1], 3, padding=1, groups=x.shape[1]))


def transposed_conv(m: RandomNetwork, x: Tensor) -> Step:
    return m.part(nn.ConvTranspose2d(x.shape[1], 4, 3, padding=1))


def conv_norm_relu(m: RandomNetwork, x: Tensor) -> Step:
    layer, inplace = plain_conv(m, x), m.choose.random() < 0.5
    norm = m.part(nn.BatchNorm2d(layer(x).shape[1]))
    return lambda x: functional.relu(norm(layer(x)), inplace=inplace)


def batch_norm(m: RandomNetwork, x: Tensor) -> Step:
    return m.part(nn.BatchNorm2d(x.shape[1]))


def other_norm(m: RandomNetwork, x: Tensor) -> Step:
    channels = x.shape[1]
    kinds = (nn.GroupNorm(1, channels), nn.InstanceNorm2d(channels, affine=True), nn.GroupNorm(channels, channels))
    return m.part(m.choose.choice(kinds))


def in_place(layer: Step) -> Step:
    """The layer on a value of its own: a network that changes its input is refused."""
    return lambda x: layer(x * 1.5)


def activation(m: RandomNetwork, x: Tensor) -> Step:
    return m.choose.choice((
        torch.relu, functional.gelu, torch.sigmoid, functional.hardswish, functional.leaky_relu, functional.elu,
        in_place(m.part(nn.ReLU(inplace=True))), m.part(nn.SiLU()),
        lambda x: x.clamp(-0.5, 0.5), lambda x: x.abs() + 0.1,
    ))  # fmt: skip


def pool(m: RandomNetwork, x: Tensor) -> Step:
    return m.choose.choice((
        m.part(nn.MaxPool2d(3, 1, 1)), m.part(nn.AvgPool2d(3, 1, 1)), lambda x: functional.avg_pool2d(x, 3, 1, 1),
        lambda x: functional.max_pool2d(x, 2, 1), lambda x: functional.interpolate(x, scale_factor=2.0),
        lambda x: functional.pad(x, (1, 0, 0, 1)), lambda x: functional.pad(x, (1, 0, 0, 1), value=0.3),
    ))  # fmt: skip


def residual(m: RandomNetwork, x: Tensor) -> Step:
    inner = conv(m, x.shape[1], x.shape[1])
    norm = batch_norm(m, x)
    return m.choose.choice((
        lambda x: torch.relu(x + inner(x)), lambda x: norm(inner(x) + x), lambda x: norm(inner(torch.relu(x))).add(x),
        lambda x: norm(inner(x) + inner(x)), lambda x: x - 2 * inner(x), lambda x: torch.add(inner(x), x, alpha=0.5),
    ))  # fmt: skip


def two_convs_added(m: RandomNetwork, x: Tensor) -> Step:
    one, other, norm = conv(m, x.shape[1], 5), conv(m, x.shape[1], 5), m.part(nn.BatchNorm2d(5))
    pooled = m.choose.random() < 0.5  # one term is then broadcast
    return lambda x: norm(one(x) + other(functional.adaptive_avg_pool2d(x, 1) if pooled else x))


def gate(m: RandomNetwork, x: Tensor) -> Step:
    channels = x.shape[1]
    squeeze, excite = m.part(nn.Linear(channels, 2)), m.part(nn.Linear(2, channels))
    if m.choose.random() < 0.5:
        inner = conv(m, channels, channels)
        return lambda x: x * torch.sigmoid(inner(functional.adaptive_avg_pool2d(x, 1)))
    return lambda x: x * torch.sigmoid(excite(torch.relu(squeeze(x.mean((2, 3))))))[:, :, None, None]


def concatenated(m: RandomNetwork, x: Tensor) -> Step:
    one, other = conv(m, x.shape[1], 4), conv(m, x.shape[1], 2)
    return m.choose.choice((
        lambda x: torch.cat([torch.relu(one(x)), other(x)], 1), lambda x: torch.cat([x, one(x)], -3),
        lambda x: torch.cat((one(x), x, x), 1), lambda x: torch.cat([one(x), one(x)], 2),
    ))  # fmt: skip


def reused(m: RandomNetwork, x: Tensor) -> Step:
    inner = conv(m, x.shape[1], x.shape[1])
    return lambda x: inner(torch.relu(inner(x)))


def along_channels(m: RandomNetwork, x: Tensor) -> Step:
    channels = x.shape[1]
    up, down, norm = m.part(nn.Linear(channels, 6)), m.part(nn.Linear(6, channels)), m.part(nn.LayerNorm(channels))

    def step(x: Tensor) -> Tensor:
        y = down(functional.gelu(up(norm(x.permute(0, 2, 3, 1)))))
        return x + y.permute(0, 3, 1, 2)

    def tokens(x: Tensor) -> Tensor:
        y = x.flatten(2).transpose(1, 2)
        y = y + down(torch.relu(up(y)))
        return y.transpose(1, 2).reshape(x.shape)

    return m.choose.choice((step, tokens))


def along_columns(m: RandomNetwork, x: Tensor) -> Step:
    """A dense layer over the last axis, and a BatchNorm over the first."""
    inner, norm = m.part(nn.Linear(x.shape[3], x.shape[1])), m.part(nn.BatchNorm2d(x.shape[1]))
    return lambda x: norm(inner(x))


def layer_scale(m: RandomNetwork, x: Tensor) -> Step:
    inner, place = conv(m, x.shape[1], x.shape[1]), len(m.numbers)
    m.numbers.append(nn.Parameter(torch.rand(x.shape[1], 1, 1)))
    return lambda x: x + running[-1].numbers[place] * inner(x)


def two_by_two(x: Tensor) -> Tensor:
    """Channels in another order, as ShuffleNet has it."""
    rows, columns = x.shape[2:]
    return x.view(x.size(0), 2, 2, rows, columns).transpose(1, 2).reshape(x.size(0), 4, rows, columns)


def parts_of_channels(m: RandomNetwork, x: Tensor) -> Step:
    inner = conv(m, x.shape[1], 4)
    return m.choose.choice((
        lambda x: inner(x)[:, :3], lambda x: torch.add(*inner(x).chunk(2, 1)), lambda x: inner(x)[:, :, 1:],
        lambda x: functional.pixel_shuffle(inner(x), 2), lambda x: inner(x).flip(1), lambda x: inner(x).softmax(1),
        lambda x: two_by_two(inner(x)),
    ))  # fmt: skip


def along_pixels(m: RandomNetwork, x: Tensor) -> Step:
    """A convolution of one dimension, along all pixels or along each row."""
    channels = x.shape[1]
    inner = m.part(nn.Conv1d(channels, channels, 3, padding=1, groups=m.choose.choice((1, channels))))
    if m.choose.random() < 0.5:
        return lambda x: x + inner(x.flatten(2)).view(x.shape)

    def rows(x: Tensor) -> Tensor:
        y = x.permute(0, 2, 1, 3).flatten(0, 1)
        return inner(y).unflatten(0, (-1, x.shape[2])).permute(0, 2, 1, 3)

    return rows


def in_three_dimensions(m: RandomNetwork, x: Tensor) -> Step:
    """The channels are the depth of one channel, or the image lies in a volume of depth 1."""
    if m.choose.random() < 0.5:
        inner = m.part(nn.Conv3d(1, 2, 3, padding=1))
        return lambda x: torch.relu(inner(x.unsqueeze(1))).amax(1)
    flat = m.part(nn.Conv3d(x.shape[1], 4, (1, 3, 3), padding=(0, 1, 1), bias=m.choose.random() < 0.5))
    return lambda x: flat(x[:, :, None]).squeeze(2)


def tokens_of(x: Tensor) -> Tensor:
    """(N, C, H, W) as (N, H W, C)."""
    return x.flatten(2).transpose(1, 2)


def image_of(y: Tensor, x: Tensor) -> Tensor:
    """Tokens (N, H W, C) as an image of the size of `x`."""
    return y.transpose(1, 2).reshape(x.shape[0], -1, *x.shape[2:])


def attention(m: RandomNetwork, x: Tensor) -> Step:
    """Torch's own module, or one as it is written by hand."""
    channels = x.shape[1]
    heads = 2 if channels % 2 == 0 and m.choose.random() < 0.5 else 1
    if m.choose.random() < 0.5:
        whole = m.part(nn.MultiheadAttention(channels, heads, batch_first=True, bias=m.choose.random() < 0.7))

        def step(x: Tensor) -> Tensor:
            y = tokens_of(x)
            return x + image_of(running[-1].parts[whole.place](y, y, y, need_weights=False)[0], x)

        return step
    qkv, out = m.part(nn.Linear(channels, 3 * channels)), m.part(nn.Linear(channels, channels))
    fused = m.choose.random() < 0.5

    def by_hand(x: Tensor) -> Tensor:
        y = tokens_of(x)
        parts = qkv(y).reshape(y.shape[0], y.shape[1], 3, heads, channels // heads).permute(2, 0, 3, 1, 4)
        q, k, v = parts.unbind(0)
        if fused:
            mixed = functional.scaled_dot_product_attention(q, k, v)
        else:
            mixed = ((q @ k.transpose(-2, -1)) * (channels // heads) ** -0.5).softmax(-1) @ v
        return x + image_of(out(mixed.transpose(1, 2).flatten(2)), x)

    return by_hand


def positions(m: RandomNetwork, x: Tensor) -> Step:
    """An embedding of each pixel's place is added."""
    table = m.part(nn.Embedding(x.shape[2] * x.shape[3] + 1, x.shape[1]))

    def step(x: Tensor) -> Tensor:
        places = torch.arange(x.shape[2] * x.shape[3], device=x.device)
        return x + table(places).t().reshape(1, -1, *x.shape[2:])

    return step


def recurrent(m: RandomNetwork, x: Tensor) -> Step:
    """Along the rows, whose columns are averaged."""
    channels = x.shape[1]
    both = m.choose.random() < 0.5
    kind = m.choose.choice((nn.LSTM, nn.GRU))
    along = m.part(kind(channels, channels, batch_first=True, bidirectional=both))
    merge = m.part(nn.Linear(channels * (2 if both else 1), channels))

    def step(x: Tensor) -> Tensor:
        y, _ = running[-1].parts[along.place](x.mean(3).transpose(1, 2))
        return x * torch.sigmoid(merge(y)).transpose(1, 2)[..., None]

    return step


def across_channels(y: Tensor) -> Tensor:
    """Attention of four channels over all."""
    weights = torch.einsum("nchw,nkhw->nck", y[:, :4], y).softmax(-1)
    return torch.einsum("nck,nkhw->nchw", weights, y)


def gated_channels(m: RandomNetwork, x: Tensor) -> Step:
    inner = conv(m, x.shape[1], 8)
    slope = m.part(nn.PReLU(4))
    return m.choose.choice((
        lambda x: functional.glu(inner(x), 1), lambda x: slope(torch.mul(*inner(x).split(4, 1))),
        lambda x: across_channels(inner(x)),
        lambda x: torch.where(x.mean(1, keepdim=True) > 0, inner(x), x.mean((1, 2, 3), keepdim=True)),
        lambda x: torch.stack([inner(x)[:, :4], x.mean(1, keepdim=True).expand(-1, 4, -1, -1)], 2).mean(2),
    ))  # fmt: skip


def root_mean_square(m: RandomNetwork, x: Tensor) -> Step:
    norm, inner = m.part(nn.RMSNorm(x.shape[1], eps=1e-3)), m.part(nn.Linear(x.shape[1], 5, bias=False))
    return lambda x: image_of(inner(norm(tokens_of(x))), x)


def bilinear_size(m: RandomNetwork, x: Tensor) -> Step:
    return lambda x: functional.interpolate(x, size=(5, 6), mode="bilinear", align_corners=False)


def counted(m: RandomNetwork, x: Tensor) -> Step:
    inner = conv(m, x.shape[1], 4)
    return lambda x: inner(x) / inner(x).shape[1] + x.size(2)


OPERATIONS: dict[str, Callable[[RandomNetwork, Tensor], Step]] = {
    function.__name__: function
    for function in (
        *(plain_conv, strided_conv, same_conv, grouped_conv, transposed_conv, conv_norm_relu, batch_norm, other_norm),
        *(activation, pool, residual, two_convs_added, gate, concatenated, reused, along_channels, along_columns),
        *(layer_scale, parts_of_channels, counted, along_pixels, in_three_dimensions, attention, positions, recurrent),
        *(gated_channels, root_mean_square, bilinear_size),
    )
}


def dense_head(m: RandomNetwork, x: Tensor) -> Step:
    hidden, norm = m.part(nn.Linear(x[0].numel(), 6)), m.part(nn.BatchNorm1d(6))
    last = m.part(nn.Linear(6, CLASSES))
    return m.choose.choice((
        lambda x: last(torch.relu(norm(hidden(x.flatten(1))))), lambda x: last(norm(torch.tanh(hidden(x.flatten(1))))),
        lambda x: last(torch.relu(hidden(x.reshape(x.size(0), -1)))),
    ))  # fmt: skip


def mean_head(m: RandomNetwork, x: Tensor) -> Step:
    last = m.part(nn.Linear(x.shape[1], CLASSES))
    return m.choose.choice((
        lambda x: last(x.mean((2, 3))), lambda x: last(functional.adaptive_avg_pool2d(x, 1).flatten(1)),
        lambda x: last(x.amax((2, 3))), lambda x: last(functional.adaptive_avg_pool2d(x, 1)[..., 0, 0]),
    ))  # fmt: skip


HEADS = {"dense_head": dense_head, "mean_head": mean_head}


def random_network(seed: int, length: int = 4, biases: bool = False) -> RandomNetwork:
    """A Bayesian network (its biases, too, with `biases`), norms and biases with values of their own, in evaluation."""
    network = convert(RandomNetwork(seed, length), init=WIDE, biases=biases)
    make = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.running_mean.copy_(torch.randn(module.num_features, generator=make) * 0.2)
                module.running_var.copy_(torch.rand(module.num_features, generator=make) + 0.5)
            bias = getattr(module, "bias", None)
            if isinstance(bias, nn.Parameter):
                bias.copy_(torch.randn(bias.shape, generator=make) * 0.3)
            if isinstance(module, BayesianLayer):
                module.mu.mul_(3)
    return network.eval()  # type: ignore[return-value]
