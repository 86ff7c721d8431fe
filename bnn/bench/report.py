"""What `bnn bench` prints when it is done: the header, a table of implementations, the ratios and the noise floor."""

from __future__ import annotations

import math

import pandas as pd
from rich.console import Console
from rich.table import Table

from bnn.bench import summary
from bnn.metrics import Interval
from bnn.records.bench import BenchHeader

DISTURBING = 0.05  # of a core: from here on waiting workers are said to disturb the measured one


def with_interval(interval: Interval, digits: int = 3) -> str:
    """`1.234 [1.200, 1.260]`; without the brackets where one value allows no interval."""
    text = f"{interval.value:.{digits}f}"
    return text if math.isnan(interval.low) else f"{text} [{interval.low:.{digits}f}, {interval.high:.{digits}f}]"


def decimals(seconds: float) -> int:
    """Decimals that show three significant digits and more."""
    return max(0, 3 - math.floor(math.log10(seconds)))


def print_report(rows: pd.DataFrame, header: BenchHeader, console: Console) -> None:
    """Print everything; `rows` are of one benchmark."""
    print_header(rows, header, console)
    for images, group in summary.cases(rows):
        print_case(images, group, console)
    for name, reason in header.not_measured.items():
        console.print(f"not measured: {name}: {reason}", soft_wrap=True, markup=False)
    if header.idle_cpu > DISTURBING:
        console.print(f"warning: waiting workers used {header.idle_cpu:.0%} of a core while others were measured")
    for reason in header.warnings:
        console.print(f"warning: {reason}: do not trust these times", soft_wrap=True, markup=False, highlight=False)


def print_header(rows: pd.DataFrame, header: BenchHeader, console: Console) -> None:
    first = rows.iloc[0]
    size = "" if pd.isna(first["batch"]) else f", batch {int(first['batch'])}"
    draws = "" if pd.isna(first["draws"]) else f", {int(first['draws'])} draws"
    lines = [
        f"{header.benchmark}: {first['model']}{size}{draws}, {first['threads']} threads; "
        f"{header.rounds} rounds of {header.steps}, interleaved, in random order",
        f"{header.cpu_model}, {header.cores} cores, {header.memory_bytes / 2**30:.0f} GB; "
        f"code {(header.git_revision or 'unknown')[:12]}{' with changes' if header.git_dirty else ''}",
    ]
    if header.peak is not None:
        lines[1] += f"; peak {header.peak['flops_per_second'] / 1e9:.0f} GFLOP/s ({header.peak['source']})"
    versions = {f"{k} {v}" for facts in header.workers.values() for k, v in facts.versions.items()}
    lines.append(", ".join(sorted(versions)))
    lines += [f"{name}: {note}" for name, facts in header.workers.items() for note in facts.notes]
    for line in lines:
        console.print(line, soft_wrap=True, markup=False, highlight=False)


def print_case(images: int | None, rows: pd.DataFrame, console: Console) -> None:
    table = Table(title=None if images is None else f"{images} images per draw", title_justify="left")
    table.add_column("implementation", overflow="fold")
    for heading in ("seconds [95%]", "samples/s", "ratio to cnn", "peak MB", "noise+KL+opt"):
        table.add_column(heading, justify="right", no_wrap=True)
    for line in summary.summarise(rows):
        chosen = "" if line.resolved == line.implementation else f" = {line.resolved}"
        table.add_row(
            f"{line.implementation}{chosen}",
            with_interval(line.seconds, decimals(line.seconds.value)),
            f"{line.samples_per_second:.4g}",
            "-" if line.ratio is None else with_interval(line.ratio, 2),
            f"{line.peak_memory_bytes / 2**20:.0f}",
            "-" if line.share is None else f"{line.share:.1%}",
        )
    console.print(table)
    for numerator, denominator, ratio in summary.ratios(rows):
        console.print(f"time {numerator} / {denominator}: {with_interval(ratio)}", highlight=False)
    for numerator, denominator, value in summary.memory_ratios(rows):
        console.print(f"peak memory {numerator} / {denominator}: {value:.2f}", highlight=False)
    for name, floor in summary.floors(rows).items():
        known = "unknown from one round" if math.isnan(floor) else f"{floor:.1%}"
        console.print(f"noise floor ({name} measured twice): {known}", highlight=False)
