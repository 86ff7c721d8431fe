"""The checks, in the order in which they run: from what all others need to what takes longest."""

from __future__ import annotations

from dataclasses import dataclass

TOTAL_SECONDS = 600.0


@dataclass(frozen=True)
class Check:
    """`function` is module:name; it takes a Context and returns one line, or raises.

    `seconds` is when it is given up: many times what it takes, since libraries can load slowly.
    """

    name: str
    function: str
    seconds: float = 120.0


CHECKS = (
    Check("device", "bnn.check.numerics:device"),
    Check("layers", "bnn.check.numerics:layers"),
    Check("KL", "bnn.check.numerics:kl"),
    Check("draws", "bnn.check.numerics:draws"),
    Check("inference", "bnn.check.runs:inference"),
    Check("pruning", "bnn.check.runs:pruning"),
    Check("resume", "bnn.check.runs:resume"),
    Check("horovod-exchange", "bnn.check.exchange:horovod_exchange", 150.0),
    Check("horovod-training", "bnn.check.exchange:horovod_training", 150.0),
    Check("torch-exchange", "bnn.check.exchange:torch_exchange", 150.0),
    Check("torch-training", "bnn.check.exchange:torch_training", 150.0),
    Check("energy", "bnn.check.runs:energy"),
    Check("step-time", "bnn.check.runs:step_time", 180.0),
)
