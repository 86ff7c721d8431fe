"""How tensors lie in memory where channels_last would corrupt it: narrow 1x1 convolutions with a stride."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import settings as trials
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from bnn.engine import SingleEngine
from bnn.errors import UserError
from bnn.settings import TrainSettings
from bnn.training import loop
from bnn.training.layout import AT_ONCE, NarrowError, NoneNarrow, _last, is_narrow, layout_for

SOURCE = {"dataset": "synthetic", "dataset_options": {"shape": [3, 12, 12], "size": 40, "test_size": 8}}
HERE = "tests.unit.test_training_layout"


class Narrow(nn.Module):
    """A strided 1x1 convolution of 4 channels, as a layer or as a function."""

    def __init__(self, classes: int, by_function: bool, insists: bool = False) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.second = nn.Conv2d(4, 8, 1, stride=1 if by_function else 2)
        self.head = nn.Linear(8, classes)
        self.by_function, self.insists = by_function, insists

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        if self.insists:
            x = x.contiguous(memory_format=torch.channels_last)
        x = functional.conv2d(x, self.second.weight, stride=2) if self.by_function else self.second(x)
        y: Tensor = self.head(x.mean((2, 3)))
        return y


def as_layer(shape: tuple[int, ...], classes: int) -> nn.Module:
    return Narrow(classes, by_function=False)


def as_function(shape: tuple[int, ...], classes: int) -> nn.Module:
    return Narrow(classes, by_function=True)


def insisting(shape: tuple[int, ...], classes: int) -> nn.Module:
    return Narrow(classes, by_function=True, insists=True)


def train(tmp_path: Path, **values: Any) -> Any:
    given = {"engine": "single", "batch_size": 8, "max_steps": 2, "save_posterior": False, **SOURCE, **values}
    return loop.train(TrainSettings.model_validate(given), tmp_path / "cell", SingleEngine(), time.time())


@pytest.mark.parametrize(
    "kind",
    [
        {"kind": "cnn", "baseline": "cnn"},
        {"estimator": "mc-dropout"},
        {"estimator": "reparameterization"},
        {"estimator": "local-reparameterization"},
        {"estimator": "ivon", "learning_rate": 0.1},
    ],
    ids=lambda kind: kind.get("estimator", "cnn"),
)
def test_a_narrow_resnet_is_contiguous_and_a_wider_one_is_not(tmp_path: Path, kind: dict[str, Any]) -> None:
    # of width 1/16 the first shortcut has 4 channels: channels_last it ended the process on a processor with AVX2
    assert train(tmp_path / "narrow", model="resnet18", width=1 / 16, **kind).memory_layout == "contiguous"
    assert train(tmp_path / "wide", model="resnet18", width=1 / 4, **kind).memory_layout == "channels_last"


@pytest.mark.parametrize("name", ["as_layer", "as_function"])
def test_a_model_of_ones_own_is_contiguous_too_by_layer_or_by_function(tmp_path: Path, name: str) -> None:
    assert train(tmp_path, model=f"{HERE}:{name}", kind="cnn", baseline="cnn").memory_layout == "contiguous"


def test_a_model_that_insists_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"insisting: a 1x1 convolution with stride \(2, 2\) of 4 channels in channels_l"
    ):
        train(tmp_path, model=f"{HERE}:insisting", kind="cnn", baseline="cnn")


@trials(max_examples=200)
@given(st.integers(1, 40), st.sampled_from([1, 3]), st.integers(1, 3), st.booleans(), st.booleans(), st.integers(1, 2))
def test_what_is_caught_is_what_torch_would_run_channels_last(
    channels: int, size: int, stride: int, last: bool, last_kernel: bool, batch: int
) -> None:
    x, kernel = torch.randn(batch, channels, 6, 6), torch.randn(8, channels, size, size)
    x = x.to(memory_format=torch.channels_last) if last else x
    kernel = kernel.to(memory_format=torch.channels_last) if last_kernel else kernel
    taken = functional.conv2d(x, kernel, padding=size // 2)  # torch's own choice, told by what it gives
    assert (_last(x) or _last(kernel)) == _last(taken)
    dangerous = size == 1 and stride > 1 and channels < AT_ONCE and _last(taken)
    layer = nn.Conv2d(channels, 8, size, stride)
    assert is_narrow(layer) == (size == 1 and stride > 1 and channels < AT_ONCE)
    with NoneNarrow():
        if dangerous:
            with pytest.raises(NarrowError):
                functional.conv2d(x, kernel, stride=stride)
        else:
            functional.conv2d(x, kernel, stride=stride)


def test_groups_and_the_device_count() -> None:
    assert is_narrow(nn.Conv2d(64, 64, 1, 2, groups=8))
    assert not is_narrow(nn.Conv2d(64, 64, 1, 2, groups=4))
    model = nn.Sequential(nn.Conv2d(4, 8, 1, 2))
    assert layout_for(model, torch.channels_last, "cuda") == torch.channels_last
    assert layout_for(model, torch.channels_last, "cpu") == torch.contiguous_format
