"""Two real ranks against one process that does the work of both."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from torch.nn import functional

from bnn.data import load_dataset
from bnn.data.pipeline import Schedule
from bnn.engine import SingleEngine
from bnn.ivon import Ivon
from bnn.layers import NoiseKey, kl_divergence, set_noise
from bnn.records import SUMMARY, Summary
from bnn.settings import TrainSettings
from bnn.training.build import make_model, make_trainer
from bnn.training.descent import make_optimizer
from bnn.training.layout import layout_of
from bnn.training.trainer import form_of
from tests.support.ranks import SMALL, need_horovod, run_train

RANKS, STEPS = 2, 6
# Both sides do the same arithmetic on the same machine; only the average over ranks may be rounded another way, by one
# unit in the last place of values up to about 1. Adam turns such a difference of gradients into one of at most about
# the same size: its update is the learning rate (2e-3) times a ratio of gradients.
TOLERANCE = {"float32": 1e-6, "float64": 1e-13}
# IVON has no such bound: a difference of gradients of 1e-7 is one of the same size times the learning rate, per step.
IVON_TOLERANCE = {"float32": 1e-5, "float64": 1e-12}


def oracle(settings: TrainSettings) -> dict[str, np.ndarray]:
    """Parameters and mean running statistics after STEPS steps.

    In every step each rank's microbatch goes through with the noise and the BatchNorm statistics of that rank, and
    their gradients are averaged. No engine and no block takes part.
    """
    torch.set_num_threads(settings.threads)
    dataset = load_dataset(settings.dataset, settings.data_dir, **settings.dataset_options)
    schedule = Schedule(
        len(dataset.train), settings.batch_size, RANKS, settings.epochs, settings.seed, settings.sharding
    )
    models = [make_model(settings, dataset) for _ in range(RANKS)]
    form = form_of(settings, layout_of(settings, models[0]))
    optimizer = make_optimizer(settings, models[0], RANKS)
    for step in range(STEPS):
        for rank, model in enumerate(models):
            images, labels = form.tensors(dataset.train, schedule.indices(step, rank))
            set_noise(model, NoiseKey(settings.seed, step, rank))
            nll = functional.cross_entropy(model(images), labels)
            (nll + settings.beta * kl_divergence(model) / schedule.n).backward()
        for parameters in zip(*(model.parameters() for model in models), strict=True):
            # (a stack's mean would not lie in memory as the parameter does, which the fused Adam takes for granted)
            parameters[0].grad = sum(p.grad for p in parameters) / RANKS
        optimizer.step()
        for model in models:
            model.zero_grad(set_to_none=True)
        with torch.no_grad():
            for first, *others in zip(*(model.parameters() for model in models), strict=True):
                for other in others:
                    other.copy_(first)
    result = {name: parameter.detach().numpy() for name, parameter in models[0].named_parameters()}
    buffers = [dict(model.named_buffers()) for model in models]
    for name in buffers[0]:
        values = [b[name].double().numpy() for b in buffers]
        result[name] = np.mean(values, axis=0)
        if "running" in name:
            assert not np.array_equal(values[0], values[1])  # each rank has seen its own images only
    return result


def trained(folder: Path, **settings) -> tuple[dict[str, np.ndarray], Summary]:
    done = run_train(folder, ranks=RANKS, **{**settings, "save_posterior": True})
    assert done.returncode == 0, done.stderr
    (file,) = folder.glob("posterior/step-*/posterior.safetensors")
    return load_file(file), Summary.model_validate_json((folder / SUMMARY).read_text())


def assert_same(found: dict[str, np.ndarray], expected: dict[str, np.ndarray], tolerance: float) -> None:
    assert set(found) <= set(expected)
    assert {name for name in expected if "num_batches" not in name} <= set(found)
    for name, value in found.items():
        np.testing.assert_allclose(value, expected[name], rtol=tolerance, atol=tolerance, err_msg=name)


@pytest.mark.mpi
@pytest.mark.parametrize(
    ("estimator", "precision"), [("flipout", "float64"), ("flipout", "float32"), ("flipout-reference", "float64")]
)
def test_two_ranks_equal_one_process_with_two_microbatches(tmp_path: Path, estimator: str, precision: str) -> None:
    need_horovod()
    settings = {
        **SMALL, "width": 0.125, "estimator": estimator, "precision": precision, "engine": "horovod",
        "max_steps": STEPS, "gradient_block_mb": 0.25,
    }  # fmt: skip
    found, summary = trained(tmp_path / "cell", **settings)
    expected = oracle(TrainSettings.model_validate(settings))
    assert_same(found, expected, TOLERANCE[precision])
    # the bound is far below what training does: the start is no solution
    dataset = load_dataset(settings["dataset"], None, **settings["dataset_options"])
    start = make_model(TrainSettings.model_validate(settings), dataset)
    moved = max(np.abs(p.detach().numpy() - expected[name]).max() for name, p in start.named_parameters())
    assert moved > 100 * TOLERANCE[precision]
    assert 2 < summary.gradient_messages_per_step < 20
    width = 4 if precision == "float32" else 8
    assert summary.gradient_bytes_per_step == width * summary.parameters_trainable


def ivon_oracle(settings: TrainSettings) -> dict[str, np.ndarray]:
    """Means and sigmas after STEPS steps by IVON: each rank's sample of the same means, what both learn averaged."""
    torch.set_num_threads(settings.threads)
    dataset = load_dataset(settings.dataset, settings.data_dir, **settings.dataset_options)
    size = len(dataset.train)
    schedule = Schedule(size, settings.batch_size, RANKS, settings.epochs, settings.seed, settings.sharding)
    trainers = [make_trainer(settings, dataset, SingleEngine(), schedule) for _ in range(RANKS)]
    optimizers = [trainer.optimizer for trainer in trainers]
    shared = settings.ivon_noise == "shared"
    for step in range(STEPS):
        products: list[list[torch.Tensor]] = []
        for rank, (trainer, optimizer) in enumerate(zip(trainers, optimizers, strict=True)):
            assert isinstance(optimizer, Ivon)
            optimizer.param_groups[0]["lr"] = optimizer.param_groups[1]["lr"] = RANKS * settings.learning_rate
            images, labels = trainer.form.tensors(dataset.train, schedule.indices(step, rank))
            optimizer.sample(NoiseKey(settings.seed, step, 0 if shared else rank))
            functional.cross_entropy(trainer.model(images), labels).backward()
            products.append([torch.empty_like(p) for p in optimizer.noisy])
            for parameter, product in zip(optimizer.noisy, products[-1], strict=True):
                optimizer.product(parameter, parameter.grad, product.detach())
        for parameters in zip(*(trainer.model.parameters() for trainer in trainers), strict=True):
            mean = sum(p.grad for p in parameters) / RANKS
            for parameter in parameters:
                parameter.grad = torch.empty_like(parameter).copy_(mean).detach()
        for trainer, optimizer in zip(trainers, optimizers, strict=True):
            means = [(sum(several) / RANKS).detach() for several in zip(*products, strict=True)]
            optimizer.products = {} if shared else dict(zip(optimizer.noisy, means, strict=True))
            optimizer.step()
            trainer.model.zero_grad(set_to_none=True)
    result = {name: value.detach().numpy() for name, value in trainers[0].posterior().named_parameters()}
    statistics = [dict(trainer.model.named_buffers()) for trainer in trainers]
    return result | {name: np.mean([s[name].double().numpy() for s in statistics], axis=0) for name in statistics[0]}


