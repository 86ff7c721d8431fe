"""Bayesian neural networks at scale: layers, models, data, training. Importing it loads nothing heavy.

As a library (docs/library.md): `convert` makes a torch model Bayesian, `kl_divergence` is the second term of its loss,
`set_noise` makes a step repeatable, `save_posterior` and `load_posterior` keep what was trained, `predict` gives
probabilities and their uncertainty. These names, and the layers, are imported with torch when they are first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bnn.errors import UserError
    from bnn.inference.predict import Prediction, predict
    from bnn.inference.predict_values import ValuePrediction, predict_values
    from bnn.layers import (
        BayesianConv2d,
        BayesianLayer,
        BayesianLinear,
        FastFlipoutConv2d,
        FastFlipoutLinear,
        FlipoutConv2d,
        FlipoutLinear,
        LocalReparameterizationConv2d,
        LocalReparameterizationLinear,
        NoiseKey,
        PosteriorInit,
        ReparameterizationConv2d,
        ReparameterizationLinear,
        kl_divergence,
        mean_only,
        number_layers,
        set_noise,
    )
    from bnn.layers.convert import convert
    from bnn.layers.report import conversion_report
    from bnn.posterior import load_posterior, save_posterior

__version__ = "0.1.0"
__all__ = [
    "BayesianConv2d",
    "BayesianLayer",
    "BayesianLinear",
    "FastFlipoutConv2d",
    "FastFlipoutLinear",
    "FlipoutConv2d",
    "FlipoutLinear",
    "LocalReparameterizationConv2d",
    "LocalReparameterizationLinear",
    "NoiseKey",
    "PosteriorInit",
    "Prediction",
    "ReparameterizationConv2d",
    "ReparameterizationLinear",
    "UserError",
    "ValuePrediction",
    "__version__",
    "conversion_report",
    "convert",
    "kl_divergence",
    "load_posterior",
    "mean_only",
    "number_layers",
    "predict",
    "predict_values",
    "save_posterior",
    "set_noise",
]

# Where a public name is defined, if not in bnn.layers.
_ELSEWHERE = {
    "Prediction": "bnn.inference.predict",
    "UserError": "bnn.errors",
    "ValuePrediction": "bnn.inference.predict_values",
    "conversion_report": "bnn.layers.report",
    "convert": "bnn.layers.convert",
    "load_posterior": "bnn.posterior",
    "predict": "bnn.inference.predict",
    "predict_values": "bnn.inference.predict_values",
    "save_posterior": "bnn.posterior",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_ELSEWHERE.get(name, "bnn.layers")), name)
    globals()[name] = value  # the next use does not come here
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
