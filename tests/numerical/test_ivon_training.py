"""Runs by IVON: which parameters have noise, the posterior that is evaluated and saved, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from bnn import kernels
from bnn.engine import SingleEngine
from bnn.errors import UserError
from bnn.ivon import Ivon
from bnn.layers import BayesianLayer, NoiseKey, bayesian_layers, set_noise
from bnn.posterior import load_posterior, save_posterior
from bnn.settings import TrainSettings
from bnn.training.evaluation import evaluate
from bnn.training.run import Run
from bnn.training.start import start_run

SMALL = {
    "dataset": "synthetic", "dataset_options": {"shape": [3, 16, 16], "size": 32}, "model": "resnet18", "width": 0.125,
    "batch_size": 4, "engine": "single", "estimator": "ivon", "learning_rate": 0.05, "ivon_beta2": 0.9,
}  # fmt: skip


@pytest.fixture(params=[True, False], ids=["kernels", "torch"], autouse=True)
def by_kernels(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    monkeypatch.setattr(kernels, "available", lambda: request.param)
    return bool(request.param)


def started(folder: Path, **settings: Any) -> tuple[Run, Ivon]:
    run = start_run(TrainSettings.model_validate({**SMALL, **settings}), folder, SingleEngine())
    assert isinstance(run.trainer.optimizer, Ivon)
    return run, run.trainer.optimizer


def step(run: Run, index: int) -> torch.Tensor:
    images, targets = run.trainer.batch(run.dataset.train, index)
    return run.trainer.step(index, images, targets, lambda: None)[1]


def test_weights_of_linear_maps_have_noise_and_nothing_else(tmp_path: Path, by_kernels: bool) -> None:
    run, optimizer = started(tmp_path)
    model = run.trainer.model
    assert run.trainer.implementation == ("bnn-ivon" if by_kernels else "bnn-ivon-torch")
    assert not list(bayesian_layers(model))
    weights = {m.weight for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)}
    assert set(optimizer.noisy) == weights
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    run.trainer.draw(0)
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name]) == (parameter not in weights), name


def test_a_step_records_the_posteriors_kl_and_leaves_the_means(tmp_path: Path) -> None:
    run, optimizer = started(tmp_path, ivon_ess=64.0)
    prior = torch.distributions.Normal(0.0, optimizer.options.prior_scale)
    for index in range(3):
        expected = sum(
            float(torch.distributions.kl_divergence(
                torch.distributions.Normal(p.detach().double(), optimizer.sigma(p)), prior
            ).sum())
            for p in optimizer.noisy
        )  # fmt: skip
        nll, kl, loss, *_ = step(run, index)
        assert float(kl) == pytest.approx(expected, rel=1e-5)
        assert float(loss) == pytest.approx(float(nll) + float(kl) / 64, rel=1e-5)
        assert float(optimizer.state[optimizer.noisy[0]]["step"]) == index + 1


def test_the_posterior_has_what_was_learnt_and_runs_from_its_file(tmp_path: Path) -> None:
    run, optimizer = started(tmp_path / "run")
    for index in range(4):
        step(run, index)
    model, twin = run.trainer.model, run.trainer.posterior()
    layers = dict(twin.named_modules())
    for name, module in model.named_modules():
        if not isinstance(module, nn.Conv2d | nn.Linear):
            continue
        layer = layers[name]
        assert isinstance(layer, BayesianLayer)
        assert torch.equal(layer.mu, module.weight)
        torch.testing.assert_close(layer.sigma.double(), optimizer.sigma(module.weight), rtol=1e-5, atol=0)
        assert layer.prior_scale == pytest.approx(1 / np.sqrt(32 * 1e-4))
    for name, buffer in model.named_buffers():
        assert torch.equal(buffer, dict(twin.named_buffers())[name]), name
    images = torch.rand(2, 3, 16, 16)
    save_posterior(twin, tmp_path / "posterior", example_input=images[:1], step=4)
    loaded = load_posterior(tmp_path / "posterior")
    for network in (twin, loaded):
        network.eval()
        set_noise(network, NoiseKey(1, 2, 3))
    with torch.no_grad():
        torch.testing.assert_close(loaded(images), twin(images))
    model.eval()
    with torch.no_grad():  # draws differ from the mean's output, and are about it
        assert not torch.allclose(twin(images), model(images), rtol=1e-6, atol=1e-6)


def test_an_evaluation_draws_from_the_posterior_and_changes_nothing(tmp_path: Path) -> None:
    run, _ = started(tmp_path, evaluate_draws=3)
    step(run, 0)
    before = {name: t.clone() for name, t in run.trainer.model.state_dict().items()}
    generator = torch.get_rng_state()
    first, second = evaluate(run, 1), evaluate(run, 1)
    assert first.model_copy(update={"seconds": 0.0}) == second.model_copy(update={"seconds": 0.0})
    assert first.draws == 3
    assert first.draw_spread is not None
    assert first.draw_spread > 1e-4
    assert torch.equal(generator, torch.get_rng_state())
    assert all(torch.equal(t, before[name]) for name, t in run.trainer.model.state_dict().items())
    assert run.trainer.model.training


def test_gradients_are_those_of_the_conventional_network_at_the_sample(tmp_path: Path) -> None:
    run, optimizer = started(tmp_path)
    images, targets = run.trainer.batch(run.dataset.train, 0)
    model = run.trainer.model
    run.trainer.draw(0)
    functional.cross_entropy(model(images), targets).backward()
    first = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    optimizer.step()
    start = optimizer.noisy[0].detach().clone()
    step(run, 0)
    g = optimizer.state[optimizer.noisy[0]]["momentum"]
    name = next(name for name, p in model.named_parameters() if p is optimizer.noisy[0])
    torch.testing.assert_close(g, 0.1 * first[name], rtol=1e-4, atol=1e-7)
    assert not torch.equal(start, optimizer.noisy[0])


@pytest.mark.parametrize("model", ["lenet", "volume", "reads_weight", "tokens_first"])
def test_users_models_take_it(tmp_path: Path, model: str) -> None:
    run, optimizer = started(tmp_path, model=f"tests.support.own_models:{model}", width=1.0)
    assert torch.isfinite(step(run, 0)[:3]).all()
    assert {row.name for row in run.conversion if row.bayesian} == {
        name for name, p in run.trainer.model.named_parameters() if p in set(optimizer.noisy)
    }


def test_a_frozen_weight_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"estimator ivon: parameter 0\.weight is frozen"):
        started(tmp_path, model="tests.support.models:frozen", width=1.0)
