"""Commands write into folders of their own: what is somebody else's is not replaced, nor mixed with their records."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from bnn.cli import cli
from bnn.commands.output import make_ready
from bnn.engine import SingleEngine
from bnn.errors import UserError
from bnn.records import CELL, STEPS_FILE, CellRecord
from bnn.records.files import GRAPH_FILE, POSTERIOR
from bnn.settings import TrainSettings
from bnn.training.folder import open_folder

FINGERPRINT = "0123456789abcdef"


@pytest.mark.parametrize("name", [CELL, STEPS_FILE])
def test_a_file_of_somebody_elses_is_not_replaced_by_a_run(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(UserError, match=f"has {name}, which is of no run"):
        open_folder(tmp_path, FINGERPRINT, SingleEngine())
    assert (tmp_path / name).read_text() == "mine"


def test_a_folder_called_posterior_is_not_replaced_either(tmp_path: Path) -> None:
    (tmp_path / POSTERIOR).mkdir()
    (tmp_path / POSTERIOR / "thesis.tex").write_text("mine")
    with pytest.raises(UserError, match="has posterior, which is of no run"):
        open_folder(tmp_path, FINGERPRINT, SingleEngine())
    assert (tmp_path / POSTERIOR / "thesis.tex").exists()


def test_a_run_of_other_settings_is_replaced(tmp_path: Path) -> None:
    record = CellRecord(settings=TrainSettings(), hash=TrainSettings().fingerprint())
    (tmp_path / CELL).write_text(record.model_dump_json())
    (tmp_path / STEPS_FILE).write_bytes(b"damaged")
    open_folder(tmp_path, FINGERPRINT, SingleEngine())
    assert not (tmp_path / CELL).exists()
    assert not (tmp_path / STEPS_FILE).exists()


@pytest.mark.parametrize("name", [CELL, GRAPH_FILE])
def test_records_of_predictions_are_not_mixed_with_those_of_a_run_or_a_posterior(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("{}")
    with pytest.raises(UserError, match=f"has {name}, and is the folder of something else"):
        make_ready(tmp_path, ("inference.json",), tmp_path / ".chunks" / "x")
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(
    "words",
    [["train"], *([command, "posterior", "--dataset", "mnist-sample"] for command in ("infer", "prune"))],
    ids=lambda words: words[0],
)
def test_an_empty_word_is_not_the_current_folder(words: list[str]) -> None:
    result = CliRunner().invoke(cli, [*words, "--out", ""])
    assert result.exit_code == 2
    assert "is empty" in result.output
