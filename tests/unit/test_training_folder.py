"""A run's folder after attempts that were ended at any moment: what an attempt takes up, and what it passes over."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

from bnn.engine import SingleEngine
from bnn.records import STEPS, write_table
from bnn.records.checkpoint import MARKER, CheckpointMarker
from bnn.records.files import CHECKPOINT
from bnn.training.folder import open_folder
from bnn.training.resume import find_checkpoint

HASH = "0123456789abcdef"


def checkpoint(out: Path, step: int, fingerprint: str = HASH, ranks: int = 1) -> Path:
    """A complete one of a run without layers."""
    folder = out / CHECKPOINT / f"step-{step}"
    folder.mkdir(parents=True)
    for name in ("shared", "rank-0"):
        save_file({"x": torch.zeros(1000)}, folder / f"{name}.safetensors")
    types = {
        column.name: column.type.replace("string", "object").replace("bool", "boolean") for column in STEPS.columns
    }
    write_table(pd.DataFrame(columns=STEPS.names).astype(types), folder / "rank-0.parquet", STEPS)
    marker = CheckpointMarker(step=step, ranks=ranks, hash=fingerprint, baseline="cnn")
    (folder / MARKER).write_text(marker.model_dump_json())
    return folder


def cut(name: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        with (folder / name).open("r+b") as file:
            file.truncate((folder / name).stat().st_size // 2)

    return damage


def lose(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def empty(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes(b"")


def zero(name: str) -> Callable[[Path], None]:
    """As some file systems leave a file after a crash."""
    return lambda folder: (folder / name).write_bytes(bytes((folder / name).stat().st_size)) and None


def write(name: str, text: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_text(text) and None


DAMAGES = [
    cut(MARKER), empty(MARKER), write(MARKER, "[]"), write(MARKER, '{"step": 1}'),
    cut("shared.safetensors"), zero("shared.safetensors"), lose("shared.safetensors"),
    cut("rank-0.safetensors"), empty("rank-0.safetensors"),
    cut("rank-0.parquet"), lose("rank-0.parquet"),
]  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_an_unreadable_checkpoint_is_named_and_the_newest_readable_one_is_taken(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: Callable[[Path], None]
) -> None:
    for step in (4, 12, 8):
        checkpoint(tmp_path, step)
    damage(tmp_path / CHECKPOINT / "step-12")
    assert find_checkpoint(tmp_path, HASH, SingleEngine()) == (8, "cnn")
    [line] = capsys.readouterr().out.splitlines()
    assert line.startswith(f"checkpoint {tmp_path / CHECKPOINT / 'step-12'} cannot be read (")
    assert line.endswith("set aside as unreadable-step-12")
    assert (tmp_path / CHECKPOINT / "unreadable-step-12").is_dir()
    assert find_checkpoint(tmp_path, HASH, SingleEngine()) == (8, "cnn")
    assert capsys.readouterr().out == ""
    open_folder(tmp_path, HASH, SingleEngine())
    assert (tmp_path / CHECKPOINT / "step-8").exists()


def test_without_a_readable_checkpoint_the_run_starts_anew(tmp_path: Path) -> None:
    for step in (4, 8):
        cut("shared.safetensors")(checkpoint(tmp_path, step))
    checkpoint(tmp_path, 12).joinpath(MARKER).unlink()  # was being written
    assert find_checkpoint(tmp_path, HASH, SingleEngine()) is None
    cut("shared.safetensors")(checkpoint(tmp_path, 8))  # another attempt's: the earlier one is in the way
    assert find_checkpoint(tmp_path, HASH, SingleEngine()) is None


def test_metrics_that_cannot_be_read_are_a_reason_to_start_anew(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A resumed run would lack them, and its curve of accuracy would begin late."""
    folder = checkpoint(tmp_path, 4)
    folder.with_name("evaluations.json").write_text('[{"step": 4, ')
    assert find_checkpoint(tmp_path, HASH, SingleEngine()) is None
    assert "evaluations.json" in capsys.readouterr().out


def test_a_damaged_marker_does_not_hide_that_checkpoints_are_of_other_settings(tmp_path: Path) -> None:
    write(MARKER, "{")(checkpoint(tmp_path, 4))
    checkpoint(tmp_path, 8, fingerprint="other")
    open_folder(tmp_path, HASH, SingleEngine())
    assert not (tmp_path / CHECKPOINT).exists()


def test_leftovers_of_no_attempt_are_removed_and_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in (".partial-x", ".partial-3", ".partial-"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "steps.parquet").write_text("half")
    (tmp_path / ".partial-summary").write_text("{")
    assert open_folder(tmp_path, HASH, SingleEngine()).attempt == 4
    assert sorted(path.name for path in tmp_path.iterdir()) == [".partial-3", ".partial-4"]
    said = capsys.readouterr().out.splitlines()
    assert said == [
        f"{tmp_path / name}: of no attempt, removed" for name in (".partial-", ".partial-summary", ".partial-x")
    ]


def test_checkpoints_of_earlier_versions_are_read(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path, 4)
    (folder / MARKER).write_text(json.dumps({"step": 4, "ranks": 1, "hash": HASH, "baseline": "cnn-kernels"}))
    assert find_checkpoint(tmp_path, HASH, SingleEngine()) == (4, "cnn-kernels")
