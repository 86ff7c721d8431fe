"""How the signal-to-noise ratio of the weights is distributed, layer by layer and in all."""

from __future__ import annotations

import math

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from campaign.results.figures import published
from campaign.results.figures.context import Context
from campaign.results.figures.jobs import mark_corner
from campaign.results.figures.marks import entry, marked
from campaign.results.figures.posteriors import SWEEP_KEYS, counted, data_note, of_job, warned, warning_note
from campaign.results.figures.pruning import network_words
from campaign.results.figures.select import NothingToDrawError, Tables, model_name
from campaign.results.figures.style import INK, RC, finish, mark, new_figure
from campaign.results.tables.inference_schemas import PRUNING_SNR
from campaign.results.tables.schemas import IDENTITY_KEYS

ALL = ""
DECIBELS = 20 * math.log10(published.THRESHOLD)


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
                with marked(ax, label, pd.DataFrame([job])):
                    ax.stairs(*_density(rows[rows["layer"] == layer]), **style)
                handles.append(Line2D([], [], label=label, **style))
                entry(handles[-1])
            published.mark(ax, DECIBELS)
            mark_corner(ax, job)
            ax.set_title(network_words(job), loc="left")
            ax.set_xlabel(f"signal-to-noise ratio ({PRUNING_SNR.unit('low')})")
    axes[0].set_ylabel("weights per dB (% of the layer)")
    handles.append(published.handle(f"paper: default threshold {published.THRESHOLD:g} ({DECIBELS:.0f} dB)"))
    handles += [mark("WARN", "sweep with a warning")] if any(warned(job) for _, job in jobs.iterrows()) else []
    notes = [
        "SNR = |mu| / sigma of every kernel weight of the unpruned posterior; at 0 dB mean "
        "and sigma are equal. The outer bins take what lies beyond. First repeat.",
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
