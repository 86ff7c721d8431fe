"""Who makes which draws of an inference: one posterior, or several that are mixed in equal parts.

Of M posteriors, draw s is of the one with index s mod M, as its draw s // M: the first k M draws are a mixture of equal
parts, too, and a draw depends on the seed, its index and the order of the posteriors alone. A network without Bayesian
layers always says the same: it counts as often as the others, and is run once. Mixed conventional networks are a deep
ensemble (Lakshminarayanan et al. 2017), mixed posteriors of BNNs a mixture of those, and mutual information is then
how much the members disagree (and, with BNNs among them, their own draws).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from bnn.errors import UserError
from bnn.inference.heldout import HeldOut
from bnn.inference.predictor import Predictor, softmax
from bnn.inference.tasks import refuse_other_tasks
from bnn.layers import bayesian_layers
from bnn.layers.noise import noisy_layers
from bnn.posterior import GraphNetwork
from bnn.posterior.facts import posterior_facts, tensors_sha256
from bnn.records.inference import PosteriorFacts

# Between the seeds of members, whose noise must not be the same: SplitMix64's increment, far from any seeds in use.
SEED_STEP = 0x9E3779B97F4A7C15
SEEDS = 2**63


@dataclass(frozen=True)
class Share:
    """What a chunk of draws asks of one member: its own `draws`, and their `places` in the chunk."""

    member: int
    draws: range
    places: range


class Mixture:
    """Networks ready for draws, on the device where they lie; all of them are in memory.

    Raises UserError, naming the folder where there are several, as `Predictor` does, for a network of another task
    than classification, and for one that takes or gives other shapes than the first.
    """

    def __init__(self, folders: Sequence[Path], networks: Sequence[GraphNetwork], mode: str = "exact") -> None:
        self.predictors: list[Predictor] = []
        self.temperature = 1.0  # what all logits are divided by
        self.sure = [is_sure(network) for network in networks]
        self._said: dict[int, Tensor] = {}  # by those that always say the same
        for folder, network, sure in zip(folders, networks, self.sure, strict=True):
            try:
                refuse_other_tasks(network.graph)
                self.predictors.append(Predictor(network, "exact" if sure else mode))
            except UserError as error:
                raise (UserError(f"{folder}: {error}") if len(folders) > 1 else error) from None
        for folder, network in zip(folders, networks, strict=True):
            refuse_unlike(folder, network, folders[0], networks[0])

    def draws(self, asked: int) -> int:
        """Draws of all: `asked`, or one of each where none draws anything. Raises UserError for unequal parts."""
        count = len(self.predictors)
        if all(self.sure):
            return count
        if asked % count:
            raise UserError(f"--draws {asked}: {count} posteriors are mixed in equal parts; give a multiple of {count}")
        return asked

    def together(self, images: int) -> int:
        """Draws of which a chunk should be a multiple, so that no pass is made twice."""
        passes = max(predictor.passes(images) for predictor in self.predictors)
        return passes * len(self.predictors) if passes > 1 else 1

    def blocks(self, images: HeldOut, device: str) -> list[list[Tensor]]:
        """The images in the blocks of each member; those of members with blocks alike are the same tensors.

        `probabilities` and `drawn` are of these images from now on.
        """
        self._said = {}
        made = {size: images.blocks(size, device) for size in {predictor.block for predictor in self.predictors}}
        return [made[predictor.block] for predictor in self.predictors]

    def shares(self, chunk: range) -> Iterator[Share]:
        """What each member has to do for the draws of a chunk."""
        count = len(self.predictors)
        for member in range(count):
            first = chunk.start + (member - chunk.start) % count
            mine = range(first, chunk.stop, count)
            if mine:
                places = range(first - chunk.start, len(chunk), count)
                yield Share(member, range(first // count, first // count + len(mine)), places)

    def probabilities(self, seed: int, share: Share, blocks: list[list[Tensor]]) -> Iterator[Tensor]:
        """Softmax values (images, classes) of a share's draws at `temperature`, float32."""
        return self.drawn(seed, share, blocks, lambda logits: softmax(logits, self.temperature))

    def drawn(
        self, seed: int, share: Share, blocks: list[list[Tensor]], end: Callable[[Tensor], Tensor]
    ) -> Iterator[Tensor]:
        """What the network gives for all images in each of a share's draws, after `end`; one `end` per `blocks`."""
        predictor, images = self.predictors[share.member], blocks[share.member]
        if not self.sure[share.member]:
            of_member = (seed + share.member * SEED_STEP) % SEEDS
            yield from predictor.drawn(of_member, share.draws.start, share.draws.stop, images, end)
            return
        for _ in share.draws:
            if share.member not in self._said:
                self._said[share.member] = next(predictor.drawn(seed, 0, 1, images, end))
            yield self._said[share.member]


def is_sure(network: GraphNetwork) -> bool:
    """Whether it has nothing to draw: no Bayesian layer, and no dropout that is drawn."""
    return next(noisy_layers(network), None) is None


def refuse_unlike(folder: Path, network: GraphNetwork, first: Path, like: GraphNetwork) -> None:
    """Raise UserError unless a network takes and gives what the first one does."""
    shape, wanted = network.graph.input_shape, like.graph.input_shape
    if shape != wanted:
        raise UserError(f"{folder}: it takes images of shape {shape}, and {first} of {wanted}; they cannot be mixed")
    output, expected = (each.graph.nodes[-1].output_shape for each in (network, like))
    if output != expected:
        raise UserError(f"{folder}: its output has shape {output}, that of {first} {expected}; they cannot be mixed")


def refuse_twins(facts: Sequence[PosteriorFacts]) -> None:
    """Raise UserError for a posterior that is there twice."""
    seen: dict[str, str] = {}
    for each in facts:
        if each.sha256 in seen:
            raise UserError(f"{each.path}: the same posterior as {seen[each.sha256]}; give each once")
        seen[each.sha256] = each.path


def member_facts(folder: Path, network: GraphNetwork) -> PosteriorFacts:
    """Facts of a posterior, or of a network without Bayesian layers: no sigma, no bits, its matrices as kernels."""
    if next(bayesian_layers(network), None) is not None:
        return posterior_facts(folder, network)
    noted = network.graph.extra.get("settings")
    kernels = [parameter for parameter in network.parameters() if parameter.dim() > 1]
    return PosteriorFacts(
        path=str(folder),
        sha256=tensors_sha256(folder, network),
        step=network.graph.step,
        kernel_weights=sum(kernel.numel() for kernel in kernels),
        nonzeros=sum(int(torch.count_nonzero(kernel)) for kernel in kernels),
        sigma_median=None,
        sigma_median_start=None,
        effective_bits=None,
        settings=noted if isinstance(noted, dict) else {},
    )
