"""The convolution operators against float64: outputs and gradients for random shapes, and for any number of threads."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from tests.support.kernels import OPS, channels_last, distance, flipout, need_kernels, threads

need_kernels()

Pair = tuple[int, int]
ACCURACY = 1e-5
NAMES = ("output", "input", "mu", "delta")


@dataclass(frozen=True)
class Case:
    """One convolution: its sizes and arguments."""

    batch: int
    inputs: int
    outputs: int
    size: Pair
    kernel: Pair
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    bias: bool = True
    seed: int = field(default=0, compare=False)

    @property
    def shape(self) -> tuple[Pair, Pair, Pair]:
        return self.stride, self.padding, self.dilation

    def tensors(self) -> dict[str, Tensor]:
        make = torch.Generator().manual_seed(self.seed)

        def normal(*sizes: int) -> Tensor:
            return torch.randn(*sizes, generator=make)

        def signs(channels: int) -> Tensor:
            return torch.randint(0, 2, (self.batch, channels), generator=make).float() * 2 - 1

        x = normal(self.batch, self.inputs, *self.size)
        mu = normal(self.outputs, self.inputs, *self.kernel)
        out = functional.conv2d(x[:1], mu, None, *self.shape).shape[2:]
        named = {"x": x, "mu": mu, "delta": normal(*mu.shape), "gradient": normal(self.batch, self.outputs, *out)}
        named = {name: channels_last(tensor) for name, tensor in named.items()}
        return named | {"r": signs(self.inputs), "s": signs(self.outputs), "bias": normal(self.outputs)}


def computed(case: Case, t: dict[str, Tensor], plain: bool) -> dict[str, Tensor]:
    """Everything that the operators make of a case."""
    delta, r, s = (None, None, None) if plain else (t["delta"], t["r"], t["s"])
    bias = t["bias"] if case.bias else None
    pair = OPS.conv_weight_gradient(t["x"], t["gradient"], r, s, case.kernel, *case.shape)
    made = {
        "output": OPS.conv(t["x"], t["mu"], delta, r, s, bias, *case.shape),
        "input": OPS.conv_input_gradient(t["gradient"], t["mu"], delta, r, s, case.size, *case.shape),
        "mu": pair[0],
    }
    return made if plain else made | {"delta": pair[1]}


def expected(case: Case, t: dict[str, Tensor], plain: bool) -> dict[str, Tensor]:
    t = {name: tensor.double() for name, tensor in t.items()}
    leaves = [t[name].requires_grad_() for name in ("x", "mu", "delta")]
    bias = t["bias"] if case.bias else None
    if plain:
        output = functional.conv2d(leaves[0], leaves[1], bias, *case.shape)
    else:
        output = flipout(*leaves, t["r"], t["s"], bias, *case.shape)
    gradients = torch.autograd.grad(output, leaves, t["gradient"], allow_unused=True)
    return dict(zip(NAMES, (output.detach(), *gradients), strict=True))


def scales(case: Case, t: dict[str, Tensor], plain: bool) -> dict[str, Tensor]:
    """For each result the root of its terms' squares: its usual size, however its terms cancel."""
    weights = t["mu"].square() + (0 if plain else t["delta"].square())
    squares = t | {name: t[name].square() for name in ("x", "gradient", "bias")} | {"mu": weights}
    return {name: value.sqrt() for name, value in expected(case, squares, True).items() if value is not None}


def errors(case: Case, plain: bool) -> dict[str, float]:
    tensors = case.tensors()
    got, right, scale = (f(case, tensors, plain) for f in (computed, expected, scales))
    assert all(got[name].shape == right[name].shape for name in got)
    return {name: distance(got[name], right[name], scale.get(name, scale["mu"])) for name in got}


channels = st.one_of(st.integers(1, 70), st.sampled_from([1, 3, 8, 15, 16, 17, 32, 33, 64, 65]))


def pairs(sides: st.SearchStrategy[int]) -> st.SearchStrategy[Pair]:
    return st.tuples(sides, sides)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    kernel, dilation = draw(pairs(st.sampled_from([1, 2, 3, 5]))), draw(pairs(st.integers(1, 2)))
    stride, padding = draw(pairs(st.integers(1, 3))), draw(pairs(st.integers(0, 3)))
    least = [max(1, d * (k - 1) + 1 - 2 * p) for k, d, p in zip(kernel, dilation, padding, strict=True)]
    size = (draw(st.integers(least[0], max(20, least[0]))), draw(st.integers(least[1], max(20, least[1]))))
    batch, seed = draw(st.integers(1, 9)), draw(st.integers(0, 2**31))
    shape: dict[str, Any] = {"stride": stride, "padding": padding, "dilation": dilation, "bias": draw(st.booleans())}
    return Case(batch, draw(channels), draw(channels), size, kernel, **shape, seed=seed)


