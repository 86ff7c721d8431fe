"""A model of one's own is tried before it is trained: its layout, its output, its mode and what its code raises."""

from __future__ import annotations

import copy
from collections import namedtuple
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bnn.data import load_dataset
from bnn.data.pipeline import Schedule
from bnn.engine import SingleEngine
from bnn.errors import UserError
from bnn.models.outputs import ChosenOutput
from bnn.models.own import user_code
from bnn.settings import TrainSettings
from bnn.training.build import make_trainer
from bnn.training.implementation import conventional
from bnn.training.trainer import Trainer

SHAPE = (3, 12, 12)
OWN = "tests.support.own_models"


def trainer_of(model: str, shape: tuple[int, int, int] = SHAPE, **settings: Any) -> Trainer:
    asked = TrainSettings.model_validate({"model": model, "engine": "single", "batch_size": 4, **settings})
    dataset = load_dataset("synthetic", None, shape=shape, size=8, test_size=4, task=asked.task)
    return make_trainer(asked, dataset, SingleEngine(), Schedule(8, 4, 1, 1, 0))


@pytest.mark.parametrize("kind", ["bnn", "cnn"])
@pytest.mark.parametrize(
    ("model", "layout"), [("lenet", torch.contiguous_format), ("in_eval_mode", torch.channels_last)]
)
def test_a_model_that_cannot_be_channels_last_is_contiguous(kind: str, model: str, layout: torch.memory_format) -> None:
    trainer = trainer_of(f"{OWN}:{model}", kind=kind)
    assert trainer.layout == trainer.form.layout == layout
    _, metrics = trainer.step(0, *trainer.batch(load_dataset("synthetic", shape=SHAPE, size=8).train, 0), lambda: None)
    assert torch.isfinite(metrics).all()


def test_trying_a_model_leaves_no_trace() -> None:
    tried, again = (trainer_of(f"{OWN}:in_eval_mode", seed=3).model for _ in range(2))
    for name, value in tried.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
    norm = next(module for module in tried.modules() if isinstance(module, nn.BatchNorm2d))
    assert norm.num_batches_tracked == 0
    assert torch.equal(norm.running_mean, torch.zeros_like(norm.running_mean))
    assert all(parameter.grad is None for parameter in tried.parameters())


def test_a_model_in_evaluation_mode_is_trained_and_a_part_held_there_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    assert all(module.training for module in trainer_of(f"{OWN}:in_eval_mode").model.modules())

    import tests.support.own_models as models

    def frozen(shape: Any, classes: int) -> nn.Module:
        net = models.in_eval_mode(shape, classes).train()
        next(module for module in net if isinstance(module, nn.BatchNorm2d)).eval()
        return net

    monkeypatch.setattr(models, "frozen", frozen, raising=False)
    trainer = trainer_of(f"{OWN}:frozen", kind="cnn")
    trainer.model.eval()
    trainer.to_training()
    assert {type(module) for module in trainer.model.modules() if not module.training} == {nn.BatchNorm2d}


@pytest.mark.parametrize("kind", ["bnn", "cnn"])
@pytest.mark.parametrize(
    ("model", "shape", "words"),
    [
        ("auxiliary", SHAPE, r"gives a tuple: 0 \(N, 10\), 1 \(N, 10\) .* name the one that counts with --output"),
        ("segmentation", SHAPE, r"gives \(N, 10, \d+, \d+\) .* needs \(N, 10\)"),
        ("too_few", SHAPE, r"gives \(N, \d\) .* needs \(N, 10\)"),
        ("too_many", SHAPE, r"gives \(N, 1000\) .* needs \(N, 10\)"),
        ("rgb", (1, 12, 12), r"RuntimeError: .*\(layer 0\)"),
    ],
)
def test_what_does_not_fit_is_one_line_with_the_models_name(kind: str, model: str, shape: Any, words: str) -> None:
    with pytest.raises(UserError, match=rf"^model {OWN}:{model}: {words}") as caught:
        trainer_of(f"{OWN}:{model}", shape, kind=kind)
    assert "\n" not in str(caught.value)


def test_an_output_is_chosen_by_index_and_unknown_or_needless_ones_are_refused() -> None:
    first, second = (trainer_of(f"{OWN}:auxiliary", output=output, kind="cnn") for output in "01")
    images = torch.rand(2, *SHAPE)
    model = first.model
    assert isinstance(model, nn.Module)
    both = model.forward(images)  # a hook is no part of it
    assert torch.equal(model(images), both[0])
    assert torch.equal(second.model(images), second.model.forward(images)[1])
    with pytest.raises(UserError, match="output '2': there is none; it gives a tuple: 0"):
        trainer_of(f"{OWN}:auxiliary", output="2")
    with pytest.raises(UserError, match=r"output 0: .* gives one tensor"):
        trainer_of(f"{OWN}:lenet", output="0")


def test_outputs_have_the_names_of_keys_and_fields() -> None:
    logits, other = torch.zeros(2, 3), torch.ones(2, 3)
    Named = namedtuple("Named", "logits other")  # as users write them
    for result in ({"logits": logits, "other": other}, Named(logits, other)):
        assert ChosenOutput("m:f", "other")(nn.Identity(), (), result) is other
    assert ChosenOutput("m:f", "1")(nn.Identity(), (), Named(logits, other)) is other
    with pytest.raises(UserError, match=r"a dict: logits \(N, 3\), other \(N, 3\)"):
        ChosenOutput("m:f", "none")(nn.Identity(), (), {"logits": logits, "other": other})


class Fails(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        raise KeyError("lost")


def test_an_exception_is_told_with_its_place_and_ours_is_not_hidden() -> None:
    line = Fails.forward.__code__.co_firstlineno + 1
    model = nn.Sequential(nn.Identity(), Fails())
    words = rf"^model a:b: KeyError: 'lost' \(layer 1 at .*test_training_fit.py:{line}\)$"
    with pytest.raises(UserError, match=words), user_code("a:b", model):
        model(torch.zeros(1))
    with pytest.raises(KeyError), user_code("vgg16", model):
        model(torch.zeros(1))


def test_what_the_users_module_raises_is_one_line(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_model_module.py").write_text("x = 1\ny = 1 / 0\n")
    (tmp_path / "failing_model_module.py").write_text("def net(shape, n):\n    return open('/no/such/weights')\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match=r"broken_model_module:net: ZeroDivisionError: .*broken_model_module.py:2\)"):
        trainer_of("broken_model_module:net")
    with pytest.raises(UserError, match=r"FileNotFoundError: .*failing_model_module.py:2\)"):
        trainer_of("failing_model_module:net")


def test_convolutions_by_the_kernels_are_conventional_while_they_are_saved() -> None:
    from bnn.layers.kernel_conv import KernelConv2d

    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3))
    fast = copy.deepcopy(model)
    for layer in fast:
        layer.__class__ = KernelConv2d
    with conventional(fast):
        assert [type(layer) for layer in fast] == [nn.Conv2d, nn.Conv2d]
    assert [type(layer) for layer in fast] == [KernelConv2d, KernelConv2d]
