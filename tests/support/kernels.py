"""What the tests of the kernels share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from bnn import kernels
from bnn.errors import UserError
from bnn.kernels.build import compiler

OPS = torch.ops.bnn_kernels
WIDTHS = ("avx512", "avx2", "generic")


def need_kernels() -> None:
    """Load the kernels. Where there is a compiler they have to be built; only without one are their tests skipped."""
    try:
        kernels.load()
    except UserError as error:
        try:
            compiler()
        except UserError as none:
            pytest.skip(str(none), allow_module_level=True)
        pytest.fail(str(error))


@contextmanager
def threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def distance(got: Tensor, expected: Tensor, scale: Tensor | None = None) -> float:
    """|got - expected| / |expected|, of the whole tensors. `scale`: their usual size, where terms may cancel."""
    norm = expected.norm() if scale is None else torch.maximum(expected.norm(), scale.norm())
    error = (got.detach().double() - expected).norm()
    return float(error / norm) if norm else float(error)


def epsilon(seed: int, kernel: Tensor) -> Tensor:
    """The noise of a layer's kernel in float64: numbered as the kernel lies in memory, images' channels last."""
    numbered = OPS.normal(seed, kernel.numel()).double()
    if kernel.dim() == 2:
        return numbered.view(kernel.shape)
    outputs, inputs, height, width = kernel.shape
    return numbered.view(outputs, height, width, inputs).permute(0, 3, 1, 2)


def chosen_signs(seed: int, output: bool, x: Tensor) -> Tensor:
    """The signs of each (example, channel), in float64 and shaped to multiply x."""
    signs = OPS.signs(seed, output, x.shape[0], x.shape[1]).double()
    return signs.view(*signs.shape, *[1] * (x.dim() - 2))


def channels_last(x: Tensor) -> Tensor:
    """x in the memory order of the kernels, with the strides that they expect where a size of 1 leaves them open."""
    return x.permute(0, 2, 3, 1).contiguous().clone().permute(0, 3, 1, 2)


def flipout(x: Tensor, mu: Tensor, delta: Tensor, r: Tensor, s: Tensor, bias: Tensor | None, *shape: object) -> Tensor:
    """Eq. 4 of Wen et al.; signs are (N, C)."""
    r, s = r[:, :, None, None], s[:, :, None, None]
    mean = functional.conv2d(x, mu, bias, *shape)  # type: ignore[arg-type]
    return mean + s * functional.conv2d(x * r, delta, None, *shape)  # type: ignore[arg-type]
