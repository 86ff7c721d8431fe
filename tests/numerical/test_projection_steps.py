"""campaign project cells: clusters whose truth is known are measured at three scales, and a further one is held out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from campaign.results.projection.fabrics import Constants, load_fabric
from campaign.results.projection.networks import OfFabric
from campaign.results.projection.read import read_curves
from campaign.results.projection.scales import errors, interval
from campaign.results.projection.step import Model
from tests.support.clusters import KEY, Cluster

NETWORK = OfFabric(load_fabric("infiniband-edr"))
MEASURED = (1, 2, 4)


@dataclass(frozen=True)
class Found:
    """Of clusters, one value each: relative error of the median, whether the interval held, high / low."""

    errors: list[float]
    held: list[bool]
    widths: list[float]


def between(generator: np.random.Generator, wrong: float) -> Constants:
    """Constants between the published ends, evenly in the logarithm, and links `wrong` times as slow as any of them."""
    best, worst = NETWORK.fabric.best, NETWORK.fabric.worst
    share = generator.uniform()

    def drawn(low: float, high: float) -> float:
        return float(low ** (1 - share) * high**share) if low else 0.0

    return replace(
        NETWORK.fabric.middle,
        latency=wrong * drawn(best.latency, worst.latency),
        per_byte=wrong * drawn(best.per_byte, worst.per_byte),
        reduction_per_byte=drawn(best.reduction_per_byte, worst.reduction_per_byte),
    )


def simulated(
    target: int, noise: float, wrong: float = 1.0, clusters: int = 150, seed: int = 0, families: int = 1
) -> Found:
    """Of each cluster the first family; `families` of it together tell how far off the network is."""
    found = Found([], [], [])
    for each in range(clusters):
        generator = np.random.default_rng([seed, each])
        cluster = Cluster(between(generator, wrong), tail=generator.uniform(0.0005, 0.004), noise=noise)
        measured = [
            cluster.family(MEASURED, generator, key=KEY._replace(batch_size=32 * 2**power)) for power in range(families)
        ]
        truth = cluster.scale(target, generator).seconds
        first = measured[0]
        said = interval(first, Model.of(first, NETWORK), target, errors(measured, NETWORK))
        assert said is not None
        found.errors.append(abs(said.microseconds / truth - 1))
        found.held.append(said.low <= truth <= said.high)
        found.widths.append(said.high / said.low)
    return found


@pytest.mark.parametrize("target", [8, 64, 1024])
@pytest.mark.parametrize(("noise", "wrong"), [(0.005, 1.0), (0.02, 1.0), (0.005, 3.0)])
def test_a_scale_that_was_held_out_is_inside_the_interval(target: int, noise: float, wrong: float) -> None:
    found = simulated(target, noise, wrong, families=4)
    assert np.mean(found.held) >= 0.92  # 95% less two standard deviations of what 150 clusters say, rounded down


def test_a_single_family_knows_less_of_how_far_off_it_is_and_says_so() -> None:
    alone, together = simulated(64, 0.005, families=1, clusters=50), simulated(64, 0.005, families=4, clusters=50)
    assert np.mean(alone.held) >= 0.92
    assert 1.1 < np.median(together.widths) < 2 < np.median(alone.widths)


def test_without_noise_a_known_cluster_comes_back() -> None:
    generator = np.random.default_rng(0)
    cluster = Cluster(NETWORK.fabric.middle, tail=0.002, noise=0.0, steps=2000)
    model = Model.of(cluster.family([1], generator), NETWORK)
    for nodes in (2, 16, 256):
        truth = cluster.scale(nodes, generator).seconds
        assert model.step(nodes).parts.total == pytest.approx(truth, rel=0.01)


# Median of measured / modelled times on 2 and 4 nodes, as docs/projection.md has it.
REAL = [
    ("node-a", "nccl", "nvlink-infiniband", (2.3, 2.2)),
    ("node-a", "mpi-cpu", "infiniband-hdr", (1.4, 1.3)),
    ("node-v", "mpi-cpu", "infiniband-edr", (1.8, 1.8)),
]


@pytest.mark.parametrize(("node", "library", "name", "said"), REAL)
def test_published_constants_are_too_fast_for_real_allreduces_by_what_the_page_says(
    reference_data: Path, node: str, library: str, name: str, said: tuple[float, float]
) -> None:
    path = reference_data / "allreduce" / "abci_to_16.csv"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    fabric = load_fabric(name)
    (curve,) = [each for each in read_curves(path) if (each.node, each.library) == (node, library)]
    found = []
    for nodes, times in zip(curve.nodes, curve.microseconds, strict=True):
        middle = fabric.messages(nodes, curve.per_node).middle
        ratios = [time * 1e-6 / sum(middle.cost(size)) for size, time in zip(curve.sizes, times, strict=True)]
        if nodes > 1:
            assert min(ratios) > 0.85
            assert max(ratios) < 3.1
            found.append(float(np.median(ratios)))
    assert found == pytest.approx(said, abs=0.06)
