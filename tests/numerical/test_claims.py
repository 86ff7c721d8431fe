"""How often a verdict is wrong, by simulation: planted claims over noisy repeats whose truth is known."""

import numpy as np
import pytest

from bnn.metrics import Interval, log_intervals
from campaign.results.claims.expressions import Estimate
from campaign.results.claims.judge import AGREES, DIFFERS, allowed, judge
from tests.support.claims import claim

SAMPLES = 400
RATIO = claim()
LEAST = claim(type="ordering", printed=None, relation="at least", bound=1.0, margin=0.0)
MOST = claim(type="trend", printed=None, relation="at most", bound=1.0, margin=0.02)


def rate(one, truth, verdict, repeats, sigma, seed=7):
    """How many of 100 campaigns, of repeats with lognormal noise about the truth, come to this verdict."""
    generator = np.random.default_rng(seed)
    found = 0
    noise = sigma * generator.standard_normal((SAMPLES, repeats))
    for centre, low, high in np.exp(log_intervals(np.log(truth) + noise)).T:
        at = Interval(float(centre), float(low), float(high), "")
        found += judge(one, Estimate(at, repeats, sites=("big",)), True).verdict == verdict
    return 100 * found / SAMPLES


@pytest.mark.parametrize("sigma", [0.001, 0.02, 0.1])
@pytest.mark.parametrize("repeats", [2, 3, 5, 8])
@pytest.mark.parametrize("one", [RATIO, LEAST, MOST], ids=["equivalence", "at least", "at most"])
def test_at_the_margins_edge_and_beyond_agrees_is_said_in_5_of_100_at_most(one, repeats, sigma):
    edges = [edge for edge in allowed(one) if 0 < edge < np.inf]
    for edge in edges:
        assert rate(one, edge, AGREES, repeats, sigma) <= 5
        assert rate(one, edge, DIFFERS, repeats, sigma) <= 5
        beyond = edge * (1.02 if edge == allowed(one)[1] else 1 / 1.02)
        assert rate(one, beyond, AGREES, repeats, sigma) <= 5


@pytest.mark.parametrize("repeats", [3, 8])
def test_what_is_clear_is_decided(repeats):
    assert rate(RATIO, 0.5, AGREES, repeats, 0.01) >= 95
    assert rate(RATIO, 0.7, DIFFERS, repeats, 0.01) >= 95
    assert rate(LEAST, 1.1, AGREES, repeats, 0.01) >= 95
    assert rate(LEAST, 0.9, DIFFERS, repeats, 0.01) >= 95
