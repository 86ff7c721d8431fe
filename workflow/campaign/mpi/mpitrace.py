"""The text profile of IBM's mpitrace (on some machines HPCTW), in its versions, and of our interposer."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from campaign.mpi.lines import Lines, memory, pattern
from campaign.mpi.profile import Extreme, Profile, Routine, SizeBin, Task, Totals

HEADER = pattern(r"Data for MPI rank <i> of <i>:(?: \(all communicators\))?")
WINDOW = pattern(r"(Times(?: and statistics)? from .{1,100}\.)")
RULE = re.compile(r" *-{65}(?:-{6})?")
TABLE = pattern(r"MPI Routine #calls avg\. bytes time\(sec\)")
ROUTINE = pattern(r"(MPI_\w+) <i> <x> <x>")
SAID = pattern(r"MPI task <i> of <i> had the (minimum|median|maximum) communication time\.")
TOTALS = {
    "communication": pattern(r"total communication time = <x> seconds(?: \(including synchronization\))?\."),
    "elapsed": pattern(r"total elapsed time = <x> seconds\."),
    "user": pattern(r"user cpu time = <x> seconds\."),
    "system": pattern(r"system time = <x> seconds\."),
    "memory_bytes": pattern(r"(?:max resident set size|maximum memory size) = <x> (MBytes|MiB|KBytes)\."),
}
# Read, checked, and not kept: nothing is made of them.
UNUSED = (
    pattern(r"(?:synchronization time|exclusive elapsed time) = <x> seconds\."),
    pattern(r"total MPI-IO time = <x> seconds\."),
    pattern(r"\x20*Rank <i> reported the largest memory utilization : <x> (?:MBytes|MiB|KBytes)"),
    pattern(r"\x20*Rank <i> reported the largest elapsed time : <x> sec"),
)
DISTRIBUTIONS = pattern(r"Message size distributions:(?: \(all communicators\))?")
SIZES_OF = pattern(r"(MPI_\w+) #calls avg\. bytes time\(sec\)")
SIZE_BIN = pattern(r" <i> <x> <x>")
SUMMARY = pattern(r"(?:Communication summary|Summary) for all tasks:")
EXTREME = pattern(r" (minimum|median|maximum) communication time = <x> sec for task <i>")
IO_EXTREME = pattern(r" (?:minimum|average|maximum) MPI-IO time = <x> seconds")
HISTOGRAM = pattern(r"Histogram of times spent in MPI")
HISTOGRAM_HEAD = pattern(r" time-bin #ranks")
HISTOGRAM_BIN = pattern(r" <x> <i>")
TASKS = pattern(r"MPI timing summary for all ranks:|MPI tasks sorted by communication time:")
INTEGER, NUMBER = pattern("<i>"), pattern("<x>")
TASK_FIELDS = {
    "taskid": "rank", "hostname": "hostname", "cpu": "cpu", "comm(s)": "communication", "elapsed(s)": "elapsed",
    "user(s)": "user", "system(s)": "system", "size(KB)": "memory_bytes", "size(MB)": "memory_bytes",
    "size(MiB)": "memory_bytes", "switches": "switches",
}  # fmt: skip
FILE_NAME = re.compile(r"mpi_profile(?:\.([^.]+)(?:\.[^.]+)?)?\.([0-9]{1,9})", re.ASCII)


class _Reader:
    """The state of reading one file; one method per part of it, in their order."""

    def __init__(self, path: Path) -> None:
        self.lines = Lines(path)
        self.routines: dict[str, tuple[int, float, float]] = {}
        self.bins: dict[str, list[SizeBin]] = {}
        self.said: list[Extreme] = []
        self.told: list[Extreme] = []
        self.totals: dict[str, Any] = {}
        self.tasks: list[Task] = []

    def read(self) -> Profile:
        lines = self.lines
        found = lines.expect(HEADER, "'Data for MPI rank R of N:'")
        self.rank, self.size = int(found[1]), int(found[2])
        if self.rank >= self.size:
            lines.refuse(f"rank {self.rank} of {self.size}")
        job = self._job()
        window = lines.expect(WINDOW, "the window of time")[1]
        self._routines()
        self._totals()
        self._distributions()
        return Profile(
            file=str(lines.path),
            tool="mpitrace",
            rank=self.rank,
            size=self.size,
            job=job,
            window=window,
            routines=tuple(
                Routine(name, *values, bins=tuple(self.bins.get(name, ()))) for name, values in self.routines.items()
            ),
            totals=Totals(**self.totals),
            extremes=tuple(self.told or self.said),
            tasks=tuple(self.tasks),
        )

    def _job(self) -> str | None:
        """From the file's name, which must not name another rank."""
        named = FILE_NAME.fullmatch(self.lines.path.name)
        if named and int(named[2]) != self.rank:
            self.lines.refuse(f"the file is named after rank {int(named[2])} but holds rank {self.rank}")
        return named[1] if named else None

    def _routines(self) -> None:
        lines = self.lines
        lines.expect(RULE, "a rule")
        lines.expect(TABLE, "the heads of the table of routines")
        lines.expect(RULE, "a rule")
        while (line := lines.next()) is not None:
            if RULE.fullmatch(line):
                return
            found = ROUTINE.fullmatch(line)
            if not found or found[1] in self.routines:
                lines.refuse(f"not a routine's row: {line[:80]!r}")
            self.routines[found[1]] = int(found[2]), float(found[3]), float(found[4])
        lines.refuse("the file ends in the table of routines")

    def _totals(self) -> None:
        """Everything from the table of routines to the size distributions."""
        lines = self.lines
        while (line := lines.next()) is not None:
            if DISTRIBUTIONS.fullmatch(line):
                missing = sorted(set(TOTALS) - set(self.totals))
                if missing:
                    lines.refuse(f"no line has said the {missing[0].replace('_', ' ')}")
                return
            if not (line == "" or RULE.fullmatch(line) or any(p.fullmatch(line) for p in UNUSED)):
                self._total(line)
        lines.refuse("the file ends before the message size distributions")

    def _total(self, line: str) -> None:
        if found := SAID.fullmatch(line):
            if (int(found[1]), int(found[2])) != (self.rank, self.size):
                self.lines.refuse(f"speaks of rank {found[1]} of {found[2]} in the file of {self.rank} of {self.size}")
            self.said.append(Extreme(found[3], self.rank, None))
            return
        for name, what in TOTALS.items():
            if found := what.fullmatch(line):
                if name in self.totals:
                    self.lines.refuse(f"the {name.replace('_', ' ')} a second time")
                value = memory(found[1], found[2]) if name == "memory_bytes" else float(found[1])
                self.totals[name] = value
                return
        self.lines.refuse(f"not a line of totals: {line[:80]!r}")

    def _distributions(self) -> None:
        lines, name = self.lines, None
        while (line := lines.next()) is not None:
            if line == "":
                name = None
            elif found := SIZES_OF.fullmatch(line):
                name = found[1]
                if name not in self.routines or name in self.bins:
                    lines.refuse(f"sizes of {name}, which the table of routines does not have, or a second time")
                self.bins[name] = []
            elif name and (found := SIZE_BIN.fullmatch(line)):
                self.bins[name].append(SizeBin(int(found[1]), float(found[2]), float(found[3])))
                if sum(b.calls for b in self.bins[name]) > self.routines[name][0]:
                    lines.refuse(f"more calls by size than {name} has in all")
            elif RULE.fullmatch(line):
                self._summary()
                return
            else:
                lines.refuse(f"not a line of message sizes: {line[:80]!r}")

    def _summary(self) -> None:
        """What rank 0 says of all ranks."""
        lines, histogram = self.lines, False
        while (line := lines.next()) is not None:
            if found := EXTREME.fullmatch(line):
                if int(found[3]) >= self.size or any(e.kind == found[1] for e in self.told):
                    lines.refuse(f"no such task, or the {found[1]} a second time: {line[:80]!r}")
                self.told.append(Extreme(found[1], int(found[3]), float(found[2])))
            elif HISTOGRAM.fullmatch(line):
                lines.expect(HISTOGRAM_HEAD, "the heads of the histogram")
                histogram = True
            elif TASKS.fullmatch(line):
                self._tasks()
                return
            elif line == "":
                histogram = False
            elif not (
                (histogram and HISTOGRAM_BIN.fullmatch(line))
                or any(p.fullmatch(line) for p in (SUMMARY, RULE, IO_EXTREME, *UNUSED))
            ):
                lines.refuse(f"not a line of the summary of all ranks: {line[:80]!r}")

    def _tasks(self) -> None:
        lines = self.lines
        heads = (lines.next() or "").split()
        fields = [TASK_FIELDS.get(head, "") for head in heads]
        if not heads or "" in fields or fields[0] != "rank" or len(set(fields)) != len(fields):
            lines.refuse("expected the heads of the table of all ranks")
        unit = next((head[5:-1] for head in heads if head.startswith("size(")), "MB")
        while line := lines.next():
            words = line.split(" ")
            words = [word for word in words if word]
            if len(words) != len(fields):
                lines.refuse(f"{len(words)} columns under {len(fields)} heads")
            task = Task(**{field: self._cell(field, word, unit) for field, word in zip(fields, words, strict=True)})
            if task.rank >= self.size or any(task.rank == other.rank for other in self.tasks):
                lines.refuse(f"rank {task.rank} is not one of {self.size}, or comes a second time")
            self.tasks.append(task)
        if len(self.tasks) != self.size:
            lines.refuse(f"the table of all ranks has {len(self.tasks)} of {self.size}")
        while (rest := lines.next()) is not None:
            if rest:
                lines.refuse(f"after the table of all ranks: {rest[:80]!r}")

    def _cell(self, field: str, word: str, unit: str) -> Any:
        if field == "hostname":
            return word
        if field in ("rank", "cpu", "switches"):
            if not INTEGER.fullmatch(word):
                self.lines.refuse(f"{field}: not a whole number: {word[:40]!r}")
            return int(word)
        if not NUMBER.fullmatch(word):
            self.lines.refuse(f"{field}: not a number: {word[:40]!r}")
        return memory(word, unit) if field == "memory_bytes" else float(word)


def read_mpitrace(path: Path) -> Profile:
    """Read `mpi_profile.<job>.<rank>`. Raises UserError naming file and line for whatever is not that format."""
    return _Reader(path).read()
