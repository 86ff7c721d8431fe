"""Import from TFP and export: every array is used exactly once, and what does not fit is one line and no output."""

from __future__ import annotations

import io
import sys
import zipfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import bnn
from bnn.cli import main
from bnn.errors import UserError
from bnn.interop.export import export_posterior
from bnn.interop.tfp import import_tfp
from bnn.layers import mean_only
from bnn.posterior import load_posterior
from bnn.posterior.save import save_network
from bnn.pruning.apply import apply
from bnn.pruning.compact import compact
from bnn.pruning.criterion import select
from tests.support.posteriors import branches, paper_network

Arrays = dict[str, np.ndarray]
MODEL, SHAPE = "tests.support.models:small", (1, 6, 6)


def small_arrays() -> Arrays:
    """What TFP would save of tests.support.models:small, with a Flipout convolution and a plain dense layer."""
    make = np.random.default_rng(0)

    def normal(*shape: int) -> np.ndarray:
        return make.normal(size=shape).astype(np.float32)

    return {
        "conv2d_flipout/kernel_posterior_loc:0": normal(3, 3, 1, 4),
        "conv2d_flipout/kernel_posterior_untransformed_scale:0": normal(3, 3, 1, 4),
        "conv2d_flipout/bias_posterior_loc:0": normal(4),
        "dense/kernel:0": normal(16, 2),
        "dense/bias:0": normal(2),
    }


def saved(folder: Path, arrays: Arrays) -> Path:
    file = folder / "model.npz"
    np.savez(file, **arrays)
    return file


def imported(folder: Path, arrays: Arrays, **more: Any) -> Path:
    out = folder / "out"
    import_tfp(saved(folder, arrays), MODEL, out, input_shape=SHAPE, classes=2, **more)
    return out


def test_a_small_model_is_imported(tmp_path: Path) -> None:
    network = load_posterior(imported(tmp_path, small_arrays()))
    with torch.no_grad(), mean_only(network):
        assert network(torch.rand(3, *SHAPE)).shape == (3, 2)
    kernel = small_arrays()["conv2d_flipout/kernel_posterior_loc:0"]
    (layer,) = [node.layer for node in network.graph.nodes if node.type.endswith("FlipoutConv2d")]
    assert np.array_equal(network.get_submodule(str(layer)).mu.detach().numpy(), kernel.transpose(3, 2, 0, 1))


def test_arrays_without_tensorflows_suffix_are_the_same(tmp_path: Path) -> None:
    arrays = {name.removesuffix(":0"): array for name, array in small_arrays().items()}
    assert load_posterior(imported(tmp_path, arrays))


def without(name: str) -> Callable[[Arrays], None]:
    return lambda arrays: arrays.pop(name) is None


def with_(name: str, value: np.ndarray) -> Callable[[Arrays], None]:
    return lambda arrays: arrays.update({name: value})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            without("conv2d_flipout/kernel_posterior_untransformed_scale:0"),
            "no array conv2d_flipout/kernel_post",
        ),
        (without("dense/kernel:0"), "dense"),
        (with_("extra/kernel:0", np.zeros((5, 7), np.float32)), "left over: extra/kernel"),
        (with_("dense/other:0", np.zeros(2, np.float32)), "dense/other: left over"),
        (with_("dense/bias:0", np.full(2, np.nan, np.float32)), "dense/bias:0 contains NaN"),
        (with_("dense/bias:0", np.zeros(3, np.float32)), "dense/bias has shape"),
        (with_("dense/kernel:0", np.zeros((17, 2), np.float32)), "missing for the model's"),
        (with_("dense/kernel:0", np.zeros((16, 2), np.int32)), "is int32"),
        (with_("kernel", np.zeros(2, np.float32)), "not named <layer>/<variable>"),
    ],
)
def test_what_does_not_fit_is_named_and_nothing_is_written(
    tmp_path: Path, change: Callable[[Arrays], None], words: str
) -> None:
    arrays = small_arrays()
    change(arrays)
    with pytest.raises(UserError) as caught:
        imported(tmp_path, arrays)
    assert words in str(caught.value)
    assert "model.npz" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_missing_bias_is_zero_and_said(tmp_path: Path) -> None:
    arrays = small_arrays()
    del arrays["conv2d_flipout/bias_posterior_loc:0"]
    report = import_tfp(saved(tmp_path, arrays), MODEL, tmp_path / "out", input_shape=SHAPE, classes=2)
    assert any("bias" in text and "zero" in text for text in report.statements)


