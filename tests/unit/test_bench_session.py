"""The harness of `bnn bench`, with workers that only pretend: who runs when, what is recorded, and who is to blame."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from click.testing import CliRunner

from bnn.bench import implementations
from bnn.bench.commands import bench
from bnn.bench.implementations import AGAIN, BEST, BEST_OF, EXACT, OURS, PEERS, Implementation, choose
from bnn.bench.run import as_frame, make_header, run_bench
from bnn.bench.session import Plan, Result, measure, order, settle_steps
from bnn.errors import UserError
from bnn.records import read_table, write_table
from bnn.records.bench import BENCH, BenchHeader, header_path

Pretend = Callable[..., None]


@pytest.fixture
def pretend(monkeypatch: pytest.MonkeyPatch) -> Pretend:
    """Replace implementations by pretenders, `pretend(cnn={...})`; cnn and cnn-again always are."""

    def replace(**behaviour: dict[str, Any]) -> None:
        named = {name.replace("_", "-"): values for name, values in behaviour.items()}
        for name, values in ({"cnn": {}, "cnn-again": {}} | named).items():
            fake = Implementation("tests.support.bench_workers", settings=values)
            monkeypatch.setitem(implementations.OURS, name, fake)

    replace()
    return replace


def plan(named: list[str], benchmark: str = "step", **changes: Any) -> Plan:
    values: dict[str, Any] = {
        "model": "fc", "width": 1.0, "shape": (1, 28, 28), "classes": 10, "batch": 4, "threads": 1,
        "rounds": 3, "steps": 2, "warmup": 1, "seed": 5,
    }  # fmt: skip
    return Plan(benchmark=benchmark, choice=choose(benchmark, named, []), **(values | changes))


def run(wanted: Plan) -> Result:
    import sys

    return measure(wanted, lambda made_of: sys.executable, lambda text, done: None)


def test_every_implementation_runs_once_in_every_round_in_the_order_that_is_recorded(pretend: Pretend) -> None:
    pretend(bnn_flipout={"seconds": 2.0, "update": 0.1, "apart": 0.3})
    rows = as_frame(run(plan(["bnn-flipout"])).rows)
    names = ["cnn", "cnn-again", "bnn-flipout"]
    for number in range(3):
        mine = rows[rows["round"] == number].drop_duplicates("implementation").sort_values("position")
        assert mine["implementation"].tolist() == order(names, 5, 0, number)
        assert mine["position"].tolist() == [0, 1, 2]
    assert rows.groupby(["implementation", "round"])["step"].apply(list).map(tuple).unique().tolist() == [(0, 1)]
    assert rows.groupby("implementation")["seconds"].first().to_dict() == {
        "cnn": 1.0, "cnn-again": 1.0, "bnn-flipout": 2.0,
    }  # fmt: skip
    assert (rows["peak_memory_bytes"] > 1 << 20).all()
    share = rows.set_index("implementation")["seconds_noise_kl_optimizer"]
    assert share["bnn-flipout"].tolist() == pytest.approx([0.4] * 6)
    assert share[["cnn", "cnn-again"]].isna().all()


def test_orders_differ_between_rounds_and_repeat_with_the_seed() -> None:
    names = list("abcdef")
    orders = [order(names, 1, 0, number) for number in range(4)]
    assert orders == [order(names, 1, 0, number) for number in range(4)]
    assert len({tuple(one) for one in orders}) > 1
    assert order(names, 2, 0, 0) != orders[0]
    assert all(sorted(one) == names for one in orders)


def test_the_base_and_its_control_always_run() -> None:
    for named in ([], ["bnn-flipout"], ["cnn-best"]):
        assert choose("step", named, []).names[:2] == ("cnn", "cnn-again")
    assert set(AGAIN) <= set(choose("step", [], []).names)
    assert AGAIN["cnn-again"] == "cnn"
    assert {name: OURS[name].settings for name in AGAIN} == {name: OURS[of].settings for name, of in AGAIN.items()}


def test_peers_are_measured_when_they_are_asked_for_and_ours_by_default() -> None:
    everything = choose("step", [], list(PEERS))
    assert set(everything.names) == {*OURS, *PEERS} - {EXACT}
    assert EXACT in choose("inference", [], []).names
    with pytest.raises(UserError, match="bnn-exact makes draws"):
        choose("step", [EXACT], [])
    assert everything.best
    assert not set(PEERS) & everything.optional
    named = choose("step", [BEST], [])
    assert named.names == ("cnn", "cnn-again", *BEST_OF)
    assert named.optional == set(BEST_OF)
    assert not choose("inference", [], []).best


@pytest.mark.parametrize(
    ("named", "peers", "message"),
    [
        (["bnn-flip"], [], "--implementations: bnn-flip is unknown; there are cnn-plain"),
        (["tfp"], [], "tfp is a peer; ask for it with --peers tfp"),
        ([], ["pyro"], "--peers: pyro is unknown; there are bayesian-torch, tfp"),
    ],
)
def test_unknown_names_are_refused_with_what_there_is(named: list[str], peers: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        choose("step", named, peers)


def test_cnn_best_repeats_the_rows_of_the_faster_candidate(pretend: Pretend) -> None:
    pretend(cnn_compiled={"seconds": 0.9}, cnn_kernels={"seconds": 0.8})
    result = run(plan(["cnn-best"], rounds=1))
    best = [row for row in result.rows if row["implementation"] == BEST]
    assert {row["resolved"] for row in best} == {"cnn-kernels"}
    assert [row["seconds"] for row in best] == [0.8, 0.8]
    assert result.workers[BEST].resolved == "cnn-kernels"


def test_what_is_missing_is_said_and_only_fatal_when_it_was_named(pretend: Pretend) -> None:
    pretend(cnn_compiled={}, cnn_kernels={"unavailable": "kernels are not built"})
    result = run(plan(["cnn-best"], rounds=1))
    assert result.not_measured == {"cnn-kernels": "kernels are not built"}
    assert result.workers[BEST].resolved == "cnn-compiled"
    with pytest.raises(UserError, match="implementation cnn-kernels: kernels are not built"):
        run(plan(["cnn-kernels"], rounds=1))
    pretend(cnn_compiled={"unavailable": "no compiler"}, cnn_kernels={"unavailable": "kernels are not built"})
    assert set(run(plan(["cnn-best"], rounds=1)).not_measured) == {*BEST_OF, BEST}


def test_a_worker_that_dies_is_named_with_its_last_line_and_none_is_left(
    pretend: Pretend, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bnn.bench.pool import Pool

    pids = []
    start = Pool.start

    def remember(pool: Pool, *arguments: Any) -> Any:
        worker = start(pool, *arguments)
        pids.append(worker.pid)
        return worker

    monkeypatch.setattr(Pool, "start", remember)
    # one step of warm-up, then two per round (a step that claims a second needs none to settle)
    pretend(bnn_flipout={"crash_after": 3})
    with pytest.raises(
        UserError, match=r"implementation bnn-flipout: its process ended with exit code 3 in round 2: .*the last straw"
    ):
        run(plan(["bnn-flipout"]))
    assert len(pids) == 3
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_a_worker_that_was_killed_or_diverged_is_named(pretend: Pretend) -> None:
    pretend(bnn_flipout={"crash_after": 0, "killed": True})
    with pytest.raises(UserError, match=r"bnn-flipout: its process was ended by SIGKILL .* while it warmed up"):
        run(plan(["bnn-flipout"]))
    pretend(bnn_flipout={"nan": True})
    with pytest.raises(UserError, match="bnn-flipout: its result is not finite while it warmed up"):
        run(plan(["bnn-flipout"]))


def test_short_steps_settle_before_they_are_measured() -> None:
    assert settle_steps(1.0) == 0
    assert settle_steps(0.1) == 2
    assert settle_steps(0.2) == 1
    assert settle_steps(0.0) == 250


def test_inference_takes_rounds_for_each_number_of_images(pretend: Pretend, tmp_path: Path) -> None:
    result = run(plan([n for n in OURS if n == "cnn"], "inference", images=(1, 20), draws=10, steps=1, rounds=2))
    frame = as_frame(result.rows)
    write_table(frame, tmp_path / "b.parquet", BENCH)
    rows = read_table(tmp_path / "b.parquet", BENCH)
    assert rows["batch"].isna().all()
    assert rows.groupby("images")["seconds"].first().to_dict() == {1: 0.1, 20: 2.0}
    assert rows.groupby("images")["samples"].first().to_dict() == {1: 10, 20: 200}
    assert (rows.groupby(["images", "implementation"])["round"].nunique() == 2).all()


def test_what_waiting_workers_use_is_counted(pretend: Pretend, monkeypatch: pytest.MonkeyPatch) -> None:
    from bnn.bench.pool import Pool

    ticks = iter(range(1000))
    monkeypatch.setattr(Pool, "waiting_cpu_seconds", lambda pool, active: float(next(ticks)))
    result = run(plan(["cnn"], rounds=1))
    assert result.waiting_cpu == 2.0  # two turns, a tick each
    assert result.idle_cpu > 1


def test_what_other_programs_use_is_counted_and_warned_of(
    pretend: Pretend, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from bnn.neighbours import meter, together
    from bnn.neighbours.counters import CpuTimes, read_machine

    ticks = iter(range(1000, 10**6, 10))  # each CPU is busy for 10 s more whenever it is looked at

    def busy(own, root):
        return replace(read_machine(own, root), cpus=dict.fromkeys(own, CpuTimes(float(next(ticks)), 0.0)))

    monkeypatch.setattr(meter, "read_machine", busy)
    monkeypatch.setattr(together, "SHORTEST", 0.0)
    run_bench(plan(["cnn"]), tmp_path / "bench.parquet")
    header = BenchHeader.model_validate_json((tmp_path / "bench.json").read_text())
    assert header.foreign_cpu > 1
    assert header.neighbours.foreign_cores == header.foreign_cpu
    assert header.warnings[0].startswith("other programs used ")
    assert "do not trust these times" in capsys.readouterr().out


def test_the_record_is_written_whole_with_its_header(
    pretend: Pretend, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pretend(
        cnn={"seconds": 1.0}, cnn_again={"seconds": 1.1}, bnn_flipout={"seconds": 2.0, "update": 0.04, "apart": 0.06}
    )
    out = tmp_path / "new" / "bench.parquet"
    run_bench(plan(["bnn-flipout"]), out)
    assert sorted(p.name for p in out.parent.iterdir()) == ["bench.json", "bench.parquet"]
    rows = read_table(out, BENCH)
    assert len(rows) == 3 * 3 * 2
    header = BenchHeader.model_validate_json(header_path(out).read_text())
    assert (header.rounds, header.steps, header.peak) == (3, 2, None)
    assert header.workers["bnn-flipout"].versions == {"pretender": "1"}
    printed, progress = capsys.readouterr()
    assert "time bnn-flipout / cnn: 2.000 [2.000, 2.000]" in printed
    assert "noise floor (cnn measured twice): 10.0%" in printed
    assert "5.0%" in printed  # the share of noise, KL and update
    assert printed.splitlines()[-1] == str(out)
    assert "round 3/3" in progress


def test_a_job_that_is_started_again_keeps_its_record(
    pretend: Pretend, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "bench.parquet"
    for labels, again in (({"job": "a"}, False), ({"job": "a"}, True), ({"job": "b"}, False), (None, False)):
        run_bench(plan(["cnn"], labels=labels), out)
        assert ("measured before" in capsys.readouterr().out) == again


def test_a_failed_run_leaves_the_earlier_record_alone(pretend: Pretend, tmp_path: Path) -> None:
    out = tmp_path / "bench.parquet"
    out.write_text("earlier")
    pretend(bnn_flipout={"crash_after": 2})
    with pytest.raises(UserError):
        run_bench(plan(["bnn-flipout"]), out)
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("bench.parquet", "earlier")]


@pytest.mark.parametrize("name", ["bench.csv", "file/bench.parquet"])
def test_a_record_that_cannot_be_written_is_found_out_first(pretend: Pretend, tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("")
    pretend(cnn={"unavailable": "started, although the record cannot be written"})
    with pytest.raises(UserError, match="--out"):
        run_bench(plan(["cnn"]), tmp_path / name)


def test_a_model_that_does_not_exist_is_found_out_first(pretend: Pretend, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="model vgg17: unknown"):
        run_bench(plan(["cnn"], model="vgg17"), tmp_path / "bench.parquet")


def test_whole_numbers_stay_whole_where_some_are_missing() -> None:
    frame = as_frame([dict.fromkeys(BENCH.names, 1) | {"batch": None, "seconds_noise_kl_optimizer": None}])
    assert frame["images"].dtype == pd.Int64Dtype()
    assert frame["batch"].isna().all()
    assert make_header(plan(["cnn"]), Result(), 0.0, None).idle_cpu == 0


def test_labels_are_kept_in_the_header_and_have_to_be_an_object(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert make_header(plan(["cnn"], labels={"job": "a1"}), Result(), 0.0, None).labels == {"job": "a1"}
    assert make_header(plan(["cnn"]), Result(), 0.0, None).labels is None
    seen: list[Any] = []
    monkeypatch.setattr("bnn.bench.run.run_bench", lambda asked, out: seen.append(asked.labels))
    words = ["step", "--threads", "1", "--out", str(tmp_path / "bench.parquet")]
    assert CliRunner().invoke(bench, [*words, "--labels", '{"job": "a1"}'], catch_exceptions=False).exit_code == 0
    assert CliRunner().invoke(bench, words, catch_exceptions=False).exit_code == 0
    assert seen == [{"job": "a1"}, None]
    with pytest.raises(UserError, match="--labels: expected a JSON object"):
        CliRunner().invoke(bench, [*words, "--labels", "[]"], catch_exceptions=False)
