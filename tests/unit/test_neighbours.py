"""What the rest of the machine did: parsers on trees from elsewhere, groups of ranks, and what becomes of them."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bnn import metrics
from bnn.engine import SingleEngine
from bnn.neighbours import NeighbourMeter, gather_neighbours
from bnn.neighbours.cgroup import control_groups, held_back_seconds, quota_cpus
from bnn.neighbours.counters import (
    PAGE,
    TICK,
    cpu_times,
    cpuinfo_megahertz,
    frequencies,
    pressure_seconds,
    read_machine,
    swapped_bytes,
    throttle_events,
)
from bnn.neighbours.meter import PhaseTotals, Reading
from bnn.neighbours.process import descendants_seconds, process_stat, read_process
from bnn.neighbours.together import share_cpus, table_rows, worst
from bnn.records import Summary, read_table, write_table
from bnn.records.neighbours import NEIGHBOURS, PhaseLoad

COUNT = st.integers(0, 2**40)


def put(root: Path, path: str, text: str) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)


# --- parsers


@given(st.dictionaries(st.integers(0, 999), st.lists(COUNT, min_size=4, max_size=10), min_size=1))
def test_cpu_times_are_user_nice_and_system_of_each_cpu_and_what_the_hypervisor_took(cpus):
    lines = ["cpu  1 2 3 4 5 6 7 8 9 10", *(f"cpu{n} {' '.join(map(str, t))}" for n, t in cpus.items()), "intr 1 2"]
    found = cpu_times("\n".join(lines))
    assert found.keys() == cpus.keys()
    for cpu, ticks in cpus.items():
        assert found[cpu].busy == pytest.approx(sum(ticks[:3]) * TICK)
        assert found[cpu].stolen == (pytest.approx(ticks[7] * TICK) if len(ticks) > 7 else None)


@given(st.text())
def test_any_other_text_is_not_measured_and_never_0(text):
    for parse in (cpu_times, pressure_seconds, swapped_bytes, process_stat):
        assert parse(text) is None or re.search(r"cpu\d|some|pswp|\)", text)
    assert isinstance(cpuinfo_megahertz(text), dict)


def test_one_damaged_line_of_stat_is_no_measurement():
    assert cpu_times("cpu0 1 2 3 4\ncpu1 1 x 3 4\n") is None
    assert cpu_times("cpu0 1 2\n") is None


@given(COUNT, COUNT)
def test_pressure_is_the_time_of_some(some, full):
    text = f"some avg10=0.00 avg60=1.00 avg300=0.10 total={some}\nfull avg10=0.00 avg60=0.00 avg300=0.00 total={full}\n"
    assert pressure_seconds(text) == some / 1e6
    assert pressure_seconds(text.replace("some", "none")) is None


@given(COUNT, COUNT)
def test_swap_is_counted_in_pages(into, out):
    assert swapped_bytes(f"nr_free_pages 7\npswpin {into}\npswpout {out}\n") == (into + out) * PAGE
    assert swapped_bytes(f"pswpin {into}\n") is None


def test_frequency_is_of_cpufreq_or_else_of_cpuinfo(tmp_path):
    info = (
        "processor\t: 0\ncpu MHz\t\t: 2596.140\n\nprocessor\t: 1\ncpu MHz\t\t: 800.000\nprocessor\t: 2\ncpu MHz : nan\n"
    )
    put(tmp_path, "proc/cpuinfo", info)
    assert frequencies([0, 1, 2], tmp_path) == {0: 2596.14, 1: 800.0}
    put(tmp_path, "sys/devices/system/cpu/cpu1/cpufreq/scaling_cur_freq", "3100000\n")
    assert frequencies([0, 1], tmp_path) == {1: 3100.0}
    assert frequencies([0], tmp_path / "nothing") is None


def test_throttling_counts_a_core_and_a_package_once(tmp_path):
    for cpu, (core, package, siblings) in enumerate([(3, 9, "0,2"), (5, 9, "1,3"), (3, 9, "0,2"), (5, 9, "1,3")]):
        base = f"sys/devices/system/cpu/cpu{cpu}"
        put(tmp_path, f"{base}/thermal_throttle/core_throttle_count", f"{core}\n")
        put(tmp_path, f"{base}/thermal_throttle/package_throttle_count", f"{package}\n")
        put(tmp_path, f"{base}/topology/thread_siblings_list", f"{siblings}\n")
        put(tmp_path, f"{base}/topology/physical_package_id", "0\n")
    assert throttle_events(range(4), tmp_path) == 3 + 5 + 9
    assert throttle_events([1], tmp_path) == 5 + 9
    assert throttle_events([9], tmp_path) is None


V1 = "30 1 0:2 / /sys/fs/cgroup/cpu\\040acct rw - cgroup cgroup rw,cpu,cpuacct\n31 1 0:3 / /x rw - cgroup c rw,memory\n"
V2 = "35 24 0:30 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n"


@pytest.mark.parametrize(
    ("mounts", "member", "files", "quota", "held"),
    [
        (V2, "0::/a/b\n", {"sys/fs/cgroup/a/b/cpu.max": "max 100000\n", "sys/fs/cgroup/a/cpu.max": "150000 100000\n",
                           "sys/fs/cgroup/a/cpu.stat": "usage_usec 9\nthrottled_usec 2500000\n"}, 1.5, 2.5),
        (V2, "0::/\n", {"sys/fs/cgroup/cpu.stat": "usage_usec 9\n"}, None, None),
        (V1, "4:cpu,cpuacct:/job\n3:memory:/m\n", {"sys/fs/cgroup/cpu acct/job/cpu.cfs_quota_us": "400000\n",
                                     "sys/fs/cgroup/cpu acct/job/cpu.cfs_period_us": "100000\n",
                                     "sys/fs/cgroup/cpu acct/job/cpu.stat": "nr_periods 3\nthrottled_time 7000000000\n",
                                     "sys/fs/cgroup/cpu acct/cpu.cfs_quota_us": "-1\n",
                                     "sys/fs/cgroup/cpu acct/cpu.cfs_period_us": "100000\n"}, 4.0, 7.0),
        # a container without a cgroup namespace: the mounted folder is the group itself
        (V2.replace(" / /sys", " /docker/7 /sys"), "0::/docker/7\n", {"sys/fs/cgroup/cpu.max": "50000 100000\n"},
         0.5, None),
        # and one whose group lies outside of what is mounted
        (V2, "0::/../../elsewhere\n", {"sys/fs/cgroup/cpu.max": "50000 100000\n"}, 0.5, None),
        ("", "", {}, None, None),
    ],
)  # fmt: skip
def test_the_quota_of_a_group_and_of_those_above_it(tmp_path, mounts, member, files, quota, held):
    put(tmp_path, "proc/self/mountinfo", mounts)
    put(tmp_path, "proc/self/cgroup", member)
    for name, text in files.items():
        put(tmp_path, name, text)
    groups = control_groups("cpu", tmp_path)
    assert (quota_cpus(groups), held_back_seconds(groups)) == (quota, held)


@given(st.text(alphabet=st.characters(blacklist_categories=("Cs",)), max_size=15), st.integers(0, 9999), COUNT, COUNT)
def test_a_process_may_have_any_name(name, parent, user, inherited):
    text = f"7 ({name}) S {parent} 7 7 0 -1 4194304 1 2 3 4 {user} 1 {inherited} 2 20 0 1 0 99\n"
    assert process_stat(text) == (parent, user + inherited + 3)


@pytest.mark.parametrize("with_children_files", [True, False])
def test_living_descendants_are_ours_and_nobody_else(tmp_path, with_children_files):
    stat = "{pid} (a b) S {parent} 0 0 0 0 0 0 0 0 0 {ticks} 0 0 0 20 0 1 0 9\n"
    for pid, parent, ticks, children in [(10, 1, 1000, "11"), (11, 10, 100, "12"), (12, 11, 50, ""), (20, 1, 7000, "")]:
        put(tmp_path, f"proc/{pid}/stat", stat.format(pid=pid, parent=parent, ticks=ticks))
        (tmp_path / f"proc/{pid}/task/{pid}").mkdir(parents=True)
        if with_children_files:
            put(tmp_path, f"proc/{pid}/task/{pid}/children", children)
    assert descendants_seconds(10, tmp_path) == pytest.approx(150 * TICK)


def test_nothing_can_be_read_is_none_everywhere(tmp_path):
    machine, process = read_machine([0], tmp_path), read_process(tmp_path)
    totals = PhaseTotals()
    totals.add(Reading(0.0, machine, process), Reading(5.0, machine, process))
    load = worst(table_rows(["h"], [{"steady": totals.on({0})}], [({0}, [0])]))["steady"]
    unknown = load.model_dump(exclude={"seconds", "host", "cpus", "involuntary_per_second", "major_faults"})
    assert set(unknown.values()) == {None}
    assert metrics.disturbances(load, "the steady steps", 0.05) == []


# --- ranks together


def test_ranks_share_a_count_where_they_share_cpus():
    places = [("a", {0, 1}), ("a", {2}), ("b", {0, 1}), ("a", {1, 3}), ("a", {2})]
    assert share_cpus(places) == [
        ({0, 1, 3}, [0, 3]), ({2}, [1, 4]), ({0, 1}, [2]), ({0, 1, 3}, [0, 3]), ({2}, [1, 4]),
    ]  # fmt: skip


@given(st.lists(st.tuples(st.sampled_from("ab"), st.sets(st.integers(0, 9), min_size=1)), min_size=1, max_size=8))
def test_groups_divide_the_ranks_and_have_no_cpu_in_common(places):
    groups = share_cpus(places)
    for rank, (machine, cpus) in enumerate(places):
        assert rank in groups[rank][1]
        assert cpus <= groups[rank][0]
        for other, (elsewhere, theirs) in enumerate(places):
            together = other in groups[rank][1]
            assert together == (machine == elsewhere and bool(groups[rank][0] & theirs))
    for cpus, ranks in groups:
        assert cpus == set().union(*(places[rank][1] for rank in ranks))


def counted(busy: float | None, cpu: float, seconds: float = 10.0, **changes) -> dict:
    return PhaseTotals(seconds=seconds, cpu_seconds=cpu, held_back_seconds=None).on(set()) | {"busy": busy} | changes


def test_what_all_ranks_of_a_group_used_is_not_foreign():
    groups = [({0, 1}, [0, 1]), ({0, 1}, [0, 1]), ({2}, [2])]
    rows = table_rows(
        ["h"] * 3,
        [{"steady": counted(17.4, 9.0)}, {"steady": counted(17.2, 4.0)}, {"steady": counted(5.0, 5.5)}],
        groups,
    )
    assert [row["foreign_cores"] for row in rows] == [pytest.approx(0.44), pytest.approx(0.42), 0.0]
    load = worst(rows)["steady"]
    assert (load.foreign_cores, load.foreign_share, load.cpus) == (pytest.approx(0.44), pytest.approx(0.22), 2)


def test_a_phase_too_short_for_the_ticks_is_not_measured():
    rows = table_rows(["h"], [{"end": counted(0.02, 0.0, seconds=0.03)}], [({0}, [0])])
    assert rows[0]["foreign_cores"] is None


def test_the_table_keeps_whole_numbers_and_nulls(tmp_path):
    from bnn.neighbours import Neighbours

    rows = table_rows(["h"], [{"steady": counted(None, 1.0, throttles=None, swapped_bytes=4096)}], [({0}, [0])])
    write_table(Neighbours(rows, {}).frame(), tmp_path / "t.parquet", NEIGHBOURS)
    row = read_table(tmp_path / "t.parquet", NEIGHBOURS).iloc[0]
    assert row["swapped_bytes"] == 4096
    assert row[["foreign_cores", "throttles", "held_back_share"]].isna().all()


# --- judgement


def load(**changes) -> PhaseLoad:
    return PhaseLoad(seconds=100.0, cpus=2, **changes)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"foreign_cores": 0.44, "foreign_share": 0.22},
         "other programs used 0.44 of a core during the steady steps: 22% of the 2 CPUs it may use (limit 5%)"),
        ({"foreign_cores": 1.5, "foreign_share": 0.75},
         "other programs used 1.50 cores during the steady steps: 75% of the 2 CPUs it may use (limit 5%)"),
        ({"stolen_share": 0.3}, "the hypervisor took 30% of the CPU time during the steady steps (limit 5%)"),
        ({"held_back_share": 0.06}, "a CPU quota withheld 6% of the CPU time during the steady steps (limit 5%)"),
        ({"pressure_memory": 0.5}, "programs waited for memory 50% of the time of the steady steps (limit 5%)"),
        ({"throttles": 3}, "processors were slowed down for their heat 3 times during the steady steps"),
    ],
)  # fmt: skip
def test_what_disturbs_is_named_with_its_number(changes, reason):
    assert metrics.disturbances(load(**changes), "the steady steps", 0.05) == [reason]


def test_what_is_small_or_not_measured_disturbs_nothing():
    quiet = load(foreign_cores=0.1, foreign_share=0.05, stolen_share=0.05, throttles=0, pressure_memory=0.0)
    assert metrics.disturbances(quiet, "x", 0.05) == []
    assert metrics.disturbances(load(), "x", 0.05) == []
    assert metrics.disturbances(None, "x", 0.05) == []
    # in 0.2 s two ticks are 10%: what they cannot tell is not held against a run
    short = quiet.model_copy(update={"seconds": 0.2, "foreign_share": 0.14, "foreign_cores": 0.28})
    assert metrics.disturbances(short, "x", 0.05) == []
    assert metrics.disturbances(short.model_copy(update={"foreign_share": 0.16}), "x", 0.05)


def test_a_burner_beside_this_process_is_seen():
    """The real counters of this machine, whatever else it does: one busy loop is about one core."""
    meter = NeighbourMeter("quiet")
    burner = subprocess.Popen([sys.executable, "-c", "while True: pass"], start_new_session=True)
    try:
        meter.enter("burning")
        # the child is ours: counted as our own, and hence not foreign
        with pytest.raises(subprocess.TimeoutExpired):
            burner.wait(1.0)
        meter.stop()
    finally:
        burner.kill()
        burner.wait()
    found = gather_neighbours(SingleEngine(), meter)
    row = next(row for row in found.rows if row["phase"] == "burning")
    assert row["cpu_seconds"] > 0.2
    assert row["foreign_seconds"] is not None
    json.dumps(found.rows)


def test_phases_that_come_again_are_summed(monkeypatch):
    moments = iter(range(100))
    monkeypatch.setattr("bnn.neighbours.meter.time.perf_counter", lambda: float(next(moments)))
    meter = NeighbourMeter("startup")
    for phase in ("steady", "steady", "evaluation", "steady"):
        meter.enter(phase)
    meter.stop()
    assert {phase: totals.seconds for phase, totals in meter.totals.items()} == {
        "startup": 1, "steady": 2, "evaluation": 1,
    }  # fmt: skip


def test_summaries_of_runs_that_did_not_look_are_still_read():
    assert Summary.model_fields["neighbours"].default is None
