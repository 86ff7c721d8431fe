"""The table that sets methods side by side: what each costs to train and to ask, and what it buys."""

from __future__ import annotations

from bnn.records.columns import Column, TableSchema
from campaign.results.tables.identity import POINT

# What is measured of a method's predictions: by column the unit and the meaning; each has an interval beside it.
MEASURES: dict[str, tuple[str, str]] = {
    "nll": ("nats", "negative log likelihood per image"),
    "calibration_error": ("fraction", "expected calibration error"),
    "calibration_error_debiased": ("fraction", "debiased calibration error, root mean square over bins"),
    "brier": ("", "Brier score"),
    "accuracy": ("fraction", "accuracy"),
    "aurc": ("fraction", "area under risk against coverage"),
    "ood_auroc_entropy": ("fraction", "AUROC of telling images of `ood` apart by predictive entropy"),
    "ood_auroc_information": ("fraction", "AUROC of telling images of `ood` apart by mutual information"),
    "seconds_per_image": ("s", "wall time of all draws of the slowest rank / images"),
}
AT_MOST_ONE = frozenset(
    {
        "calibration_error",
        "calibration_error_debiased",
        "accuracy",
        "aurc",
        "ood_auroc_entropy",
        "ood_auroc_information",
    }
)


def with_interval(name: str, unit: str, meaning: str) -> tuple[Column, Column, Column]:
    """A value's column and those of its ends."""
    return (
        Column(name, "float64", unit, f"{meaning}, centre over repeats"),
        Column(f"{name}_low", "float64", unit, "lower end of its 95% interval over repeats; empty: it has none"),
        Column(f"{name}_high", "float64", unit, "upper end of its 95% interval over repeats; empty: it has none"),
    )


# One row per point, method and number of draws: images as they are.
METHOD_DRAWS = TableSchema(
    name="method_draws",
    version=1,
    columns=(
        *POINT,
        Column("method", "string", "", "as in table methods"),
        Column("draws", "int64", "draws", "S: the first so many draws of each repeat"),
        Column("repeats", "int64", "", "repeats that recorded it and count"),
        *with_interval("nll", "nats", "negative log likelihood per image of the mean of S draws"),
        *with_interval("seconds_per_image", "s", "S x wall time of a draw / images"),
    ),
)
# One row per point, method and shift. A point's cost and the predictions of its posteriors have repeats of their own.
METHODS = TableSchema(
    name="methods",
    version=4,  # 1: no mixtures, no threads; 2: no time to an NLL; 3: no expected calibration error, other names
    columns=(
        *POINT,
        Column("method", "string", "", "what it is called (campaign.results.tables.method_names)"),
        Column("shift", "string", "", "what was done to the images, as kind:severity; empty: nothing"),
        Column("implementation", "string", "", "what trained it"),
        Column("width", "float64", "", "factor on every hidden layer's channels"),
        Column("threads", "int64", "", "threads per rank of its training"),
        Column("repeats", "int64", "", "repeats whose predictions count"),
        Column("repeats_planned", "int64", "", "repeats whose predictions the campaign asks for"),
        Column("verdict", "string", "", "OK, WARN (some counted repeat is), or INVALID (none counts)"),
        Column("images", "int64", "images", "predicted images"),
        Column("draws", "int64", "draws", "Monte-Carlo draws"),
        Column("baseline", "string", "", "the conventional network that the cost is relative to; empty: none"),
        Column("cost_repeats", "int64", "", "repeats that were timed on both sides"),
        Column(
            "cost",
            "float64",
            "",
            "time of a steady training step (all members' together) / the baseline's, paired by repeat",
        ),
        Column("cost_low", "float64", "", "lower end of its 95% interval over repeats; empty: it has none"),
        Column("cost_high", "float64", "", "upper end of its 95% interval over repeats; empty: it has none"),
        *(column for name, told in MEASURES.items() for column in with_interval(name, *told)),
        Column("nll_target", "float64", "nats", "the NLL whose time to reach is told; empty: none"),
        Column("nll_reached", "int64", "", "repeats whose NLL on held-out images was measured there while it trained"),
        *with_interval(
            "seconds_to_nll",
            "s",
            "training time until the NLL is first measured at nll_target or below (empty: not all)",
        ),
        Column("ood", "string", "", "the other data set; empty: none"),
        Column("interval_method", "string", "", "how the intervals of the predictions' measures were made"),
        Column("reason", "string", "", "why there is no value or no interval, separated by '; '"),
    ),
)
