"""The parts of a step whose sum is compared with its wall time: what each is, and its column in steps.parquet."""

from __future__ import annotations

from dataclasses import dataclass

COMPUTE, COMMUNICATION, OTHER = "compute", "exposed communication", "other"


@dataclass(frozen=True)
class Part:
    """One part of a step: its column in steps.parquet, its words, its group and what it is."""

    column: str
    words: str
    group: str
    meaning: str


PARTS: dict[str, Part] = {
    "forward": Part("seconds_forward", "forward pass", COMPUTE, "noise, forward pass and loss"),
    "backward": Part("seconds_backward", "backward pass", COMPUTE, "backward pass, and what hides behind it"),
    "late": Part("seconds_late", "waiting for the late rank", COMMUNICATION, "until the last had its gradients"),
    "negotiation": Part(
        "seconds_negotiation", "negotiation", COMMUNICATION, "from then until the call that carries them starts"
    ),
    "transfer": Part("seconds_transfer", "transfer", COMMUNICATION, "from then until their average is there"),
    "reduction": Part(
        "seconds_reduction", "negotiation and transfer", COMMUNICATION, "both, where no profile tells them apart"
    ),
    "exchange": Part(
        "seconds_exchange", "exposed communication", COMMUNICATION, "waiting for gradients, where it is not split"
    ),
    "input": Part("seconds_data", "input", OTHER, "fetching the batch"),
    "optimizer": Part("seconds_optimizer", "update", OTHER, "the parameter update"),
    "between": Part("seconds_between", "between steps", OTHER, "recording, Python, signs of life"),
}
UNEXPLAINED = "unexplained"
HIDDEN = "hidden"  # travelled while the backward pass went on: beside the parts, never lost
