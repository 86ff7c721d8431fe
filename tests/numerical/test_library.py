"""The public face: names of `bnn`, what they refuse, and the programs of docs/ as they stand there."""

from __future__ import annotations

import inspect
import json
import math
import re
import subprocess
import sys
from contextlib import chdir
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import bnn
from bnn.inference.measures import entropy
from bnn.inference.predictor import Predictor
from bnn.posterior import GraphNetwork
from bnn.posterior.trace import trace
from tests.support.posteriors import paper_network

DOCS = Path(bnn.__file__).parents[1] / "docs"


WIDE = bnn.PosteriorInit(rho_init=-2.0)  # draws that differ well


def graph_of(model: nn.Module, example: Tensor) -> GraphNetwork:
    return trace(model, example, 0, {})[1]


def run_page(page: Path, folder: Path) -> dict[str, Any]:
    """What the program of a page's blocks leaves, run in `folder`."""
    blocks = re.findall(r"^```python\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE)
    assert blocks
    left: dict[str, Any] = {"__name__": "page"}
    with chdir(folder):
        exec(compile("\n".join(blocks), str(page), "exec"), left)  # noqa: S102
    return left


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the page's program leaves, its folder included."""
    folder = tmp_path_factory.mktemp("library")
    left = run_page(DOCS / "library.md", folder)
    return left | {"folder": str(folder / "digits-posterior")}


def test_the_page_trains_saves_loads_and_predicts(program: dict[str, Any]) -> None:
    assert float(program["accuracy"]) > 0.8
    straight, turned = program["prediction"], program["upside_down"]
    assert float(turned.mutual_information.mean()) > 1.5 * float(straight.mutual_information.mean())
    assert math.isfinite(program["loss"].item())
    assert (Path(program["folder"]) / "graph.json").is_file()


def test_the_page_of_networks_converts_saves_and_predicts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    left = run_page(DOCS / "networks.md", tmp_path)
    said = capsys.readouterr().out
    assert re.search(r"mix\.weight_hh_l0 +2304 Bayesian: ", said)
    assert re.search(r"norm\.weight +24 conventional: ", said)
    assert (tmp_path / "rows-posterior" / "graph.json").is_file()
    assert {row.bayesian for row in bnn.conversion_report(left["model"])} == {True, False}


def test_a_model_its_posterior_and_its_folder_predict_the_same(program: dict[str, Any]) -> None:
    images = program["test_images"][:40]
    of_model = bnn.predict(program["model"], images, draws=3, seed=5)
    for other in (program["posterior"], program["folder"], Path(program["folder"])):
        assert torch.equal(bnn.predict(other, images, draws=3, seed=5).probability, of_model.probability)
    assert not torch.equal(bnn.predict(program["model"], images, draws=3, seed=6).probability, of_model.probability)


def test_importing_loads_nothing_heavy_and_names_come_with_their_use() -> None:
    code = """
import json, sys, bnn
heavy = lambda: sorted({"torch", "numpy", "pandas", "scipy", "pydantic", "horovod"} & sys.modules.keys())
seen = [heavy(), sorted(set(bnn.__all__) - set(dir(bnn))), heavy()]
from bnn import UserError
seen.append(heavy())
bnn.convert
print(json.dumps([*seen, "torch" in heavy(), "convert" in vars(bnn)]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [[], [], [], [], True, True]


def test_every_public_name_is_there_and_says_what_it_is() -> None:
    assert bnn.__all__ == sorted(bnn.__all__)
    for name in bnn.__all__:
        value = getattr(bnn, name)
        if name == "__version__":
            continue
        assert value.__name__ == name
        text = inspect.getdoc(value) or ""
        assert len(text) > 40, name
        if inspect.isfunction(value) and name != "mean_only":
            assert "UserError" in text, f"{name}: which errors"
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        bnn.nothing  # noqa: B018


@pytest.fixture(scope="module")
def network() -> GraphNetwork:
    return paper_network("fc")


def images(count: int, shape: tuple[int, ...] = (1, 28, 28)) -> Tensor:
    return torch.rand(count, *shape, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("mode", ["exact", "flipout", "local-reparameterization"])
def test_a_prediction_is_what_the_draws_say(network: GraphNetwork, mode: str) -> None:
    inputs = images(7)
    found = bnn.predict(network, inputs, draws=6, seed=2, mode=mode)
    draws = torch.stack(list(Predictor(network, mode).probabilities(2, 0, 6, [inputs]))).double()
    torch.testing.assert_close(found.probability, draws.mean(0), rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(found.probability_std, draws.std(0), rtol=1e-5, atol=1e-9)
    expected = torch.from_numpy(entropy(draws.numpy())).mean(0)
    torch.testing.assert_close(found.expected_entropy, expected, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(found.predictive_entropy, found.expected_entropy + found.mutual_information)
    assert bool((found.mutual_information > 0).all())
    assert found.draws == 6
    assert found.label.tolist() == draws.mean(0).argmax(1).tolist()


def test_more_inputs_than_a_block_and_more_draws_go_on_where_fewer_stopped(network: GraphNetwork) -> None:
    inputs = images(Predictor(network).block + 3)
    whole = bnn.predict(network, inputs, draws=2)
    torch.testing.assert_close(bnn.predict(network, inputs[-3:], draws=2).probability, whole.probability[-3:])
    one, more = (bnn.predict(network, inputs[:3], draws=draws).probability for draws in (1, 2))
    torch.testing.assert_close(more, whole.probability[:3])
    assert not torch.equal(one, more)
    assert bool(bnn.predict(network, inputs[:3], draws=1).probability_std.isnan().all())


@pytest.mark.parametrize("mode", ["exact", "flipout"])
def test_every_pixel_of_a_segmentation_has_a_prediction(mode: str) -> None:
    torch.manual_seed(0)
    model = bnn.convert(nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 4, 1)), init=WIDE)
    network = graph_of(model, images(2, (3, 5, 7)))
    inputs = images(3, (3, 5, 7))
    found = bnn.predict(network, inputs, draws=6, seed=2, mode=mode)
    draws = torch.stack(list(Predictor(network, mode).logits(2, 0, 6, [inputs]))).double().softmax(2)
    torch.testing.assert_close(found.probability, draws.mean(0), rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(found.probability_std, draws.std(0), rtol=1e-4, atol=1e-7)
    expected = torch.from_numpy(entropy(draws.movedim(2, -1).numpy())).mean(0)
    torch.testing.assert_close(found.expected_entropy, expected, rtol=1e-5, atol=1e-7)
    assert found.label.shape == found.mutual_information.shape == found.variation_ratio.shape == (3, 5, 7)
    assert torch.equal(found.label, draws.mean(0).argmax(1))


@pytest.mark.parametrize("own_variance", [False, True])
def test_a_regressions_variance_is_that_of_the_mixture_of_its_draws(own_variance: bool) -> None:
    torch.manual_seed(0)
    model = bnn.convert(nn.Sequential(nn.Flatten(), nn.Linear(12, 4 if own_variance else 2)), init=WIDE)
    network, inputs = graph_of(model, images(2, (1, 3, 4))), images(5, (1, 3, 4))
    std = None if own_variance else 0.3
    found = bnn.predict_values(network, inputs, 2, draws=7, seed=3, observation_std=std)
    draws = torch.stack(list(Predictor(network).logits(3, 0, 7, [inputs]))).double()
    means = draws[..., :2]
    noise = draws[..., 2:].exp().mean(0) if own_variance else torch.full_like(means[0], 0.09)
    torch.testing.assert_close(found.mean, means.mean(0))
    torch.testing.assert_close(found.epistemic_std, means.std(0))
    torch.testing.assert_close(found.std.square(), means.var(0) + noise)
    assert bool(bnn.predict_values(network, inputs, 2, draws=1, observation_std=std).epistemic_std.isnan().all())


@pytest.mark.parametrize(
    ("width", "arguments", "what"),
    [
        (2, {"values": 2}, "observation_std: the standard deviation of the targets must be given"),
        (2, {"values": 2, "observation_std": 0.0}, "observation_std=0.0: must be above 0"),
        (4, {"values": 2, "observation_std": 1.0}, "the model predicts variances itself"),
        (3, {"values": 2}, r"output has shape \[None, 3\], not \(N, 2\) or \(N, 4\)"),
        (2, {"values": True}, "values=True: must be a whole number"),
        (2, {"values": 2, "draws": 0}, "predict_values: draws=0"),
    ],
)
def test_what_no_regression_can_mean_is_refused(width: int, arguments: dict[str, Any], what: str) -> None:
    network = graph_of(bnn.convert(nn.Sequential(nn.Flatten(), nn.Linear(12, width))), images(2, (1, 3, 4)))
    with pytest.raises(bnn.UserError, match=what):
        bnn.predict_values(network, images(2, (1, 3, 4)), **arguments)


def test_a_posterior_is_predicted_as_the_task_that_it_was_trained_for() -> None:
    network, inputs = (
        graph_of(bnn.convert(nn.Sequential(nn.Flatten(), nn.Linear(12, 2))), images(2, (1, 3, 4))),
        images(2, (1, 3, 4)),
    )
    network.graph.extra["settings"] = {"task": "regression", "observation_std": 0.5}
    assert bool((bnn.predict_values(network, inputs, 2, draws=2).aleatoric_std == 0.5).all())
    with pytest.raises(bnn.UserError, match=r"trained for regression; bnn\.predict_values predicts values"):
        bnn.predict(network, inputs, draws=2)
    network.graph.extra["settings"] = {}
    with pytest.raises(bnn.UserError, match=r"trained for classification; bnn\.predict predicts classes"):
        bnn.predict_values(network, inputs, 2, draws=2)


def test_a_model_is_as_it_was_after_a_prediction() -> None:
    torch.manual_seed(0)
    body = [nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5), nn.Flatten(), nn.Linear(4 * 36, 3)]
    model = bnn.convert(nn.Sequential(*body)).train()
    model[1].eval()  # type: ignore[index, union-attr]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    bnn.set_noise(model, bnn.NoiseKey(4))
    torch.manual_seed(1)
    expected = model(images(2, (1, 8, 8)))
    bnn.predict(model, images(5, (1, 8, 8)), draws=2)
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items() if "norm" not in name)
    bnn.set_noise(model, bnn.NoiseKey(4))
    torch.manual_seed(1)
    assert torch.equal(model(images(2, (1, 8, 8))), expected)


class Deciding(nn.Module):
    """Looks at its data, which no trace can hold."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(x)
        return y if y.sum() > 0 else -y


class Softened(nn.Module):
    """Returns probabilities, through an operation that changes their shape alone."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return torch.softmax(self.head(x), 1).flatten(1)


def ending(last: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 3), last)


def saved(net: nn.Module, **changed: Any) -> None:
    given = {"model": net, "folder": "/nowhere/never", "example_input": images(2), "step": 1} | changed
    bnn.save_posterior(given.pop("model"), given.pop("folder"), **given)


def saved_small(**changed: Any) -> None:
    saved(bnn.convert(ending(nn.ReLU())), **{"example_input": images(2, (4,))} | changed)


def test_a_folder_of_other_files_is_not_replaced_and_a_posterior_is(tmp_path: Path) -> None:
    model, mine = bnn.convert(ending(nn.ReLU())), tmp_path / "thesis.tex"
    mine.write_text("mine")
    with pytest.raises(bnn.UserError, match=r"not empty, and no posterior \(no graph\.json\)"):
        bnn.save_posterior(model, tmp_path, example_input=images(2, (4,)), step=1)
    assert mine.read_text() == "mine"
    for step in (1, 2):
        bnn.save_posterior(model, tmp_path / "new", example_input=images(2, (4,)), step=step)
    assert bnn.load_posterior(tmp_path / "new").graph.step == 2


def test_a_log_softmax_at_the_end_changes_nothing() -> None:
    inputs = images(3, (4,))
    logits, logs = (
        bnn.predict(bnn.convert(ending(last)), inputs, draws=3).probability
        for last in (nn.Identity(), nn.LogSoftmax(1))
    )
    torch.testing.assert_close(logs, logits, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: bnn.FlipoutConv2d(1, 2, 3, groups=0), "groups=0: must be a whole number from 1 on"),
        (lambda: bnn.FlipoutConv2d(0, 2, 3), "in_channels=0: must be"),
        (lambda: bnn.ReparameterizationLinear(-1, 2), "in_features=-1: must be"),
        (lambda: bnn.FlipoutLinear(1, 2, layer_index="a"), "layer_index='a': must be a whole number, or None"),
    ],
)
def test_layers_of_impossible_sizes_are_a_value_error(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda net: bnn.predict(net, images(2), draws=0), "draws=0: must be a whole number from 1 on"),
        (lambda net: bnn.predict(net, images(2), draws=2.5), "draws=2.5: must be a whole number"),
        (lambda net: bnn.predict(net, images(2), draws=True), "draws=True: must be a whole number"),
        (lambda net: bnn.predict(net, images(2), seed=True), "seed=True: must be a whole number"),
        (lambda net: bnn.predict(net, images(2) * torch.nan), "inputs hold values that are not finite"),
        (lambda net: bnn.predict(net, images(2), seed=-1), "seed=-1: must be a whole number from 0"),
        (lambda net: bnn.predict(net, images(2), mode="mean"), "mode mean: unknown; there are exact"),
        (lambda net: bnn.predict(net, images(0)), r"inputs of shape \[0, 1, 28, 28\]; give at least one"),
        (lambda net: bnn.predict(net, (255 * images(2)).byte()), "inputs are a tensor of torch.uint8; give a floating"),
        (lambda net: bnn.predict(net, images(2).numpy()), "inputs are a ndarray"),
        (lambda net: bnn.predict(net, images(2, (3, 8, 8))), r"inputs of shape \['N', 3, 8, 8\]; this posterior takes"),
        (lambda net: bnn.predict("/nowhere", images(2)), "/nowhere: no posterior there"),
        (lambda net: bnn.predict(7, images(2)), "a int is neither a model nor the folder of a posterior"),
        (lambda net: bnn.predict(nn.Linear(4, 3), images(2, (4,))), "Linear: no Bayesian layer in it"),
        (lambda net: bnn.predict(bnn.convert(Deciding()), images(2, (4,))), "Deciding cannot be recorded"),
        (lambda net: bnn.predict(bnn.convert(nn.Sequential(nn.Linear(4, 3))), images(2, (5,))), "do not go through it"),
        (lambda net: bnn.predict(bnn.convert(nn.Sequential(nn.Linear(4, 1))), images(2, (4,))), "two classes or more"),
        (lambda net: bnn.convert(nn.ReLU()), "ReLU has no weights of linear maps"),
        (lambda net: bnn.convert("net"), "convert: a str is no torch module"),
        (
            lambda net: bnn.convert(nn.Linear(1, 1), estimator="dropout"),
            "estimator dropout: unknown; there are",
        ),
        (lambda net: bnn.kl_divergence(images(2)), "kl_divergence: a Tensor is no torch module"),
        (lambda net: bnn.set_noise(net, 7), r"set_noise: 7 is no NoiseKey\(seed, step, rank\)"),
        (lambda net: bnn.NoiseKey(1, 0.5), "noise of step 0.5: must be a whole number"),
        (lambda net: bnn.set_noise("x", bnn.NoiseKey(1)), "set_noise: a str is no torch module"),
        (lambda net: bnn.mean_only("x").__enter__(), "mean_only: a str is no torch module"),
        (lambda net: bnn.number_layers("x"), "number_layers: a str is no torch module"),
        (lambda net: bnn.convert(nn.Linear(1, 1), init="x"), "init='x': must be a PosteriorInit"),
        (lambda net: bnn.convert(nn.Linear(1, 1), estimator=["a"]), r"estimator \['a'\]: unknown; there are"),
        (lambda net: bnn.predict(bnn.convert(ending(nn.Softmax(1))), images(2, (4,))), "layer 1: the model ends in a"),
        (lambda net: bnn.predict(bnn.convert(Softened()), images(2, (4,))), "operation _softmax: the model ends in a"),
        (lambda net: bnn.PosteriorInit(prior_scale=0.0), "prior_scale 0: must be above 0"),
        (lambda net: bnn.PosteriorInit(rho_init_std=-1.0), "rho_init_std -1: must be at least 0"),
        (lambda net: bnn.PosteriorInit(rho_init=math.nan), "rho_init nan: must be a finite number"),
        (lambda net: bnn.load_posterior(None), "load_posterior: a NoneType is no path"),
        (lambda net: saved(net, model="x"), "save_posterior: a str is no torch module"),
        (lambda net: saved(net, example_input=None), "save_posterior: example_input is a NoneType"),
        (lambda net: saved(net, step="a"), "save_posterior: step='a': must be a whole number"),
        (lambda net: saved(net, extra={"a": object()}), "save_posterior: extra: must be a mapping of JSON values"),
        (lambda net: saved_small(example_input=images(2, (5,))), "do not go through it"),
        (lambda net: saved_small(folder="/proc/nowhere/posterior"), "/proc/nowhere/posterior: "),
        (lambda net: saved_small(folder=__file__), "test_library.py: Not a directory"),
        (lambda net: bnn.load_posterior("/nowhere"), "/nowhere/graph.json: No such file"),
    ],
)
def test_bad_arguments_are_one_line(network: GraphNetwork, make: Any, message: str) -> None:
    with pytest.raises(bnn.UserError, match=message) as caught:
        make(network)
    assert "\n" not in str(caught.value)
