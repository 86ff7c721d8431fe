"""A cell's folder mpi/: its profiles, or in words why there are none."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bnn.errors import UserError
from bnn.records.files import MPI, MPI_ASIDE, MPI_NOT_RECORDED, TIMELINE
from bnn.records.mpi import NOT_MEASURED
from bnn.settings import TrainSettings
from campaign.mpi import Profile, parse_all

RECORDED = "recorded"


@dataclass(frozen=True)
class MpiRecords:
    """`state` is RECORDED, or says why there is no profile; profiles are sorted by rank, `timeline` is a path."""

    state: str
    profiles: tuple[Profile, ...] = ()
    timeline: str = ""


NO_MPI = MpiRecords("not recorded: the cell has not finished")


def carries_no_data(settings: TrainSettings) -> str:
    """Why gradients do not go through MPI with these settings; empty when they do."""
    if settings.engine != "horovod":
        return f"engine {settings.engine} does not exchange gradients through MPI"
    return NOT_MEASURED["NCCL"] if settings.device == "cuda" else ""


def read_mpi(folder: Path, settings: TrainSettings, results: Path) -> MpiRecords:
    """What `folder`, a cell's, holds of MPI profiles. One that cannot be read is a reason: the cell stands."""
    place = folder / MPI
    if settings.engine != "horovod":
        return MpiRecords(f"not measurable: {carries_no_data(settings)}")
    timeline = place / TIMELINE
    shown = timeline.relative_to(results).as_posix() if timeline.is_file() else ""
    reason = place / MPI_NOT_RECORDED
    if reason.is_file():
        return MpiRecords(f"not recorded: {' '.join(reason.read_text(errors='replace').split())}", timeline=shown)
    found = sorted(place.glob("mpi_profile.*"))
    files = [path for path in found if path.suffix == ".parquet"] or found
    if not files and (folder / MPI_ASIDE).is_dir():
        return MpiRecords("not recorded yet: the cell's job is about to gather its profiles; make the tables again")
    if not files:
        return MpiRecords("not recorded: the cell ran without a profiler", timeline=shown)
    try:
        profiles = sorted(parse_all(files), key=lambda profile: profile.rank)
        if len({profile.rank for profile in profiles}) != len(profiles):
            raise UserError(f"{place}: holds the MPI profiles of several jobs")
    except UserError as error:
        return MpiRecords(f"not readable: {error}", timeline=shown)
    return MpiRecords(RECORDED, tuple(profiles), shown)
