"""Numbers that the paper prints and figures mark: in a style of their own, never as part of a series.

Sharma & Jennings, "Bayesian neural networks at scale: a performance analysis and pruning study", J. Supercomputing
2020, sections 4.3 and 4.6.
"""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from campaign.figures.style import MUTED

# Section 4.3: "We find convergent results for the pdfs with MC iteration >= 400"
SETTLED_DRAWS = 400
# Section 4.3: seconds of inference by Monte-Carlo iterations, VGG-16, CIFAR-10, Theta
INFERENCE_SECONDS = {10: 152.4, 1000: 2861.0}
# Section 4.6: share of the network (%) up to which "test accuracy remains unchanged", MNIST
UNCHANGED_PERCENT = {"conv": 80, "fc": 60}
# Section 4.6: BPrune's default threshold on |mu| / sigma
THRESHOLD = 10.0
# Section 4.6: "inference time is reduced by ~50% for the 70% pruned network", fc, one draw
FC_TIME = {"percent": 70, "reduction": 50}

STYLE = {"color": MUTED, "linestyle": (0, (1, 2)), "linewidth": 1.3}


def mark(ax: Axes, x: float, words: str, middle: bool = False) -> None:
    """A dotted vertical line over the whole height, its words beside it at the top, or half-way up."""
    ax.axvline(x, gid="published", zorder=1, **STYLE)
    left = x > sum(ax.get_xlim()) / 2 if ax.get_xscale() == "linear" else False
    place = {"xytext": (-3 if left else 3, -2), "ha": "right" if left else "left", "va": "top"}
    at = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points"}
    ax.annotate(words, (x, 0.5 if middle else 1.0), fontsize=7, color=MUTED, zorder=6, **at, **place)


def handle(words: str) -> Line2D:
    """Its legend entry."""
    return Line2D([], [], label=words, **STYLE)
