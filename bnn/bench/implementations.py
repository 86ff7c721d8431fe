"""What can be measured, by name: our implementations as settings of a training run, and the peers as modules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from bnn import memory, settings
from bnn.errors import UserError

# Every ratio's base, and the same once more: their ratio is the noise floor.
BASE, CONTROL = "cnn", "cnn-again"
AGAIN = {CONTROL: BASE, "bnn-flipout-again": "bnn-flipout"}
EXACT = "bnn-exact"  # one weight sample per draw, BatchNorm folded, by the kernels; for inference only
IVON = "bnn-ivon"  # trains conventional layers; draws of what it has learnt are bnn-exact's
BEST, BEST_OF = settings.BEST, settings.BEST_OF  # no implementation: a run's rows of the faster of these once more


@dataclass(frozen=True)
class Implementation:
    """One thing to measure. `module` runs in a process of its own with `environment` added.

    `settings` are those of a training run (ours only); `peer`: needs the peers' own Python environment.
    """

    module: str = "bnn.bench.worker"
    settings: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    peer: bool = False


def _cnn(baseline: str) -> Implementation:
    return Implementation(settings={"kind": "cnn", "baseline": baseline})


def _bnn(estimator: str) -> Implementation:
    return Implementation(settings={"kind": "bnn", "estimator": estimator})


OURS: dict[str, Implementation] = {
    "cnn-plain": _cnn("cnn-plain"),
    "cnn": _cnn("cnn"),
    "cnn-again": _cnn("cnn"),
    "cnn-compiled": _cnn("cnn-compiled"),
    "cnn-kernels": _cnn("cnn-kernels"),
    "bnn-flipout": _bnn("flipout"),
    "bnn-flipout-again": _bnn("flipout"),
    "bnn-flipout-torch": _bnn("flipout"),  # the worker switches the kernels off
    "bnn-flipout-reference": _bnn("flipout-reference"),
    "bnn-reparameterization": _bnn("reparameterization"),
    "bnn-local-reparameterization": _bnn("local-reparameterization"),
    IVON: Implementation(settings={"kind": "bnn", "estimator": "ivon", "learning_rate": 0.1}),
    EXACT: _bnn("flipout"),  # how `bnn infer` draws; the worker has a branch for it
}
# Peers keep their freed memory as we do: what helps us helps them.
PEERS: dict[str, Implementation] = {
    "bayesian-torch": Implementation("bnn.bench.peer_torch", environment=memory.ENVIRONMENT, peer=True),
    "tfp": Implementation(
        "bnn.bench.peer_tfp",
        # Without oneDNN it is 2 to 3 times slower, which would be no fair comparison; TFP's layers need Keras 2.
        environment={
            "TF_ENABLE_ONEDNN_OPTS": "1",
            "TF_USE_LEGACY_KERAS": "1",
            "TF_CPP_MIN_LOG_LEVEL": "3",
            **memory.ENVIRONMENT,
        },
        peer=True,
    ),
}
DEFAULT: dict[str, tuple[str, ...]] = {
    "step": tuple(name for name in OURS if name != EXACT),
    "inference": (
        "cnn", "cnn-again", "cnn-kernels", EXACT, "bnn-flipout", "bnn-flipout-again", "bnn-flipout-torch",
        "bnn-flipout-reference", "bnn-reparameterization", "bnn-local-reparameterization",
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Choice:
    """What one benchmark measures. `optional` ones were not asked for by name: without them it goes on, and says so."""

    names: tuple[str, ...]
    optional: frozenset[str]
    best: bool


def implementation(name: str) -> Implementation:
    """Look a name up. Raises KeyError for one that `choose` would have refused."""
    return (OURS | PEERS)[name]


def choose(benchmark: str, named: Sequence[str], peers: Sequence[str]) -> Choice:
    """What to measure: `named` (none: all of this benchmark's) and the peers; the base and its control come first.

    Raises UserError for an unknown name.
    """
    for name in named:
        if name in PEERS:
            raise UserError(f"--implementations: {name} is a peer; ask for it with --peers {name}")
        if benchmark == "step" and name == EXACT:
            raise UserError(f"--implementations: {name} makes draws and cannot be trained: bnn bench inference")
        if benchmark == "inference" and name == IVON:
            raise UserError(f"--implementations: {name} is a way to train; draws of its posterior are {EXACT}'s")
        if name not in (*OURS, BEST):
            raise UserError(f"--implementations: {name} is unknown; there are {', '.join((*OURS, BEST))}")
    for name in peers:
        if name not in PEERS:
            raise UserError(f"--peers: {name} is unknown; there are {', '.join(PEERS)}")
    best = BEST in named or (not named and set(BEST_OF) <= set(DEFAULT[benchmark]))
    ours = [name for name in (named or DEFAULT[benchmark]) if name != BEST]
    candidates = BEST_OF if best else ()
    optional = frozenset(candidates if named else ours) - set(named) - {BASE, CONTROL}
    return Choice(tuple(dict.fromkeys((BASE, CONTROL, *ours, *candidates, *peers))), optional, best)
