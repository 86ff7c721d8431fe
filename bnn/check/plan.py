"""The checks, in the order in which they run: from what all others need to what takes longest."""

from __future__ import annotations

from dataclasses import dataclass

TOTAL_SECONDS = 600.0


@dataclass(frozen=True)
class Check:
    """`function` is module:name below bnn.check; it takes a Context and returns one line, or raises.

    `seconds` is when it is given up: many times what it takes, since libraries can load slowly.
    """

    name: str
    function: str
    seconds: float = 120.0


CHECKS = (
    Check("device", "numerics:device"),
    Check("layers", "numerics:layers"),
    Check("KL", "numerics:kl"),
    Check("draws", "numerics:draws"),
    Check("inference", "runs:inference"),
    Check("pruning", "runs:pruning"),
    Check("resume", "runs:resume"),
    Check("horovod: exchange", "exchange:horovod_exchange", 150.0),
    Check("horovod: training", "exchange:horovod_training", 150.0),
    Check("torch: exchange", "exchange:torch_exchange", 150.0),
    Check("torch: training", "exchange:torch_training", 150.0),
    Check("energy", "runs:energy"),
    Check("step time", "runs:step_time", 180.0),
)
