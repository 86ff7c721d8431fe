"""The operations a model is described with, and the rule by which each turns input shapes into an output shape.

Shapes are those of one example: (C, H, W) for images, (F,) for vectors. Nothing here needs torch.
"""

from __future__ import annotations

from dataclasses import dataclass, field

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Op:
    """One operation. `name` is the submodule's name in the built model.

    `inputs` names the operations it reads (none: the one before it). `paper` is the name in the paper's tables, or the
    two names (bnn, cnn) where they differ; repeated names are numbered as Keras does, `activation`, `activation_1`, ...
    """

    name: str
    inputs: tuple[str, ...] = field(default=(), kw_only=True)
    paper: str | tuple[str, str] | None = field(default=None, kw_only=True)

    default_paper = ("", "")  # names (bnn, cnn) that Keras gives a layer of this type
    types = ("", "")  # Keras' layer types (bnn, cnn)

    def output_shape(self, shapes: list[Shape]) -> Shape:
        """Shape of the output; raises ValueError if these inputs do not fit. Elementwise unless overridden."""
        return shapes[0]


@dataclass(frozen=True)
class Input(Op):
    """The images."""

    default_paper = ("input_1", "input_1")
    types = ("InputLayer", "InputLayer")


@dataclass(frozen=True)
class Conv(Op):
    """Square convolution with bias. `same` pads (kernel - 1) / 2 pixels on every side, otherwise none are padded."""

    channels: int
    kernel: int
    stride: int = 1
    same: bool = True

    default_paper = ("conv2d_flipout", "conv2d")
    types = ("Conv2DFlipout", "Conv2D")

    @property
    def padding(self) -> int:
        return (self.kernel - 1) // 2 if self.same else 0

    def output_shape(self, shapes: list[Shape]) -> Shape:
        _, height, width = image(shapes[0])
        sizes = [(size + 2 * self.padding - self.kernel) // self.stride + 1 for size in (height, width)]
        if min(sizes) < 1:
            raise ValueError(f"a {self.kernel}x{self.kernel} kernel does not fit a {height}x{width} map")
        return (self.channels, *sizes)


@dataclass(frozen=True)
class Dense(Op):
    """Dense layer with bias."""

    units: int

    default_paper = ("dense_flipout", "dense")
    types = ("DenseFlipout", "Dense")

    def output_shape(self, shapes: list[Shape]) -> Shape:
        return (self.units,)


@dataclass(frozen=True)
class BatchNorm(Op):
    """Batch normalisation per channel."""

    default_paper = ("batch_normalization", "batch_normalization")
    types = ("BatchNormalization", "BatchNormalization")


@dataclass(frozen=True)
class Relu(Op):
    """max(x, 0)."""

    default_paper = ("activation", "activation")
    types = ("Activation", "Activation")


@dataclass(frozen=True)
class MaxPool(Op):
    """Maximum over windows of size x size, stride size. `ceil` keeps the incomplete windows at the edge."""

    size: int
    ceil: bool = False

    default_paper = ("max_pooling2d", "max_pooling2d")
    types = ("MaxPooling2D", "MaxPooling2D")

    def output_shape(self, shapes: list[Shape]) -> Shape:
        channels, height, width = image(shapes[0])
        if self.ceil:
            return (channels, -(-height // self.size), -(-width // self.size))
        if min(height, width) < self.size:
            raise ValueError(f"a {self.size}x{self.size} window does not fit a {height}x{width} map")
        return (channels, height // self.size, width // self.size)


@dataclass(frozen=True)
class GlobalAveragePool(Op):
    """Mean over the map, (C, 1, 1)."""

    default_paper = ("average_pooling2d", "average_pooling2d")
    types = ("AveragePooling2D", "AveragePooling2D")

    def output_shape(self, shapes: list[Shape]) -> Shape:
        return (image(shapes[0])[0], 1, 1)


@dataclass(frozen=True)
class Add(Op):
    """Sum of two inputs of equal shape."""

    default_paper = ("add", "add")
    types = ("Add", "Add")

    def output_shape(self, shapes: list[Shape]) -> Shape:
        first, second = shapes
        if first != second:
            raise ValueError(f"cannot add {first} and {second}")
        return first


@dataclass(frozen=True)
class Dropout(Op):
    """A share `rate` of the channels is set to zero, in prediction, too (bnn.layers.dropout)."""

    rate: float


@dataclass(frozen=True)
class Flatten(Op):
    """All values of an example as one vector."""

    default_paper = ("flatten", "flatten")
    types = ("Flatten", "Flatten")

    def output_shape(self, shapes: list[Shape]) -> Shape:
        total = 1
        for size in shapes[0]:
            total *= size
        return (total,)


def image(shape: Shape) -> tuple[int, int, int]:
    if len(shape) != 3:
        raise ValueError(f"expected an image (C, H, W), got {shape}")
    return (shape[0], shape[1], shape[2])
