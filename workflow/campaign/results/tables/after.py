"""Rows of the tables of inference and pruning, from the records that the jobs after cells left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from bnn.errors import UserError
from bnn.records import inference, pruning
from bnn.records.columns import TableSchema, read_table
from bnn.records.inference import InferenceSummary
from bnn.records.pruning import PruningSummary
from campaign.jobs.after import is_of, tells_of
from campaign.jobs.kinds import AFTER
from campaign.names.targets import METHODS
from campaign.results.statistics import worse
from campaign.results.tables.cells import LoadedCell
from campaign.results.tables.inference_schemas import INFERENCE, INFERENCE_OTHERS, PRUNING_SUMMARY

Row = dict[str, Any]
NO_RECORD = "not made yet"
OTHER = "its record is of another job than the plan's"
OLD = "its record is of a posterior that the cell no longer has: it was trained again"
# Of each command: its summary's table, and the tables of rows with the file and the schema they are read from.
ROWS: dict[str, dict[str, tuple[str, TableSchema]]] = {
    "infer": {
        "inference_draws": (inference.DRAWS_FILE, inference.DRAWS),
        "inference_true_class": (inference.TRUE_CLASS_FILE, inference.TRUE_CLASS),
        "inference_convergence": (inference.CONVERGENCE_FILE, inference.CONVERGENCE),
        "inference_reliability": (inference.RELIABILITY_FILE, inference.RELIABILITY),
    },
    "prune": {
        "pruning": (pruning.PRUNING_FILE, pruning.PRUNING),
        "pruning_layers": (pruning.LAYERS_FILE, pruning.LAYERS),
        "pruning_snr": (pruning.SNR_FILE, pruning.SNR),
        "pruning_true_class": (pruning.LEVEL_TRUE_CLASS_FILE, pruning.LEVEL_TRUE_CLASS),
    },
}
SUMMARY: dict[str, TableSchema] = {"infer": INFERENCE, "prune": PRUNING_SUMMARY}
# The part of each job whose time is measured.
MEASURED_PHASE = {"infer": "draws", "prune": "levels"}
RECORDS = {kind.COMMAND: kind.SUMMARY for kind in AFTER}
SWEEP = ("semantics", "scope", "by")


class LoadedJob:
    """A job of plan.json (section `command`) and its record; `summary` is None where there is none as planned.

    `cells` are those whose posteriors it takes; it is known by the first.
    """

    def __init__(self, command: str, entry: Row, cells: Sequence[LoadedCell], results: Path) -> None:
        self.command, self.entry, self.cell, self.cells = command, entry, cells[0], cells
        self.path = results / entry["record"]
        self.summary: InferenceSummary | PruningSummary | None = None
        self.reason = NO_RECORD
        if self.path.exists():
            found = read_summary(self.path, RECORDS[command])
            known = [cell.summary for cell in cells if cell.summary]
            if not tells_of(found, entry["fingerprint"]):
                self.reason = OTHER
            elif len(known) == len(cells) and not is_of(found, known):
                self.reason = OLD
            else:
                self.summary = found

    @property
    def sweep(self) -> Row:
        return {key: self.entry[key] for key in SWEEP if key in self.entry}

    @property
    def conditions(self) -> Row:
        """What was asked of the images and of the temperature, of an inference."""
        if self.command != "infer":
            return {}
        return {"shift": self.entry.get("shift"), "temperature_asked": self.entry.get("temperature")}

    @property
    def mixed(self) -> bool:
        return len(self.cells) > 1

    @property
    def single(self) -> bool:
        """Whether it tells of one posterior as it is: a bnn's, images as they are, temperature 1, of no comparison."""
        asked = any(self.conditions.values()) or self.mixed or self.entry["target"] == METHODS
        return self.cell.cell.kind == "bnn" and not asked

    def summary_row(self) -> Row:
        """The row of table `inference` or `pruning_summary`."""
        schema, cell, done = SUMMARY[self.command], self.cell, self.summary
        row: Row = dict.fromkeys(schema.names) | cell.identity
        row |= {key: value for key, value in cell.labels.items() if key not in ("engine", "ranks")}
        row |= {
            "trained_ranks": cell.labels["ranks"],
            "verdict": worse(*[each.verdict for each in self.cells]),
            **self.sweep,
        }
        row |= {"draws": self.entry["draws"], "threads": self.entry["threads"]}
        row |= self.conditions | ({"members": len(self.cells) if self.mixed else 0} if self.command == "infer" else {})
        row |= {"folder": str(Path(self.entry["record"]).parent), "status": "MISSING", "reasons": self.reason}
        if done is None:
            return row
        facts = done.posterior
        told = {name: getattr(done, name) for name in schema.names if hasattr(done, name) and name != "verdict"}
        told |= {name: getattr(facts, name) for name in schema.names if hasattr(facts, name)}
        told |= {"posterior_step": facts.step, "posterior_sha256": facts.sha256}
        load = (done.neighbours or {}).get(MEASURED_PHASE[self.command])
        told |= {"members": len(done.members)} | _detection(done) if isinstance(done, InferenceSummary) else {}
        told |= {"foreign_cores": load.foreign_cores if load else None}
        return row | told | {"status": done.verdict.status, "reasons": "; ".join(done.verdict.reasons)}

    def rows(self, table: str) -> list[Row]:
        """The rows of another table. Raises UserError naming a record that is damaged."""
        if self.summary is None:
            return []
        file, schema = ROWS[self.command][table]
        head = self.cell.identity | (self.sweep if table != "pruning" else {})
        if table == "pruning":
            assert isinstance(self.summary, PruningSummary)
            labels = {key: self.cell.labels[key] for key in ("implementation", "width", "rho_init")}
            head |= labels | {"verdict": self.cell.verdict, "status": self.summary.verdict.status}
            head |= {"accuracy_unpruned": self.summary.accuracy_unpruned}
        return [head | row for row in read_table(self.path.with_name(file), schema).to_dict("records")]


