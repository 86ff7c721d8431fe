"""Two real ranks: every second that they wait after the backward pass has a reason, as far as it was measured."""

from __future__ import annotations

import socket
import subprocess
from pathlib import Path

import pandas as pd
import pytest

from bnn.losses import rank_losses
from bnn.mpi_trace import preload
from bnn.mpi_trace.build import build
from bnn.records import STEPS, STEPS_FILE, SUMMARY, Summary, read_table
from tests.support.ranks import environment, need_horovod, run_train, train_command

FEW = {"max_steps": 12, "epochs": 3, "gradient_block_mb": 0.05, "save_posterior": False}


def read(folder: Path) -> tuple[pd.DataFrame, Summary]:
    summary = Summary.model_validate_json((folder / SUMMARY).read_text())
    assert summary.clock_error_seconds == 0  # one machine
    assert summary.gradient_messages_per_step is not None
    assert summary.gradient_messages_per_step > 1
    rows = read_table(folder / STEPS_FILE, STEPS)
    assert set(rows["late_rank"]) <= {0, 1}
    waited = rows["seconds_late"] + rows["seconds_reduction"]
    assert (waited <= rows["seconds_exchange"] + 1e-6).all()
    assert (rows["seconds_exchange"] - waited).median() < 5e-4  # what lies beside the stamps is Python's
    return rows, summary


@pytest.mark.mpi
def test_with_a_profile_negotiation_and_transfer_are_told_apart(tmp_path: Path) -> None:
    need_horovod()
    build()
    profiled = ["env", *(f"{name}={value}" for name, value in preload.environment(tmp_path / "mpi").items())]
    command = train_command(tmp_path / "cell", 2, FEW | {"engine": "horovod"})
    done = subprocess.run(
        [*command[:3], *profiled, *command[3:]], env=environment(), capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    rows, summary = read(tmp_path / "cell")
    apart = rows["seconds_negotiation"] + rows["seconds_transfer"]
    assert (apart - rows["seconds_reduction"]).abs().max() < 1e-9
    assert rows["seconds_transfer"].sum() > 0
    assert (rows["seconds_hidden"] >= 0).all()
    ranks = rank_losses(rows, summary.clock_error_seconds)
    assert [losses.rank for losses in ranks] == [0, 1]
    for losses in ranks:
        assert {"late", "negotiation", "transfer"} < set(losses.parts)
        assert abs(losses.unexplained) < 0.02 * losses.wall
    assert sum(losses.late_share for losses in ranks) == pytest.approx(1)


@pytest.mark.mpi
def test_without_a_profile_both_are_one_part(tmp_path: Path) -> None:
    need_horovod()
    assert run_train(tmp_path / "cell", ranks=2, **FEW, engine="horovod").returncode == 0
    rows, _ = read(tmp_path / "cell")
    assert rows[["seconds_negotiation", "seconds_transfer", "seconds_hidden"]].isna().all(axis=None)
    assert set(rank_losses(rows)[0].parts) >= {"late", "reduction"}
    assert set(rank_losses(rows, clock_error=1.0)[0].parts) & {"late", "reduction", "exchange"} == {"exchange"}


@pytest.mark.mpi
def test_an_engine_that_goes_by_order_negotiates_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    need_horovod()  # for its launcher
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    with socket.create_server(("127.0.0.1", 0)) as free:
        monkeypatch.setenv("MASTER_PORT", str(free.getsockname()[1]))
    done = run_train(tmp_path / "cell", ranks=2, **FEW, engine="torch")
    assert done.returncode == 0, done.stderr
    rows, _ = read(tmp_path / "cell")
    assert (rows["seconds_negotiation"] == 0).all()
    assert (rows["seconds_transfer"] - rows["seconds_reduction"]).abs().max() < 1e-9
    assert rows["seconds_hidden"].isna().all()


@pytest.mark.mpi
def test_what_one_rank_loses_the_other_waits_for(tmp_path: Path) -> None:
    """Margins are wide, as cores are shared with other tests; `tests.support.injections` measures with narrow ones."""
    need_horovod()
    fault = {"rank": 1, "sleep_ms": 60, "every": 2}
    done = run_train(tmp_path / "cell", ranks=2, **FEW | {"max_steps": 16, "epochs": 4}, engine="horovod", fault=fault)
    assert done.returncode == 0, done.stderr
    rows, summary = read(tmp_path / "cell")
    assert summary.fault == "rank 1 waits 60 ms for its input in one of 2 steps"
    steady = rows[rows["phase"] == "steady"]
    turn = steady[steady["step"] % 2 == 0].set_index("rank")
    assert (turn.loc[1, "seconds_data"] >= turn.loc[1, "seconds_injected"]).all()
    assert turn.loc[1, "seconds_injected"].min() >= 0.06
    assert turn.loc[0, "seconds_injected"].max() == 0
    assert 0.03 < turn.loc[0, "seconds_late"].median() - turn.loc[1, "seconds_late"].median() < 0.09
    assert (turn["late_rank"] == 1).mean() > 0.8
