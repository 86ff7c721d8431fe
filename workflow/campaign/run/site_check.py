"""`campaign site check --run`: `bnn check` on one node of a site, with its environment and its way to start ranks."""

from __future__ import annotations

import shlex
import subprocess
from dataclasses import replace

from bnn.errors import UserError
from campaign.io.files import write_if_changed
from campaign.names.layout import CHECK, Layout
from campaign.render.scripts import TEMPLATES, Place, output
from campaign.render.shelltext import Safe, quoted, template
from campaign.site.allocation import Walltime
from campaign.site.launchers import Launcher, Placement
from campaign.site.site import Site

MINUTES = 20  # `bnn check` ends after 10; the rest is for modules and slow file systems
SUBMIT = {"slurm": "sbatch", "pbs": "qsub", "cobalt": "qsub"}


def run_or_render(site: Site, layout: Layout, place: Place) -> tuple[int, list[str]]:
    """Write the script; without a scheduler run it here.

    Returns the exit code of `bnn check` (0 where it is yet to be submitted), and lines that say what to do. Raises
    UserError without an account that must be there, and where no queue takes one node for MINUTES.
    """
    script = layout.job(CHECK)
    if missing := site.scheduler.missing_account():
        raise UserError(f"{site.origin}: {missing}")
    write_if_changed(script, check_text(site, layout, place), mode=0o755)
    if site.scheduler.kind == "none":
        return subprocess.run(["bash", str(script)]).returncode, []
    log = layout.log(CHECK)
    log.parent.mkdir(parents=True, exist_ok=True)  # schedulers make no folders for what a job prints
    submit = shlex.join([SUBMIT[site.scheduler.kind], str(script)])
    return 0, [f"submit it with: {submit}", f"file to send, once it has run: {layout.check} (what it printed: {log})"]


def check_text(site: Site, layout: Layout, place: Place) -> str:
    """The script. On GPUs there are as many ranks as a node has, but at least two, which is what is to be tried."""
    cores = site.hardware.cores_per_node
    ranks = max(2, min(site.hardware.gpus_per_node, 8))
    threads = max(1, min(site.threads, cores * site.hardware.threads_per_core // ranks))
    smt = -(-ranks * threads // cores)
    placement, whole = Placement(1, ranks, threads, smt), Placement(1, 1, ranks * threads, smt)
    away = site.launcher.leads_to_nodes  # then what it leads to a node starts the ranks there
    launcher = Launcher("mpiexec") if away else site.launcher
    words = launcher.command(placement)
    scheduler = replace(site.scheduler, walltimes=(Walltime(MINUTES),), packing=None)
    allocation = replace(site, scheduler=scheduler).allocate(1, {}, "bnn check")
    return template(TEMPLATES, "check.sh.j2").render(
        site=site,
        place=place,
        allocation=allocation,
        placement=placement,
        gpus=site.hardware.gpus_per_node,
        output=output(layout.log(CHECK), allocation),
        threads=threads,
        ranks=ranks,
        launcher=shlex.join(words),
        options=shlex.join(words[1:]),
        outer=Safe(f"{quoted(site.launcher.command(whole))} ") if away else "",
        device="cuda" if site.has_gpus else "cpu",
        record=layout.check,
        script=layout.job(CHECK),
        measuring_lock=layout.measuring_lock,
    )
