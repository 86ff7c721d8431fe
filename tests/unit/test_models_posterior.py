"""A posterior runs without the code that made it, bit for bit, and anything foreign in it is refused."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from bnn.errors import UserError
from bnn.layers import NoiseKey, PosteriorInit, kl_divergence, set_noise
from bnn.layers.convert import convert
from bnn.models.architectures import ARCHITECTURES
from bnn.models.build import build_model
from bnn.posterior import load_posterior, read_graph, save_posterior

WIDE = PosteriorInit(rho_init=-2.0)
KEY = NoiseKey(4, 5, 6)


class Functional(nn.Module):
    """Operations as users write them: functions, methods, operators, a shape, one layer used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.block = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(inplace=True))
        self.twice = nn.Conv2d(4, 4, 1)
        self.head = nn.Linear(8 * 3 * 3, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.block(x)
        x = functional.max_pool2d(functional.relu(self.twice(x)), 2)
        y = self.twice(x)
        y += x
        y = torch.cat([y * 0.5, functional.avg_pool2d(x, 3, stride=1, padding=1)], dim=1)
        y = functional.dropout(y, 0.5, self.training).view(x.size(0), -1)
        return functional.log_softmax(self.head(y.reshape(y.shape[0], -1)), dim=1)


def same_output(model: nn.Module, folder: Path, images: Tensor) -> None:
    loaded = load_posterior(folder)
    outputs = []
    for network in (model.eval(), loaded):
        set_noise(network, KEY)
        with torch.no_grad():
            outputs.append(network(images))
    assert torch.equal(*outputs)
    assert torch.equal(kl_divergence(loaded), kl_divergence(model))


@pytest.mark.parametrize("kind", ["bnn", "cnn"])
@pytest.mark.parametrize("model", ARCHITECTURES)
def test_saved_and_loaded_models_agree_bit_for_bit(model: str, kind: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = build_model(model, kind, input_shape=(2, 20, 17), classes=5, width=0.05, init=WIDE)
    images = torch.randn(3, 2, 20, 17)
    for _ in range(2):
        network(images)  # running statistics move
    before = {name: value.clone() for name, value in network.state_dict().items()}
    save_posterior(network, tmp_path / "step-2", example_input=images, step=2, extra={"dataset": "noise"})
    assert network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-2"]
    graph = read_graph(tmp_path / "step-2")
    assert (graph.step, graph.input_shape, graph.extra) == (2, [2, 20, 17], {"dataset": "noise"})
    assert load_posterior(tmp_path / "step-2").state_dict().keys() == network.state_dict().keys()
    same_output(network, tmp_path / "step-2", images)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_models_written_with_functions(tmp_path: Path, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    model = convert(Functional(), init=WIDE).to(dtype)
    images = torch.randn(4, 2, 6, 6, dtype=dtype)
    save_posterior(model, tmp_path / "p", example_input=images, step=0)
    same_output(model, tmp_path / "p", images)
    names = [node.layer for node in read_graph(tmp_path / "p").nodes if node.layer]
    assert names == ["block.0", "block.1", "twice", "twice", "head"]  # (a layer that works in place is an operation)


def test_the_models_code_is_not_needed(tmp_path: Path) -> None:
    (tmp_path / "gone.py").write_text(
        textwrap.dedent(
            """
            import torch
            from torch import nn
            class Net(nn.Module):
                def __init__(self):
                    super().__init__()
                    self.conv, self.out = nn.Conv2d(1, 3, 3), nn.Linear(48, 2)
                def forward(self, x):
                    return self.out(torch.relu(self.conv(x)).flatten(1))
            def make(input_shape, classes):
                return Net()
            """
        )
    )
    save = """
        import torch
        from bnn.layers import NoiseKey, set_noise
        from bnn.models.build import build_model
        from bnn.posterior import save_posterior
        net = build_model("gone:make", "bnn", input_shape=(1, 6, 6), classes=2)
        save_posterior(net, "p", example_input=torch.ones(1, 1, 6, 6), step=1)
        set_noise(net, NoiseKey(1)); print(net(torch.ones(2, 1, 6, 6)).tolist())
    """
    load = """
        import torch
        from bnn.layers import NoiseKey, set_noise
        from bnn.posterior import load_posterior
        net = load_posterior("p")
        set_noise(net, NoiseKey(1)); print(net(torch.ones(2, 1, 6, 6)).tolist())
    """

    def run(code: str) -> str:
        command = [sys.executable, "-c", textwrap.dedent(code)]
        environment = {"PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
        return subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True, text=True).stdout

    saved = run(save)
    (tmp_path / "gone.py").unlink()
    assert run(load) == saved
    assert saved.startswith("[[")


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    network = build_model("resnet18", "bnn", input_shape=(1, 8, 8), classes=3, width=0.02)
    folder = tmp_path_factory.mktemp("saved") / "p"
    save_posterior(network, folder, example_input=torch.zeros(1, 1, 8, 8), step=9)
    return folder


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    """A copy of its own, to be spoilt."""
    return Path(shutil.copytree(saved, tmp_path / "p"))


def test_text_files_list_variables_and_operations(folder: Path) -> None:
    layers = [line.split("\t") for line in (folder / "LayerNames.txt").read_text().splitlines()[1:]]
    tensors = load_file(folder / "posterior.safetensors")
    assert {line[2] for line in layers} == {name for name in tensors if "running" not in name and "batches" not in name}
    assert all(line[4] == "x".join(str(size) for size in tensors[line[2]].shape) for line in layers)
    assert [line[2:4] for line in layers[:3]] == [
        ["conv0.mu", "kernel mean"],
        ["conv0.rho", "kernel untransformed scale"],
        ["conv0.bias", "bias"],
    ]
    assert ["norm1_1", "BatchNorm2d", "norm1_1.weight", "gamma", "1"] in layers
    operations = [line.split("\t") for line in (folder / "OpsNames.txt").read_text().splitlines()[1:]]
    assert operations[0][1:] == ["input", "", "(None, 1, 8, 8)"]
    assert operations[1][:3] == ["conv0/sample", "sampling", "Normal"]
    assert operations[2] == ["conv0", "layer", "FastFlipoutConv2d", "(None, 1, 8, 8)"]
    assert operations[-1][1:] == ["logits", "", "(None, 3)"]
    assert [line[1] for line in operations].count("sampling") == 14
    assert sum(line[1:3] == ["function", "aten.add.Tensor"] for line in operations) == 4


def test_saving_again_replaces_and_a_failure_leaves_the_old(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = build_model("fc", "bnn", input_shape=(1, 4, 4), classes=3, width=0.02)
    save_posterior(network, folder, example_input=torch.zeros(1, 1, 4, 4), step=10)
    assert read_graph(folder).step == 10
    with pytest.raises(UserError, match=r"extra: must be a mapping of JSON values .*serialize"):
        save_posterior(network, folder, example_input=torch.zeros(1, 1, 4, 4), step=11, extra={"object": object()})
    monkeypatch.setattr("bnn.posterior.save.ops_names", lambda *_: 1 / 0)  # the last file to be written
    with pytest.raises(ZeroDivisionError):
        save_posterior(network, folder, example_input=torch.zeros(1, 1, 4, 4), step=11)
    assert read_graph(folder).step == 10
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


class Branching(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


class Loose(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale


def test_tensors_outside_of_layers_are_part_of_a_posterior(tmp_path: Path) -> None:
    model = Loose()
    nn.init.constant_(model.scale, 3.0)
    save_posterior(model, tmp_path / "p", example_input=torch.ones(1, 4), step=0)
    loaded = load_posterior(tmp_path / "p")
    assert [node.tensor for node in loaded.graph.nodes if node.op == "tensor"] == ["scale"]
    assert torch.equal(loaded(torch.ones(2, 4)), torch.full((2, 4), 3.0))


class Calling(nn.Module):
    def __init__(self, function: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Any:
        return self.function(x)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Branching(), "Branching cannot be recorded: it decides by values of its tensors"),
        (Calling(float), "Calling: inputs of shape .* do not go through it"),
        (Calling(lambda x: x.sum((1, 2, 3)).unsqueeze(1) if len(x) == 1 else x), "for a single example"),
        (Calling(torch.fft.fft), r"operation aten._fft_r2c.default \(.*test_models_posterior.py:\d+: "),
        (Calling(torch.rand_like), "operation aten.rand"),
        (Calling(lambda x: functional.dropout(x, 0.5)), "operation aten.*dropout|operation aten.*rand|bernoulli"),
        (Calling(lambda x: (x, x)), "must return one tensor"),
        (Calling(lambda x: x.sum()), "not .N, classes."),
        (nn.Sequential(nn.BatchNorm2d(4, track_running_stats=False)), "layer 0: a BatchNorm2d without running"),
    ],
)
def test_what_a_posterior_cannot_hold_is_refused(model: nn.Module, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        save_posterior(model, tmp_path / "p", example_input=torch.ones(1, 4, 4, 4), step=0)
    assert list(tmp_path.iterdir()) == []


def edit_graph(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        graph = json.loads((folder / "graph.json").read_text())
        change(graph)
        (folder / "graph.json").write_text(json.dumps(graph))

    return apply


def edit_tensors(change: Callable[[dict[str, Tensor]], Any]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        tensors = {name: tensor.clone() for name, tensor in load_file(folder / "posterior.safetensors").items()}
        change(tensors)
        save_file(tensors, folder / "posterior.safetensors")
        edit_graph(lambda graph: graph.update(tensors_sha256=None))(folder)  # (as graphs of earlier versions)

    return apply


def truncate(name: str) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        (folder / name).write_bytes((folder / name).read_bytes()[:-7])

    return apply


NODE_ADD = 9  # the first addition in the graph of `folder`


def add_with(value: Any) -> Callable[[dict[str, Any]], Any]:
    """Give the addition another second term, and inputs to match."""

    def apply(graph: dict[str, Any]) -> None:
        node = graph["nodes"][NODE_ADD]
        node["arguments"]["other"] = value
        node["inputs"] = node["inputs"][:1]

    return apply


DAMAGES = [
    (lambda folder: (folder / "graph.json").unlink(), "graph.json: No such file"),
    (lambda folder: (folder / "posterior.safetensors").unlink(), "posterior.safetensors: "),
    (truncate("graph.json"), "graph.json: not JSON"),
    (truncate("posterior.safetensors"), "posterior.safetensors: damaged"),
    (edit_graph(lambda g: g.update(schema_version=3)), "graph.json: schema_version"),
    (edit_graph(lambda g: g.update(code="x")), "graph.json: code"),
    (edit_graph(lambda g: g["nodes"].pop(0)), "begin with the only input"),
    (edit_graph(lambda g: g["nodes"][1].update(type="__import__")), "operation __import__: unknown"),
    (edit_graph(lambda g: g["nodes"][NODE_ADD].update(type="eval")), "operation eval: unknown"),
    (
        edit_graph(lambda g: g["nodes"][NODE_ADD]["arguments"].update(z=1)),
        "operation aten.add.Tensor: unknown argument z",
    ),
    (edit_graph(lambda g: g["nodes"][NODE_ADD]["arguments"].pop("other")), "its inputs are not the nodes"),
    (edit_graph(add_with({"a": 1})), "argument .*: unknown"),
    (edit_graph(add_with("text")), "do not fit together"),
    (edit_graph(lambda g: g["nodes"][NODE_ADD]["inputs"].pop()), "its inputs are not the nodes"),
    (edit_graph(lambda g: g["nodes"][1]["arguments"].update(stride=[2, 2])), "node conv0: output shape"),
    (edit_graph(lambda g: g["nodes"][1]["arguments"].update(generator=3)), "operation FastFlipoutConv2d: arguments"),
    (
        edit_graph(lambda g: g["nodes"][1]["arguments"].update(in_channels="3")),
        "operation FastFlipoutConv2d: arguments",
    ),
    (edit_graph(lambda g: g["nodes"][1].update(layer="conv0..a")), "name 'conv0..a': impossible"),
    (edit_graph(lambda g: g["nodes"][2].update(inputs=["nowhere"])), "reads nowhere"),
    (edit_graph(lambda g: g["nodes"][2].update(name=g["nodes"][1]["name"])), "used twice"),
    (edit_graph(lambda g: g["nodes"][1].update(layer=None)), "a layer names its layer"),
    (edit_tensors(lambda t: t.pop("conv0.mu")), "no tensor conv0.mu"),
    (edit_tensors(lambda t: t.update(more=torch.ones(1))), "unexpected tensor more"),
    (edit_tensors(lambda t: t.update({"conv0.mu": torch.ones(2)})), "conv0.mu has shape"),
    (edit_tensors(lambda t: t.update({"conv0.bias": torch.ones(1, dtype=torch.int64)})), "conv0.bias is torch.int64"),
    (edit_tensors(lambda t: t["conv0.rho"].fill_(float("nan"))), "conv0.rho contains NaN"),
]


@pytest.mark.parametrize(("damage", "message"), DAMAGES, ids=[message for _, message in DAMAGES])
def test_damaged_and_foreign_posteriors_are_refused(folder: Path, damage: Callable[[Path], Any], message: str) -> None:
    damage(folder)
    with pytest.raises(UserError, match=message):
        load_posterior(folder)


def test_inputs_of_another_shape_are_refused(folder: Path) -> None:
    with pytest.raises(UserError, match="input shape"):
        load_posterior(folder)(torch.zeros(1, 1, 9, 8))
