"""A training step: nothing in it makes the host wait, and what compilation and mixed precision leave as it was."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Normal
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from bnn.engine import SingleEngine
from bnn.exchange import GradientExchange
from bnn.layers import BayesianLinear, NoiseKey, bayesian_layers, kl_divergence, set_noise
from bnn.layers.noise import layer_seed
from bnn.settings import TrainSettings
from bnn.training.build import make_model
from bnn.training.descent import make_optimizer
from bnn.training.forward import make_forward
from bnn.training.recorder import StepClock
from bnn.training.start import start_run
from bnn.training.trainer import Trainer, form_of, key_noise, kl_of
from bnn.training.trial import timed_step
from tests.numerical.test_exchange import HalvingEngine

# What a GPU answers only when it has caught up: a value or a size that the host must know.
WAITING = {
    "aten::_local_scalar_dense", "aten::item", "aten::is_nonzero", "aten::equal", "aten::nonzero", "aten::argwhere",
    "aten::masked_select", "aten::_unique2", "aten::unique_consecutive", "aten::unique_dim", "aten::bincount",
    "aten::repeat_interleave.Tensor", "aten::_assert_async",
}  # fmt: skip


class NoWaiting(TorchDispatchMode):
    """Fails on operations that would make the host wait for a GPU, be the tensors on it or not.

    Forward, backward, optimizer: every operation is seen below autograd. Copies between devices cannot be told on a
    machine with one device; `test_a_step_makes_no_tensor_elsewhere` looks for those.
    """

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name
        overload = f"{name}.{func._schema.overload_name}"
        assert name not in WAITING, name
        assert overload not in WAITING, overload
        if name in ("aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_"):
            assert not any(index is not None and index.dtype in (torch.bool, torch.uint8) for index in args[1]), name
        return func(*args, **(kwargs or {}))


SMALL = {
    "dataset": "synthetic", "dataset_options": {"shape": [3, 16, 16], "size": 32}, "model": "resnet18", "width": 0.125,
    "batch_size": 4, "engine": "single", "save_posterior": False,
}  # fmt: skip


def prepared(folder: Path, **settings: Any) -> tuple[Trainer, Tensor, Tensor]:
    run = start_run(TrainSettings.model_validate({**SMALL, **settings}), folder, SingleEngine())
    return run.trainer, *run.trainer.batch(run.dataset.train, 0)


def lap() -> None:
    """Nobody looks at the time."""


@pytest.mark.parametrize(
    "settings",
    [
        {"estimator": "flipout"},
        {"estimator": "flipout", "mixed_precision": "bfloat16"},  # the layers that a GPU runs, too
        {"estimator": "reparameterization"},
        {"estimator": "local-reparameterization"},
        {"kind": "cnn"},
        {"kind": "cnn", "mixed_precision": "bfloat16"},
        {"kind": "cnn", "optimizer": "sgd", "weight_decay": 0.1, "gradient_clip": 1.0, "lr_schedule": "cosine"},
    ],
    ids=lambda settings: "-".join(str(value) for value in settings.values()),
)
@pytest.mark.parametrize("ranks", [1, 2])
def test_a_step_never_waits_for_the_device(tmp_path: Path, settings: dict[str, Any], ranks: int) -> None:
    trainer, images, labels = prepared(tmp_path, **settings)
    if ranks == 2:
        exchange = GradientExchange(HalvingEngine(compare=False), trainer.model.named_parameters(), 0.1)
        trainer = replace(trainer, exchange=exchange)
    before = [parameter.detach().clone() for parameter in trainer.model.parameters()]
    with NoWaiting():
        for step in range(2):
            _, metrics = trainer.step(step, images, labels, lap)
    assert metrics.tolist()[-1] == 1
    assert not all(torch.equal(a, b) for a, b in zip(before, trainer.model.parameters(), strict=True))


@pytest.mark.parametrize(
    "waiting",
    [lambda x: (x > 0).nonzero(), lambda x: float(x.sum()), lambda x: x[x > 0], lambda x: bool((x > 0).any())],
    ids=["nonzero", "value", "mask", "decision"],
)
def test_the_look_out_sees_what_waits(waiting: Callable[[Tensor], Any]) -> None:
    with pytest.raises(AssertionError, match="aten::"), NoWaiting():
        waiting(torch.ones(3))


@pytest.mark.parametrize("settings", [{}, {"estimator": "local-reparameterization"}, {"kind": "cnn"}])
def test_a_step_makes_no_tensor_elsewhere(tmp_path: Path, settings: dict[str, Any]) -> None:
    """On the meta device values do not exist, and a tensor on another device cannot take part."""
    trainer, images, labels = prepared(tmp_path, mixed_precision="bfloat16", **settings)
    model = trainer.model.to("meta")
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, foreach=True, capturable=False)
    # compiled, hence no generators, which the meta device has not
    settings = trainer.settings.model_copy(update={"compile": True})
    trainer = replace(trainer, settings=settings, forward=model, optimizer=optimizer)
    for step in range(2):
        _, metrics = trainer.step(step, images.to("meta"), labels.to("meta"), lap)
    assert metrics.device.type == "meta"
    assert all(parameter.device.type == "meta" for parameter in model.parameters())


@pytest.mark.parametrize("times", ["once", "twice"])
@pytest.mark.parametrize("model", ["conv", "fc", "resnet18"])
@pytest.mark.parametrize("estimator", ["flipout", "flipout-reference", "local-reparameterization"])
def test_the_kl_of_dense_layers_counts_as_often_as_is_asked(
    tmp_path: Path, model: str, estimator: str, times: str
) -> None:
    """In value, against torch.distributions, and in gradient; where layers keep their KL of the pass, too."""
    shape = {} if model == "resnet18" else {"dataset_options": {"shape": [1, 28, 28], "size": 32}}
    made = {"model": model, "estimator": estimator, "dense_kl": times, "width": 0.25, "rho_init": -3.0} | shape
    trainer, images, targets = prepared(tmp_path, **made)
    trainer.forward(images)
    kl, expected = kl_of(trainer.model, trainer.settings), 0.0
    kl.backward()
    for layer in bayesian_layers(trainer.model):
        weight = 2 if times == "twice" and isinstance(layer, BayesianLinear) else 1
        posterior, prior = Normal(layer.mu.detach(), layer.sigma.detach()), Normal(0.0, 1.0)
        expected += weight * float(torch.distributions.kl_divergence(posterior, prior).double().sum())
        assert layer.mu.grad is not None
        torch.testing.assert_close(layer.mu.grad, weight * layer.mu.detach())
    assert float(kl) == pytest.approx(expected, rel=1e-5)
    _, told = trainer.step(0, images, targets, lap)
    nll, in_loss, loss = told[:3].tolist()
    assert in_loss == pytest.approx(expected, rel=1e-5)
    assert loss == pytest.approx(nll + in_loss / 32, rel=1e-5)


@pytest.mark.parametrize("kind", ["bnn", "cnn"])
def test_mixed_precision_leaves_parameters_gradients_loss_and_kl_in_full(tmp_path: Path, kind: str) -> None:
    trainer, images, _ = prepared(tmp_path, kind=kind, mixed_precision="bfloat16", rho_init=-4.0)
    seen = []
    bayesian = set(bayesian_layers(trainer.model))
    conv = next(m for m in trainer.model.modules() if isinstance(m, nn.Conv2d) or m in bayesian)
    conv.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    key = NoiseKey(1, 2)
    key_noise(trainer.model, key)
    low = trainer.forward(images)
    key_noise(trainer.model, key)
    full = trainer.model(images)
    assert seen == [torch.bfloat16, torch.float32]
    assert low.dtype == torch.float32
    assert not torch.equal(low, full)
    torch.testing.assert_close(low, full, rtol=0.05, atol=0.15)
    assert kl_divergence(trainer.model).dtype == torch.float32
    low.sum().backward()
    assert {parameter.grad.dtype for parameter in trainer.model.parameters()} == {torch.float32}


def test_a_compiled_conventional_model_computes_the_same(tmp_path: Path) -> None:
    settings = TrainSettings.model_validate({**SMALL, "model": "conv", "kind": "cnn", "baseline": "cnn-compiled"})
    trainer, images, labels = prepared(tmp_path, **settings.model_dump())
    gradients = []
    for forward in (trainer.forward, trainer.model):
        functional.cross_entropy(forward(images), labels).backward()
        gradients.append([parameter.grad for parameter in trainer.model.parameters()])
        trainer.model.zero_grad(set_to_none=True)
    for compiled, plain in zip(*gradients, strict=True):
        torch.testing.assert_close(compiled, plain, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("estimator", ["flipout", "local-reparameterization"])
def test_a_compiled_bayesian_model_is_one_graph_with_noise_by_step_and_rank(estimator: str) -> None:
    settings = TrainSettings.model_validate(
        {**SMALL, "model": "fc", "dataset_options": {}, "estimator": estimator, "compile": True, "rho_init": -2.0}
    )

    class Shape:
        input_shape, classes = (1, 6, 6), 10

    model = make_model(settings, Shape())  # type: ignore[arg-type]
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    forward, images = make_forward(settings, model), torch.rand(4, 1, 6, 6)

    def output(key: NoiseKey) -> Tensor:
        key_noise(model, key, settings.compiled)
        return forward(images)

    first = output(NoiseKey(1, 5, 0))
    kl = kl_divergence(model)
    (first.sum() + kl).backward()
    assert all(bool(parameter.grad.any()) for parameter in model.parameters())
    assert torch.equal(first, output(NoiseKey(1, 5, 0)))
    assert not torch.equal(first, output(NoiseKey(1, 5, 1)))
    assert not torch.equal(first, output(NoiseKey(1, 6, 0)))
    assert not torch._dynamo.utils.counters["graph_break"]
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1
    # evaluation gives the layers generators of their own; the next compiled step does without them again
    with torch.no_grad():
        key_noise(model, NoiseKey(1, 5, 0))
        model(images)
    assert torch.equal(first, output(NoiseKey(1, 5, 0)))
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1
    draws = torch.stack([output(NoiseKey(1, step)).detach() for step in range(500)])
    key_noise(model, NoiseKey(1, 5, 0))
    plain = torch.stack([model(images).detach() for _ in range(500)])
    torch.testing.assert_close(draws.std(0).mean(), plain.std(0).mean(), rtol=0.05, atol=0)


@pytest.mark.parametrize("settings", [{}, {"estimator": "reparameterization"}, {"kind": "cnn"}], ids=["", "rep", "cnn"])
def test_steps_are_bit_for_bit_those_that_their_definition_makes(tmp_path: Path, settings: dict[str, Any]) -> None:
    """The loop by hand, without a trainer: the same noise, the same operations in the same order."""
    settings = {**SMALL, "learning_rate": 1e-2, "rho_init": -3.0, "beta": 0.5, **settings}
    run = start_run(TrainSettings.model_validate(settings), tmp_path, SingleEngine())
    asked, data, schedule = run.settings, run.dataset, run.trainer.schedule
    model = make_model(asked, data)
    optimizer = make_optimizer(asked, model, 1)
    for step in range(4):
        _, metrics = run.trainer.step(step, *run.trainer.batch(data.train, step), lap)
        images, labels = form_of(asked, run.trainer.layout).tensors(data.train, schedule.indices(step, 0))
        torch.manual_seed(layer_seed(NoiseKey(asked.seed, step, 0), -1))
        set_noise(model, NoiseKey(asked.seed, step, 0))
        nll, kl = functional.cross_entropy(model(images), labels), kl_divergence(model)
        loss = nll + 0.5 * kl / 32
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        assert metrics[:3].tolist() == [nll.item(), kl.item(), loss.item()]
    for ours, byhand in zip(run.trainer.model.parameters(), model.parameters(), strict=True):
        assert torch.equal(ours, byhand)


def test_a_step_that_is_timed_alone_is_the_runs_own(tmp_path: Path) -> None:
    trainer, images, labels = prepared(tmp_path / "a", estimator="flipout")
    twin, _, _ = prepared(tmp_path / "b", estimator="flipout")
    for step in range(3):
        _, metrics = trainer.step(step, images, labels, lap)
        seconds, loss = timed_step(twin, step, images, labels, StepClock("cpu"))
        assert loss == metrics[2].item()
        assert 0 < seconds["seconds_optimizer"] < seconds["seconds"]
