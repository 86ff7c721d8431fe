"""The text profile of IBM's mpitrace (on some machines HPCTW), in its versions, and of our interposer."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from campaign.results.mpi.lines import Lines, half_unit, memory, pattern
from campaign.results.mpi.profile import Extreme, Profile, Routine, SizeBin, Task, Totals

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
SYNC = pattern(r"synchronization time = <x> seconds\.")
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
ANY_RULE = re.compile(r" *-{20,}")
INTEGER, NUMBER = pattern("<i>"), pattern("<x>")
TASK_FIELDS = {
    "taskid": "rank", "hostname": "hostname", "host": "hostname", "cpu": "cpu", "comm(s)": "communication",
    "elapsed(s)": "elapsed", "user(s)": "user", "system(s)": "system",
    "size(KB)": "memory_bytes", "size(MB)": "memory_bytes", "size(MiB)": "memory_bytes", "switches": "switches",
}  # fmt: skip
TASK_NEEDS = {"rank", "communication", "elapsed", "user", "memory_bytes", "switches"}  # every known version has them
FILE_NAME = re.compile(r"mpi_profile(?:\.([^.]+)(?:\.[^.]+)?)?\.([0-9]{1,9})", re.ASCII)


class _Reader:
    """The state of reading one file; one method per part of it, in their order."""

    def __init__(self, path: Path, sizes: bool) -> None:
        self.lines = Lines(path)
        self.sizes = sizes
        self.routines: dict[str, tuple[int, float, float]] = {}
        self.bins: dict[str, list[SizeBin]] = {}
        self.said: list[Extreme] = []
        self.told: list[Extreme] = []
        self.totals: dict[str, Any] = {}
        self.tasks: list[Task] = []
        self.left: list[str] = []
        self.decimals: tuple[int, int] | None = None  # of average bytes and seconds
        self.slack: dict[str, tuple[float, float]] = {}  # by routine: of bytes and seconds, as they are printed
        self.sync = 0.0

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
        self._sums()
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
            left=tuple(dict.fromkeys(self.left)),
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
            self._printed(found[1], found)
        lines.refuse("the file ends in the table of routines")

    def _printed(self, name: str, found: re.Match[str]) -> None:
        """Notes how exact a row's average and seconds are. All rows have the same digits, unless they are cut."""
        calls, average, seconds = found.groups()[-3:]
        decimals = len(average.partition(".")[2]), len(seconds.partition(".")[2])
        self.decimals = self.decimals or decimals
        if decimals != self.decimals:
            self.lines.refuse("numbers with other digits than in the rows above: the file is cut or was edited")
        size_slack, time_slack = self.slack.get(name, (0.0, 0.0))
        self.slack[name] = size_slack + int(calls) * half_unit(average), time_slack + half_unit(seconds)

    def _sums(self) -> None:
        """Sizes must add up to their routine, and routines to the total, to the precision that is printed.

        The total is of all routines but MPI-IO, with the time of synchronization where it is measured (IBM mpitrace,
        src/mpitrace_common.c). A total without the one or with the other is taken for an older version's.
        """
        for name, (calls, average, seconds) in self.routines.items():
            bins = self.bins.get(name, [])
            if not self.sizes or (not bins and average == 0):
                continue
            sums = sum(b.calls for b in bins), sum(b.calls * (b.average_bytes or 0) for b in bins)
            time = sum(b.seconds for b in bins)
            size_slack, time_slack = (1.000001 * slack + 1e-6 for slack in self.slack[name])
            for what, has, of, slack in (
                ("calls", sums[0], calls, 0),
                ("bytes", sums[1], calls * average, size_slack),
                ("seconds", time, seconds, time_slack),
            ):
                if abs(has - of) > slack:
                    self.lines.refuse(
                        f"the sizes of {name} add up to {has:.9g} of its {of:.9g} {what}: the file is cut"
                    )
        everything = sum(row[2] for row in self.routines.values())
        files = sum(row[2] for name, row in self.routines.items() if name.startswith("MPI_File_"))
        slack = 0.5 * 10.0 ** -(self.decimals or (1, 3))[1] * (len(self.routines) + 1) + 5e-4 + 1e-6
        total = self.totals["communication"]
        may_be = [everything + sync - io for sync in {0.0, self.sync} for io in {0.0, files}]
        if min(abs(total - value) for value in may_be) > slack:
            self.lines.refuse(
                f"routines of {everything - files:.3f} s in all, a total communication time of {total:.3f} s"
            )

    def _totals(self) -> None:
        """Everything from the table of routines to the size distributions."""
        lines = self.lines
        while (line := lines.next()) is not None:
            if DISTRIBUTIONS.fullmatch(line):
                missing = sorted(set(TOTALS) - set(self.totals))
                if missing:
                    lines.refuse(f"no line has said the {missing[0].replace('_', ' ')}")
                return
            if found := SYNC.fullmatch(line):
                self.sync = float(found[1])
            if not (line == "" or RULE.fullmatch(line) or any(p.fullmatch(line) for p in UNUSED)):
                self._total(line)
            elif line.startswith("total MPI-IO"):
                self.left.append("total MPI-IO time")
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
        if set(TOTALS) - set(self.totals):
            self.lines.refuse(f"not a line of totals: {line[:80]!r}")
        self.left.append(_title(line))

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
                self._printed(name, found)
                if sum(b.calls for b in self.bins[name]) > self.routines[name][0]:
                    lines.refuse(f"more calls by size than {name} has in all")
            elif name:
                lines.refuse(f"not a line of message sizes: {line[:80]!r}")
            else:
                self._others(line)
                return
        self._no_summary()

    def _others(self, line: str | None) -> None:
        """From the sizes to rank 0's summary: by communicator size, by call stack, by region, and what is to come.

        Such a part begins with an empty line and a rule. Their titles are kept, nothing else.
        """
        begins, seen, before = True, False, ""
        while line is not None:
            if SUMMARY.fullmatch(line):
                self._summary()
                return
            if ANY_RULE.fullmatch(line):
                begins = begins or before == ""
            elif line:
                if begins:
                    self.left.append(_title(line))
                begins, seen = False, True
            before = line
            line = self.lines.next()
        if not seen:
            self.lines.refuse("the file ends before the summary of all ranks")
        self._no_summary()

    def _no_summary(self) -> None:
        """Rank 0 sums up all ranks wherever the profile says which ranks were the extremes."""
        if self.rank == 0 and self.said:
            self.lines.refuse("the file ends before the summary of all ranks")
        if self.rank == 0:
            self.left.append("summary of all ranks: not in the file, which is of a window of time or is cut")

    def _summary(self) -> None:
        """What rank 0 says of all ranks."""
        lines = self.lines
        while (line := lines.next()) is not None:
            if found := EXTREME.fullmatch(line):
                if int(found[3]) >= self.size or any(e.kind == found[1] for e in self.told):
                    lines.refuse(f"no such task, or the {found[1]} a second time: {line[:80]!r}")
                self.told.append(Extreme(found[1], int(found[3]), float(found[2])))
            elif TASKS.fullmatch(line):
                if len(self.told) != 3:
                    lines.refuse("the minimum, median or maximum communication time is missing")
                self._tasks()
                return
            elif HISTOGRAM.fullmatch(line) or IO_EXTREME.fullmatch(line):
                self.left.append("MPI-IO times of all ranks" if "MPI-IO" in line else _title(line))
            elif line and not any(
                p.fullmatch(line) for p in (HISTOGRAM_HEAD, HISTOGRAM_BIN, RULE, IO_EXTREME, *UNUSED)
            ):
                self.left.append(_title(line))
        lines.refuse("the file ends before the table of all ranks")

    def _tasks(self) -> None:
        lines = self.lines
        head = lines.next() or ""
        heads = head.split()
        fields = [TASK_FIELDS.get(name, "") for name in heads]
        known = [field for field in fields if field]
        if not set(known) >= TASK_NEEDS or len(set(known)) != len(known):
            lines.refuse("expected the heads of the table of all ranks")
        self.left += [f"column {name} of all ranks" for name, field in zip(heads, fields, strict=True) if not field]
        unit = next((name[5:-1] for name in heads if name.startswith("size(")), "MB")
        ranks: set[int] = set()
        while line := lines.next():
            words = [word for word in line.split(" ") if word]
            if len(words) != len(fields):
                lines.refuse(f"{len(words)} columns under {len(fields)} heads")
            if lines.unfinished and len(line) != len(head):
                lines.refuse("the last line has no end: the file is cut short")
            cells = zip(fields, words, strict=True)
            task = Task(**{field: self._cell(field, word, unit) for field, word in cells if field})
            if task.rank >= self.size or task.rank in ranks:
                lines.refuse(f"rank {task.rank} is not one of {self.size}, or comes a second time")
            ranks.add(task.rank)
            self.tasks.append(task)
        if len(self.tasks) != self.size:
            lines.refuse(f"the table of all ranks has {len(self.tasks)} of {self.size}")
        self._rest()

    def _rest(self) -> None:
        """What comes after the table of all ranks."""
        begins = True
        while (line := self.lines.next()) is not None:
            if line and begins and not ANY_RULE.fullmatch(line):
                self.left.append(_title(line))
            begins = line == "" or (begins and bool(ANY_RULE.fullmatch(line)))

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


def _title(line: str) -> str:
    """A short name for a part that is not read."""
    return re.split(r"[:,=]", line.strip(), maxsplit=1)[0].strip()[:60]


def read_mpitrace(path: Path, sizes: bool = True) -> Profile:
    """Read `mpi_profile.<job>.<rank>`. Raises UserError naming file and line for whatever is not that format.

    `sizes`: every routine with bytes must have all its message sizes; False where they are known from elsewhere.
    """
    return _Reader(path, sizes).read()
