"""Which layers become Bayesian: `where`, and what is said of the others."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import bnn
from bnn.errors import UserError
from bnn.layers import bayesian_layers, mean_only
from bnn.layers.report import report_text


class Parts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv1d(3, 4, 3), nn.BatchNorm1d(4), nn.Flatten(), nn.Linear(16, 6))
        self.mix = nn.MultiheadAttention(6, 2)
        self.head = nn.Linear(6, 3)
        self.alias = self.head

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.stem(x)
        return self.alias(self.mix(y, y, y)[0])


NAMES = ["stem.0", "stem.3", "mix", "mix.out_proj", "head"]


def bayesian(model: nn.Module) -> set[str]:
    return {row.name for row in bnn.conversion_report(model) if row.bayesian}


@settings(max_examples=30, deadline=None)
@given(chosen=st.sets(st.sampled_from(NAMES), min_size=1))
def test_layers_that_are_named_become_bayesian_and_no_others(chosen: set[str]) -> None:
    torch.manual_seed(0)
    model, x = Parts().eval(), torch.randn(5, 3, 6)
    weights = {"mix": "mix.in_proj_weight"}
    expected = {weights.get(name, f"{name}.weight") for name in chosen}
    for where in (sorted(chosen), lambda name, layer: name in chosen):
        twin = bnn.convert(model, where=where).eval()
        assert bayesian(twin) == expected
        rows = {row.name: row.how for row in bnn.conversion_report(twin) if not row.bayesian}
        left = {weights.get(name, f"{name}.weight") for name in NAMES} - expected
        assert {name for name, how in rows.items() if how == "left out by where"} == left
        assert report_text(bnn.conversion_report(twin)).count("left out by where") == len(left)
        with mean_only(twin):
            torch.testing.assert_close(twin(x), model(x))
        assert bayesian(bnn.convert(twin)) == {weights.get(name, f"{name}.weight") for name in NAMES}
    assert not hasattr(model.head, "_left_out")


@pytest.mark.parametrize("pattern", ["stem.*", "mix*", "*", "*.out_proj", "[hm]*", "alias"])
def test_patterns_are_those_of_a_shell(pattern: str) -> None:
    twin = bnn.convert(Parts(), where=[pattern])
    fits = [name for name in NAMES if fnmatchcase(name, pattern) or (pattern == "alias" and name == "head")]
    assert len(list(bayesian_layers(twin))) == len(fits)
    assert twin.alias is twin.head


def test_a_function_sees_the_models_own_layers() -> None:
    model = Parts()
    assert bayesian(bnn.convert(model, where=lambda name, layer: layer is model.head)) == {"head.weight"}


def test_what_is_left_out_may_have_what_a_conversion_would_lose() -> None:
    model = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(2, 2)), nn.Linear(2, 2))
    twin, x = bnn.convert(model, where=["1"]), torch.randn(3, 2)
    with mean_only(twin):
        torch.testing.assert_close(twin(x), model(x))


@pytest.mark.parametrize(
    ("where", "message"),
    [
        (["head", "tail"], r"where: 'tail' fits no layer .*; there are stem\.0, stem\.3, mix, mix\.out_proj, head"),
        (["stem.1"], "where: 'stem.1' fits no layer"),
        ([], "where: no layer is chosen"),
        (lambda name, layer: False, "where: no layer is chosen"),
        ("head", "where='head': must be a function"),
        ([1], r"where=\[1\]: must be a function"),
        (5, "where=5: must be a function"),
    ],
)
def test_wrong_choices_are_refused(where: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        bnn.convert(Parts(), where=where)


class Locked(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.open = nn.Linear(2, 2), iter([1])
        self.lines = (line for line in "ab")


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.LazyConv1d(2, 3), lambda: nn.LazyConv2d(2, 3), lambda: nn.LazyConv3d(2, 3),
        lambda: nn.LazyConvTranspose1d(2, 3), lambda: nn.LazyConvTranspose2d(2, 3),
        lambda: nn.LazyConvTranspose3d(2, 3), lambda: nn.LazyLinear(2), nn.LazyBatchNorm1d, nn.LazyInstanceNorm2d,
    ],
)  # fmt: skip
def test_lazy_layers_of_every_kind_are_refused(make: Any) -> None:
    layer = make()
    if not any(nn.parameter.is_lazy(p) for p in layer.parameters()):
        layer = make(affine=True)
    with pytest.raises(UserError, match=rf"layer 1: a {type(layer).__name__} has no weight yet"):
        bnn.convert(nn.Sequential(nn.Linear(2, 2), layer))


def test_a_model_that_cannot_be_copied_is_refused_in_one_line() -> None:
    with pytest.raises(UserError, match="Locked cannot be copied, which a conversion needs") as error:
        bnn.convert(Locked())
    assert "\n" not in str(error.value)
