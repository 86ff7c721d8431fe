"""Numbers that the paper prints and figures mark: in a style of their own, never as part of a series.

Sharma & Jennings, "Bayesian neural networks at scale: a performance analysis and pruning study", J. Supercomputing
2020, sections 4.3 and 4.6.
"""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from campaign.results.figures.style import MUTED

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


def mark(ax: Axes, x: float) -> None:
    """A dotted vertical line over the whole height; `handle` says in the legend what it is."""
    ax.axvline(x, label="_published", zorder=1, **STYLE)


def handle(words: str) -> Line2D:
    """Its legend entry."""
    return Line2D([], [], label=words, **STYLE)
