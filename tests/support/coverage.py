"""How often the intervals of docs/intervals.md hold: `python -m tests.support.coverage` prints its tables."""

from __future__ import annotations

import numpy as np
from scipy import stats

from bnn.metrics import log_intervals
from campaign.results.blocks import Blocks

COUNTS = (2, 3, 4, 5, 6, 7, 8, 10, 12, 15, 20, 30)
OUTLIERS, SLOWER = 0.07, np.log(1.5)
INDEPENDENT = {
    "lognormal, sigma 1%": "normal 0.01",
    "lognormal, sigma 30%": "normal 0.3",
    "1 + 0.1 x exponential": "exponential",
    "gamma, shape 2": "gamma",
    "sigma 2%, 7% of values half as slow again": "outliers",
    "ratio of two such": "ratio",
}
CORRELATED = {"lognormal, autocorrelation 0.3": "correlated 0.3", "lognormal, autocorrelation 0.6": "correlated 0.6"}

STUDIES = ((4, 3), (12, 3), (4, 5), (12, 5))  # settings, repeats
ALL_PAIRS = {
    "lognormal, sigma 2%": "normal 0.02",
    "1 + 0.1 x exponential": "exponential",
    "sigma 2%, 7% of values half as slow again": "outliers",
    "lognormal, sigma 2%, of one setting 6%": "uneven 0.02",
}


def sample(noise: str, samples: int, count: int, random: np.random.Generator) -> tuple[np.ndarray, float]:
    """Logarithms of measurements, (samples, count), and the median of what they are drawn from."""
    normal, shape = random.standard_normal((samples, count)), (samples, count)
    name, _, number = noise.partition(" ")
    match name:
        case "normal":
            return float(number) * normal, 0.0
        case "uneven":
            normal[0] *= 3
            return float(number) * normal, 0.0
        case "exponential":
            return np.log1p(0.1 * random.exponential(1, shape)), float(np.log1p(0.1 * np.log(2)))
        case "gamma":
            return np.log(random.gamma(2, 1, shape)), float(np.log(stats.gamma.ppf(0.5, 2)))
        case "outliers":  # F(x) = 0.5 below the outliers
            median = 0.02 * float(stats.norm.ppf(0.5 / (1 - OUTLIERS)))
            return 0.02 * normal + SLOWER * (random.random(shape) < OUTLIERS), median
        case "ratio":
            slower = (random.random(shape) < OUTLIERS).astype(float) - (random.random(shape) < OUTLIERS)
            return 0.02 * np.sqrt(2) * normal + SLOWER * slower, 0.0
        case "correlated":
            rho = float(number)
            for index in range(1, count):
                normal[:, index] = rho * normal[:, index - 1] + np.sqrt(1 - rho**2) * normal[:, index]
            return 0.01 * normal, 0.0
    raise ValueError(f"no noise is called {noise}")


def coverage(noise: str, count: int, samples: int, seed: int = 0) -> float:
    """Share of the 95% intervals of `count` values that hold the median."""
    logs, median = sample(noise, samples, count, np.random.default_rng((seed, count)))
    _, low, high = log_intervals(logs)
    return float(((low <= median) & (median <= high)).mean())


def held_at_once(noise: str, settings: int, repeats: int, studies: int, seed: int = 0) -> float:
    """Share of studies of settings that are all alike, on a drifting machine, in which the best is told from none."""
    random, held = np.random.default_rng((seed, settings, repeats)), 0
    for _ in range(studies):
        logs, _ = sample(noise, settings, repeats, random)
        rates = np.exp(logs + random.normal(0, 0.1, repeats))
        compared = Blocks({str(number): dict(enumerate(row.tolist())) for number, row in enumerate(rates)})
        best = compared.best()
        held += all(compared.ratio(str(number), best).high >= 1 for number in range(settings))
    return held / studies


def percentile_bootstrap(count: int) -> float:
    """Coverage of the percentile bootstrap of the median (odd `count`, resamples without end, any distribution)."""
    half = count // 2 + 1
    # a resample's median is at most the value of rank k when at least half of its draws are
    upto = stats.binom.sf(half - 1, count, np.arange(1, count + 1) / count)
    low, high = (int(np.searchsorted(upto, level)) + 1 for level in (0.025, 0.975))
    return float(stats.binom.cdf(high - 1, count, 0.5) - stats.binom.cdf(low - 1, count, 0.5))


def main() -> None:
    print("| noise | " + " | ".join(map(str, COUNTS)) + " |")
    print("|---|" + "---|" * len(COUNTS))
    for words, noise in (INDEPENDENT | CORRELATED).items():
        found = [f"{100 * coverage(noise, count, 40_000):.1f}" for count in COUNTS]
        print(f"| {words} | {' | '.join(found)} |")
    print()
    print("| noise | " + " | ".join(f"{k} settings, {b} repeats" for k, b in STUDIES) + " |")
    print("|---|" + "---|" * len(STUDIES))
    for words, noise in ALL_PAIRS.items():
        found = [f"{100 * held_at_once(noise, settings, repeats, 4_000):.1f}" for settings, repeats in STUDIES]
        print(f"| {words} | {' | '.join(found)} |")
    print()
    print({count: f"{percentile_bootstrap(count):.3f}" for count in COUNTS if count % 2})


if __name__ == "__main__":
    main()
