"""Figures beside pictures of them that somebody looked at, stored in tests/data/pictures at a third of the size.

Written anew by UPDATE_GOLDEN=1 pytest tests/unit/test_figures_pictures.py; look at each of them.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from campaign.results.figures.context import Context
from campaign.results.figures.draw import draw_figure
from campaign.results.figures.style import save
from tests.support.cells import built_campaign
from tests.support.methods import method_frames, timed_rows

STORED = Path(__file__).parents[1] / "data/pictures"
NAMES = ("fig2a", "fig3a", "fig3c", "losses", "efficiencies", "uncertainty", "uncertainty_draws")
SMALLER, BLOCK = 3, 8  # pixels: the stored picture is smaller by this, and compared in blocks of that
ROOM = 12.0  # of 255: how far a block's grey may be off


def picture(name: str, tables: dict[str, pd.DataFrame], folder: Path) -> Image.Image:
    """As it is written to figures/NAME.png, in grey and smaller."""
    figure = draw_figure(name, tables, Context.from_plan(built_campaign()[0]))
    save(figure, folder / f"{name}.svg", folder / f"{name}.png")
    with Image.open(folder / f"{name}.png") as whole:
        return whole.convert("L").resize((whole.width // SMALLER, whole.height // SMALLER), Image.Resampling.BOX)


def blocks(image: Image.Image) -> np.ndarray[Any, Any]:
    """Mean grey of each block; what is left at the right and below counts in no block."""
    grey = np.asarray(image, float)
    rows, columns = (side // BLOCK for side in grey.shape)
    return grey[: rows * BLOCK, : columns * BLOCK].reshape(rows, BLOCK, columns, BLOCK).mean((1, 3))


def off(ours: Image.Image, stored: Image.Image) -> float:
    """How far the block that differs the most is off, of 255; infinite where the pictures' sizes differ."""
    if max(abs(a - b) for a, b in zip(ours.size, stored.size, strict=True)) > 2:
        return float("inf")
    size = tuple(min(a, b) for a, b in zip(ours.size, stored.size, strict=True))
    return float(np.abs(blocks(ours.crop((0, 0, *size))) - blocks(stored.crop((0, 0, *size)))).max())


def tables_of(name: str) -> dict[str, pd.DataFrame]:
    return method_frames(timed_rows()) if name.startswith("uncertainty") else built_campaign()[1]


@pytest.mark.parametrize("name", NAMES)
def test_a_figure_is_as_it_was_when_it_was_looked_at(name: str, tmp_path: Path) -> None:
    found, file = picture(name, tables_of(name), tmp_path), STORED / f"{name}.png"
    if os.environ.get("UPDATE_GOLDEN"):
        file.parent.mkdir(parents=True, exist_ok=True)
        found.quantize(64).save(file, optimize=True)
    with Image.open(file) as stored:
        assert off(found, stored.convert("L")) <= ROOM


def test_a_value_that_differs_by_a_tenth_shows(tmp_path: Path) -> None:
    tables = built_campaign()[1]
    points = tables["throughput"].copy()
    at = points.index[points["roles"].str.contains("scaling") & (points["model"] == "vgg16")][0]
    for column in ("throughput_steady", "throughput_low", "throughput_high"):
        points.loc[at, column] *= 0.9
    with Image.open(STORED / "fig2a.png") as stored:
        assert off(picture("fig2a", tables | {"throughput": points}, tmp_path), stored.convert("L")) > ROOM
