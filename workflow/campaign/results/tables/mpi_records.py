"""A cell's folder mpi/: its profiles, or in words why there are none."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bnn.errors import UserError
from bnn.metrics import STEADY, WARMUP
from bnn.records.files import MPI, MPI_ASIDE, MPI_NOT_RECORDED, TIMELINE
from bnn.records.mpi import NOT_MEASURED
from bnn.settings import TrainSettings
from campaign.results.mpi import Profile, parse_all

RECORDED = "recorded"
TRAINING = (WARMUP, STEADY)  # phases of a profile


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
    """What `folder`, a cell's, holds of MPI profiles. Those that cannot be read are named: the cell stands."""
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
    profiles, faults = _readable(files)
    if len({profile.rank for profile in profiles}) != len(profiles):
        return MpiRecords(f"not readable: {place}: holds the MPI profiles of several jobs", timeline=shown)
    if not profiles:
        return MpiRecords(f"not readable: {'; '.join(faults)}", timeline=shown)
    state = RECORDED + "".join(f", without {fault}" for fault in faults)
    return MpiRecords(state, tuple(sorted(profiles, key=lambda profile: profile.rank)), shown)


def _readable(files: list[Path]) -> tuple[list[Profile], list[str]]:
    """The profiles that can be read, and of each other file the reason: a rank's profile stands without the others."""
    profiles: list[Profile] = []
    faults = []
    for path in files:
        try:
            profiles += parse_all([path])
        except UserError as error:
            faults.append(str(error))
    return profiles, faults
