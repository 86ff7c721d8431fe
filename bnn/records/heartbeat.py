"""heartbeat/rank-<r>.json: where each rank of a run is, rewritten about once a second while it goes on.

One line of JSON, padded to a fixed size and rewritten in place: what is read may lag behind by what a network file
system caches (seconds, on NFS up to a minute). The files stay when the run is over; no other record counts on them.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from bnn.records.files import HEARTBEAT, heartbeat_name
from bnn.records.reading import read_record

SIZE = 768  # bytes of every file: room for the longest host name, and still one write
ABOUT_NOW = 90.0  # seconds between what two live ranks have written last, as it is seen through caches
Part = Literal["start", "data", "forward", "backward", "exchange", "update", "evaluation", "checkpoint", "end"]


class HeartbeatRecord(BaseModel):
    """Sign of life of one rank. Times are in seconds since 1970 by the clock of the rank's node."""

    model_config = ConfigDict(extra="forbid")

    rank: int
    host: str
    pid: int
    attempt: int | None = Field(None, description="number of this attempt of the run; None until it is known")
    step: int = Field(0, description="training steps completed, those of earlier attempts included")
    steps: int | None = Field(None, description="training steps in total; None until it is known")
    part: Part = Field(
        "start",
        description="what the rank does: start (imports, engine, model), data (reading the data set or a batch), "
        "forward, backward, exchange (waits for other ranks), update (optimizer; on a GPU also the wait for queued "
        "work), evaluation, checkpoint, end (writes the records)",
    )
    moved: float = Field(description="when step or part last changed, or a long part reported progress, s since 1970")
    beat: float = Field(description="when this was written, s since 1970")
    samples_per_second: float | None = Field(
        None, description="samples/s of this rank alone in the steps of this attempt, warm-up included"
    )
    done: bool = Field(False, description="the rank has left the run, well or not: nothing more will be written")

    def padded(self) -> bytes:
        """The file's whole content. Raises ValueError when it does not fit, which no real host name causes."""
        data = self.model_dump_json().encode()
        if len(data) >= SIZE:
            raise ValueError(f"heartbeat of rank {self.rank}: {len(data)} bytes do not fit into {SIZE}")
        return data.ljust(SIZE - 1) + b"\n"


def read_heartbeat(path: Path) -> HeartbeatRecord | None:
    """One rank's sign of life; None where there is none, or none that can be read (at this very moment)."""
    return read_record(path, HeartbeatRecord)


def read_heartbeats(folder: Path, attempt: int | None = None) -> list[HeartbeatRecord]:
    """Signs of life in a run's folder in rank order: those of one attempt, else of the one that was written last.

    A rank that is starting does not know its attempt yet: it counts to the latest if it was written about then.
    """
    named = re.compile(re.escape(heartbeat_name(0)).replace("0", r"\d+"))
    try:
        paths = [path for path in (folder / HEARTBEAT).iterdir() if named.fullmatch(path.name)]
    except OSError:
        return []
    found = [record for record in map(read_heartbeat, paths) if record is not None]
    if attempt is not None:
        chosen = [record for record in found if record.attempt == attempt]
    else:
        last = max(found, key=lambda record: record.beat, default=None)
        chosen = [record for record in found if last is not None and _together(record, last)]
    return sorted(chosen, key=lambda record: record.rank)


def _together(record: HeartbeatRecord, last: HeartbeatRecord) -> bool:
    """Whether a record is of the same attempt as the one that was written last."""
    if record.attempt is None or last.attempt is None:
        return last.beat - record.beat < ABOUT_NOW
    return record.attempt == last.attempt
