"""Projected steps beside replayed ones: a made-up folder of replays, in which what is compared is known."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from bnn.records.bench import header_path
from bnn.records.replay import ReplayHeader
from bnn.records.summary import GradientBlock
from campaign.names.cell import IDENTITY, Cell
from tests.support.allreduce import curve, microseconds, write_csv
from tests.support.cells import entry, write_cell
from tests.support.projected import besides

MEBIBYTE = 2**20


def header(cell: Path, ranks: int, seconds: float) -> ReplayHeader:
    values = {
        "cell": str(cell), "cell_hash": "x", "cell_ranks": 1, "model": "vgg16", "kind": "bnn", "batch_size": 16,
        "engine": "torch", "cycle_time_ms": 5, "fusion_buffer_mb": 64, "block_bytes": [MEBIBYTE],
        "block_full_shares": [1.0], "ranks": ranks, "hosts": [f"h{rank}" for rank in range(ranks)], "cpu_model": "x",
        "cores": 2, "steps": 10, "warmup": 1, "step_seconds": [seconds, seconds, seconds], "samples_per_second": 1.0,
        "cell_step_seconds": [seconds, seconds, seconds], "overhead": None, "slept_beyond_seconds": 0.0,
        "clock_error_seconds": None, "command": [], "started_at": 0.0, "stopped_at": 1.0, "git_revision": None,
        "git_dirty": None,
    }  # fmt: skip
    return ReplayHeader.model_validate(values)


def test_a_replay_stands_beside_the_projection_of_its_cell(tmp_path: Path) -> None:
    cell = entry(max_steps=80, engine="torch")
    blocks = [GradientBlock(bytes=MEBIBYTE, full_seconds=0.05)]
    write_cell(tmp_path / "r", cell, seconds=0.1, jitter=0, profiled=False, gradient_blocks=blocks)
    folder = tmp_path / "r" / Cell(**{key: cell[key] for key in IDENTITY}).folder
    scales = (2, 4, 8)
    measured = curve(microseconds("ring", scales, per_node=1), scales, per_node=1)
    rate = tmp_path / "replays" / "1gbit"
    rate.mkdir(parents=True)
    write_csv(rate / "allreduce.csv", [measured])
    place = measured.sizes.index(MEBIBYTE)
    for ranks in (2, 8, 16):
        seconds = 0.092
        if ranks in scales:
            seconds += 1e-6 * float(measured.microseconds[scales.index(ranks), place])
        table = rate / f"cell-{ranks}.parquet"
        table.touch()
        header_path(table).write_text(header(folder, ranks, seconds).model_dump_json())
    twin, seconds = entry(nodes=2, max_steps=80, engine="torch"), 0.092 + 1e-6 * float(measured.microseconds[0, place])
    write_cell(tmp_path / "t", twin, seconds=seconds, jitter=0, profiled=False, labels={"cell": str(folder)})
    shutil.copytree(tmp_path / "t" / Cell(**{key: twin[key] for key in IDENTITY}).folder, rate / "cell-trained-2")
    made = list(besides(tmp_path / "replays"))
    assert [each.words().partition(" (")[0] for each in made if each.how == "trained"] == [
        f"{made[0].rate} {made[0].cell} 2 hosts: trained {1000 * seconds:.2f}"
    ]
    assert [each.seconds for each in made if each.hosts == 2] == pytest.approx([seconds, seconds])
    found = {(each.hosts, each.unseen): each for each in made if each.how == "replayed"}
    for key in ((2, False), (8, False), (8, True)):
        parts = found[key].parts
        assert parts is not None
        assert parts.total == pytest.approx(found[key].seconds, rel=1e-4)
        assert ": 1.000 of it (work 92.00" in found[key].words()
    assert found[16, False].parts is not None  # beyond the curve, which is a ring's
    assert "8 hosts, unseen: replayed" in found[8, True].words()
