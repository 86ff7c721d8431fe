"""What must be there before the first job of a campaign is started, and would fail all of them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from campaign.plan.campaign import Campaign
from campaign.site.site import Site

EXECUTOR = "batch-script"
NCCL_BUILT = "import horovod.torch as hvd; raise SystemExit(0 if hvd.nccl_built() else 3)"


def refusal(campaign: Campaign) -> str:
    """Why no job may be submitted, from the site's file alone; empty if nothing speaks against it."""
    missing = campaign.site.scheduler.missing_account()
    return f"{campaign.site.origin}: {missing}" if missing else ""


def executor_refusal(site: Site, executor: str, scheduler: str) -> str:
    """Why jobs may not be handed to this executor of Snakemake; empty where it is the one that runs their scripts.

    Another one, as the profile of an earlier version has, would run them all at once, here, without a journal.
    """
    kind = site.scheduler.kind
    if executor == EXECUTOR and scheduler == kind:
        return ""
    profile = Path(site.origin).with_name("config.yaml")
    return (
        f"{profile}: jobs of site {site.name} (scheduler: {kind}) are run by executor: {EXECUTOR} with "
        f"{EXECUTOR}-scheduler: {kind}, not by executor: {executor}"
        + (f" with {EXECUTOR}-scheduler: {scheduler}" if executor == EXECUTOR else "")
    )


def unusual(forced: bool, jobs: float, campaign: Campaign) -> list[str]:
    """Lines on options of Snakemake that do not do here what they do elsewhere; `jobs` is the value of --jobs."""
    said = []
    if forced:
        said.append("--force, --forceall, --forcerun: no job runs again whose record is as the plan asks: delete that")
    if jobs < sys.maxsize and campaign.site.scheduler.kind == "none":
        said.append(
            f"--jobs {jobs:g}: jobs that wait in Snakemake lose their order and cost time while others are measured: "
            "leave jobs: unlimited, one runs at a time all the same"
        )
    return said


def uncut(campaign: Campaign) -> str:
    """A line where the site's file cuts other campaigns but not this one; else empty."""
    site = campaign.site
    if not site.grid or campaign.name in site.grid:
        return ""
    return (
        f"{site.origin}: site.grid: nothing for campaign {campaign.name} (only {', '.join(site.grid)}): it runs uncut"
    )


def nccl_refusal(campaign: Campaign) -> str:
    """Why Horovod cannot reduce gradients on this site's GPUs; empty if it can or need not. Loads Horovod to ask it."""
    cells = [cell for cell in campaign.cells if cell.settings.device == "cuda" and cell.settings.engine == "horovod"]
    if not any(cell.ranks > 1 for cell in cells):
        return ""
    asked = subprocess.run([sys.executable, "-c", NCCL_BUILT], capture_output=True, text=True)
    if asked.returncode == 0:
        return ""
    why = "was built without NCCL" if asked.returncode == 3 else "cannot be loaded here"
    return (
        f"{campaign.site.origin}: Horovod {why}: build it as envs/README.md says, or set "
        f"grid.{campaign.name}.settings.engine: torch (torch.distributed, which needs no compiler)"
    )
