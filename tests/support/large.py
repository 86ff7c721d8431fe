"""Records of a large campaign, made up: for how tables, figures and report grow with cells, ranks and steps.

All ranks of a cell are spread over 1 to 16 nodes. A cell's steps, profiles and provenance are those of one of a few
cells that `write_cell` writes; its summary is its own. Files that are the same are one file under many names.

    python -m tests.support.large FOLDER --variants 1 --ranks 16 --steps 2500      (500 cells)
    python -m tests.support.large FOLDER --variants 20 --ranks 1 --steps 12        (10,000 cells)
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
from pathlib import Path
from typing import Any

from bnn.records import CELL, SUMMARY, CellRecord, Summary
from bnn.settings import TrainSettings
from campaign.names.cell import IDENTITY, Cell
from tests.support.cells import SITE, entry, plan, write_cell

MODELS, KINDS = ("vgg16", "resnet18"), ("bnn", "cnn")
NODES, BATCHES, REPEATS = (1, 2, 4, 8, 16), (16, 32, 64, 128, 256), (1, 2, 3, 4, 5)
PACE = {"bnn": 0.004, "cnn": 0.0015}  # seconds of a step per image of a rank's batch


def large_campaign(
    results: Path,
    *,
    variants: int = 1,
    ranks: int = 16,
    steps: int = 2500,
    nodes: tuple[int, ...] = NODES,
    batches: tuple[int, ...] = BATCHES,
    repeats: tuple[int, ...] = REPEATS,
) -> dict[str, Any]:
    """Write a plan and the records of all its cells below `results`; returns the plan.

    The cells are all combinations of two models, two kinds, `nodes`, `batches`, `repeats` and `variants`: 500 by
    default, each with `ranks` x `steps` rows of steps.
    """
    cells = []
    names = [f"v{number:02}" for number in range(variants)]
    written: dict[tuple[Any, ...], tuple[Path, Summary]] = {}
    for variant, model, kind, at, batch, repeat in itertools.product(names, MODELS, KINDS, nodes, batches, repeats):
        cell = entry(
            model=model, kind=kind, nodes=at, batch_size=batch, repeat=repeat, variant=variant, max_steps=steps,
            roles=("scaling", "accuracy"),
        ) | {"ranks": ranks}  # fmt: skip
        cells.append(cell)
        # neither the same records at all node counts, nor records that no other cell has
        like = (model, kind, batch, (repeat + nodes.index(at)) % len(repeats))
        if like in written:
            _same(results, cell, *written[like])
        else:
            written[like] = _first(results, cell, len(written))
    made = plan(cells)
    (results / SITE["name"] / "plan.json").write_text(json.dumps(made))
    return made


def _folder(results: Path, cell: dict[str, Any]) -> Path:
    return results / Cell(**{key: cell[key] for key in IDENTITY}).folder


def _first(results: Path, cell: dict[str, Any], seed: int) -> tuple[Path, Summary]:
    seconds = PACE[cell["kind"]] * cell["batch_size"]
    reach = cell["settings"]["max_steps"]
    summary = write_cell(
        results, cell, seconds=seconds, seed=seed, accuracy=lambda step: 0.1 + 0.8 * step / reach, train_size=50_000
    )
    return _folder(results, cell), summary


def _same(results: Path, cell: dict[str, Any], first: Path, summary: Summary) -> None:
    folder = _folder(results, cell)
    settings = TrainSettings.model_validate(cell["settings"])
    own = {"hash": settings.fingerprint(), "labels": Cell(**{key: cell[key] for key in IDENTITY}).labels()}
    for path in first.rglob("*"):
        if path.is_file() and path.name not in (CELL, SUMMARY):
            beside = folder / path.relative_to(first)
            beside.parent.mkdir(parents=True, exist_ok=True)
            os.link(path, beside)
    (folder / CELL).write_text(CellRecord(settings=settings, hash=own["hash"]).model_dump_json())
    (folder / SUMMARY).write_text(summary.model_copy(update=own).model_dump_json())


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    for option, usual in (("variants", 1), ("ranks", 16), ("steps", 2500)):
        parser.add_argument(f"--{option}", type=int, default=usual)
    for option, counts in (("nodes", NODES), ("batches", BATCHES), ("repeats", REPEATS)):
        parser.add_argument(f"--{option}", type=int, nargs="+", default=counts)
    asked = vars(parser.parse_args())
    lists = {key: tuple(asked.pop(key)) for key in ("nodes", "batches", "repeats")}
    print(len(large_campaign(asked.pop("folder"), **asked, **lists)["cells"]), "cells")
