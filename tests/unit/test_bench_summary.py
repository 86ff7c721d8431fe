"""Statistics of a benchmark, on frames made by hand."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from bnn.bench import summary
from bnn.metrics import noise_floor
from bnn.records.bench import BENCH


def frame(seconds: dict[str, list[list[float]]], **columns: Any) -> pd.DataFrame:
    """Rows from the seconds of each implementation: a list of steps per round."""
    rows = [
        dict.fromkeys(BENCH.names)
        | {"implementation": name, "resolved": name, "round": number, "step": step, "seconds": value}
        | {"samples": 10, "peak_memory_bytes": 100 + number}
        | columns
        for name, rounds in seconds.items()
        for number, steps in enumerate(rounds)
        for step, value in enumerate(steps)
    ]
    made = pd.DataFrame(rows, columns=BENCH.names)
    made["seconds_noise_kl_optimizer"] = made["seconds_noise_kl_optimizer"].astype("float64")
    return made


def test_a_round_counts_as_the_median_of_its_steps() -> None:
    rows = frame({"cnn": [[1.0, 1.0, 90.0], [2.0, 4.0]]})
    assert summary.round_medians(rows)["cnn"].tolist() == [1.0, 3.0]


def test_ratios_are_taken_within_a_round() -> None:
    # the machine is slower by the factor of each round, which a ratio of two medians would not forgive
    slow = [1.0, 5.0, 2.0, 7.0, 3.0, 1.5]
    rows = frame({"cnn": [[s] for s in slow], "bnn-flipout": [[1.1 * s] for s in slow]})
    ratio = summary.paired_ratio(rows, "bnn-flipout", "cnn")
    assert ratio is not None
    assert (ratio.value, ratio.low, ratio.high) == pytest.approx((1.1, 1.1, 1.1))
    assert ratio.method == "order statistics of the median"
    assert summary.paired_ratio(rows, "tfp", "cnn") is None
    assert summary.paired_ratio(rows, "cnn", "cnn") is None


def test_a_round_that_one_of_both_lacks_makes_no_pair() -> None:
    rows = frame({"cnn": [[1.0], [2.0]], "bnn-flipout": [[3.0]]})
    ratio = summary.paired_ratio(rows, "bnn-flipout", "cnn")
    assert ratio is not None
    assert (ratio.value, ratio.method) == (3.0, "single value")


def test_few_rounds_have_a_t_interval_on_the_logarithm() -> None:
    rows = frame({"cnn": [[1.0], [1.0], [1.0]], "bnn-flipout": [[1.0], [2.0], [4.0]]})
    ratio = summary.paired_ratio(rows, "bnn-flipout", "cnn")
    assert ratio is not None
    assert ratio.method == "t-interval on log"
    assert ratio.value == pytest.approx(2.0)
    half = 4.302652729696142 * math.log(2) / math.sqrt(3)  # t(0.975, 2 degrees of freedom)
    assert math.log(ratio.high / ratio.value) == pytest.approx(half)


def test_a_line_holds_what_the_table_prints() -> None:
    rows = frame({"cnn": [[2.0], [2.0]], "bnn-flipout": [[4.0], [4.0]]}, seconds_noise_kl_optimizer=0.2)
    cnn, bnn = summary.summarise(rows)
    assert (cnn.implementation, cnn.ratio, cnn.samples_per_second) == ("cnn", None, 5.0)
    assert (bnn.seconds.value, bnn.samples_per_second, bnn.peak_memory_bytes) == pytest.approx((4.0, 2.5, 101))
    assert bnn.ratio is not None
    assert bnn.ratio.value == pytest.approx(2.0)
    assert (cnn.share, bnn.share) == pytest.approx((0.1, 0.05))
    assert summary.summarise(frame({"tfp": [[1.0]]}))[0].share is None


def test_the_noise_floor_is_the_far_end_of_the_interval_of_the_control() -> None:
    assert noise_floor([1.0] * 6, [1.03] * 6) == pytest.approx(0.03)
    assert noise_floor([1.0] * 6, [0.95] * 6) == pytest.approx(0.05)
    assert math.isnan(noise_floor([1.0], [1.0]))
    rows = frame({"cnn": [[1.0]] * 6, "cnn-again": [[1.02]] * 6, "bnn-flipout-again": [[9.0]] * 6})
    assert summary.floors(rows) == pytest.approx({"cnn": 0.02})


def test_only_pairs_that_were_measured_are_reported() -> None:
    rows = frame({"cnn": [[1.0]], "bnn-flipout": [[1.2]], "tfp": [[2.4]], "cnn-again": [[1.0]]})
    found = {(a, b): ratio.value for a, b, ratio in summary.ratios(rows)}
    assert found == pytest.approx({
        ("bnn-flipout", "cnn"): 1.2, ("tfp", "bnn-flipout"): 2.0, ("cnn-again", "cnn"): 1.0,
    })  # fmt: skip
    rows.loc[rows["implementation"] == "tfp", "peak_memory_bytes"] = 200
    assert summary.memory_ratios(rows) == [("bnn-flipout", "tfp", 0.5)]


def test_numbers_of_images_are_kept_apart() -> None:
    one, many = frame({"cnn": [[1.0]]}, images=1), frame({"cnn": [[5.0]]}, images=100)
    assert [images for images, _ in summary.cases(pd.concat([many, one]))] == [1, 100]
    assert [(images, len(rows)) for images, rows in summary.cases(frame({"cnn": [[1.0]]}))] == [(None, 1)]


@pytest.mark.parametrize(
    "module", ["bnn.bench.commands", "bnn.bench.protocol", "bnn.bench.summary", "bnn.records.bench"]
)
def test_what_the_campaign_and_the_peers_import_is_light(module: str) -> None:
    code = f"import sys, {module}; print(sorted({{'torch', 'horovod', 'tensorflow'}} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr


def test_workers_of_peers_need_the_standard_library_only() -> None:
    code = (
        "import sys; sys.path.append(sys.argv[1]); import bnn.bench.protocol, bnn.models.architectures; "
        "print(sorted(name for name in ('numpy', 'pydantic', 'click', 'rich') if name in sys.modules))"
    )
    root = str(Path(__file__).resolve().parents[2])
    done = subprocess.run([sys.executable, "-S", "-c", code, root], capture_output=True, text=True, cwd="/")
    assert done.stdout == "[]\n", done.stderr
