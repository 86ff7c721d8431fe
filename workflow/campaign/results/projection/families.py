"""What was measured of one network, kind, batch and variant at some numbers of nodes: what a projection starts from."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import pandas as pd

from bnn.errors import UserError
from bnn.records import STEPS_FILE, Summary
from bnn.settings import TrainSettings
from campaign.names.cell import Cell
from campaign.results.projection.curves import Floats
from campaign.results.projection.overlap import Block, Rules
from campaign.results.projection.stragglers import between_ranks
from campaign.results.tables.cells import LoadedCell

# Of a step, all but the wait for gradients: what the ranks of a step do not wait for each other in.
WORK = ("data", "forward", "backward", "optimizer", "between")
GROWS = ("data", "forward", "backward")  # of these: in proportion to the batch
BYTES = {"float32": 4, "float64": 8}
ESTIMATOR_OF_COMPANIONS = "ivon"  # sends products beside gradients, which a single rank does not count


class Key(NamedTuple):
    """What a family is of."""

    dataset: str
    model: str
    kind: str
    batch_size: int
    variant: str

    @staticmethod
    def of(loaded: LoadedCell) -> Key:
        """Of a cell."""
        return Key(*(getattr(loaded.cell, name) for name in Key._fields))

    def __str__(self) -> str:
        return f"{self.dataset} {self.model} {self.kind.upper()}, batch {self.batch_size}, {self.variant}"


@dataclass(frozen=True)
class Scale:
    """A number of nodes, means over its counted repeats; seconds per step.

    `step`: of the slowest rank, one per repeat; `parts`: mean over ranks of each of WORK; `deviations` of single ranks
    from their mean, `apart` whether they are without what ranks have in common; `hosts`: the fewest of any repeat.
    """

    nodes: int
    ranks: int
    hosts: int
    step: tuple[float, ...]
    parts: dict[str, float]
    deviations: Floats
    apart: bool

    @property
    def work(self) -> float:
        return math.fsum(self.parts.values())

    @property
    def seconds(self) -> float:
        """Of a step, the geometric mean over repeats, s."""
        return math.exp(math.fsum(map(math.log, self.step)) / len(self.step))

    @property
    def networked(self) -> bool:
        """Whether each of its nodes is a host of its own."""
        return self.nodes == 1 or self.hosts >= self.nodes


@dataclass(frozen=True)
class Gradients:
    """What a rank sends per step. `shares`: of the backward pass, when each block is full; empty: not measured."""

    sizes: tuple[float, ...]
    shares: tuple[float, ...]
    rules: Rules

    def blocks(self, backward: float) -> list[Block]:
        """In order; where it was not measured when they are full, all at the end of the backward pass."""
        shares = self.shares or (1.0,) * len(self.sizes)
        return [Block(size, share * backward) for size, share in zip(self.sizes, shares, strict=True)]

    def regrouped(self, block: float) -> Gradients:
        """In equal blocks of at most `block` bytes, full as those measured, linearly in between; infinite: in one."""
        total = math.fsum(self.sizes)
        count = 1 if math.isinf(block) else max(1, math.ceil(total / block))
        ends = total * np.arange(1, count + 1) / count
        shares = np.interp(ends, [0.0, *np.cumsum(self.sizes)], [0.0, *self.shares]) if self.shares else ()
        return Gradients((total / count,) * count, tuple(map(float, shares)), self.rules)


@dataclass(frozen=True)
class Family:
    """The scales of a family, ascending in nodes; `said` is what was assumed or left out of them."""

    site: str
    key: Key
    implementation: str
    per_node: int
    scales: tuple[Scale, ...]
    gradients: Gradients
    said: tuple[str, ...] = field(default=())


def families(cells: Iterable[LoadedCell]) -> tuple[list[Family], list[str]]:
    """Of all cells that count, and in words why others make none.

    Raises UserError naming file and row where a step took no positive, finite time.
    """
    found: dict[Key, list[Recorded]] = defaultdict(list)
    for each in cells:
        found[Key.of(each)].append(recorded(each))  # each cell's steps are let go of before the next is read
    made: list[Family] = []
    left_out: dict[str, list[str]] = defaultdict(list)
    for key, members in sorted(found.items()):
        try:
            made.append(_family(key, [each for each in members if each.counted]))
        except _UnusableError as why:
            left_out[str(why)].append(str(key))
    return made, [f"left out: {why}: {'; '.join(keys)}" for why, keys in left_out.items()]


class _UnusableError(Exception):
    pass


@dataclass(frozen=True)
class Laps:
    """Of a cell's steady steps: seconds of the slowest rank, means over ranks of WORK, deviations of single ranks."""

    step: float
    parts: dict[str, float]
    deviations: Floats
    backward: float  # median of rank 0, which its blocks of gradients were stamped in


@dataclass(frozen=True)
class Recorded:
    """What is kept of a cell: `laps` in place of its steps; None where there are no steady ones with all parts."""

    cell: Cell
    settings: TrainSettings
    summary: Summary | None
    implementation: str
    ranks: int
    hosts: int
    counted: bool
    laps: Laps | None

    @property
    def of_many_gpus(self) -> bool:
        return self.settings.device != "cpu" and self.ranks > 1


def recorded(loaded: LoadedCell) -> Recorded:
    """Raises UserError as `families`."""
    ranks = loaded.provenance.ranks if loaded.provenance else []
    return Recorded(
        cell=loaded.cell, settings=loaded.settings, summary=loaded.summary, ranks=loaded.ranks,
        implementation=loaded.labels["implementation"], hosts=len({rank.hostname for rank in ranks}),
        counted=loaded.counted, laps=_laps(loaded) if loaded.counted else None,
    )  # fmt: skip


