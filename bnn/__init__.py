"""Bayesian neural networks at scale: layers, models, data, training. Importing it loads nothing heavy."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bnn.layers.convert import convert

__version__ = "0.1.0"
__all__ = ["__version__", "convert"]


def __getattr__(name: str) -> Any:
    if name == "convert":  # imported on first use, because it needs torch
        from bnn.layers.convert import convert

        return convert
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
