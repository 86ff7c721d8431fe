"""The report of mpiP (https://github.com/LLNL/mpiP): one file for all ranks."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

from campaign.mpi.lines import Lines, pattern
from campaign.mpi.profile import Profile, Routine, SizeBin, Totals

BANNER = re.compile(r"@ mpiP")
SECTION = re.compile(r"@--- (.+?)(?: -+)?")
RULE = re.compile(r"-{75}")
INTRO = re.compile(r"@ .*")
TIME = "MPI Time (seconds)"
CALLS = "Callsite Time statistics (all"
SENT = "Callsite Message Sent statistics (all"
END = "End of Report"
# What we make nothing of: source lines, the most expensive call sites over all ranks, I/O and one-sided sizes.
SKIPPED = ("Callsites:", "Aggregate ", "Callsite I/O statistics", "Callsite RMA", "MPI Time Statistics", "Topology")
SHARE = r"(?:[0-9]{1,15}\.[0-9]{2}|-?nan|inf)"  # a percentage: not kept
TASK = pattern(rf"\x20*<i> <x> <x> {SHARE}")
ALL_TASKS = pattern(rf"\x20*\* <x> <x> {SHARE}")
CALL = pattern(rf"([A-Za-z]\w*) <i> (?:<i>|\*) <i> <x> <x> <x> {SHARE} {SHARE}")
MESSAGE = pattern(r"([A-Za-z]\w*) <i> (?:<i>|\*) <i> <x> <x> <x> <x>")
HEADS = pattern(r"(?:Task AppTime MPITime|Name Site Rank Count Max Mean Min) .+")

Site = tuple[str, int, int]  # routine, call site, rank


class _Reader:
    def __init__(self, path: Path) -> None:
        self.lines = Lines(path)
        self.times: list[tuple[float, float]] = []
        self.calls: dict[Site, tuple[int, float]] = {}
        self.sent: dict[Site, tuple[int, float]] = {}

    def read(self) -> list[Profile]:
        lines = self.lines
        lines.expect(BANNER, "'@ mpiP'")
        section = ""
        while (line := lines.next()) is not None:
            if found := SECTION.fullmatch(line):
                section = found[1]
                self._open(section)
            elif line and not RULE.fullmatch(line):
                self._row(section, line)
        if section != END:
            lines.refuse("the report is cut short: it has no end")
        if not self.times or not self.calls:
            lines.refuse("no times of tasks and call sites (mpiP writes them unless its report is a concise one)")
        return [self._profile(rank) for rank in range(len(self.times))]

    def _open(self, section: str) -> None:
        if section == END or section.startswith(SKIPPED):
            return
        if section != TIME and not section.startswith((CALLS, SENT)):
            self.lines.refuse(f"unknown part of an mpiP report: {section[:80]!r}")
        heads = self.lines.next()
        if heads is None or not RULE.fullmatch(heads):
            self.lines.refuse("expected a rule")
        self.lines.expect(HEADS, "the heads of a table")

    def _row(self, section: str, line: str) -> None:
        if section == TIME:
            self._task(line)
        elif section.startswith(CALLS):
            self._site(line, CALL, self.calls)
        elif section.startswith(SENT):
            self._site(line, MESSAGE, self.sent)
        elif not section.startswith(SKIPPED) and not (section == "" and INTRO.fullmatch(line)):
            self.lines.refuse(f"not a line of an mpiP report: {line[:80]!r}")

    def _task(self, line: str) -> None:
        if ALL_TASKS.fullmatch(line):
            return
        found = TASK.fullmatch(line)
        if not found or int(found[1]) != len(self.times):
            self.lines.refuse(f"not the times of task {len(self.times)}: {line[:80]!r}")
        self.times.append((float(found[2]), float(found[3])))

    def _site(self, line: str, what: re.Pattern[str], into: dict[Site, tuple[int, float]]) -> None:
        """A call site's row. Keeps the count and, of calls, the mean time (ms), of messages, their sum (bytes)."""
        found = what.fullmatch(line)
        if not found:
            self.lines.refuse(f"not a call site's row: {line[:80]!r}")
        if found[3] is None:  # the sum over ranks
            return
        site = found[1], int(found[2]), int(found[3])
        if site in into or site[2] >= len(self.times) or (into is self.sent and site not in self.calls):
            self.lines.refuse(f"an unknown task or call site, or one that comes a second time: {line[:80]!r}")
        into[site] = int(found[4]), float(found[6] if what is CALL else found[8])

    def _profile(self, rank: int) -> Profile:
        sites: dict[str, list[SizeBin]] = defaultdict(list)
        for (name, number, of), (count, mean) in self.calls.items():
            if of == rank:
                _, size = self.sent.get((name, number, of), (0, None))
                average = None if size is None or count == 0 else size / count
                sites[name].append(SizeBin(count, average, count * mean / 1e3))
        elapsed, communication = self.times[rank]
        return Profile(
            file=str(self.lines.path),
            tool="mpiP",
            rank=rank,
            size=len(self.times),
            job=None,
            window=None,
            routines=tuple(_routine(f"MPI_{name}", bins) for name, bins in sites.items()),
            totals=Totals(communication, elapsed),
        )


def _routine(name: str, bins: list[SizeBin]) -> Routine:
    calls = sum(b.calls for b in bins)
    known = [b.calls * b.average_bytes for b in bins if b.average_bytes is not None]
    average = sum(known) / calls if known and calls else None
    return Routine(name, calls, average, sum(b.seconds for b in bins), tuple(bins))


def read_mpip(path: Path) -> list[Profile]:
    """Every rank of an mpiP report. Seconds are sums of count x mean, which the report gives with three digits.

    Raises UserError naming file and line for whatever is not that format.
    """
    return _Reader(path).read()
