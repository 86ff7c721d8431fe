"""How well an uncertainty tells images of another distribution from those of the one that was learnt.

`inside` and `outside` are the uncertainties of both, one number per image; the larger, the more an image counts as
outside. Images of the same uncertainty are never told apart. The measures are those of Hendrycks and Gimpel, "A
baseline for detecting misclassified and out-of-distribution examples" (2017), and Liang, Li and Srikant, "Enhancing
the reliability of out-of-distribution image detection" (2018).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from bnn.records.inference import Detection

Values = NDArray[np.float64]
ACCEPTED_PERCENT = 95  # of the images inside, at the threshold of FPR95


def detection(inside: Values, outside: Values) -> Detection:
    """All measures. Both (images,), finite, with one image or more."""
    return Detection(
        auroc=auroc(inside, outside),
        aupr_in=average_precision(-inside, -outside),
        aupr_out=average_precision(outside, inside),
        fpr95=false_positives(inside, outside),
    )


def auroc(inside: Values, outside: Values) -> float:
    """Chance that an image outside is the more uncertain one of a pair, ties counting half: Mann and Whitney's U."""
    count = len(outside)
    ranks = rankdata(np.concatenate([outside, inside]))
    return float((ranks[:count].sum() - count * (count + 1) / 2) / (count * len(inside)))


def average_precision(positive: Values, negative: Values) -> float:
    """Area under precision against recall by steps, each value in turn being the threshold, which it meets."""
    thresholds = np.unique(np.concatenate([positive, negative]))[::-1]
    found, wrong = (len(each) - np.searchsorted(np.sort(each), thresholds) for each in (positive, negative))
    gained = np.diff(found, prepend=0) / len(positive)
    return float((gained * found / (found + wrong)).sum())


def false_positives(inside: Values, outside: Values) -> float:
    """Share of the images outside that are accepted where the least uncertain 95% of those inside are."""
    accepted = -(-ACCEPTED_PERCENT * len(inside) // 100)
    return float((outside <= np.sort(inside)[accepted - 1]).mean())
