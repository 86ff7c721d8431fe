"""What a reader calls a method: from how it was trained, and how it is asked."""

from __future__ import annotations

# By what an implementation is called, less how it departs from that (torch, compiled, bfloat16); the longest first.
ESTIMATORS = {
    "local-reparameterization": "local reparameterization",
    "reparameterization": "reparameterization",
    "flipout-reference": "reference flipout",
    "flipout": "flipout",
    "ivon": "IVON",
    "mc-dropout": "MC dropout",
}
DETERMINISTIC, SCALED = "deterministic", "temperature-scaled"


def method_name(kind: str, implementation: str, temperature: str = "", members: int = 0) -> str:
    """`kind` is a cell's, `implementation` that of its records; `temperature` as asked for: empty, a number or fit.

    `members` is how many posteriors a mixture has, 0 for a single one. An estimator that is not known is called by its
    own name.
    """
    if kind == "cnn":
        trained = DETERMINISTIC
    else:
        estimator = implementation.removeprefix("bnn-")
        trained = next((words for name, words in ESTIMATORS.items() if estimator.startswith(name)), estimator)
    scaled = "" if not temperature else SCALED if temperature == "fit" else f"at temperature {temperature}"
    if members < 2:
        return scaled if scaled and trained == DETERMINISTIC else _with(trained, scaled)
    return _with(f"ensemble of {members}", "" if kind == "cnn" else trained, scaled)


def _with(name: str, *details: str) -> str:
    """Details in brackets, so that names can stand in a list."""
    said = ", ".join(filter(None, details))
    return f"{name} ({said})" if said else name