def _detection(done: InferenceSummary) -> Row:
    """What was said of another data set's images; columns of table `inference`."""
    if done.ood is None:
        return {"ood": None}
    found: Row = {"ood": done.ood.dataset, "ood_images": done.ood.images}
    for by, told in (("entropy", done.ood.by_predictive_entropy), ("information", done.ood.by_mutual_information)):
        found |= {f"ood_{name}_{by}": value for name, value in told.model_dump().items()}
    return found


def read_summary(path: Path, model: type[InferenceSummary] | type[PruningSummary]) -> InferenceSummary | PruningSummary:
    """Read a job's summary. Raises UserError naming the file and what is wrong with it."""
    try:
        return model.model_validate_json(path.read_bytes())
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(f"{path}: {'.'.join(map(str, first['loc'])) or 'content'}: {first['msg']}") from None


def after_rows(command: str, plan: Mapping[str, Any], results: Path) -> dict[str, list[Row]]:
    """Rows by table for all planned jobs of `infer` or `prune`.

    Details of predictions are of single posteriors, draw by draw of all of one posterior whose images are as they are.

    A job that only a target of its own runs is left out until it has run.
    """
    asked = plan.get(command, [])
    entries = {entry["name"]: entry for entry in plan["cells"]} if asked else {}
    jobs = []
    loaded: dict[str, LoadedCell] = {}
    for entry in asked:
        taken = entry.get("cells", [entry["cell"]])
        for name in taken:
            if name not in loaded:
                loaded[name] = LoadedCell(entries[name], results)
        job = LoadedJob(command, entry, [loaded[name] for name in taken], results)
        if job.summary is not None or not entry["target"]:
            jobs.append(job)
    single = [job for job in jobs if command != "infer" or job.single]
    made = {SUMMARY[command].name: [job.summary_row() for job in single]}
    plain = [job for job in jobs if not any(job.conditions.values()) and not job.mixed]

    def detailed(name: str) -> list[LoadedJob]:
        return plain if name == "inference_draws" else single

    if command == "infer":
        made[INFERENCE_OTHERS.name] = [job.summary_row() for job in jobs if not job.single]
    return made | {name: [row for job in detailed(name) for row in job.rows(name)] for name in ROWS[command]}
