"""A job's MPI profiles are kept whole, or with the reason why there are none."""

import os
import time

import pytest

from bnn.engine import SingleEngine
from bnn.errors import UserError
from bnn.mpi_trace import build
from bnn.mpi_trace.keep import keep, prepare
from bnn.records.files import MPI_NOT_RECORDED
from bnn.training.folder import open_folder
from tests.unit.test_mpi_trace import leave


def test_profiles_of_all_ranks_are_kept_and_old_ones_go(tmp_path):
    aside, target = tmp_path / ".mpi", tmp_path / "mpi"
    target.mkdir()
    (target / "mpi_profile.1.0").touch()
    assert prepare(aside, interposer=False) is None
    leave(aside, 0), leave(aside, 1)
    assert keep(aside, target) == f"{target}: 2 files of MPI profiles"
    assert sorted(path.name for path in target.iterdir()) == ["mpi_profile.77.0.parquet", "mpi_profile.77.1.parquet"]
    assert not aside.exists()


def test_a_missing_rank_is_the_reason(tmp_path):
    aside, target = tmp_path / ".mpi", tmp_path / "mpi"
    prepare(aside, interposer=False)
    leave(aside, 0)
    assert "the profile of rank 1 of 2 is missing" in keep(aside, target)
    assert "rank 1 of 2 is missing" in (target / MPI_NOT_RECORDED).read_text()


def test_no_profile_at_all_is_said(tmp_path):
    prepare(tmp_path / ".mpi", interposer=False)
    assert "the ranks left no MPI profile" in keep(tmp_path / ".mpi", tmp_path / "mpi")


def test_an_interposer_that_is_not_built_is_the_reason(tmp_path, monkeypatch):
    monkeypatch.setattr(build, "library_path", lambda: tmp_path / "lib.so")
    with pytest.raises(UserError, match="not built"):
        prepare(tmp_path / ".mpi")
    assert "not built" in keep(tmp_path / ".mpi", tmp_path / "mpi")


def test_of_a_sites_own_tool_only_the_jobs_profiles_are_taken(tmp_path):
    old = tmp_path / "mpi_profile.41.0"
    old.touch()
    os.utime(old, (time.time() - 60, time.time() - 60))
    prepare(tmp_path / ".mpi", interposer=False)
    (tmp_path / "mpi_profile.42.0").touch()
    keep(tmp_path / ".mpi", tmp_path / "mpi", found_in=tmp_path)
    assert [path.name for path in (tmp_path / "mpi").iterdir()] == ["mpi_profile.42.0"]
    assert old.exists()


def test_a_new_attempt_begins_without_the_old_profiles(tmp_path):
    """A run of other calls must not stand beside them; what gathers its own profiles stays."""
    for name in ("mpi", ".mpi"):
        (tmp_path / name).mkdir()
    open_folder(tmp_path, "", SingleEngine())
    assert not (tmp_path / "mpi").exists()
    assert (tmp_path / ".mpi").exists()
