"""One level of a pruning sweep: what is removed, what is left of accuracy, how fast it is. Kept once finished."""

from __future__ import annotations

import copy
import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bnn.errors import UserError
from bnn.inference.heldout import HeldOut
from bnn.inference.predictor import Predictor
from bnn.inference.tables import true_class
from bnn.posterior import GraphNetwork
from bnn.posterior.save import save_network
from bnn.pruning.apply import apply
from bnn.pruning.compact import compact, eliminate_dead, weights_left
from bnn.pruning.criterion import select
from bnn.pruning.evaluate import Evaluated, accuracy_loss, evaluate
from bnn.pruning.settings import PruneSettings
from bnn.pruning.snr import bayesian, layer_snr
from bnn.pruning.speed import UNPRUNED, Speed, measure
from bnn.pruning.verify import verify_draws, verify_means
from bnn.records import pruning as records
from bnn.records.columns import read_table, write_table
from bnn.records.files import write_text

FORMS = ("dense", "csr", "compact", "compact-csr")
ROWS, POSTERIOR, PREDICTIVE = "level.json", "posterior", "predictive.npz"
UNPRUNED_LEVEL = -1


@dataclass(frozen=True)
class Level:
    """A finished level: its row of PRUNING, rows of LAYERS and of LEVEL_TRUE_CLASS, and which predictions are right."""

    row: dict[str, Any]
    layers: list[dict[str, Any]]
    of_truth: pd.DataFrame
    right: NDArray[np.bool_]


@dataclass(frozen=True)
class Sweep:
    """A sweep: what all its levels share. `drawn` is told how many more draws are made."""

    settings: PruneSettings
    network: GraphNetwork
    images: HeldOut
    drawn: Callable[[int], object]

    def unpruned(self, folder: Path) -> Level:
        """Level -1."""
        evaluated = self.evaluate(Predictor(placed(self.network, self.settings.device)))
        weights = kernel_weights(self.network)
        row = self.row(UNPRUNED_LEVEL, evaluated, evaluated.right) | {
            "percent": 100 * (1 - nonzeros(self.network) / weights),
            "percent_asked": None,
            "threshold": None,
            "kernel_weights": weights,
            "nonzeros": nonzeros(self.network),
            "units_removed": None,
            "parameters_compacted": weights,
            **speed_columns(None),
        }
        return self.keep(folder, row, self.network, evaluated)

    def level(self, number: int, percent: float | None, threshold: float | None, before: Level, folder: Path) -> Level:
        """A pruned level, beside the unpruned one."""
        settings = self.settings
        selection = select(self.network, percent=percent, threshold=threshold, scope=settings.scope, by=settings.by)
        pruned = apply(self.network, selection, settings.semantics)
        masked = eliminate_dead(pruned)  # without what cannot influence the output all forms make the same draws
        small = compact(masked)
        verify(pruned, masked, small, settings.semantics)
        forms = forms_of(self.network, pruned, masked, small, settings.semantics, settings.device)
        quickest = forms.get("compact", forms["dense"])
        evaluated = self.evaluate(quickest)
        block = self.images.blocks(forms[UNPRUNED].block, settings.device)[0]  # as many at once as inference takes
        speed = measure(forms, block, settings.seed)
        row = self.row(number, evaluated, before.right) | {
            "percent": selection.percent,
            "percent_asked": percent,
            "threshold": selection.threshold,
            "kernel_weights": kernel_weights(self.network),
            "nonzeros": selection.left,
            "units_removed": selection.units_removed if settings.by == "unit" else None,
            "parameters_compacted": kernel_weights(small),
            **speed_columns(speed),
        }
        return self.keep(folder, row, pruned, evaluated)

    def evaluate(self, predictor: Predictor) -> Evaluated:
        return evaluate(predictor, self.images, self.settings.draws, self.settings.seed, self.drawn)

    def row(self, number: int, evaluated: Evaluated, before: NDArray[np.bool_]) -> dict[str, Any]:
        """The columns of PRUNING that say what was asked and what is predicted."""
        settings, measured = self.settings, evaluated.statistics.summary()
        loss, low, high = accuracy_loss(before, evaluated.right)
        names = ("accuracy", "accuracy_single_draw", "accuracy_single_draw_std", "nll", "log_probability",
                 "calibration_error", "predictive_entropy", "mutual_information")  # fmt: skip
        return {
            "level": number,
            "semantics": settings.semantics,
            "scope": settings.scope,
            "by": settings.by,
            "draws": settings.draws,
            "images": len(self.images),
            **{name: measured[name] for name in names},
            "accuracy_loss": loss,
            "accuracy_loss_low": low,
            "accuracy_loss_high": high,
        }

    def keep(self, folder: Path, row: dict[str, Any], pruned: GraphNetwork, evaluated: Evaluated) -> Level:
        """Write the level to its folder, level.json last."""
        name = {"level": row["level"], "percent": row["percent"]}
        left = {layer: int(weights_left(module).sum()) for layer, module in bayesian(pruned).items()}
        if self.settings.semantics != "zero":  # what is left has its mean; the others keep a sigma
            left = {layer: int((module.mu != 0).sum()) for layer, module in bayesian(pruned).items()}
        layers = [
            name
            | {
                "layer": layer,
                "kernel_weights": ratios.numel(),
                "nonzeros": left[layer],
                "snr_median": float(ratios.median()),
            }
            for layer, ratios in layer_snr(self.network).items()
        ]
        of_truth = true_class(evaluated.of_truth, self.images.first_of_classes(), self.images).assign(**name)
        folder.mkdir(parents=True, exist_ok=True)
        if row["level"] != UNPRUNED_LEVEL:
            save_network(pruned, folder / POSTERIOR)
        statistics = evaluated.statistics
        np.savez(
            folder / PREDICTIVE,
            probabilities=statistics.probability,
            probabilities_std=statistics.probability_std,
            image=self.images.indices,
            label=self.images.labels,
        )
        write_table(of_truth, folder / records.LEVEL_TRUE_CLASS_FILE, records.LEVEL_TRUE_CLASS)
        write_text(folder / ROWS, json.dumps({"row": row, "layers": layers}))
        return Level(row, layers, of_truth, evaluated.right)


