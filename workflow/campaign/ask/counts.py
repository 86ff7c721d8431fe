"""Node counts, repeats and steps that follow the machine: `nodes: {up_to: cores}` in a campaign or a site's cut."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from bnn.errors import UserError
from bnn.settings import TrainSettings
from campaign.site.site import Site

# Ranks of one machine share its memory: a doubling is taken to make a step this much longer, in parts of one rank's.
SLOWER_PER_DOUBLING = 0.25
LEAST_STEPS = 5  # that count, of a run that is cut
MEMORY_SHARE = 0.8  # of a machine's memory that ranks may take


def resolve(values: dict[str, Any], site: Site, prefix: str) -> tuple[dict[str, Any], tuple[str, ...]]:
    """A campaign's content with lists in place of `up_to`, and what was cut to keep to the time of `time_of`.

    `prefix` is the file and key path before its keys. Raises UserError where the site cannot tell how many there are.
    """
    found, said = dict(values), []
    if isinstance(values.get("nodes"), dict):
        if "time_of" in values["nodes"]:
            raise UserError(f"{prefix}nodes.time_of: of a study's own nodes only, whose repeats and steps it cuts")
        found["nodes"] = counts(values["nodes"], site, f"{prefix}nodes")
    studies = dict(values["studies"])
    for name, study in studies.items():
        nodes = study.get("nodes")
        if not isinstance(nodes, dict):
            continue
        where = f"{prefix}studies.{name}.nodes"
        listed = counts(nodes, site, where)
        studies[name] = study | {"nodes": listed}
        if "time_of" in nodes:
            studies[name], words = cut(studies[name], nodes["time_of"], values.get("settings", {}))
            said += [f"{name}: {words}"] if words else []
    return found | {"studies": studies}, tuple(said)


def counts(nodes: dict[str, Any], site: Site, where: str) -> list[int]:
    """1, 2, 4, ... and at last all that there are: cores for the threads of a rank, or GPUs; as memory has room."""
    if site.scheduler.kind != "none":
        raise UserError(f"{where}.up_to: {site.name} has a scheduler and many machines: list node counts")
    hardware, of = site.hardware, nodes["up_to"]
    if of == "gpus":
        most = hardware.gpus_per_node // site.ranks_per_node
        if not most:
            raise UserError(f"{site.origin}: site.hardware: {site.name} has no GPU that can be used{site.looked_for}")
    else:
        most = hardware.cores_per_node // (site.ranks_per_node * site.threads)
        if most < 2 <= hardware.cores_per_node * hardware.threads_per_core // (site.ranks_per_node * site.threads):
            most = 2  # of one core with two hardware threads: without two ranks nothing would scale
    if site.rank_memory_gb and hardware.memory_gb:
        room = int(MEMORY_SHARE * hardware.memory_gb / (site.rank_memory_gb * site.ranks_per_node))
        most = min(most, room)
    most = max(1, min(most, nodes.get("at_most", most)))
    return [*(2**power for power in range(most.bit_length()) if 2**power < most), most]


def cost(nodes: Sequence[int]) -> float:
    """Time of one run at each of these node counts, in runs of one rank."""
    return sum(1 + SLOWER_PER_DOUBLING * math.log2(count) for count in nodes)


def cut(study: dict[str, Any], time_of: Sequence[int], common: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """The study with fewer repeats, and if these do not suffice fewer steps, so that it takes the time of `time_of`.

    Warm-up stays whole, and LEAST_STEPS that count. Says in words what was cut, if anything.
    """
    share = cost(time_of) / cost(study["nodes"])
    if share >= 1:
        return study, ""
    before = study.get("repeats", 1)
    repeats = max(1, round(before * share))
    words = [f"repeats {before} to {repeats}"] if repeats < before else []
    settings = dict(study.get("settings", {}))
    if steps := settings.get("max_steps"):
        default = TrainSettings.model_fields["warmup_steps"].default
        warmup = settings.get("warmup_steps", common.get("warmup_steps", default))
        steady = steps - warmup
        fewer = min(steady, max(LEAST_STEPS, int(steady * share * before / repeats)))
        if fewer < steady:
            settings["max_steps"] = warmup + fewer
            words.append(f"steps {steps} to {warmup + fewer}")
    if not words:
        return study, ""
    listed = ", ".join(map(str, study["nodes"]))
    return study | {"repeats": repeats, "settings": settings}, f"{' and '.join(words)} for nodes {listed}"
