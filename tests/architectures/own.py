"""Networks as people write them themselves, small: what no collection of image classifiers has."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

CLASSES = 10


class UNet(nn.Module):
    """Ronneberger, Fischer, Brox 2015, two levels deep; one row of logits per image at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.down1, self.down2, self.bottom = block(3, 8), block(8, 16), block(16, 32)
        self.up2, self.up1 = nn.ConvTranspose2d(32, 16, 2, 2), nn.ConvTranspose2d(16, 8, 2, 2)
        self.join2, self.join1, self.out = block(32, 16), block(16, 8), nn.Conv2d(8, CLASSES, 1)

    def forward(self, x: Tensor) -> Tensor:
        first = self.down1(x)
        second = self.down2(functional.max_pool2d(first, 2))
        x = self.up2(self.bottom(functional.max_pool2d(second, 2)))
        x = self.up1(self.join2(torch.cat([second, x], 1)))
        return self.out(self.join1(torch.cat([first, x], 1))).mean((2, 3))


def block(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


class Recurrent(nn.Module):
    """The rows of an image, one after the other; the last state is classified."""

    def __init__(self, kind: type[nn.RNNBase], layers: int = 1, both: bool = False) -> None:
        super().__init__()
        self.cells = kind(28, 24, num_layers=layers, batch_first=True, bidirectional=both)
        self.head = nn.Linear(24 * (1 + both), CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.cells(x.flatten(1, 2))[0][:, -1])


class Autoencoder(nn.Module):
    """An encoder by strides, a decoder by transposed convolutions; the reconstruction is classified."""

    def __init__(self) -> None:
        super().__init__()
        self.encode = nn.Sequential(
            nn.Conv2d(1, 8, 3, 2, 1), nn.GELU(), nn.Conv2d(8, 16, 3, 2, 1), nn.GELU(), nn.Flatten(), nn.Linear(784, 12)
        )
        self.decode = nn.Sequential(
            nn.Linear(12, 784), nn.ReLU(), nn.Unflatten(1, (16, 7, 7)),
            nn.ConvTranspose2d(16, 8, 3, 2, 1, output_padding=1), nn.ELU(), nn.ConvTranspose2d(8, 1, 4, 2, 1),
        )  # fmt: skip
        self.head = nn.Linear(28 * 28, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.sigmoid(self.decode(self.encode(x))).flatten(1))


class Transformer(nn.Module):
    """torch's own encoder over patches, with a class token and learned places."""

    def __init__(self, first: bool) -> None:
        super().__init__()
        self.patch = nn.Conv2d(1, 16, 7, 7)
        self.token, self.place = nn.Parameter(torch.randn(1, 1, 16)), nn.Parameter(torch.randn(1, 17, 16))
        layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.1, batch_first=True, norm_first=first)
        self.encoder = nn.TransformerEncoder(layer, 2, nn.LayerNorm(16), enable_nested_tensor=False)
        self.head = nn.Linear(16, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.place
        return self.head(self.encoder(x)[:, 0])


class Attention(nn.Module):
    """nn.MultiheadAttention over the rows of an image; the weights of attention are not asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.into, self.norm = nn.Linear(28, 16), nn.LayerNorm(16)
        self.attention, self.head = nn.MultiheadAttention(16, 4, batch_first=True), nn.Linear(16, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.into(x[:, 0]))
        return self.head((x + self.attention(x, x, x, need_weights=False)[0]).mean(1))


class Tokens(nn.Module):
    """An embedding of sixteen grey levels, averaged."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.mix, self.head = nn.Embedding(16, 12), nn.Linear(12, 24), nn.Linear(24, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        levels = (x.flatten(1) * 15).to(torch.int64).clamp(0, 15)
        return self.head(torch.relu(self.mix(self.embed(levels))).mean(1))


class Scaled(nn.Module):
    """Residual blocks with a scale of their own (CaiT, ConvNeXt), a buffer that normalises, a weight that is read."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor([0.4, 0.5, 0.6]).view(3, 1, 1))
        self.stem, self.blocks = (
            nn.Conv2d(3, 16, 4, 4),
            nn.ModuleList(nn.Conv2d(16, 16, 3, padding=1) for _ in range(2)),
        )
        self.scales = nn.ParameterList(nn.Parameter(torch.rand(16, 1, 1)) for _ in range(2))
        self.head = nn.Linear(16, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x - self.mean)
        for scale, layer in zip(self.scales, self.blocks, strict=True):
            x = x + scale * functional.hardswish(layer(x))
        return self.head(x.mean((2, 3)).to(self.head.weight.dtype))


def lenet() -> nn.Module:
    """LeCun et al. 1998, with a `view` as everybody writes it."""

    class LeNet(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1, self.conv2 = nn.Conv2d(1, 6, 5, padding=2), nn.Conv2d(6, 16, 5)
            self.fc1, self.fc2, self.fc3 = nn.Linear(400, 120), nn.Linear(120, 84), nn.Linear(84, CLASSES)

        def forward(self, x: Tensor) -> Tensor:
            x = functional.max_pool2d(functional.relu(self.conv1(x)), 2)
            x = functional.max_pool2d(functional.relu(self.conv2(x)), 2)
            return self.fc3(functional.relu(self.fc2(functional.relu(self.fc1(x.view(x.size(0), -1))))))

    return LeNet()


def conv1d() -> nn.Module:
    """Convolutions along a signal (2, 64)."""
    return nn.Sequential(
        nn.Conv1d(2, 8, 7, 2, 3), nn.BatchNorm1d(8), nn.ReLU(), nn.Conv1d(8, 16, 3, groups=2), nn.ReLU(),
        nn.AdaptiveAvgPool1d(4), nn.Flatten(), nn.Linear(64, CLASSES),
    )  # fmt: skip


def conv3d() -> nn.Module:
    """Convolutions in a volume (1, 8, 12, 12)."""
    return nn.Sequential(
        nn.Conv3d(1, 8, 3, padding=1), nn.BatchNorm3d(8), nn.ReLU(), nn.MaxPool3d(2), nn.Conv3d(8, 16, 3, 2, 1),
        nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(16, CLASSES),
    )  # fmt: skip


def dilated() -> nn.Module:
    """What convolutions can do besides: groups, dilation, padding by reflection, padding="same"; norms of two kinds."""
    return nn.Sequential(
        nn.Conv2d(3, 12, 3, padding=1, padding_mode="reflect"), nn.GroupNorm(3, 12), nn.PReLU(12),
        nn.Conv2d(12, 12, 3, padding="same", dilation=2, groups=4), nn.BatchNorm2d(12), nn.Mish(),
        nn.Conv2d(12, 24, 3, 2, 2, dilation=2, bias=False), nn.InstanceNorm2d(24, affine=True), nn.Hardswish(),
        nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(96, CLASSES),
    )  # fmt: skip
