"""The command `bnn check`."""

from __future__ import annotations

import json
import platform
import shlex
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

import click

from bnn.errors import UserError


@click.command()
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True)
@click.option("--ranks", type=click.IntRange(2, 64), default=2, show_default=True, help="ranks that work together")
@click.option("--launcher", help="what starts them [default: mpiexec -n RANKS]")
@click.option("--out", type=click.Path(path_type=Path), default=Path("bnn-check.json"), show_default=True)
def check(device: str, ranks: int, launcher: str | None, out: Path) -> None:
    """Check numbers, ranks, whole runs and energy here; OUT is a file to send: versions, rows, logs of faults."""
    from bnn.check.outcome import FAULT, Context, Outcome
    from bnn.check.plan import CHECKS, Check
    from bnn.check.run import run_checks
    from bnn.device import no_gpu
    from bnn.provenance import cpu_model, versions
    from bnn.records.files import write_text

    if device == "cuda" and (why := no_gpu()):
        raise UserError(f"no GPU: {why}")

    def begun(each: Check) -> None:
        click.echo(f"{each.name} ...", err=True)

    def ended(row: Outcome) -> None:
        click.echo(f"{row.name:20} {row.status:10} {row.seconds:6.1f} s  {row.reason}")

    with tempfile.TemporaryDirectory(prefix="bnn-check-") as folder:
        words = tuple(shlex.split(launcher) if launcher else ["mpiexec", "-n", str(ranks)])
        rows = run_checks(CHECKS, Context(device, ranks, Path(folder), words), begun, ended)
    record = {
        "device": device, "ranks": ranks, "python": platform.python_version(), "versions": versions(),
        "cpu": cpu_model(), "checks": [asdict(row) for row in rows],
    }  # fmt: skip
    try:
        write_text(out, json.dumps(record, indent=1))
    except OSError as error:
        raise UserError(f"{out}: {error.strerror}") from None
    click.echo(f"to send: {out}")
    sys.exit(1 if any(row.status == FAULT for row in rows) else 0)
