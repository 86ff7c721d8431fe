"""MPI profiles of any kind, told apart by what is in them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

from bnn.errors import UserError
from campaign.results.mpi.mpip import read_mpip
from campaign.results.mpi.mpitrace import read_mpitrace
from campaign.results.mpi.own import read_own
from campaign.results.mpi.profile import Profile
from campaign.results.mpi.split import Split, split


def parse(path: Path) -> list[Profile]:
    """The profiles in a file: one rank of mpitrace/HPCTW or of our interposer, all ranks of an mpiP report.

    Of our interposer's files (text and Parquet) either may be named; the other one is read with it.
    Raises UserError naming the file, and the line where it has lines, for what cannot be read.
    """
    if path.suffix == ".parquet":
        return [read_own(path)]
    if path.suffix == ".tsv":
        raise UserError(f"{path}: not yet collected: python -m bnn.mpi_trace collect {path.parent}")
    try:
        with path.open("rb") as file:
            start = file.read(6)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    if start.startswith(b"PAR1"):
        raise UserError(f"{path}:1: a Parquet file without its suffix .parquet")
    if start == b"@ mpiP":
        return read_mpip(path)
    beside = path.with_name(f"{path.name}.parquet")
    return [read_own(beside) if beside.is_file() else read_mpitrace(path)]


def parse_all(paths: Iterable[Path]) -> list[Profile]:
    """The profiles of several files, each rank once: a text and its Parquet file are one profile."""
    profiles: dict[tuple[str, int], Profile] = {}
    for path in paths:
        for profile in parse(path):
            profiles[profile.file, profile.rank] = profile
    return list(profiles.values())


def profile_json(paths: Iterable[Path]) -> list[dict[str, Any]]:
    """One object per profile: its fields (None is 'not measured'), `split` and `communication_efficiency`.

    Raises UserError as `parse` does.
    """
    return [_as_json(profile) for profile in parse_all(paths)]


def _as_json(profile: Profile) -> dict[str, Any]:
    parts = split(profile)
    return {**_plain(profile), "split": _plain(parts), "communication_efficiency": efficiency(profile, parts)}


def _plain(value: Any) -> Any:
    """A dataclass as a dictionary, without the copies of its leaves that `asdict` makes: 4,096 ranks are many."""
    if isinstance(value, tuple):
        return tuple(_plain(part) for part in value)
    return {name: _plain(part) for name, part in vars(value).items()} if is_dataclass(value) else value


def efficiency(profile: Profile, parts: Split | None = None) -> dict[str, float | None]:
    """Fractions of the elapsed time inside MPI: all of it, and the parts that carry data and control.

    `paper` is the paper's "communication efficiency" (footnote 2). It is not time lost: Horovod's background thread
    waits in MPI while the other threads compute. `parts`: its split, where that is known already.
    """
    totals, parts = profile.totals, parts or split(profile)
    if totals is None or totals.elapsed == 0:
        return {"paper": None, "data": None, "control": None}
    return {
        "paper": totals.communication / totals.elapsed,
        "data": parts.data.seconds / totals.elapsed,
        "control": parts.control.seconds / totals.elapsed,
    }
