"""Which layer is which, in which order TensorFlow has flattened features, and what strided convolutions pad."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from bnn.errors import UserError
from bnn.interop.match import KERNEL_LAYERS, Slot, find_slots, match
from bnn.interop.names import SourceLayer
from bnn.interop.padding import pad_as_tensorflow, same_sides
from bnn.interop.tfp import check_applied, fill
from bnn.layers.convert import convert
from bnn.posterior import GraphNetwork
from bnn.posterior.trace import trace
from tests.support.posteriors import paper_network

CHANNELS, HEIGHT, WIDTH = 2, 3, 5


def point(name: str, *shape: int) -> SourceLayer:
    """A conventional layer of the file, each of its values different."""
    values = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    return SourceLayer(name, "point", {"kernel": values, "bias": np.zeros(shape[-1], np.float32)})


def slot(layer: str, *shape: int, after: str = "") -> Slot:
    return Slot(layer, shape, frozenset(after.split()))


def test_layers_are_paired_in_order_and_by_shape() -> None:
    # As Keras lists a block: the shortcut last, though the model executes it first.
    slots = [slot("in", 3, 4), slot("short", 4, 5, after="in"), slot("one", 4, 4, after="in")]
    slots.append(slot("two", 4, 5, after="in one"))
    file = [point("d", 3, 4), point("d_2", 4, 4), point("d_1", 4, 5), point("d_3", 4, 5)]
    pairs = {ours.layer: theirs.name for theirs, ours in match(file, slots)}
    assert pairs == {"in": "d", "one": "d_2", "short": "d_1", "two": "d_3"}


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ([point("a", 3, 3)], "missing for the model's: y (3, 5)"),
        ([point("a", 3, 3), point("b", 3, 5), point("c", 3, 5)], "left over: c/kernel (3, 5)"),
        ([point("a", 3, 3), point("b", 5, 3)], "left over: b/kernel (5, 3); missing for the model's: y (3, 5)"),
        ([point("b", 3, 5), point("a", 3, 3)], "b/kernel comes too early"),
    ],
)
def test_other_layers_and_another_order_are_refused(file: list[SourceLayer], words: str) -> None:
    with pytest.raises(UserError) as caught:
        match(file, [slot("x", 3, 3), slot("y", 3, 5, after="x")])
    assert words in str(caught.value)


def test_names_sorted_as_text_are_refused() -> None:
    slots = [slot(str(index), 3, 3) for index in range(12)]
    names = ["dense", *(f"dense_{index}" for index in range(1, 12))]
    match([point(name, 3, 3) for name in names], slots)
    with pytest.raises(UserError, match="dense_2 follows dense_11"):
        match([point(name, 3, 3) for name in sorted(names)], slots)


def test_slots_know_what_they_depend_on() -> None:
    slots = {found.layer: found.after for found in find_slots(paper_network("resnet18"), KERNEL_LAYERS)}
    assert "shortcut2" not in slots["conv2_2"]
    assert slots["conv2_1"] >= {"conv0", "conv1_1", "conv1_2", "shortcut1", "norm1_1"}
    assert slots["conv0"] == frozenset()


def test_a_layer_used_twice_is_one_slot() -> None:
    shared = nn.Linear(4, 4)
    network = graph(nn.Sequential(nn.Flatten(), shared, nn.ReLU(), shared), (1, 2, 2))
    assert len(find_slots(network, KERNEL_LAYERS)) == 1


class Calling(nn.Module):
    """A dense layer behind whatever `function` does to the images."""

    def __init__(self, function: Callable[[Tensor], Tensor], features: int) -> None:
        super().__init__()
        self.function, self.dense = function, nn.Linear(features, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.dense(self.function(x))


def graph(model: nn.Module, shape: tuple[int, ...]) -> GraphNetwork:
    return trace(convert(model), torch.zeros(2, *shape), 0, {})[1]


def as_keras(x: Tensor) -> Tensor:
    return x.permute(0, 2, 3, 1).reshape(len(x), -1)


SAME = [
    (lambda x: x.flatten(1), as_keras),
    (lambda x: x.view(x.size(0), -1), as_keras),
    (lambda x: x.reshape(-1, CHANNELS * HEIGHT * WIDTH), as_keras),
    (lambda x: nn.functional.dropout(torch.relu(x).flatten(1), 0.5, False).tanh(), lambda x: as_keras(x.relu()).tanh()),
    (lambda x: x.permute(0, 2, 3, 1).flatten(1), as_keras),
    (
        lambda x: torch.cat([x.flatten(1), x.relu().flatten(1)], 1),
        lambda x: torch.cat([as_keras(x), as_keras(x.relu())], 1),
    ),
    (lambda x: x.flatten(1) + x.tanh().flatten(1), lambda x: as_keras(x + x.tanh())),
    (lambda x: x.mean((2, 3)), lambda x: x.mean((2, 3))),
]


@pytest.mark.parametrize(("ours", "keras"), SAME)
def test_a_dense_layer_sees_the_features_that_keras_gives_it(
    ours: Callable[[Tensor], Tensor], keras: Callable[[Tensor], Tensor]
) -> None:
    images = torch.randn(3, CHANNELS, HEIGHT, WIDTH)
    features = keras(images)
    source = point("dense", features.shape[1], 4)
    network, _, _ = fill(graph(Calling(ours, features.shape[1]), images.shape[1:]), [source])
    expected = features @ torch.from_numpy(source.arrays["kernel"])
    torch.testing.assert_close(network(images), expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x.transpose(2, 3).flatten(1),
        lambda x: x.permute(0, 3, 2, 1).flatten(1),
        lambda x: x.reshape(-1, HEIGHT, CHANNELS, WIDTH).flatten(1),
        lambda x: x.flatten(2).flatten(1),
        lambda x: x.permute(0, 2, 3, 1).relu().flatten(1),
        lambda x: x.permute(0, 2, 3, 1).flatten(1) + x.flatten(1),
    ],
)
def test_an_order_that_cannot_be_followed_is_refused(function: Callable[[Tensor], Tensor]) -> None:
    features = CHANNELS * HEIGHT * WIDTH
    network = graph(Calling(function, features), (CHANNELS, HEIGHT, WIDTH))
    with pytest.raises(UserError, match="cannot tell TensorFlow's order"):
        fill(network, [point("dense", features, 4)])


@pytest.mark.parametrize("layer", [nn.GroupNorm(1, CHANNELS), nn.LayerNorm([CHANNELS, HEIGHT, WIDTH])])
def test_parameters_that_no_array_could_fill_are_refused(layer: nn.Module) -> None:
    network = graph(nn.Sequential(layer, nn.Flatten(), nn.Linear(30, 4)), (CHANNELS, HEIGHT, WIDTH))
    with pytest.raises(UserError, match=f"layer 0: a {type(layer).__name__} cannot be imported"):
        fill(network, [point("dense", 30, 4)])


@given(st.integers(1, 40), st.integers(1, 7), st.integers(1, 4), st.integers(1, 3))
def test_same_padding_covers_the_map_and_no_more(size: int, kernel: int, stride: int, dilation: int) -> None:
    before, after = same_sides(size, kernel, stride, dilation)
    reach = (kernel - 1) * dilation + 1
    outputs = -(-size // stride)
    assert (before + size + after - reach) // stride + 1 == outputs
    assert after - before in (0, 1)
    assert before + after == 0 or before + size + after == (outputs - 1) * stride + reach


def conv(**settings: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 1, **settings), nn.Flatten())


@pytest.mark.parametrize(
    ("model", "padded", "said"),
    [
        (conv(kernel_size=3, stride=2, padding=1), True, "0 above, 1 below, 1 left, 1 right"),
        (conv(kernel_size=3, stride=2), False, ""),
        (conv(kernel_size=1, stride=2), False, ""),
        (conv(kernel_size=3, padding=1), False, ""),
        (conv(kernel_size=3, stride=2, padding=2), False, "not TensorFlow's SAME"),
        (nn.Sequential(nn.ZeroPad2d(1), *conv(kernel_size=3, stride=2)), False, ""),
    ],
)
def test_only_same_padding_becomes_tensorflows(model: nn.Module, padded: bool, said: str) -> None:
    shape = (1, 6, 7)
    network, statements = pad_as_tensorflow(graph(model, shape))
    assert ("0_pad" in dict(network.named_children())) is padded
    assert bool(statements) is bool(said)
    assert said in "".join(statements)
    assert network(torch.zeros(2, *shape)).shape == model(torch.zeros(2, *shape)).shape


def test_a_convolution_used_on_maps_of_different_parity_pads_each_as_it_needs() -> None:
    shared = nn.Conv2d(1, 1, 3, 2, padding=1)
    network, statements = pad_as_tensorflow(graph(nn.Sequential(shared, shared, nn.Flatten()), (1, 6, 6)))
    assert [text.partition(": ")[2].partition(": ")[2] for text in statements] == [
        "0 above, 1 below, 0 left, 1 right",
        "1 above, 1 below, 1 left, 1 right",
    ]
    assert network(torch.zeros(2, 1, 6, 6)).shape == (2, 4)


class Sequence(nn.Module):
    """An image's rows through a layer of sequences."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer, self.last = layer, nn.LazyLinear(2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.layer(x[:, 0])
        return self.last((y[0] if isinstance(y, tuple) else y).flatten(1))


class Volume(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer, self.last = layer, nn.LazyLinear(2)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.layer(x[:, None]).flatten(1))


@pytest.mark.parametrize(
    ("model", "layer"),
    [
        (Sequence(nn.Conv1d(4, 3, 2, bias=False)), "layer.weight"),
        (Sequence(nn.GRU(4, 3, bias=False, batch_first=True)), "layer.weight_ih_l0"),
        (Volume(nn.Conv3d(1, 2, 2, bias=False)), "layer.weight"),
    ],
)
def test_weights_that_operations_read_are_refused_by_name(model: nn.Module, layer: str) -> None:
    model(torch.zeros(1, 2, 4, 4))
    _, network = trace(convert(model), torch.zeros(2, 2, 4, 4), 0, {})
    with pytest.raises(UserError, match=rf"^layer {layer}: its weight is read by aten\..*can be imported$"):
        check_applied(network)
