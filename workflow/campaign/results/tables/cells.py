"""One row per cell of the plan, from the records that the cell left."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError

from bnn.errors import UserError
from bnn.metrics import STEADY, Chosen, epoch_seconds, per_step
from bnn.records import PROVENANCE, STEPS, STEPS_FILE, SUMMARY, Provenance, Summary, read_table
from bnn.regular import read_text_regular
from bnn.settings import TrainSettings, parse_settings
from campaign.names.cell import IDENTITY, Cell
from campaign.results.statistics import worse
from campaign.results.tables.mpi_records import NO_MPI, TRAINING, read_mpi
from campaign.results.tables.schemas import CELLS

if TYPE_CHECKING:
    import pandas as pd

Record = TypeVar("Record", bound=BaseModel)
Row = dict[str, Any]
# Of what the rest of the machine did in the steady steps.
DISTURBANCES = (
    "foreign_cores", "foreign_share", "stolen_share", "held_back_share", "involuntary_per_second", "megahertz_mean",
    "throttles", "pressure_memory",
)  # fmt: skip
PARTS = ("data", "forward", "backward", "exchange", "optimizer", "between")
# Records of version 1 of the table steps; such steps are shorter than those that are recorded now.
WITHOUT_BETWEEN = "recorded by an earlier version: seconds between steps are not counted"


class LoadedCell:
    """A planned cell and its records; `summary` is None when the cell has not finished."""

    def __init__(self, entry: dict[str, Any], results: Path) -> None:
        self.cell = Cell(**{key: entry[key] for key in IDENTITY})
        self.study: str = entry.get("study", "")
        self.roles: list[str] = list(entry.get("roles", []))
        self.target: str = entry.get("target", "")
        self.ranks = int(entry["ranks"])
        self.settings: TrainSettings = parse_settings(entry["settings"], f"plan.json, cell {self.cell.name}")
        folder = results / self.cell.folder
        self.summary: Summary | None = None
        self.provenance: Provenance | None = None
        self.steps: pd.DataFrame | None = None
        if (folder / SUMMARY).exists():
            self.summary = _read(folder / SUMMARY, Summary)
            self.provenance = _read(folder / PROVENANCE, Provenance)
            self.steps = read_table(folder / STEPS_FILE, STEPS)
        self.mpi = read_mpi(folder, self.settings, results) if self.summary else NO_MPI
        self.verdict, self.reasons = self._judge()

    @cached_property
    def by_step(self) -> pd.DataFrame:
        """`bnn.metrics.per_step` of its steps, computed once. Only for a cell that has finished."""
        assert self.steps is not None
        return per_step(self.steps)

    @cached_property
    def steady(self) -> pd.DataFrame:
        """`bnn.metrics.steady` of its steps. As `by_step`."""
        return self.chosen.by_step

    @cached_property
    def chosen(self) -> Chosen:
        """The steady steps, and the rows of all their ranks. As `by_step`."""
        assert self.steps is not None
        return Chosen.of(self.steps, self.by_step)

    @cached_property
    def profiled_steps(self) -> dict[str, int]:
        """Steps by phase of the last attempt: the one whose MPI profile is there. As `by_step`."""
        steps = self.steps
        assert steps is not None
        mine = steps[(steps["attempt"] == steps["attempt"].max()) & (steps["rank"] == steps["rank"].min())]
        return {phase: int((mine["phase"] == phase).sum()) for phase in TRAINING}

    @property
    def counted(self) -> bool:
        """Whether it enters aggregates: OK and WARN do."""
        return self.verdict in ("OK", "WARN")

    @cached_property
    def identity(self) -> Row:
        """Not to be changed, as `labels`: every row of the cell begins with them."""
        return asdict(self.cell)

    @cached_property
    def labels(self) -> Row:
        done = self.summary
        return {
            "study": self.study,
            "roles": ",".join(self.roles),
            "implementation": done.implementation if done else self.settings.implementation,
            "engine": done.engine if done else self.settings.engine,
            "ranks": done.ranks if done else self.ranks,
            "synthetic": self.settings.dataset == "synthetic",
            "width": self.settings.width,
            "rho_init": self.settings.rho_init if self.settings.of_layers else math.nan,
        }

    def _judge(self) -> tuple[str, list[str]]:
        if self.summary is None:
            return "MISSING", ["no summary.json: the cell has not finished"]
        reasons = list(self.summary.verdict.reasons)
        wanted = self.settings.fingerprint()
        if self.summary.hash != wanted:
            reasons.insert(0, f"its records are of other settings ({self.summary.hash}) than the plan's ({wanted})")
            return "INVALID", reasons
        launch = self.settings.labels.get("launch")
        if launch and self.summary.labels.get("launch") != launch:
            reasons.insert(0, "its records are of another launch (site, options or environment) than the plan's")
            return "INVALID", reasons
        if self.summary.ranks != self.ranks:
            reasons.insert(0, f"ran on {self.summary.ranks} ranks, planned for {self.ranks}")
            return "INVALID", reasons
        status = self.summary.verdict.status
        if self.steps is not None and self.steps["seconds_between"].isna().any():
            return worse(status, "WARN"), [*reasons, WITHOUT_BETWEEN]
        return status, reasons


def _read(path: Path, model: type[Record]) -> Record:
    """Read a JSON record. Raises UserError naming the file and what is wrong with it."""
    try:
        return model.model_validate_json(read_text_regular(path))
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(f"{path}: {'.'.join(map(str, first['loc'])) or 'content'}: {first['msg']}") from None


def cell_row(loaded: LoadedCell) -> Row:
    """The row of table `cells`; what a missing cell cannot tell is None."""
    settings = loaded.settings
    row: Row = dict.fromkeys(CELLS.names)
    row |= loaded.identity | loaded.labels
    row |= {
        "verdict": loaded.verdict,
        "reasons": "; ".join(loaded.reasons),
        "counted": loaded.counted,
        "threads": settings.threads,
        "epochs_asked": settings.epochs,
        "max_steps": settings.max_steps,
        "folder": loaded.cell.folder.as_posix(),
        "mpi": loaded.mpi.state,
        "mpi_timeline": loaded.mpi.timeline,
    }
    done = loaded.summary
    if done is None or loaded.provenance is None or loaded.steps is None:
        return row
    same_name = (
        "attempts", "seconds_total", "seconds_startup", "seconds_training", "seconds_warmup", "seconds_steady", "steps",
        "steps_per_epoch", "epochs_completed", "train_size", "samples", "parameters_total", "parameters_trainable",
        "macs_forward_per_image", "peak_memory_bytes", "loss", "nll", "kl", "accuracy_running", "accuracy_last_epoch",
        "sigma_median", "sigma_median_start", "hash",
    )  # fmt: skip
    row |= {name: getattr(done, name) for name in same_name}
    rates = done.throughput
    row |= {
        "throughput_steady": rates.steady,
        "throughput_steady_std": rates.steady_std,
        "throughput_all": rates.all_steps,
        "throughput_paper": rates.paper,
        "throughput_paper_std": rates.paper_std,
        "steady_steps": rates.steady_steps,
        "coefficient_of_variation": rates.coefficient_of_variation,
    }
    if rates.steady:
        row["epoch_seconds"] = epoch_seconds(rates.steady, done.train_size)
    if load := (done.neighbours or {}).get(STEADY):
        row |= {name: getattr(load, name) for name in DISTURBANCES}
    row |= _seconds_by_part(loaded.chosen)
    if done.evaluations:
        last = done.evaluations[-1]
        row |= {
            "held_out_accuracy": last.accuracy,
            "held_out_accuracy_single_draw": last.accuracy_single_draw,
            "held_out_nll": last.nll,
            "held_out_images": last.images,
            "held_out_draws": last.draws,
        }
    origin = loaded.provenance
    row |= {
        "git_revision": origin.git_revision,
        "git_dirty": origin.git_dirty,
        "started_at": min((rank.started_at for rank in origin.ranks), default=None),
        "stopped_at": max((rank.stopped_at for rank in origin.ranks), default=None),
    }
    return row


def _seconds_by_part(chosen: Chosen) -> Row:
    """Mean seconds of a steady step by part over all ranks, and of the slowest rank as a whole."""
    if chosen.rows.empty:
        return {}
    parts: Row = {f"seconds_{part}": float(chosen.rows[f"seconds_{part}"].mean()) for part in PARTS}
    return parts | {"step_seconds": float(chosen.by_step["seconds"].mean())}


def step_rows(loaded: LoadedCell) -> tuple[Row, pd.DataFrame] | None:
    """The rows of table `steps` of one cell: what they have in common, and the other columns; None without any."""
    if loaded.steps is None:
        return None
    return loaded.identity | {"implementation": loaded.labels["implementation"]}, loaded.by_step


def provenance_rows(loaded: LoadedCell) -> list[Row]:
    """The rows of table `provenance`: one per rank."""
    origin = loaded.provenance
    if origin is None:
        return []
    shared = loaded.identity | {
        "command": " ".join(origin.command),
        "git_revision": origin.git_revision,
        "git_dirty": origin.git_dirty,
    }
    rows = []
    for rank in origin.ranks:
        facts = rank.model_dump(exclude={"pid"})
        facts["affinity"] = _ranges(rank.affinity)
        facts["modules"] = " ".join(rank.modules)
        for name in ("versions", "environment"):
            facts[name] = json.dumps(facts[name], sort_keys=True)
        rows.append(shared | facts)
    return rows


def _ranges(cores: list[int]) -> str:
    """Core numbers as ranges: [0, 1, 2, 8] -> '0-2,8'."""
    spans: list[list[int]] = []
    for core in sorted(cores):
        if spans and core == spans[-1][1] + 1:
            spans[-1][1] = core
        else:
            spans.append([core, core])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in spans)
