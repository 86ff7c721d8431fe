"""A posterior that somebody else wrote may ask for nothing beyond the bounds, nor draw noise of its own."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

import bnn
from bnn.errors import UserError
from bnn.posterior import load_posterior, save_posterior
from bnn.posterior.arguments import needs, places
from bnn.posterior.facts import find_posterior, posterior_facts
from bnn.posterior.operations import OPERATIONS
from bnn.posterior.schema import TENSORS_FILE, references
from bnn.posterior.sizes import BATCHES
from bnn.records.files import GRAPH_FILE
from tests.fuzz.poison import fitting

SHAPE = (3, 4, 4)
X = {"node": "input"}


class Scaled(nn.Module):
    """A size that depends on the batch, and tensors outside of layers: of as many numbers as channels, and of fewer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.last = nn.Conv2d(3, 3, 3, padding=1), nn.Linear(4, 2)
        self.three, self.two = nn.Parameter(torch.rand(3)), nn.Parameter(torch.rand(2))

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x).reshape(x.shape[0] * 3, -1).reshape(-1, 3, 16) * self.three[:, None]
        return self.last(x.mean(1)[:, :4]) + self.two


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("foreign") / "p"
    save_posterior(bnn.convert(Scaled()), folder, example_input=torch.rand(2, *SHAPE), step=0)
    return folder


def with_nodes(folder: Path, *nodes: tuple[str, dict[str, Any], Any]) -> Path:
    """The posterior with more functions before its output: their types, arguments and the shapes of what they give."""
    graph = json.loads((folder / GRAPH_FILE).read_text())
    for number, (kind, arguments, shape) in enumerate(nodes):
        node = {"name": f"more_{number}", "op": "function", "type": kind, "arguments": arguments,
                "inputs": references(arguments), "output_shape": shape}  # fmt: skip
        graph["nodes"].insert(-1, node)
    (folder / GRAPH_FILE).write_text(json.dumps(graph))
    return folder


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    for file in whole.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path


SIZE = ("size", {"x": X}, None)


@pytest.mark.parametrize("kind", ["add", "sub", "mul", "truediv", "floordiv"])
@pytest.mark.parametrize(
    ("x", "y"),
    [
        ([0], 10**9), (10**9, [0]), ("a", 10**9), ([0], [1]), ("a", "b"), (None, 1), (True, "a"),
        ({"node": "more_0"}, 10**9), ({"node": "more_0"}, {"node": "more_0"}), (X, [0]), (X, "a"), (10**400, 1),
    ],
)  # fmt: skip
def test_arithmetic_of_schema_1_is_of_tensors_and_numbers(kind: str, x: Any, y: Any, folder: Path) -> None:
    with pytest.raises(UserError, match=r"do not fit together: (arithmetic of|a size of|unsupported|integer|int too)"):
        load_posterior(with_nodes(folder, SIZE, (kind, {"x": x, "y": y}, None)))


def test_a_number_of_schema_1_has_64_bits(folder: Path) -> None:
    with pytest.raises(UserError, match=r"a size of 1e\+27"):
        load_posterior(with_nodes(folder, ("mul", {"x": 10**18, "y": 10**9}, None)))


def test_arithmetic_of_schema_1_that_fits_is_done(folder: Path) -> None:
    nodes = [
        SIZE, ("item", {"x": {"node": "more_0"}, "index": 1}, None), ("mul", {"x": {"node": "more_1"}, "y": 5}, None),
        ("floordiv", {"x": {"node": "more_2"}, "y": 3}, None),
        ("mul", {"x": X, "y": {"node": "more_3"}}, [None, *SHAPE]),
        ("truediv", {"x": {"node": "more_4"}, "y": X}, [None, *SHAPE]),
    ]  # fmt: skip
    loaded = load_posterior(with_nodes(folder, *nodes))
    assert loaded(torch.rand(3, *SHAPE)).shape == (3, 2)


@pytest.mark.parametrize("wrong", ["weight", "bias", "running_mean", "running_var"])
def test_a_norm_by_fewer_numbers_than_channels_is_refused(wrong: str, folder: Path) -> None:
    """ATen's would read what lies behind them in memory."""
    parts = {
        part: {"node": "two" if part == wrong else "three"}
        for part in ("weight", "bias", "running_mean", "running_var")
    }
    arguments = {"input": X, **parts, "momentum": 0.1, "eps": 1e-5}
    kind = "aten._native_batch_norm_legit_no_training.default"
    with pytest.raises(UserError, match=r"a norm of \[2, 3, 4, 4\] by tensors of \[2\]"):
        load_posterior(with_nodes(folder, (kind, arguments, None)))


