"""The report of mpiP (https://github.com/LLNL/mpiP): one file for all ranks."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

from campaign.results.mpi.lines import Lines, half_unit, pattern
from campaign.results.mpi.mpip_sums import SECONDS, Row, Site, filtered, lost, messages_missing, times_missing
from campaign.results.mpi.profile import Profile, Routine, SizeBin, Totals

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

OPTIONS = re.compile(r"@ MPIP env var *: (.*)")
COLLECTIVE = re.compile(r"@ Report generation *: Collective")
CONCISE = "a concise report (mpiP's option -c) does not say what each rank called: "


class _Reader:
    def __init__(self, path: Path) -> None:
        self.lines = Lines(path)
        self.times: list[tuple[float, float]] = []
        self.printed: list[str] = []  # MPI time of each task
        self.calls: dict[Site, Row] = {}
        self.sent: dict[Site, Row] = {}
        self.call_sums: dict[tuple[str, int], Row] = {}
        self.sent_sums: dict[tuple[str, int], Row] = {}
        self.options = ""
        self.collective = False
        self.listed = 0
        self.all_tasks = False
        self.slack: tuple[float, ...] = (0.0, 0.0)  # of the sums over tasks, as their terms are printed
        self.left: list[str] = []

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
        if not self.times or not (self.calls or self.call_sums):
            lines.refuse("no times of tasks and call sites (mpiP's option -d leaves them out): run again without it")
        if not self.all_tasks:
            lines.refuse("the times of the tasks have no sum (*)")
        threshold = re.search(r"-t[ \t,]*[0-9.]+", self.options)
        option = f"option {threshold[0]} of mpiP" if threshold else ""
        for reason in (
            filtered(self.calls, self.call_sums, 0 if self.collective else self.listed, option),
            lost(self.calls, self.listed) if self.collective else "",
            times_missing(self.calls, self.printed),
            messages_missing(self.sent, self.sent_sums, self.calls),
        ):
            if reason:
                lines.refuse(reason)
        return self._profiles()

    def _open(self, section: str) -> None:
        if section == END or section.startswith(SKIPPED):
            if section.startswith(("Callsite I/O", "Callsite RMA", "MPI Time Statistics", "Topology")):
                self.left.append(section.partition(" (")[0])
            return
        if section.startswith("Task Time Statistics"):
            both = re.search(r"(?:^|[ \t,])-[cdelnopryz]*v", self.options)
            self.lines.refuse(CONCISE + ("read the other report of this run (-v)" if both else "run again without -c"))
        if section.startswith(CALLS) and (told := re.search(r": ([0-9]{1,15})$", section)):
            self.listed = int(told[1])
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
            self._site(line, CALL, self.calls, self.call_sums)
        elif section.startswith(SENT):
            self._site(line, MESSAGE, self.sent, self.sent_sums)
        elif section == "" and (options := OPTIONS.fullmatch(line)):
            self.options = options[1]
        elif section == "" and COLLECTIVE.fullmatch(line):
            self.collective = True
        elif not section.startswith(SKIPPED) and not (section == "" and INTRO.fullmatch(line)):
            self.lines.refuse(f"not a line of an mpiP report: {line[:80]!r}")

    def _task(self, line: str) -> None:
        if every := ALL_TASKS.fullmatch(line):
            self._sum_of_tasks(every)
            return
        found = TASK.fullmatch(line)
        if not found or int(found[1]) != len(self.times):
            self.lines.refuse(f"not the times of task {len(self.times)}: {line[:80]!r}")
        self.times.append((float(found[2]), float(found[3])))
        self.printed.append(found[3])
        self.slack = tuple(
            before + half_unit(word, SECONDS) for before, word in zip(self.slack, found.groups()[1:3], strict=True)
        )

    def _sum_of_tasks(self, every: re.Match[str]) -> None:
        sums = [sum(pair[i] for pair in self.times) for i in (0, 1)]
        for has, printed, slack in zip(sums, every.groups(), self.slack, strict=True):
            if abs(has - float(printed)) > 1.000001 * (slack + half_unit(printed, SECONDS)) + 1e-9:
                self.lines.refuse(f"the times of {len(self.times)} tasks add up to {has:.6g} of {printed} s")
        self.all_tasks = True

    def _site(self, line: str, what: re.Pattern[str], into: dict[Site, Row], sums: dict[tuple[str, int], Row]) -> None:
        """A call site's row. Keeps the count and, of calls, the mean time (ms), of messages, their sum (bytes)."""
        found = what.fullmatch(line)
        if not found:
            self.lines.refuse(f"not a call site's row: {line[:80]!r}")
        name, number = found[1], int(found[2])
        row = Row(int(found[4]), found[6] if what is CALL else found[8])
        if found[3] is None:  # the sum over ranks
            if (name, number) in sums:
                self.lines.refuse(f"a sum over ranks a second time: {line[:80]!r}")
            sums[name, number] = row
            return
        site = name, number, int(found[3])
        if site in into or site[2] >= len(self.times):
            self.lines.refuse(f"an unknown task or call site, or one that comes a second time: {line[:80]!r}")
        into[site] = row

    def _profiles(self) -> list[Profile]:
        sites: list[dict[str, list[SizeBin]]] = [defaultdict(list) for _ in self.times]
        for (name, number, rank), row in self.calls.items():
            size = self.sent.get((name, number, rank))
            average = None if size is None or row.calls == 0 else size.value / row.calls
            sites[rank][name].append(SizeBin(row.calls, average, row.calls * row.value / 1e3))
        return [
            Profile(
                file=str(self.lines.path),
                tool="mpiP",
                rank=rank,
                size=len(self.times),
                job=None,
                window=None,
                routines=tuple(_routine(f"MPI_{name}", bins) for name, bins in of_rank.items()),
                totals=Totals(communication, elapsed),
                left=tuple(self.left),
            )
            for rank, (of_rank, (elapsed, communication)) in enumerate(zip(sites, self.times, strict=True))
        ]


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
