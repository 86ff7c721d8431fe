"""Likelihoods and held-out measures of classification, segmentation and regression, against torch.distributions."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal, Normal

from bnn.data import Dataset, load_dataset
from bnn.errors import UserError
from bnn.inference.tasks import refuse_other_tasks
from bnn.posterior.schema import Graph
from bnn.settings import SettingsError, TrainSettings, parse_settings
from bnn.training.measures import ClassSums, RegressionSums
from bnn.training.task import Classification, Regression, Segmentation, make_task


def test_a_segmentations_nll_is_the_sum_over_pixels() -> None:
    torch.manual_seed(0)
    task = Segmentation(5, 3, 4)
    logits, labels = torch.randn(2, 5, 3, 4), torch.randint(5, (2, 3, 4))
    expected = -Categorical(logits=logits.movedim(1, -1)).log_prob(labels).sum((1, 2)).mean()
    torch.testing.assert_close(task.nll(logits, labels), expected)
    flat_logits, flat_labels = task.flat_logits(logits), task.flat_labels(labels)
    assert torch.equal(flat_logits[7], logits[0, :, 1, 3])
    assert flat_labels[7] == labels[0, 1, 3]
    right = (logits.argmax(1) == labels).float().mean()
    assert task.accuracy(logits, labels) == right


@pytest.mark.parametrize("predicted", [False, True])
def test_a_regressions_nll_is_the_gaussians(predicted: bool) -> None:
    torch.manual_seed(0)
    task = Regression(3, noise=0.4)
    mean, log_variance, target = torch.randn(6, 3), torch.randn(6, 3), torch.randn(6, 3)
    scale = (log_variance / 2).exp() if predicted else torch.full((6, 3), 0.4)
    output = torch.cat([mean, log_variance], 1) if predicted else mean
    expected = -Normal(mean, scale).log_prob(target).sum(1).mean()
    torch.testing.assert_close(task.nll(output, target), expected)
    assert math.isnan(task.accuracy(output, target))
    assert tuple(output.shape) in task.shapes(6)


def test_regression_measures_are_of_the_mixture_of_the_draws() -> None:
    torch.manual_seed(0)
    task = Regression(2, noise=0.7)
    draws, target = torch.randn(4, 5, 2), torch.randn(5, 2)
    sums = RegressionSums(task)
    for block in (slice(0, 3), slice(3, 5)):
        sums.add(draws[:, block], target[block], 4)
    found = sums.measures(np.array(sums.values), 5, 4)
    parts = MultivariateNormal(draws.double().movedim(0, 1), 0.49 * torch.eye(2).double())
    mixture = MixtureSameFamily(Categorical(torch.ones(5, 4).double()), parts)
    assert found["nll"] == pytest.approx(-float(mixture.log_prob(target.double()).mean()))
    assert found["rmse"] == pytest.approx(float((draws.mean(0) - target).square().mean().sqrt()))
    assert found["accuracy"] is None


def test_class_measures_are_per_pixel_and_nll_per_image() -> None:
    torch.manual_seed(0)
    draws, labels = torch.randn(3, 4, 5, 2, 2), torch.randint(5, (4, 2, 2))
    sums = ClassSums(Segmentation(5, 2, 2))
    sums.add(draws, labels, 3)
    found = sums.measures(np.array(sums.values), 4, 3)
    mean = draws.double().softmax(2).mean(0)
    truth = mean.gather(1, labels[:, None])[:, 0]
    assert found["nll"] == pytest.approx(-float(truth.log().sum((1, 2)).mean()))
    assert found["accuracy"] == pytest.approx(float((mean.argmax(1) == labels).double().mean()))
    plain = ClassSums(Classification(5))
    plain.add(draws[..., 0, 0], labels[:, 0, 0], 3)
    assert plain.measures(np.array(plain.values), 4, 3)["nll"] == pytest.approx(-float(truth[:, 0, 0].log().mean()))


def data(task: str) -> Dataset:
    return load_dataset("synthetic", None, shape=(3, 6, 5), size=4, test_size=2, classes=4, task=task)


@pytest.mark.parametrize(("task", "shape"), [("segmentation", (4, 6, 5)), ("regression", (4, 4))])
def test_targets_tell_the_task_and_another_is_refused(task: str, shape: tuple[int, ...]) -> None:
    dataset = data(task)
    assert (dataset.task, dataset.train.labels.shape) == (task, shape)
    made = make_task(TrainSettings(model="a:b", task=task), dataset)  # type: ignore[arg-type]
    assert made.shapes(7)[0] == ((7, 4, 6, 5) if task == "segmentation" else (7, 4))
    with pytest.raises(UserError, match=f"task classification: data set synthetic has targets of {task}"):
        make_task(TrainSettings(model="a:b"), dataset)
    with pytest.raises(UserError, match=f"task {task}: data set synthetic has targets of classification"):
        make_task(TrainSettings(model="a:b", task=task), data("classification"))  # type: ignore[arg-type]


def test_later_settings_leave_the_hash_of_older_runs_and_change_that_of_theirs() -> None:
    plain = TrainSettings(model="a:b")
    assert not {"task", "output", "observation_std"} & plain.science().keys()
    others = [{"task": "segmentation"}, {"output": "0"}, {"observation_std": 0.5}]
    hashes = {TrainSettings.model_validate({"model": "a:b", **other}).fingerprint() for other in others}
    assert len(hashes | {plain.fingerprint()}) == 4


@pytest.mark.parametrize("given", [{"task": "regression"}, {"output": "0"}])
def test_built_in_models_classify_and_have_one_output(given: dict[str, str]) -> None:
    with pytest.raises(SettingsError, match="vgg16"):
        parse_settings(given, "here")


def test_predictions_of_other_tasks_are_refused() -> None:
    graph = Graph(step=0, input_shape=[3, 6, 5], nodes=[], extra={"settings": {"task": "regression"}})
    with pytest.raises(UserError, match="trained for regression"):
        refuse_other_tasks(graph)
    refuse_other_tasks(graph.model_copy(update={"extra": {"settings": {}}}))
