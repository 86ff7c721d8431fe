"""`bnn bench allreduce` and `bnn bench replay` on real ranks."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pandas as pd
import pytest

from bnn.bench.allreduce.build import build
from bnn.records import SUMMARY
from bnn.records.columns import read_table
from bnn.records.replay import REPLAY
from campaign.results.projection.read import read_curves
from tests.support.ranks import BIN, environment, need_horovod, run_train


def on_ranks(count: int, *words: str) -> subprocess.CompletedProcess[str]:
    command = ["mpiexec", "-n", str(count), str(BIN / "bnn"), "bench", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=240, env=environment(), check=False)


def test_allreduces_of_mpi_by_size_and_rank_count(tmp_path: Path) -> None:
    need_horovod()
    build()
    out = tmp_path / "times.csv"
    few = ("--most", "4096", "--rounds", "2", "--node", "here")
    for algorithm in (("--computing",), ("--algorithm", "ring")):
        done = on_ranks(4, "allreduce", *few, *algorithm, "--out", str(out))
        assert done.returncode == 0, done.stderr
        assert done.stdout.rstrip().endswith(str(out)), "rank 0 alone speaks"
    table = pd.read_csv(out)
    assert set(table["library"]) == {"mpi", "mpi-ring"}
    assert sorted(set(table["ranks"])) == [2, 4]
    assert (table["nodes"] == 1).all()
    assert (table["low"] <= table["microseconds"]).all()
    assert (table["microseconds"] <= table["high"]).all()
    curves = {curve.library: curve for curve in read_curves(out)}
    assert set(curves) == {"mpi", "mpi-ring"}
    left = curves["mpi"].computing
    assert left is not None
    assert 0 <= left.min() < left.max() <= 1
    assert curves["mpi-ring"].computing is None
    assert len(json.loads((tmp_path / "times.mpi-4.json").read_text())["hosts"]) == 4


def test_allreduces_through_an_engine_have_its_cycle(tmp_path: Path) -> None:
    need_horovod()
    out = tmp_path / "times.csv"
    done = on_ranks(2, "allreduce", "--through", "horovod", "--cycle-time-ms", "20", "--most", "16", "--rounds", "2",
                    "--out", str(out))  # fmt: skip
    assert done.returncode == 0, done.stderr
    table = pd.read_csv(out)
    assert set(table["library"]) == {"horovod"}
    assert set(table["ranks"]) == {2}
    assert table["microseconds"].min() > 5_000, "what is handed over waits for the next cycle"


def test_a_cell_of_one_rank_is_replayed_on_two(tmp_path: Path) -> None:
    need_horovod()
    cell = tmp_path / "cell"
    assert run_train(cell, engine="horovod", gradient_block_mb=0.05, warmup_steps=4).returncode == 0
    blocks = json.loads((cell / SUMMARY).read_text())["gradient_blocks"]
    assert len(blocks) > 1
    shares = [block["full_seconds"] for block in blocks]
    assert shares == sorted(shares)
    assert shares[0] > 0

    out = tmp_path / "replay.parquet"
    done = on_ranks(2, "replay", str(cell), "--steps", "12", "--warmup", "2", "--out", str(out))
    assert done.returncode == 0, done.stderr
    assert "replayed, not measured: vgg16 bnn, batch 8, 2 ranks" in done.stdout
    rows = read_table(out, REPLAY)
    assert len(rows) == 2 * 14
    assert set(rows["recorded_rank"]) == {0}
    apart = rows.pivot(index="step", columns="rank", values="recorded_step")
    assert (apart[0] != apart[1]).all(), "ranks do not replay the same moment"
    slept = rows["seconds"] - rows["seconds_exchange"]
    assert (slept >= rows["seconds_asked"] - 1e-4).all()
    assert rows["seconds_late"].notna().all()
    assert rows["late_rank"].isin([0, 1]).all()
    header = json.loads(out.with_suffix(".json").read_text())
    assert header["overhead"] is None
    assert header["block_bytes"] == [block["bytes"] for block in blocks]
    assert not [*tmp_path.glob(".replay-*")]


def test_what_cannot_be_replayed_is_named(tmp_path: Path) -> None:
    (tmp_path / "cell").mkdir()
    done = subprocess.run(
        [str(BIN / "bnn"), "bench", "replay", str(tmp_path / "cell"), "--out", str(tmp_path / "r.parquet")],
        capture_output=True, text=True, timeout=60, env=environment(), check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.strip() == f"bnn: {tmp_path}/cell/summary.json: not the summary of a finished run"
    with pytest.raises(FileNotFoundError):
        (tmp_path / "r.parquet").read_bytes()