@pytest.mark.parametrize("plain", [False, True], ids=["flipout", "plain"])
@settings(max_examples=150)
@given(case=cases())
def test_any_shape(plain: bool, case: Case) -> None:
    found = errors(case, plain)
    assert max(found.values()) < ACCURACY, found


# What random shapes seldom or never reach: batches that are taken in several parts, images of many strips, wide rows,
# strips that read padding only, many channels, kernels larger than their image.
FAR = [
    Case(97, 5, 7, (2, 2), (3, 3), padding=(1, 1)),
    Case(50, 20, 18, (3, 4), (3, 3), padding=(1, 1)),
    Case(49, 3, 4, (1, 1), (1, 1)),
    Case(2, 3, 5, (45, 41), (3, 3), padding=(1, 1)),
    Case(2, 20, 33, (45, 41), (3, 3), (2, 2), (1, 1)),
    Case(1, 9, 4, (3, 300), (3, 3), padding=(1, 1)),
    Case(2, 10, 5, (40, 40), (1, 1), padding=(20, 20)),
    Case(2, 9, 3, (2, 2), (5, 5), padding=(7, 2)),
    Case(3, 200, 140, (4, 4), (3, 3), padding=(1, 1)),
    Case(2, 600, 10, (5, 5), (3, 3), padding=(1, 1), bias=False),
    Case(7, 130, 130, (8, 8), (1, 1), (2, 2)),
    Case(2, 64, 64, (14, 14), (5, 5), padding=(2, 2)),
    Case(5, 16, 16, (1, 1), (3, 3), padding=(1, 1)),
]


@pytest.mark.parametrize("plain", [False, True], ids=["flipout", "plain"])
@pytest.mark.parametrize("case", FAR, ids=str)
def test_shapes_that_take_other_ways(case: Case, plain: bool) -> None:
    found = errors(case, plain)
    assert max(found.values()) < ACCURACY, found


@pytest.mark.parametrize("plain", [False, True], ids=["flipout", "plain"])
@pytest.mark.parametrize("case", [*FAR, Case(9, 70, 70, (9, 8), (3, 3), padding=(1, 1))], ids=str)
def test_any_number_of_threads_gives_the_same_bits(case: Case, plain: bool) -> None:
    tensors = case.tensors()
    results = []
    for count in (1, 2, 3):
        with threads(count):
            results.append(computed(case, tensors, plain))
    for other in results[1:]:
        assert [name for name in other if not torch.equal(results[0][name], other[name])] == []


@pytest.mark.parametrize("plain", [True, False])
def test_no_image_gives_an_empty_output_and_no_gradient(plain: bool) -> None:
    case = Case(0, 3, 4, (5, 5), (3, 3))
    tensors = case.tensors()
    made = computed(case, tensors, plain=plain)
    assert made["output"].shape == (0, 4, 3, 3)
    assert made["input"].shape == (0, 3, 5, 5)
    assert not made["mu"].any()


def test_what_does_not_fit_is_refused() -> None:
    case = Case(2, 3, 4, (5, 5), (3, 3))
    t = case.tensors()
    shape = ((1, 1), (0, 0), (1, 1))
    with pytest.raises(RuntimeError, match="float32"):
        OPS.conv(t["x"].double(), t["mu"], None, None, None, None, *shape)
    with pytest.raises(RuntimeError, match="channels_last"):
        OPS.conv(t["x"].contiguous(), t["mu"], None, None, None, None, *shape)
    with pytest.raises(RuntimeError, match="smaller than the kernel"):
        OPS.conv(t["x"][:, :, :2].clone(memory_format=torch.channels_last), t["mu"], None, None, None, None, *shape)
    with pytest.raises(RuntimeError, match="the weights are for 3 channels, the input has 4"):
        OPS.conv(t["gradient"], t["mu"], None, None, None, None, *shape)
    with pytest.raises(RuntimeError, match="is needed with delta"):
        OPS.conv(t["x"], t["mu"], t["delta"], None, t["s"], None, *shape)
    with pytest.raises(RuntimeError, match="input_signs: must be contiguous"):
        OPS.conv(t["x"], t["mu"], t["delta"], t["s"], t["s"], None, *shape)
    with pytest.raises(RuntimeError, match="bias: must have one element"):
        OPS.conv(t["x"], t["mu"], None, None, None, torch.rand(5), *shape)
    with pytest.raises(RuntimeError, match="stride: must be at least 1"):
        OPS.conv(t["x"], t["mu"], None, None, None, None, (0, 1), *shape[1:])
