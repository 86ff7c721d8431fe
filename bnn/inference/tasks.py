"""What a posterior's outputs mean. Inference here is of classifications alone: others are refused."""

from __future__ import annotations

from bnn.errors import UserError
from bnn.posterior.schema import Graph


def refuse_other_tasks(graph: Graph) -> None:
    """Raise UserError for a posterior that was trained for another task than classification.

    The outputs of a regression have the shape of logits, and a softmax of them would mean nothing.
    """
    settings = graph.extra.get("settings")
    task = settings.get("task", "classification") if isinstance(settings, dict) else "classification"
    if task != "classification":
        raise UserError(f"posterior: it was trained for {task}; predictions are made of classifications alone")
