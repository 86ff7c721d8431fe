"""The operators of Monte-Carlo draws: samples of weights, products with them, sparse products; against float64."""

from __future__ import annotations

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from tests.support.kernels import OPS, channels_last, need_kernels, threads

need_kernels()


def normal(*sizes: int, seed: int = 0) -> Tensor:
    return torch.randn(*sizes, generator=torch.Generator().manual_seed(seed))


def near(value: Tensor, exact: Tensor) -> bool:
    return bool((value.double() - exact).abs().max() <= 1e-5 * exact.abs().max().clamp_min(1e-3))


@pytest.mark.parametrize("size", [1, 15, 16, 255, 256, 257, 4095, 4097, 100_003])
def test_a_sample_is_mean_plus_scale_times_the_seeds_normals(size: int) -> None:
    mu, scale = normal(size, seed=1), normal(size, seed=2)  # scales of either sign
    made = OPS.sample(mu, scale, -7)
    assert torch.allclose(made, torch.addcmul(mu, scale, OPS.normal(-7, size)), rtol=1e-6, atol=1e-6)
    assert torch.equal(OPS.sample(mu, torch.zeros(size), -7), mu)
    for count in (1, 2, 3):
        with threads(count):
            assert torch.equal(OPS.sample(mu, scale, -7), made)
    assert not torch.equal(OPS.sample(mu, scale, -8), made)


def test_a_sample_has_the_strides_of_its_mean_and_refuses_others() -> None:
    mu, scale = channels_last(normal(4, 3, 2, 2)), channels_last(normal(4, 3, 2, 2))
    assert OPS.sample(mu, scale, 1).stride() == mu.stride()
    with pytest.raises(RuntimeError, match="scale: must have shape and strides"):
        OPS.sample(mu, scale.contiguous(), 1)
    with pytest.raises(RuntimeError, match="float32"):
        OPS.sample(mu.double(), scale.double(), 1)


@given(
    images=st.integers(1, 5), inputs=st.integers(1, 40), outputs=st.integers(1, 37), size=st.integers(3, 9),
    kernel=st.integers(1, 3), stride=st.integers(1, 2), padding=st.integers(0, 2), dilation=st.integers(1, 2),
    bias=st.booleans(), relu=st.booleans(), seed=st.integers(0, 1000),
)  # fmt: skip
def test_a_sampled_convolution_is_that_of_the_sample(
    images: int, inputs: int, outputs: int, size: int, kernel: int, stride: int, padding: int, dilation: int,
    bias: bool, relu: bool, seed: int,
) -> None:  # fmt: skip
    if size + 2 * padding < dilation * (kernel - 1) + 1:
        return
    x = channels_last(normal(images, inputs, size, size, seed=seed))
    mu, scale = (channels_last(normal(outputs, inputs, kernel, kernel, seed=seed + i)) for i in (1, 2))
    offset = normal(outputs, seed=seed + 3) if bias else None
    place = (stride, padding, dilation)
    for deviation, weights in ((scale, OPS.sample(mu, scale, seed)), (None, mu)):
        made = OPS.sampled_conv(x, mu, deviation, seed, offset, *place, relu)
        exact = functional.conv2d(x.double(), weights.double(), None if offset is None else offset.double(), *place)
        assert near(made, exact.relu() if relu else exact)


@pytest.mark.parametrize("pixels", [1, 63, 64, 65, 130])  # either side of where weights are sampled row by row
@pytest.mark.parametrize("inputs", [7, 129, 300])
def test_a_sampled_dense_layer_is_that_of_the_sample(pixels: int, inputs: int) -> None:
    x, mu, scale, bias = normal(pixels, inputs), normal(21, inputs, seed=1), normal(21, inputs, seed=2), normal(21)
    for relu in (False, True):
        made = OPS.sampled_linear(x, mu, scale, 5, bias, relu)
        exact = functional.linear(x.double(), OPS.sample(mu, scale, 5).double(), bias.double())
        assert near(made, exact.relu() if relu else exact)
        for count in (1, 2, 3):
            with threads(count):
                assert torch.equal(OPS.sampled_linear(x, mu, scale, 5, bias, relu), made)


def test_the_positive_part_keeps_nan() -> None:
    x = torch.full((2, 200), torch.nan)
    for pixels in (x, x.repeat(50, 1)):
        made = OPS.sampled_linear(pixels, normal(3, 200), normal(3, 200), 1, None, True)
        assert made.isnan().all()


def test_an_empty_batch_stays_empty() -> None:
    assert OPS.sampled_linear(normal(0, 200), normal(3, 200), normal(3, 200), 1, None).shape == (0, 3)


def csr(rows: int, inputs: int, density: float, seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """starts, inputs, weights and the dense matrix."""
    make = torch.Generator().manual_seed(seed)
    matrix = torch.randn(rows, inputs, generator=make) * (torch.rand(rows, inputs, generator=make) < density)
    sparse = matrix.to_sparse_csr()
    return sparse.crow_indices().int(), sparse.col_indices().int(), sparse.values(), matrix


@example(rows=27, inputs=1, columns=15, density=1.0, bias=False, relu=False, seed=27)  # terms that cancel
@given(
    rows=st.integers(1, 40), inputs=st.integers(1, 50), columns=st.integers(1, 300),
    density=st.sampled_from([0.0, 0.05, 0.5, 1.0]), bias=st.booleans(), relu=st.booleans(), seed=st.integers(0, 999),
)  # fmt: skip
def test_a_sparse_product_is_the_dense_one(
    rows: int, inputs: int, columns: int, density: float, bias: bool, relu: bool, seed: int
) -> None:
    starts, places, weights, matrix = csr(rows, inputs, density, seed)
    offset = normal(rows, seed=seed) if bias else None
    for source in (normal(inputs, columns, seed=seed), normal(columns, inputs, seed=seed).t()):
        exact = matrix.double() @ source.double()
        exact = exact if offset is None else exact + offset.double()[:, None]
        made = OPS.sparse(starts, places, weights, source, offset, relu)
        assert made.shape == exact.shape
        assert near(made, exact.relu() if relu else exact)
        full, every, _, _ = csr(rows, rows, 1.0, seed)
        again = OPS.sparse(full, every, torch.ones(rows * rows), made, None)  # an output is an input as it lies
        terms = made.double()  # which may cancel: a sum's error is of their size (Higham 2002, section 4.2)
        bound = rows * 2.0**-24 * terms.abs().sum(0) / (1 - rows * 2.0**-24)
        assert bool(((again.double() - terms.sum(0)).abs() <= bound).all())


def test_sparse_indices_outside_are_refused() -> None:
    starts, places, weights, _ = csr(4, 5, 1.0, 0)
    source = normal(5, 20)
    for bad in ((starts, places + 1, weights), (starts, places - 1, weights), (starts.flip(0), places, weights),
                (starts + 1, places, weights), (starts, places[:-1], weights[:-1]),
                (starts.long(), places, weights)):  # fmt: skip
        with pytest.raises(RuntimeError):
            OPS.sparse(*bad, source, None)
    with pytest.raises(RuntimeError, match="bias"):
        OPS.sparse(starts, places, weights, source, normal(3))
