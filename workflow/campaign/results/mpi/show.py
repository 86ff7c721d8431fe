"""MPI profiles for people: the paper's Fig 2d as a table in the terminal."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console
from rich.table import Table
from rich.text import Text

from campaign.results.mpi.parse import efficiency
from campaign.results.mpi.profile import Profile
from campaign.results.mpi.split import Part, split


def _number(value: float | None, digits: int) -> str:
    return "not measured" if value is None else f"{value:,.{digits}f}"


def profile_table(profile: Profile) -> Table:
    """Calls, average bytes and seconds per routine, then control and data."""
    table = Table()
    table.add_column("routine")
    for name in ("calls", "average bytes", "seconds"):
        table.add_column(name, justify="right")
    for routine in profile.routines:
        size = _number(routine.average_bytes, 1)
        table.add_row(Text(routine.name), f"{routine.calls:,}", size, f"{routine.seconds:.3f}")
    parts = split(profile)
    table.add_section()
    for name, part in (("control", parts.control), ("data", parts.data)):
        table.add_row(name, f"{part.calls:,}", _average(part), f"{part.seconds:.3f}")
    return table


def _average(part: Part) -> str:
    return _number(None if part.bytes is None else part.bytes / part.calls if part.calls else 0.0, 1)


def _totals(profile: Profile) -> str:
    if profile.totals is None:
        return "times of the run: not measured"
    fraction = efficiency(profile)["paper"]
    share = "" if fraction is None else f" = {fraction:.3f} (the paper's communication efficiency)"
    return f"in MPI {profile.totals.communication:.3f} s / elapsed {profile.totals.elapsed:.3f} s{share}"


def show(profiles: Iterable[Profile], console: Console) -> None:
    """Print every profile: whose it is, the table, the totals, and how control and data were told apart."""
    for profile in profiles:
        job = f" of job {profile.job}" if profile.job else ""
        console.print(Text(f"{profile.file}: rank {profile.rank} of {profile.size}{job} ({profile.tool})"))
        console.print(profile_table(profile))
        console.print(Text(_totals(profile)))
        if profile.left:
            console.print(Text(f"not read: {'; '.join(profile.left)}"))
        console.print(Text(split(profile).rule + "\n"))