def read_level(folder: Path) -> Level | None:
    """A level that has been finished; None if it has not. Raises UserError for a damaged file."""
    path = folder / ROWS
    try:
        kept = json.loads(path.read_text())
        of_truth = read_table(folder / records.LEVEL_TRUE_CLASS_FILE, records.LEVEL_TRUE_CLASS)
        with np.load(folder / PREDICTIVE, allow_pickle=False) as arrays:
            right = arrays["probabilities"].argmax(axis=1) == arrays["label"]
        return Level(kept["row"], kept["layers"], of_truth, right)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise UserError(f"{folder}: damaged ({error}); delete it and run the same command again") from None


def kernel_weights(network: GraphNetwork) -> int:
    """Kernel weights of the Bayesian layers."""
    return sum(layer.mu.numel() for layer in bayesian(network).values())


def nonzeros(network: GraphNetwork) -> int:
    """Kernel weights of the Bayesian layers that are not exactly zero (mean and sigma)."""
    return sum(int(weights_left(layer).sum()) for layer in bayesian(network).values())


def placed(network: GraphNetwork, device: str) -> GraphNetwork:
    """The network where it is to draw. What is removed is chosen on the host, alike for every device."""
    return network if device == "cpu" else copy.deepcopy(network).to(device)


def verify(pruned: GraphNetwork, masked: GraphNetwork, small: GraphNetwork, semantics: str) -> None:
    """Raise UserError unless a pruned network computes the same in all forms. That is done on the host."""
    if semantics != "zero":
        verify_draws(pruned, {("dense", "dense"): pruned})
        return
    verify_means(pruned, {"masked": masked, "compact": small})
    forms = {("dense", "dense"): masked, ("csr", "csr"): masked}
    if kernel_weights(small) < kernel_weights(pruned):
        forms |= {("compact", "dense"): small, ("compact-csr", "csr"): small}
    verify_draws(masked, forms)


def forms_of(
    network: GraphNetwork,
    pruned: GraphNetwork,
    masked: GraphNetwork,
    small: GraphNetwork,
    semantics: str,
    device: str = "cpu",
) -> dict[str, Predictor]:
    """The forms in which a pruned network can be computed, and the unpruned network, with which they are compared.

    There are forms other than the dense one for semantics "zero" only: otherwise removed weights still have a sigma.
    """
    forms = {UNPRUNED: Predictor(placed(network, device))}
    if semantics != "zero":
        return forms | {"dense": Predictor(placed(pruned, device))}
    dense = placed(masked, device)
    forms |= {"dense": Predictor(dense), "csr": Predictor(dense, form="csr")}
    if kernel_weights(small) < kernel_weights(network):
        small = placed(small, device)
        forms |= {"compact": Predictor(small), "compact-csr": Predictor(small, form="csr")}
    return forms


def speed_columns(speed: Speed | None) -> dict[str, Any]:
    """The columns of PRUNING that say how fast a level is."""
    seconds = speed.seconds if speed else {}
    return {
        "form": speed.fastest if speed else "dense",
        "seconds": speed.seconds[speed.fastest] if speed else None,
        **{f"seconds_{name.replace('-', '_')}": seconds.get(name) for name in FORMS},
        "timed_draws": speed.draws if speed else None,
        "timed_images": speed.images if speed else None,
        "speedup": speed.speedup.value if speed else 1.0,
        "speedup_low": speed.speedup.low if speed else None,
        "speedup_high": speed.speedup.high if speed else None,
    }
