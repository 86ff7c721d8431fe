"""All figures by name: what they show, who draws them, which tables they need, and whether a plan can have them.

Light on purpose: the workflow reads it whenever its graph is built.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from campaign.results.figures.sites import COMPARED_ROLE, CPU, GPU, OtherSite, devices_together

SCALING, ACCURACY, LARGE_BATCH = "scaling", "accuracy", COMPARED_ROLE
PERFORMANCE, LEARNING, NETWORKS = "Performance", "Learning", "Networks"
PREDICTION, PRUNING = "Prediction", "Pruning"


# Not one of the paper's figures; the report shows it in a section of its own.
PEER_COMPARISON = "peer_comparison"


@dataclass(frozen=True)
class FigureSpec:
    """One figure, how it is drawn, and what a plan needs to have for it."""

    name: str
    title: str
    category: str
    tables: tuple[str, ...] = ()
    role: str = ""
    model: str = ""
    profiled: bool = False  # whether it needs MPI profiles
    batch: int = 0  # which of the role's batch sizes, in ascending order, it needs to exist
    benchmarked: bool = False  # whether it needs benchmarks
    inferred: bool = False  # whether it needs Monte-Carlo predictions, of `model` if that is given
    spread: bool = False  # of models trained on more than one node count
    sweeps: bool = False  # whether it needs pruning sweeps, of `model` if that is given
    tuned: bool = False  # whether it needs settings that the campaign tries
    projected: bool = False  # whether it needs networks that the site has its cells projected onto
    compared: bool = False  # whether it needs predictions of conventional networks beside those of others
    devices: tuple[str, ...] = ()  # drawn with the sites beside this one; devices that they need to have together
    draw: str = field(kw_only=True)  # MODULE:FUNCTION, of this folder; takes tables, context and `arguments`
    arguments: Mapping[str, Any] = field(default_factory=dict, kw_only=True)

    @property
    def module(self) -> str:
        """The module that draws it."""
        return f"campaign.results.figures.{self.draw.partition(':')[0]}"

    @property
    def function(self) -> str:
        """The name of the function that draws it."""
        return self.draw.partition(":")[2]

    @property
    def caption(self) -> str:
        """File of its caption, in workflow/report/."""
        return f"{self.name}.rst"

    @property
    def rule(self) -> str:
        """Name of the rule that draws it; targets `peer_comparison` and `tuning` ask for more than their figures."""
        return f"draw_{self.name}" if self.benchmarked or self.tuned else self.name


RATES = ("cells", "throughput")
EFFICIENCY = ("cells", "scaling")
PROFILED = ("cells", "mpi", "mpi_ranks")
BENCHMARKS = ("bench", "bench_runs")
NO_PROFILER = "it needs profiles of the MPI calls of a run, which this site does not record (site.profiler)"
NO_HOROVOD = "no cell that it shows exchanges through MPI: their engine is not horovod"
NO_BENCHMARK = "this campaign asks for no benchmark (section bench of its file)"
INFERENCE = "it needs Monte-Carlo predictions of trained models, which this campaign does not make (section infer)"
ONE_KIND = "it sets methods beside a conventional network, and none predicts in this campaign (kinds of section infer)"
ONE_NODE_COUNT = "it needs a model trained on several nodes, and this campaign predicts with models of one node count"
NOT_TUNED = "this campaign tries no settings (section tuning of its file)"
NOT_PROJECTED = "this site names no network to project its cells onto (section projection of its site.yaml)"
NO_GPUS = "it needs the tables of a site with GPUs: neither this site nor one beside it in the results folder has them"
NO_CPUS = (
    "it compares GPUs with CPUs: no site beside this one in the results folder has tables of CPU runs at large batches"
)
PRUNED = "it needs models pruned after training, which this campaign does not make (section prune)"
PREDICTED, DRAWN = ("inference", "inference_true_class"), ("inference", "inference_draws")
CONVERGENCE, RELIABILITY = ("inference", "inference_convergence"), ("inference", "inference_reliability")
SWEPT, CLASSES = ("pruning", "pruning_summary"), ("pruning", "pruning_summary", "pruning_true_class")

# What each needs of a plan, then who draws it.
# fmt: off
_ALL = (
    FigureSpec("fig1", "Network architectures", NETWORKS,
               draw="architecture:architecture_figure"),
    FigureSpec("fig2a", "Throughput of VGG-16", PERFORMANCE, RATES, SCALING, "vgg16",
               draw="throughput:throughput_figure", arguments={"role": SCALING, "model": "vgg16"}),
    FigureSpec("fig2b", "Throughput of ResNet-18", PERFORMANCE, RATES, SCALING, "resnet18",
               draw="throughput:throughput_figure", arguments={"role": SCALING, "model": "resnet18"}),
    FigureSpec("fig2c", "Training time", PERFORMANCE, RATES, SCALING,
               draw="runtime:runtime_figure", arguments={"role": SCALING, "every_batch": False}),
    FigureSpec("fig2d", "MPI routines", PERFORMANCE, PROFILED, SCALING, profiled=True,
               draw="mpi:mpi_figure", arguments={"role": SCALING}),
    FigureSpec("fig3a", "Scaling efficiency of VGG-16", PERFORMANCE, EFFICIENCY, SCALING, "vgg16",
               draw="efficiency:efficiency_figure", arguments={"role": SCALING, "model": "vgg16"}),
    FigureSpec("fig3b", "Scaling efficiency of ResNet-18", PERFORMANCE, EFFICIENCY, SCALING, "resnet18",
               draw="efficiency:efficiency_figure", arguments={"role": SCALING, "model": "resnet18"}),
    FigureSpec("efficiencies", "Where the time goes", PERFORMANCE, ("cells", "efficiencies"), SCALING,
               draw="efficiency_map:efficiency_map", arguments={"role": SCALING}),
    FigureSpec("losses", "Where each second of a step goes", PERFORMANCE, ("cells", "losses"), SCALING,
               draw="losses:losses_figure", arguments={"role": SCALING}),
    FigureSpec("fig3c", "Time to training accuracy", LEARNING, ("cells", "accuracy"), ACCURACY,
               draw="accuracy:accuracy_figure", arguments={"role": ACCURACY}),
    FigureSpec("fig4a", "Predictions against draws, fewest nodes", PREDICTION, PREDICTED, inferred=True, model="vgg16",
               draw="predictions:draws_figure", arguments={"model": "vgg16", "most": False}),
    FigureSpec("fig4b", "Predictions against draws, most nodes", PREDICTION, PREDICTED, inferred=True, model="vgg16",
               spread=True, draw="predictions:draws_figure", arguments={"model": "vgg16", "most": True}),
    FigureSpec("fig5a", "Predictions by class, VGG-16", PREDICTION, PREDICTED, inferred=True, model="vgg16",
               draw="classes:classes_figure", arguments={"model": "vgg16"}),
    FigureSpec("fig5b", "Predictions by class, ResNet-18", PREDICTION, PREDICTED, inferred=True, model="resnet18",
               draw="classes:classes_figure", arguments={"model": "resnet18"}),
    FigureSpec("inference_runtime", "Time of inference against draws", PREDICTION, DRAWN, inferred=True,
               draw="inference_runtime:inference_runtime_figure"),
    FigureSpec("inference_convergence", "Convergence of the predictive distribution", PREDICTION, CONVERGENCE,
               inferred=True, draw="inference_convergence:inference_convergence_figure"),
    FigureSpec("inference_reliability", "Reliability of the predictions", PREDICTION, RELIABILITY, inferred=True,
               draw="inference_reliability:inference_reliability_figure"),
    FigureSpec("uncertainty", "What uncertainty costs in training", PREDICTION, ("methods",), compared=True,
               draw="uncertainty:uncertainty_figure"),
    FigureSpec("uncertainty_draws", "What uncertainty costs in prediction", PREDICTION, ("methods", "method_draws"),
               compared=True, draw="uncertainty_draws:uncertainty_draws_figure"),
    FigureSpec("fig6a", "Throughput at large batches, the smaller", PERFORMANCE, RATES, LARGE_BATCH,
               draw="throughput:throughput_figure", arguments={"role": LARGE_BATCH, "batch_index": 0}),
    FigureSpec("fig6b", "Throughput at large batches, the larger", PERFORMANCE, RATES, LARGE_BATCH, batch=1,
               draw="throughput:throughput_figure", arguments={"role": LARGE_BATCH, "batch_index": 1}),
    FigureSpec("fig6c", "Training time at large batches", PERFORMANCE, RATES, LARGE_BATCH,
               draw="runtime:runtime_figure", arguments={"role": LARGE_BATCH, "every_batch": True}),
    FigureSpec("fig6d", "Scaling efficiency at large batches", PERFORMANCE, EFFICIENCY, LARGE_BATCH,
               draw="efficiency:efficiency_figure", arguments={"role": LARGE_BATCH, "one_panel": True}),
    FigureSpec("fig7a", "Throughput on GPUs", PERFORMANCE, RATES, LARGE_BATCH, devices=(GPU,),
               draw="gpu:gpu_throughput_figure"),
    FigureSpec("fig7b", "GPU against CPU throughput", PERFORMANCE, RATES, LARGE_BATCH, devices=(GPU, CPU),
               draw="gpu:throughputs_figure"),
    FigureSpec("fig7c", "Training time on GPUs and CPUs", PERFORMANCE, RATES, LARGE_BATCH, devices=(GPU, CPU),
               draw="gpu_time:runtimes_figure"),
    FigureSpec("fig7d", "Scaling efficiency on GPUs and CPUs", PERFORMANCE, EFFICIENCY, LARGE_BATCH, devices=(GPU,),
               draw="gpu_time:efficiencies_figure"),
    FigureSpec("fig8", "Accuracy against pruning", PRUNING, SWEPT, sweeps=True,
               draw="pruning:pruning_figure"),
    FigureSpec("fig9a", "Predictions of the pruned convolutional model", PRUNING, CLASSES, sweeps=True, model="conv",
               draw="classes:pruned_classes_figure", arguments={"model": "conv"}),
    FigureSpec("fig9b", "Predictions of the pruned fully connected model", PRUNING, CLASSES, sweeps=True, model="fc",
               draw="classes:pruned_classes_figure", arguments={"model": "fc"}),
    FigureSpec("snr", "Signal-to-noise ratio of the weights", PRUNING, ("pruning_summary", "pruning_snr"), sweeps=True,
               draw="snr:snr_figure"),
    FigureSpec("pruning_speed", "Speed of pruned inference", PRUNING, SWEPT, sweeps=True,
               draw="pruning_speed:pruning_speed_figure"),
    FigureSpec("projection", "Projected efficiency", PERFORMANCE, ("efficiency_projection",), projected=True,
               draw="projection:projection_figure"),
    FigureSpec("tuning", "Settings tried", PERFORMANCE, ("tuning",), tuned=True, draw="tuning:tuning_figure"),
    FigureSpec(PEER_COMPARISON, "Training steps of several implementations", PERFORMANCE, BENCHMARKS, benchmarked=True,
               draw="peers:peers_figure"),
)
# fmt: on
FIGURES: dict[str, FigureSpec] = {spec.name: spec for spec in _ALL}


def available(plan: dict[str, Any], others: Sequence[OtherSite] = ()) -> list[str]:
    """Names of the figures that the plan's cells provide data for, with the sites beside this one; in order."""
    return [name for name, spec in FIGURES.items() if not _missing(spec, plan, others)]


