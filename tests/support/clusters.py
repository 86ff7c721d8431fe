"""Made-up clusters whose truth is known: scales of a family as a run on them would have been measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from campaign.results.projection.fabrics import Constants, affine
from campaign.results.projection.families import Family, Gradients, Key, Scale
from campaign.results.projection.overlap import Rules, exposed
from campaign.results.projection.stragglers import between_ranks

MEBIBYTE = 2**20
PARTS = {"data": 0.002, "forward": 0.03, "backward": 0.06, "optimizer": 0.005, "between": 0.001}
GRADIENTS = Gradients((16.0 * MEBIBYTE,) * 4, (0.4, 0.6, 0.8, 1.0), Rules(0.005, 64.0 * MEBIBYTE))
KEY = Key("synthetic", "vgg16", "bnn", 32, "base")


@dataclass(frozen=True)
class Cluster:
    """`tail`: mean of the exponential by which a rank's step is late, s; `noise`: of whole runs, of the logarithm."""

    constants: Constants
    tail: float = 0.002
    noise: float = 0.01
    steps: int = 100
    repeats: int = 3

    def scale(self, nodes: int, generator: np.random.Generator, gradients: Gradients = GRADIENTS) -> Scale:
        """What would be measured on so many nodes of one rank: each step is as long as its slowest rank."""
        wait = 0.0
        if nodes > 1:
            wait = exposed(
                gradients.blocks(PARTS["backward"]), PARTS["backward"], gradients.rules,
                affine(self.constants, nodes, 1),
            ).total  # fmt: skip
        steps, deviations = [], []
        work = sum(PARTS.values())
        for _ in range(self.repeats):
            late = self.tail * generator.standard_exponential((self.steps, nodes)) - self.tail
            factor = np.exp(self.noise * generator.standard_normal())
            steps.append(float((work + late.max(axis=1) + wait).mean() * factor))
            deviations.append(between_ranks(work + late) if nodes > 1 else late[:, 0] - late.mean())
        return Scale(nodes, nodes, nodes, tuple(steps), PARTS, np.concatenate(deviations), nodes > 1)

    def family(
        self, nodes: Sequence[int], generator: np.random.Generator, gradients: Gradients = GRADIENTS, key: Key = KEY
    ) -> Family:
        """A family that was measured at these numbers of nodes."""
        scales = tuple(self.scale(count, generator, gradients) for count in nodes)
        return Family("toy", key, "bnn-flipout", 1, scales, gradients)
