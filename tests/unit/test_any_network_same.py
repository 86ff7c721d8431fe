"""A conversion loses nothing that code around a layer asks for, or the model is refused before it is trained."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from bnn.errors import UserError
from bnn.layers import mean_only
from bnn.layers.convert import convert
from bnn.models.build import build_model
from bnn.posterior.save import save_posterior

SHAPE, CLASSES = (3, 8, 8), 4


class Around(nn.Module):
    """Two layers, and code around them that looks at more than what they compute."""

    def __init__(self, head: nn.Linear | None = None) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.head = head or nn.Linear(4, CLASSES)

    def features(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x)
        return y.mean((2, 3))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(self.features(x))
        return y


class Gain(nn.Linear):
    """The same forward pass, and an attribute that the model reads."""

    def __init__(self) -> None:
        super().__init__(4, CLASSES)
        self.gain = 3.0


class Spoken(nn.Linear):
    """The same forward pass, and a method that the model calls."""

    def logits(self, x: Tensor) -> Tensor:
        return 2 * self.forward(x)


class ReadsAttribute(Around):
    def forward(self, x: Tensor) -> Tensor:
        return getattr(self.head, "gain", 1.0) * super().forward(x)


class CallsMethod(Around):
    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head.logits(self.features(x))
        return y


class AsksForType(Around):
    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x)
        return self.head(x if isinstance(self.head, nn.Linear) else x + 1)


class Clamps(Around):
    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            self.head.weight.clamp_(-0.05, 0.05)
        return super().forward(x)


class SumsParameters(Around):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + sum(p.square().sum() for p in self.head.parameters())


class OfTheClass(Around):
    """A layer that is an attribute of its class, which torch does not register."""

    mix = nn.Linear(4, 4)

    def features(self, x: Tensor) -> Tensor:
        y: Tensor = self.mix(super().features(x))
        return y


REGISTRY: dict[str, nn.Module] = {}


class Registered(Around):
    """A layer that is also kept in a global, and called from there: the original's, not the twin's."""

    def __init__(self) -> None:
        super().__init__()
        REGISTRY["head"] = self.head

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = REGISTRY["head"](self.features(x))
        return y


class Masked(Around):
    def __init__(self) -> None:
        super().__init__()
        self.head.register_buffer("scale", torch.full((CLASSES,), 3.0))

    def forward(self, x: Tensor) -> Tensor:
        return self.head.scale * super().forward(x)


def marked(shape: tuple[int, ...], classes: int) -> nn.Module:
    model = ReadsAttribute()
    model.head.gain = 3.0
    return model


KEPT: dict[str, Callable[[tuple[int, ...], int], nn.Module]] = {
    "an attribute of a plain layer": marked,
    "an attribute of a subclass": lambda shape, classes: ReadsAttribute(Gain()),
    "a method": lambda shape, classes: CallsMethod(Spoken(4, CLASSES)),
    "a buffer of a plain layer": lambda shape, classes: Masked(),
    "numpy's sizes": lambda shape, classes: Around(nn.Linear(np.int64(4), np.int64(CLASSES))),
}
REFUSED: dict[str, tuple[Callable[[tuple[int, ...], int], nn.Module], str]] = {
    "its class": (lambda shape, classes: AsksForType(), r"converted, it computes something else, off by"),
    "its weight in place": (
        lambda shape, classes: Clamps(),
        r"its forward pass changes head.mu|computes something else",
    ),
    "a layer of the class": (lambda shape, classes: OfTheClass(), r"a weight of shape \[4(, 4)?\] takes part that"),
    "a layer of a global": (lambda shape, classes: Registered(), r"a weight of shape \[4(, 4)?\] takes part that"),
    "its parameters": (lambda shape, classes: SumsParameters(), "converted, it computes something else"),
}


def built(monkeypatch: pytest.MonkeyPatch, make: Callable[[tuple[int, ...], int], nn.Module]) -> nn.Module:
    """As `bnn train` builds a model of one's own."""
    monkeypatch.setattr("bnn.models.build.import_function", lambda name: make)
    return build_model("mine:make", "bnn", input_shape=SHAPE, classes=CLASSES)


@pytest.mark.parametrize("name", KEPT)
@pytest.mark.parametrize("biases", [False, True])
def test_what_code_around_a_layer_asks_for_is_kept(name: str, biases: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    built(monkeypatch, KEPT[name])
    model = KEPT[name](SHAPE, CLASSES).eval()
    twin = convert(model, biases=biases)
    x = torch.randn(2, *SHAPE)
    with torch.no_grad(), mean_only(twin):
        torch.testing.assert_close(twin(x), model(x), rtol=1e-5, atol=1e-6)


def test_a_layer_may_be_called_by_the_name_of_its_argument() -> None:
    for biases in (False, True):
        twin = convert(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Linear(6, 2)), biases=biases)
        assert twin[1](input=twin[0](input=torch.randn(2, *SHAPE))).shape == (2, 4, 6, 2)


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_be_lost_without_a_word_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make, said = REFUSED[name]
    with pytest.raises(UserError, match=said) as error:
        built(monkeypatch, make)
    assert "\n" not in str(error.value)
    assert "Leave that layer out" in str(error.value) or "make it an attribute" in str(error.value)


def test_a_weight_of_another_shape_than_its_sizes_say_is_refused() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4, 2))
    model[0].weight = nn.Parameter(model[0].weight.sum(1, keepdim=True))
    with pytest.raises(UserError, match=r"layer 0: its weight is \[4, 1, 3, 3\], its sizes say \[4, 3, 3, 3\]"):
        convert(model)


def test_building_draws_nothing_from_the_callers_generator_for_the_comparison(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Around()
    torch.manual_seed(3)
    convert(model)
    after = torch.rand(1)
    monkeypatch.setattr("bnn.models.build.import_function", lambda name: lambda shape, classes: model)
    torch.manual_seed(3)
    build_model("mine:make", "bnn", input_shape=SHAPE, classes=CLASSES)
    assert torch.equal(torch.rand(1), after)


class Noisy(Around):
    """Says something else every time: nothing can be compared."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(functional.dropout(x, 0.5, training=True))


def test_a_model_that_is_random_by_itself_or_fails_is_not_judged_here(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(built(monkeypatch, lambda shape, classes: Noisy()), Noisy)
    wrong = nn.Sequential(nn.Conv2d(5, 4, 3))
    assert len(list(built(monkeypatch, lambda shape, classes: wrong).children())) == 1


class Branches(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.ModuleDict({"global": nn.Linear(192, 4), "local": nn.Linear(192, 4)})

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.parts["global"](x.flatten(1)) + self.parts["local"](x.flatten(1))
        return y


def test_a_layer_named_by_a_word_of_pythons_is_told_by_its_name(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="a part of it is called global, a word of Python's"):
        save_posterior(convert(Branches()), tmp_path / "p", example_input=torch.randn(2, *SHAPE), step=0)
