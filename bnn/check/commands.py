"""The command `bnn check`."""

from __future__ import annotations

import shlex
import signal
import sys
import tempfile
from pathlib import Path

import click

from bnn.check.outcome import ABSENT, FAULT, OK, Context, Outcome
from bnn.check.plan import CHECKS, Check
from bnn.errors import UserError
from bnn.ranks import refuse_several


@click.command()
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True)
@click.option("--ranks", type=click.IntRange(2, 64), default=2, show_default=True, help="Ranks that work together.")
@click.option("--launcher", help="What starts them, in place of: mpiexec -n RANKS")
@click.option("--nodes", type=click.IntRange(1), default=1, show_default=True, help="Nodes that it spreads them over.")
@click.option(
    "--only", multiple=True, type=click.Choice([check.name for check in CHECKS]), help="This check alone; repeatable."
)
@click.option("--mib", type=click.IntRange(1, 16384), default=64, show_default=True, help="MiB that ranks average.")
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), default=Path("bnn-check.json"), show_default=True,
    help="File to send.",
)  # fmt: skip
def check(
    device: str, ranks: int, launcher: str | None, nodes: int, only: tuple[str, ...], mib: int, out: Path
) -> None:
    """Check whether this machine computes what it should, in at most 10 minutes.

    Numbers against float64 on the CPU, whole runs, ranks that work together, energy, time of a step: each ends as OK,
    fault or not there. Exit code 0: no fault, 1: at least one, 2: it could not begin.

    OUT is a file to send to whoever may help, and is written anew after each check. In it: versions of Python,
    packages, revision, CUDA and NCCL; names of processor and GPUs, the driver's version; the launcher's words; status,
    seconds and one line of each check, and the end of what faults printed, with ~, USER and HOST in place of your home
    folder, your name and this host's. It holds no environment variables but those that libraries print there, as they
    may print network addresses: look through it before you send it.
    """
    from bnn.check.report import machine_facts, write_report
    from bnn.check.run import run_checks
    from bnn.device import no_gpu

    refuse_several("check", "start it once: it starts its ranks itself")
    if device == "cuda" and (why := no_gpu()):
        raise UserError(f"no GPU: {why}")
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # ends what has been started, too
    words = tuple(_words(launcher) if launcher is not None else ["mpiexec", "-n", str(ranks)])
    rows: list[Outcome] = []

    def begun(each: Check) -> None:
        click.echo(f"{each.name} ...", err=True)

    def ended(row: Outcome) -> None:
        rows.append(row)
        write_report(out, context, facts, rows)
        click.echo(f"{row.name:16} {row.status:9} {row.seconds:6.1f} s  {row.reason}")

    with tempfile.TemporaryDirectory(prefix="bnn-check-") as folder:
        context, facts = Context(device, ranks, Path(folder), words, mib, nodes), machine_facts()
        write_report(out, context, facts, rows)  # where that is impossible it is better known now
        run_checks([each for each in CHECKS if not only or each.name in only], context, begun, ended)
    write_report(out, context, facts, rows, complete=True)
    counts = ", ".join(f"{sum(row.status == status for row in rows)} {status}" for status in (OK, FAULT, ABSENT))
    click.echo(f"{counts}; {sum(row.seconds for row in rows):.0f} s; file to send: {out}")
    sys.exit(1 if any(row.status == FAULT for row in rows) else 0)


def _words(launcher: str) -> list[str]:
    """The launcher's words. Raises UserError where a shell could not split them, or there are none."""
    try:
        words = shlex.split(launcher)
    except ValueError as error:
        raise UserError(f"--launcher {launcher!r}: {str(error).lower()}") from None
    if not words:
        raise UserError("--launcher: names no program")
    return words
