"""`campaign mpi-profile`: profiles for people and for programs, one line for what cannot be read."""

import json
import sys

import pytest
from click.testing import CliRunner

from campaign.tell.cli import cli, main
from tests.unit.test_tables_mpi import REAL


@pytest.fixture
def profile(tmp_path):
    path = tmp_path / "mpi_profile.42.0"
    path.write_text(REAL)
    return path


def test_for_people(profile):
    done = CliRunner().invoke(cli, ["mpi-profile", str(profile)])
    assert done.exit_code == 0
    assert "rank 0 of 2 of job 42 (mpitrace)" in done.output
    for line, words in {"MPI_Allreduce": ["1,010", "1,000.0", "2.000"], "control": ["1,000", "8.0", "1.500"]}.items():
        (shown,) = [row for row in done.output.splitlines() if line in row and "│" in row]
        assert all(word in shown for word in words)


def test_for_programs(profile):
    done = CliRunner().invoke(cli, ["mpi-profile", "--json", str(profile)])
    (told,) = json.loads(done.output)
    assert (told["rank"], told["size"], told["job"]) == (0, 2, "42")
    assert told["split"]["data"] == {"calls": 10, "bytes": 1_002_000, "seconds": 0.5}
    assert told["communication_efficiency"]["paper"] == 0.2


def test_what_is_none_is_one_line_with_file_and_line(tmp_path, monkeypatch, capsys):
    path = tmp_path / "mpi_profile.42.0"
    path.write_text(REAL.replace("1010", "ten"))
    monkeypatch.setattr(sys, "argv", ["campaign", "mpi-profile", str(path)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"campaign: {path}:6: not a routine's row")


def test_a_file_is_needed():
    assert CliRunner().invoke(cli, ["mpi-profile"]).exit_code == 2
