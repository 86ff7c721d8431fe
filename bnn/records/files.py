"""Names of the files in a cell's folder: the only place where they are spelled. And how a small file is written."""

from __future__ import annotations

from pathlib import Path

from bnn.atomic import atomic_file

CELL = "cell.json"
JOB_LOG = "job.log"
STEPS_FILE = "steps.parquet"
PROVENANCE = "provenance.json"
POSTERIOR = "posterior"
GRAPH_FILE = "graph.json"  # of a posterior
SUMMARY = "summary.json"
CHECKPOINT = ".checkpoint"
JOB_LABEL = "job"  # the label by which a record says which job of a campaign it is of
PARTIAL = ".partial-"
# MPI profiles: what the ranks leave, or one line on why there is none; gathered aside while the job goes on.
MPI = "mpi"
MPI_ASIDE = ".mpi"
MPI_NOT_RECORDED = "not_recorded.txt"
TIMELINE = "timeline.json"
HEARTBEAT = "heartbeat"  # folder of the signs of life of a run that goes on; bnn.records.heartbeat says what is in them
WATCHDOG = "watchdog.json"  # beside them


def staging(attempt: int) -> str:
    """Folder in which attempt number `attempt` collects its records before they are renamed into place."""
    return f"{PARTIAL}{attempt}"


def heartbeat_name(rank: int) -> str:
    """File in the folder HEARTBEAT in which this rank says where it is."""
    return f"rank-{rank}.json"


def write_text(path: Path, text: str) -> None:
    """Write a small UTF-8 file, which appears whole or not at all. Raises OSError."""
    with atomic_file(path) as aside:
        aside.write_text(text, encoding="utf-8")
