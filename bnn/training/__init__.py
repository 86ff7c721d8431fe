"""Training: a loop that reads top to bottom, and what it leaves behind."""

from bnn.training.loop import train

__all__ = ["train"]
