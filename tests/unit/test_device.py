"""What `--device cuda` does, on a GPU that is none: where draws are made, which GPU a rank takes, what is refused."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from bnn import device as devices
from bnn import kernels, memory
from bnn.bench.implementations import implementation
from bnn.bench.protocol import Spec
from bnn.bench.worker import Ours
from bnn.engine import SingleEngine, TorchEngine
from bnn.errors import UserError
from bnn.inference.predictor import Predictor
from bnn.inference.run import infer
from bnn.inference.settings import InferSettings
from bnn.posterior.save import save_network
from bnn.provenance import gather_provenance
from bnn.pruning import levels, speed
from bnn.pruning.run import prune
from bnn.pruning.settings import PruneSettings
from bnn.records.columns import read_table
from bnn.records.pruning import PRUNING, PRUNING_FILE
from bnn.settings import TrainSettings
from bnn.training.loop import train
from tests.support.fake_gpu import OnGpu, fake_gpus
from tests.support.posteriors import paper_network

HELD_OUT: dict[str, Any] = {"dataset": "mnist-sample", "images": 20, "draws": 4}


@pytest.fixture(scope="module")
def posterior(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("posterior")
    save_network(paper_network("fc", 1 / 16), folder)
    return folder


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """No kernels: on the CPU, too, noise is torch's, so that results of both devices are the same."""
    monkeypatch.setattr(kernels, "available", lambda: False)


class Rank(SingleEngine):
    """One rank of several; `others` is what all ranks say in `gather`."""

    def __init__(self, local_rank: int = 0, size: int = 1, others: list[Any] | None = None) -> None:
        self.rank = self.local_rank = local_rank
        self.size, self.others = size, others

    def gather(self, value: Any, label: str) -> list[Any]:
        return [value] if self.others is None else self.others


def probabilities(folder: Path) -> np.ndarray:
    with np.load(folder, allow_pickle=False) as found:
        return found["probabilities"]


