"""A model that cannot be recorded is refused in one line, which names the model's own line."""

from __future__ import annotations

import builtins
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import bnn
from bnn.errors import UserError
from bnn.posterior.trace import trace
from tests.support.networks import WIDE, at_means, survives

HERE = Path(__file__).name


class Behind(nn.Module):
    """What a function makes of features (N, 4), and a dense layer behind it."""

    def __init__(self, function: Callable[[Behind, Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function
        self.first, self.last = nn.Linear(4, 4), nn.Linear(4, 3)
        self.register_buffer("sparse", torch.eye(4).to_sparse())
        self.turns = torch.polar(torch.ones(2), torch.rand(2))

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.function(self, x))


def low(s: Behind, x: Tensor) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        y = s.first(x)
    return y.float()


def turned(s: Behind, x: Tensor) -> Tensor:
    return torch.view_as_real(torch.view_as_complex(x.view(-1, 2, 2)) * s.turns).flatten(1)


def slope(s: Behind, x: Tensor) -> Tensor:
    with torch.enable_grad():
        y = x.detach().requires_grad_(True)
        return torch.autograd.grad(s.first(y).square().sum(), y)[0]


NO_LINE = {
    "a tensor's data": (lambda s, x: x + s.first(x).data.cpu(), "takes a tensor's values past torch's exporter"),
    "a layer in low precision": (low, "layer first: the model runs it within torch.autocast"),
    "a complex constant": (turned, "Behind: function.*turns: a posterior cannot hold|turns: a posterior cannot hold"),
}
BY_LINE = {
    "a whole number of examples": (lambda s, x: x.view(int(x.shape[0]), 4), "works for one number of examples only"),
    "a loop over examples": (lambda s, x: torch.stack([x[i] for i in range(len(x))]), "one number of examples only"),
    "a branch": (lambda s, x: -x if len(x) == 4 else x, r"N of examples satisfies N != 4 \("),
    "distances": (lambda s, x: torch.cdist(x, s.first.weight), r"N of examples satisfies .*N <= 25 \("),
    "numpy": (lambda s, x: torch.from_numpy(np.clip(x.detach().numpy(), 0, 1)), "goes on in numpy"),
    "torch.func": (lambda s, x: torch.func.vmap(torch.func.grad(torch.sum))(x), "transforms of torch.func"),
    "a derivative": (slope, "derivatives within its forward pass"),
    "a generator": (lambda s, x: x + torch.randn(x.shape, generator=torch.Generator()), "a generator of its own"),
    "a Python number": (lambda s, x: x * s.last.bias[0].item(), "makes a Python number of a tensor"),
    "a value": (lambda s, x: x if x.sum() > 0 else -x, "decides by values of its tensors"),
    "an assertion": (lambda s, x: asserted(x), "decides by values of its tensors"),
    "a sparse matrix": (lambda s, x: torch.sparse.mm(s.sparse, x.T).T, "operation aten._sparse_addmm.default"),
    "a Fourier transform": (lambda s, x: torch.fft.fft(x).real, "operation aten._fft_r2c.default"),
    "a complex number": (lambda s, x: x.to(torch.complex64).real, "a posterior cannot hold numbers of complex64"),
    "some of the examples": (lambda s, x: x[x[:, 0] > 0], "operation aten.index.Tensor .*how large its output"),
    "a mask": (lambda s, x: x[:, torch.tensor([True] * 4)], "operation aten.index.Tensor .*indexed by a mask"),
    "an inverse": (lambda s, x: torch.linalg.inv(torch.diag_embed(x + 1))[:, 0], "operation aten._linalg"),
    "some by their places": (lambda s, x: x[torch.where(x[:, 0] > 0)[0]], "how large its output is depends"),
}  # fmt: skip


def asserted(x: Tensor) -> Tensor:
    assert not torch.isnan(x).any()
    return x


@pytest.mark.parametrize("name", BY_LINE)
def test_the_models_line_is_named(name: str) -> None:
    function, words = BY_LINE[name]
    with pytest.raises(UserError, match=words) as refused:
        trace(bnn.convert(Behind(function)), torch.rand(3, 4), 0, {})
    assert f"{HERE}:" in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", NO_LINE)
def test_what_has_no_line_is_named(name: str) -> None:
    function, words = NO_LINE[name]
    with pytest.raises(UserError, match=words):
        trace(bnn.convert(Behind(function)), torch.rand(2, 4), 0, {})


def test_the_layer_of_an_operation_is_named_where_no_line_is_the_models() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.FractionalMaxPool2d(2, output_size=2), nn.Flatten(), nn.Linear(8, 3))
    with pytest.raises(UserError, match=r"operation aten.rand.default \(layer 1: FractionalMaxPool2d\)"):
        trace(bnn.convert(model), torch.rand(2, 1, 8, 8), 0, {})


@pytest.mark.parametrize(
    "estimator", ["flipout", "flipout-reference", "reparameterization", "local-reparameterization"]
)
@pytest.mark.parametrize("biases", [False, True])
def test_a_dense_layer_takes_one_row_as_torchs_does(estimator: str, biases: bool) -> None:
    layer, row = nn.Linear(4, 3), torch.rand(4)
    twin = bnn.convert(nn.Sequential(layer), estimator, init=WIDE, biases=biases)
    assert torch.allclose(at_means(twin, row), layer(row))
    outputs = []
    for x in (row, row[None]):
        bnn.set_noise(twin, bnn.NoiseKey(1, 2))
        outputs.append(twin(x).reshape(3))
    assert torch.equal(*outputs)
    outputs[0].sum().backward()
    assert all(parameter.grad is not None for parameter in twin.parameters())


def test_what_a_layer_does_not_take_is_named_by_the_models_line() -> None:
    model = bnn.convert(Behind(lambda s, x: s.first(x.sum()) + x))
    with pytest.raises(UserError, match=rf"do not go through it: expected an input of shape .*{HERE}:\d+: "):
        trace(model, torch.rand(2, 4), 0, {})


WAYS: dict[str, Callable[[Tensor], int]] = {
    "length": lambda x: len(x[:, :2]),
    "shape": lambda x: x.shape[0],
    "size": lambda x: x.size(0),
    "elements": lambda x: x.numel() // 4,
    "a new axis": lambda x: x[:, None].transpose(0, 1).shape[1],
}


@settings(max_examples=12, deadline=None)
@given(number=st.integers(1, 5), way=st.sampled_from(sorted(WAYS)))
def test_a_number_of_examples_that_is_treated_apart_is_never_silent(number: int, way: str) -> None:
    model = Behind(lambda s, x: -x if WAYS[way](x) == number else x)
    with pytest.raises(UserError, match="example"):
        trace(bnn.convert(model), torch.rand(4, 4), 0, {})


def test_lengths_stay_open(tmp_path: Path) -> None:
    model = Behind(lambda s, x: s.first(x).view(len(x), -1) + s.last.weight[0].expand(len(x), len(s.first.weight)))
    before = builtins.len
    loaded = survives(model, tmp_path / "p", (4,))
    assert builtins.len is before
    assert at_means(loaded, torch.rand(7, 4)).shape == (7, 3)


def test_a_squeezed_batch_of_one_is_no_difference(tmp_path: Path) -> None:
    model = Behind(lambda s, x: s.first(x)[:, :, None].squeeze())
    assert at_means(survives(model, tmp_path / "p", (4,)), torch.rand(1, 4)).shape == (1, 3)


def test_recording_leaves_logging_as_it_was() -> None:
    trace_log = logging.getLogger("torch.__trace")
    before = trace_log.propagate, list(trace_log.handlers)
    with pytest.raises(UserError):
        trace(bnn.convert(Behind(lambda s, x: x.view(int(x.shape[0]), 4))), torch.rand(4, 4), 0, {})
    assert (trace_log.propagate, list(trace_log.handlers)) == before


def test_a_scripted_function_is_recorded_and_scripted_weights_are_refused(tmp_path: Path) -> None:
    scripted = torch.jit.script(nn.Tanh())
    survives(nn.Sequential(nn.Linear(4, 4), scripted, nn.Linear(4, 3)), tmp_path / "p", (4,))
    with pytest.raises(UserError, match=r"layer 1: made by torch.jit.script"):
        bnn.convert(nn.Sequential(nn.Linear(4, 4), torch.jit.script(nn.Linear(4, 3))), init=WIDE)


class Packed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cells, self.last = nn.GRU(2, 4, batch_first=True), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        lengths = torch.full((x.shape[0],), 2)
        return self.last(self.cells(nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True))[1][-1])


def test_packed_sequences_are_named() -> None:
    with pytest.raises(UserError, match=rf"a size in it depends on values, as in packed sequences \(.*{HERE}:"):
        trace(bnn.convert(Packed()), torch.rand(3, 2, 2), 0, {})


def test_a_compiled_part_and_inputs_that_are_no_images_are_named() -> None:
    compiled = nn.Sequential(nn.Linear(4, 4))
    compiled.add_module("fast", torch.compile(nn.Sequential(nn.Linear(4, 4))))  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"^layer fast: made by torch\.compile; leave its parts as they are"):
        trace(bnn.convert(compiled), torch.rand(2, 4), 0, {})
    words = nn.Sequential(nn.Embedding(5, 4), nn.Flatten(), nn.Linear(8, 3))
    with pytest.raises(UserError, match=r"example_input is of torch.int64: a posterior takes floating-point numbers"):
        bnn.save_posterior(bnn.convert(words), "p", example_input=torch.zeros(2, 2, dtype=torch.int64), step=0)