def _laps(loaded: LoadedCell) -> Laps | None:
    assert loaded.steps is not None
    chosen, rows = loaded.chosen
    if chosen.empty or loaded.steps["seconds_between"].isna().any():
        return None
    work = _work(loaded, rows)
    return Laps(
        step=float(chosen["seconds"].mean()),
        parts={part: float(rows[f"seconds_{part}"].mean()) for part in WORK},
        deviations=between_ranks(work) if work.shape[1] > 1 else work[:, 0] - work.mean(),
        backward=float(rows.loc[rows["rank"] == 0, "seconds_backward"].median()),
    )


def _family(key: Key, members: list[Recorded]) -> Family:
    if not members:
        raise _UnusableError("no cell of it counts")
    if any(each.settings.fault is not None for each in members):
        raise _UnusableError("a rank suffers a fault on purpose")
    by_nodes: dict[int, list[Recorded]] = defaultdict(list)
    said = []
    for each in members:
        if each.of_many_gpus:
            said.append("scales of many GPUs are left out: their laps are the host's")
        else:
            by_nodes[each.cell.nodes].append(each)
    if not by_nodes:
        raise _UnusableError("its ranks are GPUs, several of them: their laps are the host's")
    known = [*filter(None, (_scale(nodes, cells) for nodes, cells in sorted(by_nodes.items())))]
    if not known:
        raise _UnusableError("no steady steps with all parts were recorded")
    first = known[0]
    if first.ranks % first.nodes or not first.networked:
        raise _UnusableError(f"its smallest scale, {first.ranks} ranks on {first.nodes} nodes, is none of full nodes")
    scales = tuple(scale for scale in known if scale.ranks * first.nodes == scale.nodes * first.ranks)
    if len(scales) < len(known):
        said.append("scales with another number of ranks per node are left out")
    shared = [scale.nodes for scale in scales if not scale.networked]
    if shared:
        said.append(f"{_joined(shared)} nodes shared hosts: only blocks and the spread between ranks are used")
    usable = [each for cells in by_nodes.values() for each in cells]
    last = max(usable, key=lambda each: (each.ranks, -each.cell.repeat))
    gradients, assumed = _gradients(last)
    return Family(
        site=members[0].cell.site,
        key=key,
        implementation=members[0].implementation,
        per_node=first.ranks // first.nodes,
        scales=scales,
        gradients=gradients,
        said=tuple(dict.fromkeys([*said, *assumed])),
    )


def _scale(nodes: int, cells: Sequence[Recorded]) -> Scale | None:
    with_laps = [(each, each.laps) for each in cells if each.laps is not None]
    if not with_laps:
        return None
    laps = [mine for _, mine in with_laps]
    return Scale(
        nodes=nodes,
        ranks=cells[0].ranks,
        hosts=min(each.hosts for each, _ in with_laps),
        step=tuple(mine.step for mine in laps),
        parts={part: math.fsum(mine.parts[part] for mine in laps) / len(laps) for part in WORK},
        deviations=np.concatenate([mine.deviations for mine in laps]),
        apart=cells[0].ranks > 1,
    )


def _work(loaded: LoadedCell, rows: pd.DataFrame) -> Floats:
    """Seconds of WORK, (steps, ranks)."""
    file = f"{loaded.cell.folder}/{STEPS_FILE}"
    wrong = rows[~(np.isfinite(rows["seconds"]) & (rows["seconds"] > 0))]
    if len(wrong):
        row = wrong.iloc[0]
        place = f"{file}: step {row['step']}, rank {row['rank']}"
        raise UserError(f"{place}: {row['seconds']:g} s is no positive, finite time of a step")
    total = rows[[f"seconds_{part}" for part in WORK]].sum(axis=1)
    wide = rows.assign(work=total).pivot_table(index="step", columns="rank", values="work").dropna()
    return wide.to_numpy(dtype=float)


def _gradients(cell: Recorded) -> tuple[Gradients, list[str]]:
    """What a rank of the cell with the most ranks sends, and what that assumes."""
    done, settings = cell.summary, cell.settings
    assert done is not None
    horovod = done.engine != "torch"
    rules = Rules(settings.cycle_time_ms * 1e-3 if horovod else None, settings.fusion_buffer_mb * 2**20)
    said = [] if done.engine != "single" else ["reduced as engine horovod would"]
    if done.gradient_blocks:
        sizes = tuple(float(block.bytes) for block in done.gradient_blocks)
        times = [block.full_seconds for block in done.gradient_blocks if block.full_seconds is not None]
        if len(times) == len(sizes) and cell.laps is not None:
            shares = np.maximum.accumulate(np.clip(np.array(times) / cell.laps.backward, 0, 1))
            return Gradients(sizes, tuple(map(float, shares)), rules), said
    elif done.ranks > 1 and done.gradient_bytes_per_step and done.gradient_messages_per_step:
        count = done.gradient_messages_per_step
        sizes = (done.gradient_bytes_per_step / count,) * count
    else:
        if done.implementation == f"bnn-{ESTIMATOR_OF_COMPANIONS}":
            raise _UnusableError("what it sends beside gradients was not measured")
        total = float(done.parameters_trainable * BYTES[settings.precision])
        count = max(1, int(total // (settings.gradient_block_mb * 2**20))) if settings.gradient_block_mb else 1
        sizes = (total / count,) * count
        said.append("gradients: bytes of all trainable parameters")
    said.append("when blocks are full was not measured: all at the end of the backward pass, nothing hidden")
    return Gradients(sizes, (), rules), said


def _joined(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))
