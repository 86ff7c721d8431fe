"""How the signal-to-noise ratio of the weights is distributed, layer by layer and in all."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from campaign.figures.context import Context
from campaign.figures.posteriors import counted, data_note, of_job, warning_note
from campaign.figures.pruning import SWEEP_KEYS
from campaign.figures.select import NothingToDrawError, Tables, model_name
from campaign.figures.style import INK, MUTED, RC, finish, new_figure
from campaign.tables.schemas import IDENTITY_KEYS

ALL = ""


def snr_figure(tables: Tables, context: Context) -> Figure:
    """A panel per network: density of 20 log10(|mu| / sigma) by layer, all weights in black."""
    jobs = counted(tables["pruning_summary"], "signal-to-noise ratios").sort_values("model", kind="stable")
    jobs = jobs.drop_duplicates("model")
    figure, axes = new_figure(columns=len(jobs), height=2.8)
    handles: list[Line2D] = []
    with mpl.rc_context(RC):
        for ax, (_, job) in zip(axes, jobs.iterrows(), strict=True):
            rows = of_job(tables["pruning_snr"], job, (*IDENTITY_KEYS, *SWEEP_KEYS))
            if rows.empty:
                raise NothingToDrawError(f"{model_name(job['model'])}: no histogram in its record")
            layers = [name for name in dict.fromkeys(rows["layer"]) if name != ALL]
            for layer, colour in zip([*layers, ALL], [*sns.color_palette("viridis", len(layers)), INK], strict=True):
                label = f"{model_name(job['model'])}: {layer or 'all weights'}"
                style = {"color": colour, "linewidth": 1.8 if layer == ALL else 1.2}
                ax.stairs(*_density(rows[rows["layer"] == layer]), **style)
                handles.append(Line2D([], [], label=label, **style))
            ax.axvline(0, color=MUTED, linewidth=0.8, linestyle=(0, (3, 2)))
            ax.set_title(model_name(job["model"]), loc="left")
            ax.set_xlabel("signal-to-noise ratio (dB)")
    axes[0].set_ylabel("share of weights per dB (%)")
    notes = [
        "SNR = |mu| / sigma of every kernel weight of the unpruned posterior; 0 dB (dashed): mean and sigma are equal, "
        "20 dB: BPrune's default threshold of 10. The outer bins take what lies beyond. First repeat.",
        data_note(jobs),
        warning_note(jobs),
    ]
    return finish(figure, f"Signal-to-noise ratio of the weights on {context.site}", handles, notes)


def _density(rows: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Percent of the weights per dB, and the bins' edges; only where there are weights."""
    rows = rows.sort_values("low")
    edges = np.append(rows["low"].to_numpy(dtype=float), float(rows["high"].iloc[-1]))
    counts = rows["count"].to_numpy(dtype=float)
    filled = np.flatnonzero(counts)
    first, last = (filled[0], filled[-1]) if len(filled) else (0, len(counts) - 1)
    share = 100 * counts / counts.sum() / np.diff(edges)
    return share[first : last + 1], edges[first : last + 2]
