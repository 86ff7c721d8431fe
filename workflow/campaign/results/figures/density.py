"""Distributions of a softmax value over draws: a density on [0, 1], or a point mass where the draws are alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from scipy.stats import gaussian_kde

from campaign.results.figures.style import INK

# Below this standard deviation over draws a density would be a spike of its kernel: drawn as a point mass.
ALIKE = 1e-4
# The least bandwidth: what is narrower than that has the kernel's width in a figure.
LEAST_BANDWIDTH = 0.01
GRID = np.linspace(0.0, 1.0, 1001)
METHOD = (
    "Density: Gaussian kernel, bandwidth by Silverman's rule but at least "
    f"{LEAST_BANDWIDTH:g}, reflected at 0 and 1, so that its area on [0, 1] is 1."
)
POINT_WORDS = f"point mass: draws alike (std below {ALIKE:.4f})"


@dataclass(frozen=True)
class Density:
    """Of `draws` values their mean and standard deviation; `curve` is the density on GRID, None for a point mass."""

    draws: int
    mean: float
    std: float
    curve: np.ndarray | None

    @property
    def words(self) -> str:
        """Mean and standard deviation; of a point mass its place."""
        return f"all at {self.mean:.4g}" if self.curve is None else f"{self.mean:.3g} ± {self.std:.2g}"


def density(values: np.ndarray) -> Density:
    """Density of values (draws,) in [0, 1]; values that are not finite are left out.

    Silverman's bandwidth with the smaller of standard deviation and IQR / 1.34; the mass that leaves [0, 1] is
    reflected back. Raises ValueError when no value is finite.
    """
    data = np.asarray(values, dtype=float)
    data = data[np.isfinite(data)]
    if not data.size:
        raise ValueError("a density needs finite values")
    std = float(data.std(ddof=1)) if data.size > 1 else 0.0
    curve = None if std < ALIKE else _reflected(data, _bandwidth(data, std))
    return Density(data.size, float(data.mean()), std, curve)


def _bandwidth(data: np.ndarray, std: float) -> float:
    low, high = np.quantile(data, (0.25, 0.75))
    spread = min(std, (high - low) / 1.34) if high > low else std
    return max(0.9 * spread * data.size**-0.2, LEAST_BANDWIDTH)


def _reflected(data: np.ndarray, bandwidth: float) -> np.ndarray:
    images = np.concatenate([data, -data, 2.0 - data])
    kernel = gaussian_kde(images, bw_method=bandwidth / float(images.std(ddof=1)))
    return np.asarray(3.0 * kernel(GRID))


def draw_density(ax: Axes, found: Density, colour: Any, *, place: int = 0, **style: Any) -> None:
    """A curve; for a point mass a stem with a diamond, lower for a larger `place` so that several can be told apart."""
    if found.curve is not None:
        ax.plot(GRID, found.curve, color=colour, **style)
        return
    height = 0.9 - 0.12 * (place % 7)
    stem = {"color": colour, "linewidth": 1.2, "marker": "D", "markevery": [1], "markersize": 4.5, "clip_on": False}
    ax.plot([found.mean, found.mean], [0.0, height], transform=ax.get_xaxis_transform(), label="_point-mass", **stem)


def finish_axis(ax: Axes, found: list[Density], *, label: bool) -> None:
    """The whole of [0, 1]; densities from 0. With point masses alone the height means nothing and has no ticks."""
    ax.set_xlim(-0.02, 1.02)
    ax.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
    if all(one.curve is None for one in found):
        ax.set_ylim(0, 1)
        ax.set_yticks([])
        if label and found:
            _point_label(ax, found[-1])
    else:
        ax.set_ylim(bottom=0)


def _point_label(ax: Axes, found: Density) -> None:
    left = found.mean < 0.5
    words = f"point mass at {found.mean:.4g}:\n{found.draws} draws alike"
    place = {"xytext": (7 if left else -7, 0), "textcoords": "offset points", "ha": "left" if left else "right"}
    at = (found.mean, 0.5)
    ax.annotate(words, at, xycoords=("data", "axes fraction"), va="center", fontsize=7, color=INK, **place)


def point_handle() -> Line2D:
    """Legend entry of a point mass."""
    return Line2D([], [], color=INK, marker="D", markersize=4.5, linewidth=1.2, label=POINT_WORDS)