def test_a_norm_by_its_own_statistics_too(folder: Path) -> None:
    arguments = {"input": X, "weight": {"node": "two"}, "bias": None, "training": True, "momentum": 0.1, "eps": 1e-5}
    with pytest.raises(UserError, match=r"a norm of \[2, 3, 4, 4\] by tensors of \[2\]"):
        load_posterior(with_nodes(folder, ("aten._native_batch_norm_legit.no_stats", arguments, None)))


N = ("aten.sym_size.int", {"self": X, "dim": 0}, None)
FIRST = {"node": "more_0"}


@pytest.mark.parametrize(
    "numbers",
    [
        [("sym.mul", {"x": FIRST, "y": FIRST}, None)],
        [("sym.mod", {"x": FIRST, "y": 4}, None)],
        [("sym.floordiv", {"x": 10**12, "y": FIRST}, None)],
        # nothing for 2 and 3 examples, and a great deal for 100
        [("sym.sub", {"x": FIRST, "y": 3}, None), ("sym.max", {"x": {"node": "more_1"}, "y": 0}, None)],
    ],
)
def test_what_two_batches_cannot_show_is_refused(numbers: list[Any], folder: Path) -> None:
    last = {"node": f"more_{len(numbers)}"}
    many = ("sym.mul", {"x": last, "y": 1000}, None)
    with pytest.raises(UserError, match="it does not grow evenly with the number of examples"):
        load_posterior(with_nodes(folder, N, *numbers, many))


def test_a_value_that_grows_with_the_square_of_the_batch_is_bounded(folder: Path) -> None:
    square = ("aten.zeros.default", {"size": [FIRST, FIRST, 10**5]}, [None, None, 10**5])
    with pytest.raises(UserError, match=f"elements for {BATCHES[2]} examples: too many"):
        load_posterior(with_nodes(folder, N, square))


def test_sizes_that_grow_evenly_load(folder: Path) -> None:
    numbers = [("sym.mul", {"x": FIRST, "y": 6}, None), ("sym.floordiv", {"x": {"node": "more_1"}, "y": 2}, None),
               ("sym.add", {"x": {"node": "more_2"}, "y": 1}, None)]  # fmt: skip
    made = ("aten.zeros.default", {"size": [{"node": "more_3"}, 2]}, [[1, 3], 2])
    assert load_posterior(with_nodes(folder, N, *numbers, made))(torch.rand(1, *SHAPE)).shape == (1, 2)


ATTENTION = "aten.scaled_dot_product_attention.default"


@pytest.mark.parametrize(
    ("kind", "arguments", "message"),
    [
        (ATTENTION, {"query": X, "key": X, "value": X, "dropout_p": 0.5}, "drops values at random"),
        (ATTENTION, {"query": X, "key": X, "value": X, "dropout_p": {"node": "more_0"}}, "drops values at random"),
        ("dropout", {"x": X}, "drops values at random"),
        ("dropout", {"x": X, "p": 0.1, "training": 1}, "drops values at random"),
        ("aten._scaled_dot_product_flash_attention_for_cpu.default", {"query": X, "key": X, "value": X}, "unknown"),
    ],
)
def test_noise_without_a_key_is_refused(kind: str, arguments: dict[str, Any], message: str, folder: Path) -> None:
    with pytest.raises(UserError, match=message):
        load_posterior(with_nodes(folder, N, (kind, arguments, [None, *SHAPE])))


def test_what_drops_nothing_loads(folder: Path) -> None:
    shape = [None, *SHAPE]
    nodes = [("dropout", {"x": X, "p": 0.1, "training": False}, shape), ("dropout", {"x": X, "p": 0.0}, shape),
             (ATTENTION, {"query": X, "key": X, "value": X, "dropout_p": 0.0}, shape)]  # fmt: skip
    assert load_posterior(with_nodes(folder, *nodes))


