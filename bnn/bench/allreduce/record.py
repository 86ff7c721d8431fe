"""The file of allreduce times: CSV as `campaign project` reads it; headers beside it say where they are from."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from bnn.bench.allreduce.measure import Time
from bnn.errors import UserError
from bnn.records.files import write_text

COLUMNS = (
    "node", "library", "nodes", "ranks", "bytes", "microseconds", "low", "high", "control", "calls", "rounds",
    "computing",
)  # fmt: skip
EARLIER = COLUMNS[:-1]  # files without what is left of computing


class AllreduceHeader(BaseModel):
    """What the rows of one measurement share. Times are seconds since 1970; `hosts` in the order of ranks.

    `worst_control`: how far the second measurement of the same was off the first, at most, as a ratio of 1 or more.
    """

    model_config = ConfigDict(extra="forbid")

    schema_version: int = 1
    node: str
    library: str
    version: str
    hosts: list[str]
    cpu_model: str
    cores: int
    device: str
    cycle_time_ms: float | None
    rounds: int
    seed: int
    worst_control: float
    command: list[str]
    started_at: float
    stopped_at: float
    git_revision: str | None
    git_dirty: bool | None


def kept_rows(out: Path, node: str, library: str, ranks: set[int]) -> list[dict[str, str]]:
    """Rows of a file that is there: other curves', and this one's of other rank counts. Raises UserError."""
    try:
        with out.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file, strict=True)
            if tuple(reader.fieldnames or ()) not in (COLUMNS, EARLIER):
                raise UserError(f"--out {out}: is there, and not a file of this command; its columns are other ones")
            rows = list(reader)
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"--out {out}: is there and cannot be read ({error})") from None
    if any(None in row or None in row.values() or not row["ranks"].isdigit() for row in rows):
        raise UserError(f"--out {out}: is there, and a row of it is not of its columns")
    rows = [{"computing": ""} | row for row in rows]
    return [row for row in rows if (row["node"], row["library"]) != (node, library) or int(row["ranks"]) not in ranks]


def text_of(rows: Sequence[dict[str, str]], header: AllreduceHeader, times: Sequence[Time]) -> str:
    """The file: kept rows and new ones, each curve ascending in ranks, then bytes."""
    mine = [
        {
            "node": header.node, "library": header.library, "nodes": str(time.nodes), "ranks": str(time.ranks),
            "bytes": str(time.bytes), "microseconds": f"{time.seconds * 1e6:.6g}", "low": f"{time.low * 1e6:.6g}",
            "high": f"{time.high * 1e6:.6g}", "control": f"{time.control:.4f}", "calls": str(time.calls),
            "rounds": str(header.rounds), "computing": "" if time.computing is None else f"{time.computing:.4f}",
        }
        for time in times
    ]  # fmt: skip
    order = sorted([*rows, *mine], key=lambda row: (row["node"], row["library"], int(row["ranks"]), int(row["bytes"])))
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(order)
    return file.getvalue()


def header_path(out: Path, header: AllreduceHeader) -> Path:
    """One header per library and number of ranks, as a curve may take several jobs."""
    return out.with_name(f"{out.stem}.{header.library}-{len(header.hosts)}.json")


def write(out: Path, header: AllreduceHeader, times: Sequence[Time]) -> None:
    """Write header and file, each whole or not at all. Raises UserError where the file that is there is another's."""
    rows = kept_rows(out, header.node, header.library, {time.ranks for time in times})
    write_text(header_path(out, header), header.model_dump_json(indent=2))
    write_text(out, text_of(rows, header, times))
