"""Which rank a process is by its launcher's environment, and who is refused for being one of several."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bnn.engine import SingleEngine, TorchEngine, neighbours_before, start_engine
from bnn.errors import UserError
from bnn.inference.settings import InferSettings
from bnn.pruning.run import prune
from bnn.pruning.settings import PruneSettings
from bnn.ranks import EARLY_RANK, LAUNCHERS, Launched, early_rank, launched, local_rank
from bnn.settings import TrainSettings

# What processes see, by how they were started. Slurm's are from srun(1) and sbatch(1); mpiexec's from MPICH.
BATCH = {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4", "SLURM_NPROCS": "4", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}
SRUN = {**BATCH, "SLURM_PROCID": "2", "SLURM_LOCALID": "1", "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "4"}
SEEN: dict[str, tuple[dict[str, str], Launched]] = {
    "by hand": ({}, Launched()),
    "batch script of Slurm with 4 tasks": (BATCH, Launched()),
    "srun": (SRUN, Launched(2, 4, "Slurm")),
    "srun, rank 0": ({**SRUN, "SLURM_PROCID": "0"}, Launched(0, 4, "Slurm")),
    "srun of one task in that batch script": (
        {**BATCH, "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "1"}, Launched(0, 1, "Slurm")),
    "srun --pty bash": ({**SRUN, "SLURM_PROCID": "0", "SLURM_PTY_PORT": "34889"}, Launched()),
    "srun --mpi=pmi2": ({**SRUN, "PMI_RANK": "2", "PMI_SIZE": "4"}, Launched(2, 4, "PMI")),
    "srun --mpi=pmix": ({**SRUN, "PMIX_RANK": "2"}, Launched(2, 4, "Slurm")),
    "mpiexec, whose proxies srun started": (
        {**SRUN, "SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "2", "PMI_RANK": "3", "PMI_SIZE": "4"},
        Launched(3, 4, "PMI")),
    "mpiexec -n 1": ({"PMI_RANK": "0", "PMI_SIZE": "1"}, Launched(0, 1, "PMI")),
    "Open MPI": (
        {"OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "2", "PMIX_RANK": "1"}, Launched(1, 2, "Open MPI")),
    "torchrun under srun": ({**SRUN, "RANK": "5", "WORLD_SIZE": "8"}, Launched(5, 8, "torchrun")),
    "prterun": ({"PMIX_RANK": "1"}, Launched(1, None, "PMIx")),
    "aprun, the first": ({"ALPS_APP_PE": "0"}, Launched(0, None, "ALPS")),
    "aprun, another": ({"ALPS_APP_PE": "3"}, Launched(3, None, "ALPS")),
    "a variable without the other": ({"RANK": "5", "PMI_SIZE": "3"}, Launched()),
}  # fmt: skip


@pytest.fixture(autouse=True)
def no_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    for launcher in LAUNCHERS:
        for name in (launcher.rank, launcher.size, *launcher.local_rank):
            if name:
                monkeypatch.delenv(name, raising=False)


def wear(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize("started", SEEN)
def test_rank_and_size(started: str) -> None:
    environment, expected = SEEN[started]
    assert launched(environment) == expected


@pytest.mark.parametrize("started", SEEN)
def test_engine_single_is_refused_on_one_of_several_ranks_only(started: str, monkeypatch: pytest.MonkeyPatch) -> None:
    environment, expected = SEEN[started]
    wear(monkeypatch, environment)
    several = expected.rank > 0 or (expected.size or 1) > 1
    settings = TrainSettings(engine="single")
    if not several:
        assert isinstance(start_engine(settings), SingleEngine)
        return
    with pytest.raises(
        UserError, match=f"engine single: started on several ranks \\({expected.launcher}: this is rank"
    ):
        start_engine(settings)


def test_a_sweep_on_several_ranks_would_be_made_twice(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    wear(monkeypatch, {"PMI_RANK": "0", "PMI_SIZE": "2"})
    with pytest.raises(UserError, match="prune: started on several ranks"):
        prune(PruneSettings(posterior=tmp_path, dataset="synthetic", percent=(50,)), tmp_path / "out", 0.0)


def test_engine_torch_does_not_guess_how_many_ranks_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    wear(monkeypatch, {"ALPS_APP_PE": "0"})
    with pytest.raises(UserError, match="engine torch: ALPS does not say how many ranks there are"):
        TorchEngine(InferSettings(posterior=".", dataset="mnist", engine="torch"))  # type: ignore[arg-type]


@given(st.sampled_from([each for each in LAUNCHERS if each.size]), st.integers(0, 9), st.integers(0, 9))
def test_every_launcher_is_believed_or_refused(launcher: Any, rank: int, size: int) -> None:
    environment = {launcher.rank: str(rank), launcher.size: str(size)}
    if rank >= size:
        with pytest.raises(UserError, match=f"{launcher.rank}={rank}: there are {size} ranks by {launcher.size}"):
            launched(environment)
        return
    told = launched(environment)
    assert (told.rank, told.size, told.several) == (rank, size, size > 1)
    assert early_rank(environment) == rank


@pytest.mark.parametrize("value", ["", "one", "-1", "1.5", "²"])
def test_what_is_no_number_is_named(value: str) -> None:
    with pytest.raises(UserError, match=r"environment variable PMI_RANK=.*not a number"):
        launched({"PMI_RANK": value, "PMI_SIZE": "2"})
    assert early_rank({"PMI_RANK": value}) is None


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "SLURM_LOCALID": "3"}, 1),
        ({"PMI_RANK": "5", "PMI_SIZE": "8", "MPI_LOCALRANKID": "2", "SLURM_LOCALID": "0"}, 2),
        ({"PMI_RANK": "5", "PMI_SIZE": "8", "PMI_LOCAL_RANK": "3"}, 3),
        ({**SRUN, "PMI_RANK": "2", "PMI_SIZE": "4"}, 1),
        (SRUN, 1),
        ({"PMIX_RANK": "4"}, None),
        ({}, None),
    ],
)
def test_local_rank_is_the_same_launchers(environment: dict[str, str], expected: int | None) -> None:
    assert local_rank(environment) == expected


def test_where_nobody_states_it_ranks_of_the_same_machine_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    machines = ["a", "b", "a", "a", "b"]
    kept: dict[str, bytes] = {}

    class Store:
        def set(self, key: str, value: str) -> None:
            kept[key] = value.encode()

        def get(self, key: str) -> bytes:
            return kept[key]

    found = []
    for rank, name in enumerate(machines):
        monkeypatch.setattr("bnn.engine.machine", lambda name=name: name)
        found.append(neighbours_before(Store(), rank))
    assert found == [0, 0, 1, 2, 1]


def test_early_rank_asks_in_the_same_order() -> None:
    assert EARLY_RANK[0] == "RANK"
    assert EARLY_RANK[-1] == "SLURM_PROCID"
    assert early_rank({"SLURM_PROCID": "0", "PMI_RANK": "3"}) == 3