class Forgetful(nn.Module):
    """Attention whose dropout is always on."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.dense(x)
        return functional.scaled_dot_product_attention(y, y, y, dropout_p=0.5).mean(1)


def test_attention_that_always_drops_is_refused_by_its_line(tmp_path: Path) -> None:
    message = r"attention\S* \(.*test_posterior_foreign.py:\d+: .*dropout_p=0.5.*\): drops values at random"
    with pytest.raises(UserError, match=message):
        save_posterior(bnn.convert(Forgetful()), tmp_path / "p", example_input=torch.rand(2, 3, 4), step=0)


class Cells(nn.Module):
    """A recurrent layer over the rows of an image."""

    def __init__(self, cells: nn.Module, features: int) -> None:
        super().__init__()
        self.cells, self.last = cells, nn.Linear(features, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.cells(x[:, 0])[0][:, -1])


CELLS = [
    (nn.LSTM(4, 3, batch_first=True), 3), (nn.LSTM(4, 3, 2, bidirectional=True, batch_first=True), 6),
    (nn.LSTM(4, 5, proj_size=2, batch_first=True), 2), (nn.GRU(4, 3, bias=False, batch_first=True), 3),
    (nn.RNN(4, 3, nonlinearity="relu", batch_first=True), 3),
]  # fmt: skip


@pytest.mark.parametrize(("cells", "features"), CELLS)
def test_recurrent_layers_have_the_weights_that_they_need(cells: nn.Module, features: int, tmp_path: Path) -> None:
    """ATen would read past the end of the list."""
    save_posterior(bnn.convert(Cells(cells, features)), tmp_path / "p", example_input=torch.rand(2, *SHAPE), step=0)
    assert load_posterior(tmp_path / "p")(torch.rand(3, *SHAPE)).shape == (3, 2)
    text = (tmp_path / "p" / GRAPH_FILE).read_text()
    changes: list[Any] = [("params", lambda weights: weights[:-1]), ("num_layers", lambda _: 7)]
    changes += [("num_layers", lambda _: 0)]
    changes += [("has_biases", lambda given: not given), ("bidirectional", lambda given: not given)]
    for argument, change in [*changes, ("params", lambda weights: []), ("has_biases", lambda _: "yes")]:
        graph = json.loads(text)
        node = next(node for node in graph["nodes"] if node["type"].endswith(".input"))
        node["arguments"][argument] = change(node["arguments"][argument])
        node["inputs"] = references(node["arguments"])
        (tmp_path / "p" / GRAPH_FILE).write_text(json.dumps(graph))
        with pytest.raises(UserError, match=r"do not fit together: .*recurrent layer"):
            load_posterior(tmp_path / "p")


def that_need(what: str, given: Any) -> list[tuple[str, str]]:
    """Operations and arguments that must be this and are not, where `given` stands for them."""
    return [
        (name, argument.name)
        for name, operation in OPERATIONS.items()
        if operation.schema is not None
        for argument in operation.schema.arguments
        if needs(argument, given) == what
    ]


@pytest.mark.parametrize(("kind", "name"), that_need("a list", X), ids=str)
def test_a_tensor_is_not_taken_apart_to_make_a_list(kind: str, name: str) -> None:
    """Torch takes an iterable for a list: a batch of 2^20 would become as many tensors."""
    needed = [each.name for each in OPERATIONS[kind].schema.arguments if not each.has_default_value()]
    arguments = dict.fromkeys(needed, X) | {each: False for each in ("dropout", "train") if each in needed}
    with pytest.raises(UserError, match=rf"^operation {kind}: argument \w+ must be a list$"):
        places(kind, arguments | {name: X})


@pytest.mark.parametrize(("kind", "name"), that_need("a tensor", None), ids=str)
def test_none_is_no_tensor(kind: str, name: str) -> None:
    """Torch takes None for a tensor that is not there, and some operations read it all the same: the process ends."""
    needed = {a.name: fitting(a.real_type, "x") for a in OPERATIONS[kind].schema.arguments if not a.has_default_value()}
    with pytest.raises(UserError, match=rf"^operation {kind}: argument {name} must be a tensor$"):
        places(kind, needed | {name: None})


@pytest.mark.parametrize("value", [-1, 3, 2**63 - 1, "float32", {"node": "x"}, True])
def test_a_type_of_numbers_is_none_but_by_name(value: Any) -> None:
    """Torch reads one from any whole number, and looks beyond its table."""
    with pytest.raises(UserError, match="argument dtype must be a type of numbers"):
        places("aten._to_copy.default", {"self": X, "dtype": value})
    assert places("aten._to_copy.default", {"self": X, "dtype": None})
    assert places("aten._to_copy.default", {"self": X, "dtype": {"dtype": "float32"}})


def test_an_index_that_is_no_list_is_refused_before_anything_runs(folder: Path) -> None:
    arguments = {"self": X, "indices": X, "values": X}
    with_nodes(folder, ("aten.index_put.default", arguments, None))
    with pytest.raises(UserError, match=r"argument indices must be a list"):
        load_posterior(folder)


def test_other_tensors_than_were_saved_with_the_graph_are_refused(folder: Path, tmp_path: Path) -> None:
    load_posterior(folder)
    other = save_posterior(bnn.convert(Scaled()), tmp_path / "other", example_input=torch.rand(2, *SHAPE), step=0)
    assert other is None
    shutil.copy(tmp_path / "other" / TENSORS_FILE, folder / TENSORS_FILE)
    with pytest.raises(UserError, match=rf"{TENSORS_FILE}: damaged, or of another posterior"):
        load_posterior(folder)
    content = bytearray((tmp_path / "other" / TENSORS_FILE).read_bytes())
    content[-3] ^= 1
    (tmp_path / "other" / TENSORS_FILE).write_bytes(content)
    with pytest.raises(UserError, match=rf"{TENSORS_FILE}: damaged"):
        load_posterior(tmp_path / "other")


def without_digest(folder: Path, change: Callable[[dict[str, Tensor]], None]) -> Path:
    """The posterior with tensors that were changed by somebody who made a graph that does not state their digest."""
    graph = json.loads((folder / GRAPH_FILE).read_text())
    del graph["tensors_sha256"]
    (folder / GRAPH_FILE).write_text(json.dumps(graph))
    tensors = load_file(folder / TENSORS_FILE)
    change(tensors)
    save_file(tensors, folder / TENSORS_FILE)
    return folder


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.update({k: v.half() for k, v in t.items()}), "mu is torch.float16"),
        (lambda t: t.update({"conv.rho": t["conv.rho"].double()}), "conv is in several precisions"),
        (lambda t: t.update({"last.bias": t["last.bias"].double()}), "last is in several precisions"),
        (lambda t: t["last.mu"].fill_(torch.inf), "last: mu or sigma is infinite"),
        (lambda t: t["last.rho"].fill_(torch.inf), "last: mu or sigma is infinite"),
        (lambda t: t["last.rho"].fill_(torch.nan), "last.rho contains NaN"),
    ],
)
def test_means_and_rho_are_finite_and_of_one_precision(
    folder: Path, change: Callable[[dict[str, Tensor]], None], words: str
) -> None:
    with pytest.raises(UserError, match=words):
        load_posterior(without_digest(folder, change))


class Doubled(nn.Module):
    """A constant in another precision that comes before all parameters, and a first layer in another one."""

    def __init__(self, layer_too: bool) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor([0.5], dtype=torch.float64))
        self.first, self.last = nn.Linear(5, 4), nn.Linear(4, 3)
        self.precision = torch.float64 if layer_too else torch.float32
        self.first.to(self.precision)

    def forward(self, x: Tensor) -> Tensor:
        x = (x - self.mean).to(self.precision)
        return self.last(torch.relu(self.first(x)).float())


@pytest.mark.parametrize("layer_too", [False, True])
def test_inputs_have_the_precision_that_the_model_was_saved_for(tmp_path: Path, layer_too: bool) -> None:
    torch.manual_seed(0)
    twin, x = bnn.convert(Doubled(layer_too)).eval(), torch.rand(4, 5)
    save_posterior(twin, tmp_path / "p", example_input=x, step=0)
    network = load_posterior(tmp_path / "p")
    assert network.dtype == torch.float32
    with torch.no_grad(), bnn.mean_only(twin), bnn.mean_only(network):
        torch.testing.assert_close(network(x), twin(x))
    assert bnn.predict(tmp_path / "p", x, draws=5).probability.isfinite().all()


def test_folders_and_settings_that_somebody_else_named_are_passed_over(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    run = tmp_path_factory.mktemp("run")
    shutil.copytree(folder, run / "step-2")
    shutil.copytree(folder, run / "step-\u00b2")
    assert find_posterior(run) == run / "step-2"
    graph = json.loads((folder / GRAPH_FILE).read_text())
    for start, told in (("-9", None), (True, None), (-9, True)):
        (folder / GRAPH_FILE).write_text(json.dumps(graph | {"extra": {"settings": {"rho_init": start}}}))
        assert (posterior_facts(folder, load_posterior(folder)).sigma_median_start is not None) == bool(told)
