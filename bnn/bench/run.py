"""What `bnn bench` does: peers are made ready, the benchmark is run, its record is written and printed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from bnn.bench.implementations import Implementation, implementation
from bnn.bench.peak import measure_peak
from bnn.bench.pool import ROOT
from bnn.bench.session import Plan, Result, measure
from bnn.commands.output import errors_named
from bnn.commands.progress import described
from bnn.errors import UserError
from bnn.metrics import disturbances
from bnn.model_names import is_own
from bnn.models.describe import MODELS
from bnn.records.bench import BENCH, BenchHeader, header_path
from bnn.records.columns import is_whole, write_table
from bnn.records.files import JOB_LABEL, write_text
from bnn.records.reading import read_record
from bnn.settings import FOREIGN_LIMIT

if TYPE_CHECKING:
    import pandas as pd

PEERS_SETUP = ROOT / "envs" / "peers.py"
PEERS_PYTHON = ROOT / ".venv-peers" / "bin" / "python"
REPORT_WIDTH = 132
NULLABLE = ("batch", "draws", "images")


def run_bench(plan: Plan, out: Path) -> None:
    """Measure, write `out` and its header, print the report. Raises UserError for whatever a user can mend."""
    if out.suffix != ".parquet":
        raise UserError(f"--out {out}: the record is a Parquet file; give it a name that ends in .parquet")
    make_folder(out)
    check_plan(plan)
    if made_before(plan, out):
        print(f"{out}: measured before, as its label {JOB_LABEL} says")
        return
    if any(implementation(name).peer for name in plan.choice.names):
        prepare_peers()
    started, peak = time.time(), None
    with described("bench") as progress:
        if plan.peak:
            progress("the machine's peak", 0.0)
            peak = measure_peak(plan.threads)
        result = measure(plan, python_of, progress)
    rows = as_frame(result.rows)
    header = make_header(plan, result, started, peak)
    out.unlink(missing_ok=True)  # a record never stands beside the header of another run
    write_text(header_path(out), header.model_dump_json(indent=2))
    write_table(rows, out, BENCH)

    from bnn.bench.report import print_report

    print_report(rows, header, wide_console())
    print(out)


def made_before(plan: Plan, out: Path) -> bool:
    """Whether the record that is there is whole and of this very job: one that is started again keeps what it has."""
    job = (plan.labels or {}).get(JOB_LABEL)
    header = read_record(header_path(out), BenchHeader)
    return header is not None and job is not None and (header.labels or {}).get(JOB_LABEL) == job and is_whole(out)


def wide_console() -> Console:
    """Stdout; where it is no terminal, wide enough that no number is cut."""
    console = Console()
    return console if console.is_terminal else Console(width=REPORT_WIDTH)


def make_folder(out: Path) -> None:
    """Make the record's folder now: a mistyped path must not be found out after all has been measured."""
    with errors_named(f"--out {out}"):
        out.parent.mkdir(parents=True, exist_ok=True)
        if out.is_dir() or not os.access(out.parent, os.W_OK):
            raise UserError(f"--out {out}: cannot be written")


def check_plan(plan: Plan) -> None:
    """Raise UserError for a model that does not exist or does not fit, and for peers of a model that they lack."""
    from bnn.models.architectures import resolve

    if not is_own(plan.model):
        resolve(plan.model, plan.shape, plan.classes, plan.width)
    elif any(implementation(name).peer for name in plan.choice.names):
        raise UserError(f"--peers: peers have the built-in models only ({', '.join(MODELS)}), not {plan.model}")


def python_of(made_of: Implementation) -> Path | str:
    """The Python that has what the implementation needs."""
    return PEERS_PYTHON if made_of.peer else sys.executable


def prepare_peers() -> None:
    """Set the peers' environment up if it is not there. Raises UserError when it cannot be had."""
    if not PEERS_SETUP.is_file():
        raise UserError(f"--peers: {PEERS_SETUP} is missing; peers need a checkout of the project, not a package alone")
    done = subprocess.run([sys.executable, PEERS_SETUP], stdout=sys.stderr, stderr=subprocess.PIPE, text=True)
    if done.returncode == 130:
        raise KeyboardInterrupt
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines()
        raise UserError(lines[-1] if lines else f"--peers: their set-up failed with exit code {done.returncode}")


def as_frame(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """The rows as a table of the schema's columns; whole numbers stay whole where some are missing."""
    import pandas as pd

    frame = pd.DataFrame(rows, columns=BENCH.names)
    frame["seconds_noise_kl_optimizer"] = frame["seconds_noise_kl_optimizer"].astype("float64")
    return frame.astype(dict.fromkeys(NULLABLE, "Int64"))


def make_header(plan: Plan, result: Result, started: float, peak: dict[str, Any] | None) -> BenchHeader:
    """What the rows were measured on and with; `started` in seconds since 1970."""
    import psutil

    from bnn.commands.envelope import envelope
    from bnn.provenance import cpu_model

    load = result.neighbours()
    return BenchHeader(
        **envelope(started) | {"command": ["bnn", *sys.argv[1:]]},
        benchmark=plan.benchmark,
        labels=plan.labels,
        cpu_model=cpu_model(),
        cores=os.cpu_count() or 0,
        memory_bytes=psutil.virtual_memory().total,
        rounds=plan.rounds,
        steps=plan.steps,
        warmup=plan.warmup,
        seed=plan.seed,
        idle_cpu=result.idle_cpu,
        foreign_cpu=load.foreign_cores if load else None,
        neighbours=load,
        warnings=disturbances(load, "the measured turns", FOREIGN_LIMIT),
        peak=peak,
        workers=result.workers,
        not_measured=result.not_measured,
    )