@pytest.mark.usefixtures("plain")
@pytest.mark.parametrize("mode", ["exact", "flipout", "local-reparameterization"])
def test_an_inference_draws_on_the_gpu(
    posterior: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    settings = InferSettings(posterior=posterior, mode=mode, **HELD_OUT)
    assert infer(settings, tmp_path / "cpu", SingleEngine(), 0.0) is not None
    on_gpu = settings.model_copy(update={"device": "cuda"})
    with monkeypatch.context() as patch, fake_gpus(patch) as gpu:
        summary = infer(on_gpu, tmp_path / "gpu", SingleEngine(), 0.0)
    assert summary is not None
    assert (summary.device, summary.noise, summary.peak_memory_bytes) == ("cuda", "torch (cuda)", 123 << 20)
    assert gpu.ran["aten::linear"] >= 3
    a, b = (probabilities(tmp_path / name / "draws.npz") for name in ("cpu", "gpu"))
    np.testing.assert_allclose(a, b, atol=1e-6)


@pytest.mark.usefixtures("plain")
@pytest.mark.parametrize(("semantics", "by"), [("zero", "weight"), ("zero", "unit"), ("mean-only", "weight")])
def test_a_sweep_draws_and_is_timed_on_the_gpu(
    posterior: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, semantics: str, by: str
) -> None:
    monkeypatch.setattr(speed, "ROUND_SECONDS", 0.001)
    settings = PruneSettings(posterior=posterior, percent=(70,), semantics=semantics, by=by, **HELD_OUT)  # type: ignore[arg-type]
    prune(settings, tmp_path / "cpu", 0.0)
    made: list[Predictor] = []
    predictor = levels.Predictor
    monkeypatch.setattr(levels, "Predictor", lambda *a, **k: made.append(predictor(*a, **k)) or made[-1])
    with monkeypatch.context() as patch, fake_gpus(patch) as gpu:
        summary = prune(settings.model_copy(update={"device": "cuda"}), tmp_path / "gpu", 0.0)
    assert summary.device == "cuda"
    for each in made:  # all forms, the unpruned network included
        assert each.device == "cuda"
        assert all(isinstance(buffer, OnGpu) for layer in each.layers.values() for buffer in layer.buffers())
    forms = 2 if semantics != "zero" else 5  # at 70% whole units are dead, so that there are the compact ones too
    chosen = (forms - 1) * speed.ROUNDS_CHOOSE if forms > 2 else 0
    turns = 2 + forms + chosen + 2 * speed.ROUNDS  # how many draws fit, warm-up, the choice, the two that are compared
    assert gpu.synchronised == 2 * turns  # before and after every one
    rows = {name: read_table(tmp_path / name / PRUNING_FILE, PRUNING) for name in ("cpu", "gpu")}
    for column in ("percent", "nonzeros", "accuracy", "parameters_compacted"):
        assert rows["cpu"][column].tolist() == rows["gpu"][column].tolist()
    a, b = (probabilities(tmp_path / name / "level-0" / "predictive.npz") for name in ("cpu", "gpu"))
    np.testing.assert_allclose(a, b, atol=1e-5)


@pytest.mark.usefixtures("plain")
@pytest.mark.parametrize("name", ["cnn", "bnn-flipout-torch"])  # what bnn-exact makes is timed by the same lines
def test_a_benchmark_times_draws_until_the_gpu_has_made_them(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    spec = Spec(name, "fc", 1 / 16, (1, 28, 28), 10, 8, 1, 0, 64, implementation(name).settings)
    expected = Ours(spec).draws(6, 3).value
    assert expected == pytest.approx(0.1)
    with monkeypatch.context() as patch, fake_gpus(patch) as gpu:
        subject = Ours(replace(spec, settings=spec.settings | {"device": "cuda"}))
        events: list[tuple[str, int]] = []  # what happened, and how much the device had been told to do by then
        made = gpu.ran.total
        patch.setattr(time, "perf_counter", lambda: events.append(("clock", made())) or 0.0)
        patch.setattr(torch.cuda, "synchronize", lambda: events.append(("waits", made())))
        assert subject.draws(6, 3).value == pytest.approx(expected)
    assert [what for what, _ in events] == ["waits", "clock", "waits", "clock"]
    assert events[0][1] == events[1][1] < events[2][1] == events[3][1]


def test_a_gpu_is_part_of_what_runs_on_it_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its name costs a CUDA context: a run on the CPU must not ask for it."""
    with monkeypatch.context() as patch, fake_gpus(patch):
        engine = SingleEngine()
        assert gather_provenance(engine, "cuda", 0.0).ranks[0].gpu == "fake"
        patch.delattr(torch.cuda, "get_device_name")
        assert gather_provenance(engine, "cpu", 0.0).ranks[0].gpu is None


def test_the_stand_in_is_as_strict_as_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch, fake_gpus(patch):
        there, here = torch.ones(3, device="cuda"), torch.ones(3)
        assert (there + there).cpu().tolist() == [2, 2, 2]
        with pytest.raises(RuntimeError, match="same device"):
            there + here
        with pytest.raises((RuntimeError, TypeError), match="numpy"):
            there.numpy()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_every_command_is_refused_in_one_line(posterior: Path, tmp_path: Path) -> None:
    words = "device cuda: no GPU for rank 0: torch .* is built without CUDA" if torch.version.cuda is None else "no GPU"
    with pytest.raises(UserError, match=words):
        infer(InferSettings(posterior=posterior, device="cuda", **HELD_OUT), tmp_path / "i", SingleEngine(), 0.0)
    with pytest.raises(UserError, match=words):
        prune(PruneSettings(posterior=posterior, device="cuda", percent=(50,), **HELD_OUT), tmp_path / "p", 0.0)
    settings = TrainSettings(device="cuda", engine="single")
    with pytest.raises(UserError, match=words):
        train(settings, tmp_path / "t", SingleEngine(), 0.0)
    assert not list(tmp_path.iterdir())  # nothing was begun


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (RuntimeError("Found no NVIDIA driver on your system. Please check"), "no NVIDIA driver"),
        (RuntimeError("The NVIDIA driver on your system is too old (found version 11040). Please"), "too old"),
        (None, "the driver shows none"),
    ],
)  # fmt: skip
def test_it_says_what_is_missing(monkeypatch: pytest.MonkeyPatch, error: Exception | None, words: str) -> None:
    def init() -> None:
        if error is not None:
            raise error

    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "init", init)
    assert words in devices.no_gpu()
    assert "\n" not in devices.no_gpu()


def test_a_rank_takes_the_gpu_of_its_place_in_the_node(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = []
    for local_rank in range(4):
        with monkeypatch.context() as patch, fake_gpus(patch, count=4) as gpu:
            devices.prepare_device("cuda", 1, Rank(local_rank))
            taken.append(gpu.current)
    assert taken == [0, 1, 2, 3]


def test_a_rank_to_which_one_gpu_is_shown_takes_that(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch, fake_gpus(patch, count=1) as gpu:
        devices.prepare_device("cuda", 1, Rank(3, size=4, others=[["a", f"GPU-{i}"] for i in range(4)]))
        assert gpu.current == 0


def test_more_ranks_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch, fake_gpus(patch, count=2):
        with pytest.raises(UserError, match="rank 2 is number 3 of its node, which has 2 GPUs"):
            devices.prepare_device("cuda", 1, Rank(2, size=3))
        shared = [["a", "GPU-0"], ["b", "GPU-0"], ["b", "GPU-0"]]
        with pytest.raises(UserError, match="ranks 1 and 2 share GPU GPU-0"):
            devices.prepare_device("cuda", 1, Rank(1, size=3, others=shared))


def test_what_nccl_refuses_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    class Refusing(Rank):
        name = "torch"

        def gather(self, value: Any, label: str) -> list[Any]:
            raise torch.distributed.DistBackendError("NCCL error in: a.cpp:1\nLast error:\nDuplicate GPU detected\n")

    refused = pytest.raises(UserError, match="engine torch: NCCL cannot join the ranks: Duplicate GPU detected")
    with monkeypatch.context() as patch, fake_gpus(patch), refused:
        devices.prepare_device("cuda", 1, Refusing(0, size=2))


def test_step_counters_on_the_host_are_broadcast_through_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """NCCL takes tensors on GPUs only; torch's optimizers keep the counter of their steps on the host."""

    class Nccl:
        def broadcast(self, tensor: Tensor, src: int) -> None:
            if not isinstance(tensor, OnGpu):
                raise RuntimeError("No backend type associated with device type cpu")
            tensor.fill_(7.0)

    with monkeypatch.context() as patch, fake_gpus(patch):
        engine = object.__new__(TorchEngine)
        engine.rank, engine.size = 1, 2
        engine._dist, engine._device = Nccl(), torch.device("cuda")
        step, moment = torch.zeros(()), torch.zeros(2, 3, device="cuda")
        engine.broadcast_([step, moment], "optimizer")
        assert step.item() == 7
        assert type(step) is Tensor
        assert moment.tolist() == [[7.0] * 3] * 2


@pytest.mark.parametrize("command", ["infer", "prune"])
def test_what_is_freed_is_kept_by_every_command(
    posterior: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    called: list[str] = []

    def load(*_: Any) -> Any:
        called.append("load")
        raise KeyboardInterrupt

    monkeypatch.setattr(devices, "keep_freed_memory", lambda: called.append("keep"))
    monkeypatch.setattr(f"{'bnn.inference' if command == 'infer' else 'bnn.pruning'}.run.load_posterior", load)
    run = {
        "infer": lambda: infer(InferSettings(posterior=posterior, **HELD_OUT), tmp_path, SingleEngine(), 0.0),
        "prune": lambda: prune(PruneSettings(posterior=posterior, percent=(50,), **HELD_OUT), tmp_path, 0.0),
    }
    with pytest.raises(KeyboardInterrupt):
        run[command]()
    assert called == ["keep", "load"]


def test_a_childs_peak_memory_is_its_own() -> None:
    """A parent of 300 MB starts a small child: ru_maxrss of the child is the parent's, its own peak is not."""
    child = (
        "import sys; from bnn.memory import peak_resident_bytes; import resource; "
        "print(peak_resident_bytes(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)"
    )
    parent = (
        "import os, sys\nheld = bytearray(os.urandom(1 << 20) * 300)\n"
        "pid = os.fork()\n"  # subprocess would use vfork, whose child never had the parent's pages
        f"if pid == 0:\n    os.execv(sys.executable, [sys.executable, '-c', {child!r}])\nos.waitpid(pid, 0)\n"
    )
    said = subprocess.run([sys.executable, "-c", parent], capture_output=True, text=True, check=True).stdout
    own, inherited = map(int, said.split())
    assert 1 << 20 < own < 100 << 20
    assert inherited >= own


def test_without_proc_the_other_counter_is_taken_and_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "status").write_text("VmRSS:\t 100 kB\n")
    monkeypatch.setattr(memory, "STATUS", tmp_path / "status")
    with pytest.warns(RuntimeWarning, match="status has no VmHWM: peak memory is ru_maxrss"):
        assert memory.peak_resident_bytes() > 1 << 20
    (tmp_path / "status").write_text("VmPeak:\t 9 kB\nVmHWM:\t    200 kB\n")
    assert memory.peak_resident_bytes() == 200 * 1024
