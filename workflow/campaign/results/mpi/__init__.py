"""MPI profiles of any tool: read into one form, split into control and data."""

from campaign.results.mpi.parse import parse, parse_all, profile_json
from campaign.results.mpi.profile import Call, Profile, Routine, SizeBin, Task, Totals
from campaign.results.mpi.split import Part, Split, split

__all__ = [
    "Call", "Part", "Profile", "Routine", "SizeBin", "Split", "Task", "Totals",
    "parse", "parse_all", "profile_json", "split",
]  # fmt: skip