def test_files_that_are_none(tmp_path: Path) -> None:
    good = saved(tmp_path, small_arrays()).read_bytes()
    single = io.BytesIO()
    np.save(single, np.zeros(3))
    objects = io.BytesIO()
    with zipfile.ZipFile(objects, "w") as archive:
        inner = io.BytesIO()
        np.save(inner, np.array([{"a": 1}], dtype=object), allow_pickle=True)
        archive.writestr("dense/kernel.npy", inner.getvalue())
    for content in (b"", b"nothing", good[: len(good) // 2], single.getvalue(), objects.getvalue()):
        file = tmp_path / "bad.npz"
        file.write_bytes(content)
        with pytest.raises(UserError, match=r"bad\.npz"):
            import_tfp(file, MODEL, tmp_path / "out", input_shape=SHAPE, classes=2)
        assert not (tmp_path / "out").exists()
    with pytest.raises(UserError, match="none\\.npz"):
        import_tfp(tmp_path / "none.npz", MODEL, tmp_path / "out", input_shape=SHAPE, classes=2)


def test_a_folder_that_is_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("x")
    with pytest.raises(UserError, match="left alone"):
        imported(tmp_path, small_arrays())
    assert (tmp_path / "out" / "mine.txt").read_text() == "x"


def test_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    file = saved(tmp_path, small_arrays())
    words = ["import", "--from-tfp", str(file), "--model", MODEL, "--out", str(tmp_path / "out"), "--classes", "2"]
    monkeypatch.setattr(sys, "argv", ["bnn", *words, "--input-shape", "1,6,6"])
    main()
    assert "2 layers" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["bnn", *words, "--input-shape", "6"])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2
    assert "expected C,H,W" in capsys.readouterr().err
    monkeypatch.setattr(sys, "argv", ["bnn", "export", str(tmp_path / "out"), "--out", str(tmp_path / "m.pt2")])
    main()
    assert (tmp_path / "m.pt2").exists()


@pytest.mark.parametrize("name", ["fc", "resnet18", "branches"])
def test_an_exported_program_computes_the_mean_for_any_number_of_images(name: str, tmp_path: Path) -> None:
    network = branches() if name == "branches" else paper_network(name)
    selection = select(network, percent=70.0, scope="global", by="unit")
    small = compact(apply(network, selection, "zero"))
    for number, one in enumerate((network, small)):
        save_network(one, tmp_path / str(number))
        export_posterior(tmp_path / str(number), tmp_path / f"{number}.pt2")
        program = torch.export.load(tmp_path / f"{number}.pt2").module()
        for count in (1, 5):
            images = torch.rand(count, *network.graph.input_shape)
            with torch.no_grad(), mean_only(one):
                assert torch.allclose(program(images), one(images), rtol=1e-5, atol=1e-6)
    assert (tmp_path / "1.pt2").stat().st_size < (tmp_path / "0.pt2").stat().st_size


class Clashing(nn.Module):
    """Names as users give them, which the network of a posterior has for something else."""

    def __init__(self, first: str) -> None:
        super().__init__()
        self.add_module(first, nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU()))
        self.add_module(f"{first}_", nn.Linear(3 * 4 * 4, 2))
        self.register_buffer("tensors", torch.tensor([2.0, 3.0]))

    def forward(self, x: Tensor) -> Tensor:
        body, head = self._modules.values()
        assert body is not None
        assert head is not None
        return head(body(x).flatten(1)) * self.tensors


@pytest.mark.parametrize("first", ["layers", "graph", "dtype", "encoder"])
def test_a_models_own_names_are_no_obstacle_to_export(first: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, images = bnn.convert(Clashing(first)).eval(), torch.rand(3, 1, 6, 6)
    bnn.save_posterior(model, tmp_path / "p", example_input=images, step=0)
    export_posterior(tmp_path / "p", tmp_path / "p.pt2")
    with torch.no_grad(), mean_only(model):
        found = torch.export.load(tmp_path / "p.pt2").module()(images)
        assert torch.allclose(found, model(images), rtol=1e-5, atol=1e-6)


def test_export_errors(tmp_path: Path) -> None:
    save_network(branches(), tmp_path / "p")
    for out, words in (("m.txt", "is exported to .pt2"), ("m.onnx", "ONNX needs the package")):
        if out == "m.onnx" and find_spec("onnx"):
            continue
        with pytest.raises(UserError, match=words):
            export_posterior(tmp_path / "p", tmp_path / out)
        assert not (tmp_path / out).exists()
    with pytest.raises(UserError, match="none"):
        export_posterior(tmp_path / "none", tmp_path / "m.pt2")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file"):
        export_posterior(tmp_path / "p", tmp_path / "file" / "m.pt2")


def test_onnx_computes_the_mean(tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    network = branches()
    save_network(network, tmp_path / "p")
    export_posterior(tmp_path / "p", tmp_path / "m.onnx")
    images = torch.rand(5, *network.graph.input_shape)
    session = runtime.InferenceSession(tmp_path / "m.onnx")
    with torch.no_grad(), mean_only(network):
        assert np.abs(session.run(None, {"images": images.numpy()})[0] - network(images).numpy()).max() < 1e-5
