"""The shifts of `bnn infer --shift KIND:SEVERITY` and what each severity is, in one table; nothing heavy is loaded.

Where CIFAR-10-C has the shift, the numbers are its own (Hendrycks and Dietterich, "Benchmarking neural network
robustness to common corruptions and perturbations", 2019, for images of 32 x 32 pixels; its gaussian_blur,
gaussian_noise, contrast, brightness and jpeg_compression). It has no rotation: the angles are the first five of Ovadia
et al., "Can you trust your model's uncertainty?" (2019).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True)
class Kind:
    """A way to change an image: its number for severities 1, ..., 5, and what that number is."""

    values: tuple[float, float, float, float, float]
    meaning: str


KINDS = {
    "rotation": Kind((15, 30, 45, 60, 75), "degrees counter-clockwise about the centre, bilinear, 0 outside"),
    "blur": Kind((0.4, 0.6, 0.7, 0.8, 1.0), "standard deviation of a Gaussian in pixels, edges repeated"),
    "noise": Kind((0.04, 0.06, 0.08, 0.09, 0.1), "standard deviation of normal noise, values being in [0, 1]"),
    "contrast": Kind((0.75, 0.5, 0.4, 0.3, 0.15), "factor of the difference to the mean of image and channel"),
    "brightness": Kind((0.05, 0.1, 0.15, 0.2, 0.3), "added to the value of hue, saturation and value in [0, 1]"),
    "jpeg": Kind((80, 65, 58, 50, 40), "quality of a JPEG file that is written and read"),
}
SEVERITIES = range(1, 6)


@dataclass(frozen=True)
class Shift:
    """One kind at one severity."""

    kind: str
    severity: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """From KIND:SEVERITY. Raises ValueError that says what there is."""
        kind, _, severity = text.partition(":")
        if kind not in KINDS:
            raise ValueError(f"{text!r}: no kind {kind!r}; give KIND:SEVERITY, KIND one of {', '.join(KINDS)}")
        if severity not in map(str, SEVERITIES):
            raise ValueError(f"{text!r}: no severity {severity!r}; give {kind}:1 to {kind}:{len(SEVERITIES)}")
        return cls(kind, int(severity))

    @property
    def value(self) -> float:
        return KINDS[self.kind].values[self.severity - 1]

    def __str__(self) -> str:
        return f"{self.kind}:{self.severity}"
