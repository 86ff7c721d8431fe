"""Projected steps beside replayed ones: how far off is the model of a step where it can be told?

    python -m tests.support.projected FOLDER

FOLDER is what `tests.support.shaped` left: at every rate of the links an allreduce.csv, and replays of cells on some
numbers of hosts, perhaps trainings. A step is projected from the cell's own records and that curve; and, as "unseen",
from the curve without its largest scale to the replay that has as many hosts. Of a replay and of a training only the
engine's settings are taken.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from bnn.metrics import STEADY, repeats_interval
from bnn.records import STEPS, STEPS_FILE, read_table
from bnn.records.bench import header_path
from bnn.records.cell import CellRecord
from bnn.records.files import CELL, SUMMARY
from bnn.records.reading import read_record
from bnn.records.replay import ReplayHeader
from bnn.records.summary import Summary
from bnn.settings import TrainSettings
from campaign.names.cell import IDENTITY, Cell
from campaign.results.projection.curves import Curve
from campaign.results.projection.families import Family, families
from campaign.results.projection.messages import RefusedError
from campaign.results.projection.networks import OfCurve
from campaign.results.projection.overlap import Rules
from campaign.results.projection.read import read_curves
from campaign.results.projection.step import Model, Parts
from campaign.results.tables.cells import LoadedCell

BELOW_SITE = 9  # folders of a cell's path, from the site's on


@dataclass(frozen=True)
class Beside:
    """One replay or training and its projection: seconds of a step; `why` in place of one that is refused."""

    rate: str
    cell: str
    hosts: int
    how: str  # replayed, or trained
    seconds: float
    low: float
    high: float
    parts: Parts | None
    why: str = ""
    unseen: bool = False

    def words(self) -> str:
        """A line: both times in ms, their ratio, and what the projection consists of."""
        name = f"{self.rate} {self.cell} {self.hosts} hosts{', unseen' if self.unseen else ''}"
        found = f"{self.how} {1000 * self.seconds:.2f} ({1000 * self.low:.2f} to {1000 * self.high:.2f})"
        if self.parts is None:
            return f"{name}: {found}, {self.why}"
        told = ", ".join(f"{part} {1000 * value:.2f}" for part, value in self.parts._asdict().items())
        total = self.parts.total
        return f"{name}: {found}, projected {1000 * total:.2f}: {total / self.seconds:.3f} of it ({told})"


def family_of(folder: Path) -> Family:
    """Of one recorded cell by itself, whatever its verdict in a plan."""
    record, summary = read_record(folder / CELL, CellRecord), read_record(folder / SUMMARY, Summary)
    assert record is not None
    assert summary is not None
    cell = Cell.from_folder(folder)
    identity = {key: getattr(cell, key) for key in IDENTITY}
    entry = identity | {"ranks": summary.ranks, "settings": record.settings.model_dump(mode="json")}
    loaded = LoadedCell(entry, folder.parents[BELOW_SITE - 1])
    found, said = families([loaded])
    if not found:
        sys.exit(f"{folder}: {said[0]}; {'; '.join(loaded.reasons)}")
    return found[0]


def besides(folder: Path) -> Iterator[Beside]:
    """Of all replays and trainings of a folder, by rate, cell and hosts."""
    for times in sorted(folder.glob("*/allreduce.csv")):
        (curve,) = read_curves(times)
        for table in sorted(times.parent.glob("*.parquet")):
            header = read_record(header_path(table), ReplayHeader)
            if header is None:
                sys.exit(f"{header_path(table)}: not the header of a replay")
            seen = _of_replay(times.parent.name, header)
            sleeping = replace(curve, computing=None)  # a replay's ranks compute nothing that messages could slow down
            yield projected(*seen, sleeping)
            if header.ranks == curve.ranks[-1] and len(curve.ranks) > 2:
                yield replace(projected(*seen, without_largest(sleeping)), unseen=True)
        for summary in sorted(times.parent.glob("*-trained-*/" + SUMMARY)):
            yield projected(*_of_training(times.parent.name, summary.parent), curve)


def without_largest(curve: Curve) -> Curve:
    """The curve as if its largest scale had not been measured."""
    return replace(
        curve, ranks=curve.ranks[:-1], nodes=curve.nodes[:-1], microseconds=curve.microseconds[:-1]
    )  # fmt: skip


def _of_replay(rate: str, header: ReplayHeader) -> tuple[Beside, Family]:
    """What was replayed, without a projection, and the cell with the engine's settings of the replay."""
    family = family_of(Path(header.cell).resolve())
    value, low, high = header.step_seconds
    found = Beside(rate, str(family.key), header.ranks, "replayed", value, low, high, None)
    return found, _told(family, header)


def _of_training(rate: str, folder: Path) -> tuple[Beside, Family]:
    """The same of a training: the median of its steady steps, each as long as on its slowest rank."""
    record, summary = read_record(folder / CELL, CellRecord), read_record(folder / SUMMARY, Summary)
    assert record is not None
    assert summary is not None
    steps = read_table(folder / STEPS_FILE, STEPS)
    seconds = steps[steps["phase"] == STEADY].groupby("step")["seconds"].max()
    step = repeats_interval(seconds.tolist())
    family, settings = family_of(Path(summary.labels["cell"])), record.settings
    found = Beside(rate, str(family.key), summary.ranks, "trained", step.value, step.low, step.high, None)
    return found, _told(family, settings)


def _told(family: Family, engine: ReplayHeader | TrainSettings) -> Family:
    """With the engine's settings of a replay or a training."""
    rules = Rules(engine.cycle_time_ms * 1e-3 if engine.engine == "horovod" else None, engine.fusion_buffer_mb * 2**20)
    return replace(family, gradients=replace(family.gradients, rules=rules))


def projected(found: Beside, family: Family, curve: Curve) -> Beside:
    """With the parts of the step that is projected for as many hosts, or why there are none."""
    try:
        return replace(found, parts=Model.of(family, OfCurve(curve, [], [found.hosts])).step(found.hosts).parts)
    except RefusedError as why:
        return replace(found, why=str(why))


def main() -> None:
    for each in besides(Path(sys.argv[1])):
        print(each.words())


if __name__ == "__main__":
    main()
