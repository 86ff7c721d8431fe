"""torchvision and timm beside this environment's own torch: a folder of two wheels, which envs/architectures.py fills.

torchvision's wheel is built for a torch with CUDA. Without one its library of detection operators does not load, which
it tolerates, but for two operators that it describes unasked; they are declared here, so that `torchvision.models` can
be imported. No network of this test uses one.
"""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path

import torch

FOLDER = Path(__file__).parents[2] / ".venv-architectures"
READY = FOLDER / "bnn-setup.json"
INSTALL = "python envs/architectures.py"
DESCRIBED = ("nms", "qnms")
_kept: list[torch.library.Library] = []  # an operator exists for as long as the library that declares it


@cache
def use() -> None:
    """Make `import torchvision` and `import timm` work. Raises RuntimeError where they are not installed."""
    if not READY.is_file():
        raise RuntimeError(f"torchvision and timm are not there: {INSTALL}")
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in DESCRIBED:
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _kept.append(library)
    sys.path.append(str(FOLDER))  # last: whatever this environment has itself comes first
