"""The table that the interposer writes beside each text profile, and its way into Parquet."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bnn.errors import UserError
from bnn.records.columns import read_table, write_table
from bnn.records.mpi import MPI_CALLS, PHASES, profile_name

if TYPE_CHECKING:
    import pandas as pd

VERSION = "1"
_FACTS = {
    "job": r"[A-Za-z0-9_-]+", "rank": "[0-9]{1,9}", "size": "[0-9]{1,9}", "finalized": "[01]", "lost": "[0-9]{1,18}",
    "overhead_ns": r"-?[0-9]{1,9}\.[0-9]",
}  # fmt: skip


def read_sidecar(path: Path) -> pd.DataFrame:
    """One rank's counts with the columns of bnn.records.mpi.MPI_CALLS.

    Raises UserError naming file and line when the table is damaged or cut short, or when calls went uncounted.
    """
    try:
        lines = path.read_text(encoding="ascii").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not a readable table ({error})") from None
    table = _Table()
    for number, line in enumerate(lines, 1):
        if line == "" and number == len(lines):
            break
        try:
            if table.ended or (number == 1 and line != f"bnn_mpi_trace\t{VERSION}"):
                raise ValueError
            table.take(line.split("\t"))
        except (ValueError, IndexError):
            raise UserError(f"{path}:{number}: not a line of an MPI profile: {line[:80]!r}") from None
    if not table.ended or set(table.facts) != set(_FACTS):
        raise UserError(f"{path}:{len(lines)}: the MPI profile is cut short")
    if path.name != f"{profile_name(table.facts['job'], int(table.facts['rank']))}.tsv":
        raise UserError(f"{path}: holds rank {table.facts['rank']} of job {table.facts['job']}")
    if table.facts["lost"] != "0":
        raise UserError(f"{path}: {table.facts['lost']} MPI calls were not counted for want of memory")
    return table.frame()


def _whole(word: str) -> int:
    if not re.fullmatch("[0-9]{1,18}", word):
        raise ValueError
    return int(word)


class _Table:
    """The lines of a table that have been read so far."""

    def __init__(self) -> None:
        self.facts: dict[str, str] = {}
        self.seconds: dict[str, float] = {}
        self.rows: list[dict[str, Any]] = []
        self.ended = False

    def take(self, words: list[str]) -> None:
        """Take the next line. Raises ValueError when the interposer writes no such line."""
        match words:
            case [name, value] if name in _FACTS and name not in self.facts and re.fullmatch(_FACTS[name], value):
                self.facts[name] = value
            case ["phase", phase, value] if re.fullmatch(r"[0-9]{1,9}\.[0-9]{9}", value):
                self.seconds[PHASES[_whole(phase)]] = float(value)
            case ["calls", phase, routine, operator, datatype, *rest]:
                low, high, calls, size, nanoseconds = map(_whole, rest)
                self.rows.append({
                    "phase": PHASES[_whole(phase)], "routine": routine, "operator": operator, "datatype": datatype,
                    "bytes_low": low, "bytes_high": high, "calls": calls, "bytes": size, "seconds": nanoseconds / 1e9,
                })  # fmt: skip
            case ["end", value] if _whole(value) == len(self.rows):
                self.ended = True
            case _ if words[0] != "bnn_mpi_trace":
                raise ValueError

    def frame(self) -> pd.DataFrame:
        import pandas as pd

        overhead = float(self.facts["overhead_ns"])
        frame = pd.DataFrame(self.rows)
        return frame.assign(
            job=self.facts["job"],
            rank=int(self.facts["rank"]),
            size=int(self.facts["size"]),
            phase_seconds=frame["phase"].map(self.seconds).astype(float),
            finalized=self.facts["finalized"] == "1",
            overhead_ns=overhead if overhead >= 0 else float("nan"),
        )[MPI_CALLS.names]


def to_parquet(folder: Path) -> list[Path]:
    """Turn every rank's table in `folder` into `mpi_profile.<job>.<rank>.parquet` and remove the table.

    Returns all profiles in Parquet that `folder` then holds, by rank. Raises UserError when a table is damaged, or
    when a rank of a job is missing: a profile of some ranks would be taken for one of all.
    """
    for path in sorted(folder.glob("mpi_profile.*.tsv")):
        frame = read_sidecar(path)
        write_table(frame, path.with_suffix(".parquet"), MPI_CALLS)
        path.unlink()
    found: dict[str, dict[int, Path]] = {}
    for path in folder.glob("mpi_profile.*.parquet"):
        if match := re.fullmatch(r"mpi_profile\.([^.]+)\.([0-9]+)\.parquet", path.name):
            found.setdefault(match[1], {})[int(match[2])] = path
    for job, ranks in found.items():
        size = int(read_table(next(iter(ranks.values())), MPI_CALLS)["size"].iloc[0])
        for rank in range(size):
            if rank not in ranks:
                raise UserError(f"{folder / profile_name(job, rank)}: the profile of rank {rank} of {size} is missing")
    return [path for job in sorted(found) for _, path in sorted(found[job].items())]
