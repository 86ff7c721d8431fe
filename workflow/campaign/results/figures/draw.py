"""Every figure's drawing function by name, and the one way in which a figure file is made."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from matplotlib.figure import Figure

from campaign.results.figures.accuracy import accuracy_figure
from campaign.results.figures.architecture import architecture_figure
from campaign.results.figures.catalogue import ACCURACY, LARGE_BATCH, PEER_COMPARISON, SCALING
from campaign.results.figures.classes import classes_figure, pruned_classes_figure
from campaign.results.figures.context import Context
from campaign.results.figures.efficiency import efficiency_figure
from campaign.results.figures.gpu import gpu_throughput_figure, throughputs_figure
from campaign.results.figures.gpu_time import efficiencies_figure, runtimes_figure
from campaign.results.figures.inference_convergence import inference_convergence_figure
from campaign.results.figures.inference_reliability import inference_reliability_figure
from campaign.results.figures.inference_runtime import inference_runtime_figure
from campaign.results.figures.mpi import mpi_figure
from campaign.results.figures.peers import peers_figure
from campaign.results.figures.predictions import draws_figure
from campaign.results.figures.pruning import pruning_figure
from campaign.results.figures.pruning_speed import pruning_speed_figure
from campaign.results.figures.runtime import runtime_figure
from campaign.results.figures.select import Tables
from campaign.results.figures.snr import snr_figure
from campaign.results.figures.throughput import throughput_figure

Draw = Callable[[Tables, Context], Figure]

DRAW: dict[str, Draw] = {
    "fig1": architecture_figure,
    "fig2a": partial(throughput_figure, role=SCALING, model="vgg16"),
    "fig2b": partial(throughput_figure, role=SCALING, model="resnet18"),
    "fig2c": partial(runtime_figure, role=SCALING, every_batch=False),
    "fig2d": partial(mpi_figure, role=SCALING),
    "fig3a": partial(efficiency_figure, role=SCALING, model="vgg16"),
    "fig3b": partial(efficiency_figure, role=SCALING, model="resnet18"),
    "fig3c": partial(accuracy_figure, role=ACCURACY),
    "fig4a": partial(draws_figure, model="vgg16", most=False),
    "fig4b": partial(draws_figure, model="vgg16", most=True),
    "fig5a": partial(classes_figure, model="vgg16"),
    "fig5b": partial(classes_figure, model="resnet18"),
    "inference_runtime": inference_runtime_figure,
    "inference_convergence": inference_convergence_figure,
    "inference_reliability": inference_reliability_figure,
    "fig6a": partial(throughput_figure, role=LARGE_BATCH, batch_index=0),
    "fig6b": partial(throughput_figure, role=LARGE_BATCH, batch_index=1),
    "fig6c": partial(runtime_figure, role=LARGE_BATCH, every_batch=True),
    "fig6d": partial(efficiency_figure, role=LARGE_BATCH, one_panel=True),
    "fig7a": gpu_throughput_figure,
    "fig7b": throughputs_figure,
    "fig7c": runtimes_figure,
    "fig7d": efficiencies_figure,
    "fig8": pruning_figure,
    "fig9a": partial(pruned_classes_figure, model="conv"),
    "fig9b": partial(pruned_classes_figure, model="fc"),
    "snr": snr_figure,
    "pruning_speed": pruning_speed_figure,
    PEER_COMPARISON: peers_figure,
}