@pytest.mark.mpi
@pytest.mark.parametrize(("noise", "precision"), [("rank", "float64"), ("shared", "float32")])
def test_two_ranks_by_ivon_equal_one_process_with_two_microbatches(tmp_path: Path, noise: str, precision: str) -> None:
    need_horovod()
    settings = {
        **SMALL, "width": 0.125, "estimator": "ivon", "learning_rate": 0.02, "ivon_beta2": 0.99, "ivon_noise": noise,
        "precision": precision, "engine": "horovod", "max_steps": STEPS, "gradient_block_mb": 0.25,
    }  # fmt: skip
    found, summary = trained(tmp_path / "cell", **settings)
    expected = ivon_oracle(TrainSettings.model_validate(settings))
    assert_same(found, expected, IVON_TOLERANCE[precision])
    dataset = load_dataset(settings["dataset"], None, **settings["dataset_options"])
    start = make_model(TrainSettings.model_validate(settings), dataset)
    weights = {name.replace("weight", "mu"): p for name, p in start.named_parameters() if p.dim() > 1}
    moved = max(np.abs(p.detach().numpy() - expected[name]).max() for name, p in weights.items())
    assert moved > 100 * IVON_TOLERANCE[precision]
    sent = summary.parameters_trainable - (0 if noise == "rank" else sum(p.numel() for p in weights.values()))
    assert summary.gradient_bytes_per_step == (4 if precision == "float32" else 8) * sent
    assert summary.gradient_messages_per_step > 2


@pytest.mark.mpi
def test_blocks_of_any_size_train_alike_on_two_ranks(tmp_path: Path) -> None:
    """A sum of two is the same in any order, so the block sizes cannot be told from the parameters."""
    need_horovod()
    settings = {"engine": "horovod", "max_steps": 4}
    results = [trained(tmp_path / str(size), **settings, gradient_block_mb=size) for size in (0, 0.05, 16)]
    for found, _ in results[1:]:
        for name, value in found.items():
            np.testing.assert_array_equal(value, results[0][0][name], err_msg=name)
    messages = [summary.gradient_messages_per_step for _, summary in results]
    assert messages[0] > messages[1] > messages[2] == 1
    assert len({summary.gradient_bytes_per_step for _, summary in results}) == 1


@pytest.mark.mpi
def test_a_parameter_that_no_rank_uses_does_not_hang_two(tmp_path: Path) -> None:
    need_horovod()
    settings = {"model": "tests.support.models:spare", "width": 1.0, "engine": "horovod", "save_posterior": False}
    done = run_train(tmp_path / "cell", ranks=RANKS, kind="cnn", max_steps=3, **settings)
    assert done.returncode == 0, done.stderr
