"""Which parameters of a converted model are Bayesian, and why the others are not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from torch import nn

from bnn.layers.base import BayesianLayer
from bnn.layers.biased import conventional_name
from bnn.layers.chosen import LEFT_OUT
from bnn.layers.maps import DRAWS
from bnn.layers.noise import checked_module
from bnn.layers.parameter import BayesianParameter


@dataclass(frozen=True)
class ConvertedParameter:
    """One parameter. `how`: the class that samples it, or why it stays conventional."""

    name: str
    shape: tuple[int, ...]
    bayesian: bool
    how: str

    @property
    def elements(self) -> int:
        return prod(self.shape)


def conversion_report(model: nn.Module) -> list[ConvertedParameter]:
    """One row per parameter of a converted model, under the names of the conventional one, in module order.

    Raises UserError for what is no module.
    """
    rows: list[ConvertedParameter] = []
    modules = dict(checked_module(model, "conversion_report").named_modules())
    for path, module in modules.items():
        if isinstance(module, BayesianLayer):
            name = conventional_name(path, module, modules)
            how = by_which(module) if isinstance(module, BayesianParameter) else type(module).__name__
            rows.append(ConvertedParameter(name, tuple(module.mu.shape), True, how))
        for name, value in module.named_parameters(recurse=False):
            if not (isinstance(module, BayesianLayer) and name in ("mu", "rho")):
                rows.append(ConvertedParameter(joined(path, name), tuple(value.shape), False, why(module, name)))
    return rows


def by_which(parameter: BayesianParameter) -> str:
    """How the weight of a layer that stays torch's is sampled."""
    trained = parameter.estimator in DRAWS
    return f"BayesianParameter ({f'trained by {parameter.estimator}' if trained else 'one sample per pass'})"


def joined(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def why(module: nn.Module, name: str) -> str:
    """Why a parameter of a converted model is conventional."""
    kind = type(module).__name__
    if name.startswith("bias") or name.endswith("_bias"):
        return "a bias: it has no prior"
    if vars(module).get(LEFT_OUT):
        return "left out by where"
    if "Norm" in kind:
        return f"scale of a {kind}"
    if next(module.children(), None) is not None or type(module).__module__.split(".")[0] != "torch":
        return f"a parameter of {kind}'s own"
    return f"no weight matrix of a {kind}"


def report_text(rows: Sequence[ConvertedParameter]) -> str:
    """A summary in one line, and a line for each conventional parameter of two dimensions or more."""
    total = sum(row.elements for row in rows)
    bayesian = sum(row.elements for row in rows if row.bayesian)
    lines = [f"{bayesian:,} of {total:,} parameters are Bayesian ({100 * bayesian / max(1, total):.1f}%)"]
    for row in rows:
        if not row.bayesian and len(row.shape) > 1:
            lines.append(f"conventional: {row.name} {'x'.join(map(str, row.shape))}: {row.how}")
    return "\n".join(lines)
