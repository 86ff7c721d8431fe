"""The architectures: what they are called, how each is made, and what one input looks like.

As published, in their smallest sizes, for images as small as they take. What is trimmed says so (`note`): the wide
dense layers of AlexNet and VGG, and blocks that repeat. Weights are random.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from tests.architectures import own, packages

CLASSES = own.CLASSES


@dataclass(frozen=True)
class Architecture:
    """One network. `shape` is that of one input."""

    name: str
    make: Callable[[], nn.Module]
    shape: tuple[int, ...]
    note: str = ""


def torchvision(name: str, size: int, note: str = "", **options: Any) -> Architecture:
    """A model of torchvision's for images (3, size, size)."""

    def make() -> nn.Module:
        packages.use()
        return getattr(importlib.import_module("torchvision.models"), name)(num_classes=CLASSES, **options)

    return Architecture(f"torchvision {name}", make, (3, size, size), note)


def timm(name: str, size: int, note: str = "", **options: Any) -> Architecture:
    """A model of timm's for images (3, size, size)."""

    def make() -> nn.Module:
        packages.use()
        return importlib.import_module("timm").create_model(name, num_classes=CLASSES, **options)

    return Architecture(f"timm {name}", make, (3, size, size), note)


def narrow(name: str, size: int) -> Architecture:
    """AlexNet or VGG of torchvision's with dense layers of 64 units in place of 4,096."""

    def make() -> nn.Module:
        packages.use()
        model = getattr(importlib.import_module("torchvision.models"), name)(num_classes=CLASSES)
        places = [place for place, module in enumerate(model.classifier) if isinstance(module, nn.Linear)]
        sizes = [model.classifier[places[0]].in_features, 64, 64, CLASSES]
        for place, inputs, outputs in zip(places, sizes[:-1], sizes[1:], strict=True):
            model.classifier[place] = nn.Linear(inputs, outputs)
        return model

    return Architecture(f"torchvision {name}", make, (3, size, size), "dense layers of 64 units")


def fewer(name: str, size: int, make: Callable[[], nn.Module], note: str) -> Architecture:
    """A model of torchvision's with fewer of its blocks."""
    return Architecture(f"torchvision {name}", make, (3, size, size), note)


def wide_resnet() -> nn.Module:
    packages.use()
    resnet = importlib.import_module("torchvision.models.resnet")
    return resnet.ResNet(resnet.Bottleneck, [1, 1, 1, 1], num_classes=CLASSES, width_per_group=128)


def vision_transformer() -> nn.Module:
    packages.use()
    transformer = importlib.import_module("torchvision.models.vision_transformer").VisionTransformer
    return transformer(32, 8, num_layers=3, num_heads=3, hidden_dim=96, mlp_dim=192, num_classes=CLASSES)


def mine(name: str, shape: tuple[int, ...], make: Callable[[], nn.Module]) -> Architecture:
    return Architecture(f"own {name}", make, shape)


ARCHITECTURES = {
    architecture.name: architecture
    for architecture in (
        narrow("alexnet", 64),
        narrow("vgg11_bn", 32),
        torchvision("resnet18", 32),
        torchvision("resnet50", 32),
        torchvision("resnext50_32x4d", 32),
        fewer("wide_resnet50_2", 32, wide_resnet, "one block per stage"),
        torchvision("densenet121", 32),
        torchvision("squeezenet1_1", 48),
        torchvision("googlenet", 48, aux_logits=False, init_weights=False),
        torchvision("mobilenet_v2", 32),
        torchvision("mobilenet_v3_small", 32),
        torchvision("mnasnet0_5", 32),
        torchvision("shufflenet_v2_x0_5", 32),
        torchvision("efficientnet_b0", 32),
        torchvision("regnet_y_400mf", 32),
        torchvision("convnext_tiny", 32),
        fewer("vit_b_16", 32, vision_transformer, "3 blocks of width 96, patches of 8"),
        torchvision("swin_t", 32),
        timm("resnet18", 32),
        timm("resnetv2_18", 32),
        timm("convnext_atto", 32),
        timm("convnextv2_atto", 32),
        timm("vit_tiny_patch16_224", 32, img_size=32, patch_size=8),
        timm("deit_tiny_patch16_224", 32, img_size=32, patch_size=8),
        timm("swin_tiny_patch4_window7_224", 32, img_size=32, window_size=4),
        timm("mixer_s32_224", 64, img_size=64),
        timm("gmlp_ti16_224", 32, img_size=32),
        timm("resmlp_12_224", 32, img_size=32),
        timm("efficientnet_b0", 32),
        timm("tf_efficientnet_lite0", 32),
        timm("mobilenetv3_small_050", 32),
        timm("ghostnet_100", 32),
        timm("regnety_002", 32),
        timm("repvgg_a0", 32),
        timm("vgg11", 32, "first dense layer of 64 units", mlp_ratio=1 / 64),
        timm("darknet53", 32),
        timm("cspresnet50", 32),
        timm("dla34", 32),
        timm("hrnet_w18_small", 32),
        timm("inception_v3", 80),
        timm("xception41", 32),
        timm("seresnet18", 32),
        timm("ecaresnet26t", 32),
        timm("mobilevit_xxs", 64),
        timm("poolformer_s12", 32),
        timm("levit_128s", 64, img_size=64),
        timm("edgenext_xx_small", 64),
        timm("nf_resnet26", 32),
        mine("LeNet", (1, 28, 28), own.lenet),
        mine("U-Net", (3, 16, 16), own.UNet),
        mine("LSTM", (1, 28, 28), lambda: own.Recurrent(nn.LSTM)),
        mine("GRU, two layers, both directions", (1, 28, 28), lambda: own.Recurrent(nn.GRU, 2, both=True)),
        mine("autoencoder", (1, 28, 28), own.Autoencoder),
        mine("transformer encoder", (1, 28, 28), lambda: own.Transformer(first=False)),
        mine("transformer encoder, norm first", (1, 28, 28), lambda: own.Transformer(first=True)),
        mine("multi-head attention", (1, 28, 28), own.Attention),
        mine("embedding", (1, 8, 8), own.Tokens),
        mine("layer scale", (3, 16, 16), own.Scaled),
        mine("Conv1d", (2, 64), own.conv1d),
        mine("Conv3d", (1, 8, 12, 12), own.conv3d),
        mine("dilated and grouped", (3, 16, 16), own.dilated),
    )
}
