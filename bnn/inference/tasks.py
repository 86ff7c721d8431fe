"""What a posterior's outputs mean. `bnn infer` and `bnn prune` are of classifications alone: others are refused."""

from __future__ import annotations

from bnn.errors import UserError
from bnn.posterior.schema import Graph


def task_of(graph: Graph) -> str | None:
    """The task that a posterior was trained for by `bnn train`; None where it does not say."""
    settings = graph.extra.get("settings")
    if not isinstance(settings, dict):
        return None
    return str(settings.get("task", "classification"))


def refuse_other_tasks(graph: Graph) -> None:
    """Raise UserError for a posterior that was trained for another task than classification.

    The outputs of a regression have the shape of logits, and a softmax of them would mean nothing.
    """
    task = task_of(graph) or "classification"
    if task != "classification":
        function = "predict_values" if task == "regression" else "predict"
        raise UserError(
            f"posterior: it was trained for {task}; this command takes classifications alone (in a program, "
            f"bnn.{function} takes this one)"
        )
