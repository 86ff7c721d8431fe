"""Whether an mpiP report is whole: its call sites against the sums over ranks and against the times of the tasks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from campaign.results.mpi.lines import half_unit

SECONDS, BYTES = 3, 4  # significant digits (mpiP, report.c: %.3g and %.4g)
Site = tuple[str, int, int]  # routine, call site, rank


@dataclass(frozen=True)
class Row:
    """A call site's row: calls, and of times the mean (ms), of messages the sum (bytes), as it is printed."""

    calls: int
    printed: str

    @property
    def value(self) -> float:
        return float(self.printed)


def filtered(calls: Mapping[Site, Row], sums: Mapping[tuple[str, int], Row], listed: int, option: str) -> str:
    """Why the report lacks calls, or nothing. mpiP's option -t leaves rows out, but never the sums over ranks (`*`)."""
    have: dict[tuple[str, int], int] = defaultdict(int)
    for (name, number, _), row in calls.items():
        have[name, number] += row.calls
    for site, count in have.items():
        if site not in sums or count > sums[site].calls:
            return f"call site {site[1]} of {site[0]} has no sum over ranks, or one that is too small"
    every, found = sum(row.calls for row in sums.values()), sum(have.values())
    if found == every and len(calls) >= listed:
        return ""
    whole = sum(row.calls * row.value for row in sums.values())
    here = sum(row.calls * row.value for row in calls.values())
    share = max(0.0, 100 * (1 - here / whole)) if whole else 0.0
    return (
        f"filtered ({option or 'option -t of mpiP, or lines were removed'}): {every - found} of {every} calls and "
        f"{share:.1f}% of the MPI time are not in the report; run again with -t 0"
    )


def lost(calls: Mapping[Site, Row], listed: int) -> str:
    """Why a collective report lacks calls, or nothing. Its sums over ranks are of its rows, so they lack them too.

    mpiP looks each call site up by one address (mpiP-stats.c: mpiPi_stats_thr_cs_lookup): calls of a rank from another
    address of the same source line are not found. `listed` counts what all ranks measured.
    """
    if len(calls) >= listed:
        return ""
    return (
        f"{listed - len(calls)} of {listed} rows are not in this collective report (mpiP's option -l), which looks "
        "each call site up by one address: run again without -l"
    )


def times_missing(calls: Mapping[Site, Row], communication: list[str]) -> str:
    """Which rank's call sites do not add up to its MPI time, to the printed precision, or nothing."""
    sums, slack = [0.0] * len(communication), [0.0] * len(communication)
    for (_, _, rank), row in calls.items():
        sums[rank] += row.calls * row.value / 1e3
        slack[rank] += row.calls * half_unit(row.printed, SECONDS) / 1e3
    for rank, printed in enumerate(communication):
        total = float(printed)
        if abs(total - sums[rank]) > 1.000001 * (slack[rank] + half_unit(printed, SECONDS)) + 1e-9:
            return f"the call sites of rank {rank} have {sums[rank]:.6g} s of its {total:.6g} s of MPI time"
    return ""


def messages_missing(sent: Mapping[Site, Row], sums: Mapping[tuple[str, int], Row], calls: Mapping[Site, Row]) -> str:
    """Which call site's sizes are not whole, or nothing."""
    counts: dict[tuple[str, int], int] = defaultdict(int)
    size: dict[tuple[str, int], float] = defaultdict(float)
    slack: dict[tuple[str, int], float] = defaultdict(float)
    for (name, number, rank), row in sent.items():
        if (name, number, rank) not in calls or calls[name, number, rank].calls != row.calls:
            return f"sizes of call site {number} of {name} on rank {rank}, whose calls are others"
        counts[name, number] += row.calls
        size[name, number] += row.value
        slack[name, number] += half_unit(row.printed, BYTES)
    for site in counts.keys() | sums.keys():
        total = sums.get(site)
        whole = total is not None and total.calls == counts[site]
        if not whole or abs(total.value - size[site]) > slack[site] * 1.000001 + half_unit(total.printed, BYTES):  # type: ignore[union-attr]
            return f"the sizes of call site {site[1]} of {site[0]} are not those of its sum over ranks"
    return ""
