"""The records that a run of `bnn` leaves behind: one schema per file, with units.

Everything a reader sees later (tables, figures, report) is computed from these files and nothing else.
"""

from bnn.records.cell import CellRecord
from bnn.records.columns import Column, TableSchema, read_table, write_table
from bnn.records.files import CELL, JOB_LOG, POSTERIOR, PROVENANCE, STEPS_FILE, SUMMARY
from bnn.records.provenance import Provenance, RankProvenance
from bnn.records.steps import STEPS
from bnn.records.summary import Evaluation, FileEntry, Summary, Throughput, Verdict

__all__ = [
    "CELL", "JOB_LOG", "POSTERIOR", "PROVENANCE", "STEPS", "STEPS_FILE", "SUMMARY",
    "CellRecord", "Column", "Evaluation", "FileEntry", "Provenance", "RankProvenance", "Summary", "TableSchema",
    "Throughput", "Verdict", "read_table", "write_table",
]  # fmt: skip