def not_measured(plan: dict[str, Any], others: Sequence[OtherSite] = ()) -> dict[str, str]:
    """The other figures, each with the reason, in a reader's words."""
    reasons = {name: _missing(spec, plan, others) for name, spec in FIGURES.items()}
    return {name: reason for name, reason in reasons.items() if reason}


def _missing(spec: FigureSpec, plan: dict[str, Any], others: Sequence[OtherSite]) -> str:
    """Why the plan cannot have the figure; empty when it can."""
    if spec.benchmarked and not plan.get("bench"):
        return NO_BENCHMARK
    if spec.tuned:
        return "" if plan.get("tuning") else NOT_TUNED
    if spec.projected:
        return "" if plan.get("projection") else NOT_PROJECTED
    if spec.compared:
        return "" if any(job["kind"] == "cnn" for job in plan.get("infer", [])) else ONE_KIND
    if spec.inferred or spec.sweeps:
        return _missing_jobs(spec, plan)
    if not spec.role:
        return ""
    cells = [cell for cell in plan["cells"] if spec.role in cell["roles"]]
    if not cells:
        return f"no cell of this campaign serves {spec.role}"
    if spec.model and not any(cell["model"] == spec.model for cell in cells):
        return f"this campaign does not run {spec.model} for {spec.role}"
    if spec.profiled and plan["site"].get("profiler", {}).get("kind", "none") == "none":
        return NO_PROFILER
    if spec.profiled and all(cell["settings"]["engine"] != "horovod" for cell in cells):
        return NO_HOROVOD
    if spec.batch >= len({cell["batch_size"] for cell in cells}):
        return "this campaign has a single large batch size"
    return _missing_devices(spec, plan, others)


def _missing_devices(spec: FigureSpec, plan: dict[str, Any], others: Sequence[OtherSite]) -> str:
    """As `_missing`, of a figure drawn with other sites' tables; says which of them cannot be used."""
    lacking = set(spec.devices) - devices_together(plan, others) if spec.devices else set()
    if not lacking:
        return ""
    problems = [f"site {other.name} cannot be used: {other.problem}" for other in others if other.problem]
    return "; ".join([NO_GPUS if GPU in lacking else NO_CPUS, *problems])


def _missing_jobs(spec: FigureSpec, plan: dict[str, Any]) -> str:
    """As `_missing`, of a figure from jobs after cells; those that only a target of their own runs do not count."""
    jobs = [job for job in plan.get("infer" if spec.inferred else "prune", []) if not job["target"]]
    if not jobs:
        return INFERENCE if spec.inferred else PRUNED
    jobs = [job for job in jobs if not spec.model or job["model"] == spec.model]
    if not jobs:
        return f"this campaign does not {'predict with' if spec.inferred else 'prune'} {spec.model}"
    return ONE_NODE_COUNT if spec.spread and len({job["nodes"] for job in jobs}) < 2 else ""
