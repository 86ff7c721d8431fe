"""Energy: made folders of counters, a made NVML, and what a run's summary says of them."""

import errno
import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from bnn.energy import RunEnergy, meter, node_meter
from bnn.energy.counters import Counter, NotMeasurableError, cray, rapl
from bnn.energy.meter import EnergyMeter, add_nodes, node_counters
from bnn.energy.nvml import describe, nvml
from bnn.engine import SingleEngine
from bnn.records import STEPS, STEPS_FILE, SUMMARY, Summary, read_table
from bnn.settings import TrainSettings
from bnn.training.loop import train
from tests.support.ranks import SMALL, run_until

NOWHERE = Path("/nonexistent")
RANGE = 262_143_328_850  # microjoules, as a Skylake's package states it


def zone(folder: Path, zone_id: str, name: str, microjoules: int, limit: int = RANGE) -> Path:
    path = folder / zone_id
    path.mkdir(parents=True)
    (path / "name").write_text(f"{name}\n")
    (path / "energy_uj").write_text(f"{microjoules}\n")
    (path / "max_energy_range_uj").write_text(f"{limit}\n")
    return path / "energy_uj"


def forbid(monkeypatch, *paths: Path) -> None:
    """As for a user who is not root: these files are there and cannot be read (root reads whatever it likes)."""
    read = Path.read_text

    def refuse(self, *arguments, **keywords):
        if self in paths:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))
        return read(self, *arguments, **keywords)

    monkeypatch.setattr(Path, "read_text", refuse)


def measured(counters: list[Counter]) -> EnergyMeter:
    made = EnergyMeter("rapl", counters)
    made.start()
    return made


def test_two_packages_and_their_memory_are_counted_once_each(tmp_path):
    paths = [
        zone(tmp_path, "intel-rapl:0", "package-0", 5_000_000),
        zone(tmp_path, "intel-rapl:1", "package-1", 7_000_000),
        zone(tmp_path, "intel-rapl:0:1", "dram", 1_000_000),
        zone(tmp_path, "intel-rapl:1:0", "dram", 2_000_000),
    ]
    for zone_id, name in (
        ("intel-rapl:0:0", "core"), ("intel-rapl:0:2", "uncore"), ("intel-rapl:2", "psys"),
        ("intel-rapl-mmio:0", "package-0"), ("intel-rapl-mmio:0:0", "dram"),
    ):  # fmt: skip
        zone(tmp_path, zone_id, name, 1)
    (tmp_path / "intel-rapl").mkdir()
    counters = rapl(tmp_path)
    assert [Path(counter.name) for counter in counters] == paths
    assert sum(counter.read() for counter in counters) == pytest.approx(15)
    watched = measured(counters)
    for path in tmp_path.glob("*/energy_uj"):
        path.write_text(str(int(path.read_text()) + 10_000_000))
    watched.stop()
    assert (watched.reason, watched.joules) == (None, pytest.approx(40))


def test_a_counter_that_wraps_goes_on(tmp_path):
    path = zone(tmp_path, "intel-rapl:0", "package-0", RANGE - 3_000_000)
    watched = measured(rapl(tmp_path))
    path.write_text("2000000")
    watched.resume()
    path.write_text("12000000")
    watched.pause()
    path.write_text("20000000")
    watched.stop()
    assert watched.reason is None
    assert watched.joules == pytest.approx(23)
    assert watched.steady_joules == pytest.approx(10)


def test_wraps_between_two_marks_are_seen_by_the_thread_that_reads_along():
    """The counter stands at 0, 60, 20 (wrapped at 100), 80, 40 J, ... at one reading after the other."""
    readings = []

    def read() -> float:
        readings.append(60.0 * len(readings) % 100)
        return readings[-1]

    watched = EnergyMeter("rapl", [Counter("made", read, wraps_at=100)], period=0.005)
    watched.start()
    deadline = time.monotonic() + 10
    while len(readings) < 6:
        assert time.monotonic() < deadline, "nobody read along"
        time.sleep(0.001)
    watched.stop()
    assert watched.joules == pytest.approx(60 * (len(readings) - 1))


def test_a_missing_permission_is_named_and_never_zero(tmp_path, monkeypatch):
    path = zone(tmp_path, "intel-rapl:0", "package-0", 5)
    zone(tmp_path, "intel-rapl:1", "package-1", 5)
    forbid(monkeypatch, path)
    with pytest.raises(NotMeasurableError, match=f"no permission to read {path}"):
        node_counters([], NOWHERE, tmp_path)


def test_a_counter_that_fails_later_makes_the_run_not_measurable(tmp_path):
    path = zone(tmp_path, "intel-rapl:0", "package-0", 5_000_000)
    watched = measured(rapl(tmp_path))
    path.unlink()
    watched.resume()
    watched.stop()
    assert watched.reason == f"{path}: No such file or directory"


def test_counters_that_never_move_count_nothing(tmp_path):
    zone(tmp_path, "intel-rapl:0", "package-0", 0)
    watched = measured(rapl(tmp_path))
    watched.resume()
    watched.stop()
    assert watched.reason == "the counters have not moved"


def test_crays_counter_of_the_node_goes_alone(tmp_path):
    zone(tmp_path / "powercap", "intel-rapl:0", "package-0", 5_000_000)
    (tmp_path / "energy").write_text("183412 J 1600000000000000 us\n")
    source, counters = node_counters(["GPU-1"], tmp_path, tmp_path / "powercap", "libnothing.so")
    assert (source, [counter.read() for counter in counters]) == ("cray-pm-counters", [183412])
    watched = measured(counters)
    (tmp_path / "energy").write_text("183400 J 1600000000100000 us\n")
    watched.stop()
    assert "went back from 183412 J to 183400 J" in watched.reason
    (tmp_path / "energy").write_text("\n")
    with pytest.raises(NotMeasurableError, match="energy does not hold a number"):
        cray(tmp_path)[0].read()


def test_without_any_counter_the_reason_says_where_was_looked(tmp_path):
    with pytest.raises(NotMeasurableError, match=rf"no energy counter \({NOWHERE}, {tmp_path}\)"):
        node_counters([], NOWHERE, tmp_path)


DRIVER = r"""
#include <stdlib.h>
#include <string.h>
static struct device { const char *uuid; unsigned long long millijoules; } devices[] = {
    {"GPU-a", 1000}, {"GPU-b", 20000}, {"GPU-old", 0}};
int nvmlInit_v2(void) { return getenv("NVML_BROKEN") ? 9 : 0; }
int nvmlDeviceGetHandleByUUID(const char *uuid, struct device **handle) {
    for (int i = 0; i < 3; i++)
        if (strcmp(devices[i].uuid, uuid) == 0) { *handle = devices + i; return 0; }
    return 6;
}
int nvmlDeviceGetTotalEnergyConsumption(struct device *handle, unsigned long long *millijoules) {
    if (handle->millijoules == 0) return 3;
    *millijoules = handle->millijoules += 1500;
    return 0;
}
int nvmlSystemGetDriverVersion(char *text, unsigned int length) {
    if (length < 80) return 7;
    strcpy(text, "580.95.05");
    return 0;
}
int nvmlDeviceGetCount_v2(unsigned int *count) { *count = 2; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned int index, struct device **handle) { *handle = devices + index; return 0; }
int nvmlDeviceGetName(struct device *handle, char *text, unsigned int length) {
    if (length < 96) return 7;
    strcpy(text, handle == devices ? "Tesla V100-SXM2-16GB" : "NVIDIA H100");
    return 0;
}
const char *nvmlErrorString(int code) {
    return code == 3 ? "Not Supported" : code == 6 ? "Not Found" : "Driver Not Loaded";
}
"""


@pytest.fixture
def driver(tmp_path) -> str:
    """A library with NVML's functions and three GPUs; every reading finds 1.5 J more, the old GPU has no counter."""
    if shutil.which("cc") is None:
        pytest.skip("no C compiler")
    (tmp_path / "nvml.c").write_text(DRIVER)
    library = tmp_path / "libnvidia-ml.so.1"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, tmp_path / "nvml.c"], check=True)
    return str(library)


def test_nvml_counts_the_gpus_that_are_used(driver, tmp_path, monkeypatch):
    zone(tmp_path / "powercap", "intel-rapl:0", "package-0", 5_000_000)
    source, counters = node_counters(["GPU-b"], NOWHERE, tmp_path / "powercap", driver)
    assert source == "rapl+nvml"
    assert [counter.read() for counter in counters] == [5, 23]  # read once to see whether it can be
    watched = measured(counters)
    watched.stop()
    assert watched.joules == pytest.approx(1.5)
    forbid(monkeypatch, tmp_path / "powercap/intel-rapl:0/energy_uj")
    assert node_counters(["GPU-a"], NOWHERE, tmp_path / "powercap", driver)[0] == "nvml"
    assert node_counters(["GPU-a", "GPU-b"], NOWHERE, NOWHERE, driver)[0] == "nvml"


def test_what_nvml_cannot_do_is_named(driver, tmp_path, monkeypatch):
    with pytest.raises(NotMeasurableError, match="nvmlDeviceGetHandleByUUID: Not Found"):
        nvml(["GPU-c"], driver)
    with pytest.raises(NotMeasurableError, match="nvmlDeviceGetTotalEnergyConsumption: Not Supported"):
        nvml(["GPU-a", "GPU-old"], driver)
    zone(tmp_path / "powercap", "intel-rapl:0", "package-0", 5_000_000)
    with pytest.raises(NotMeasurableError, match=r"libnothing\.so cannot be loaded"):  # GPUs are not measured by RAPL
        node_counters(["GPU-a"], NOWHERE, tmp_path / "powercap", "libnothing.so")
    monkeypatch.setenv("NVML_BROKEN", "1")
    with pytest.raises(NotMeasurableError, match="nvmlInit_v2: Driver Not Loaded"):
        nvml(["GPU-a"], driver)


def test_nvml_describes_driver_and_gpus(driver, monkeypatch):
    assert describe(driver) == ("580.95.05", ["Tesla V100-SXM2-16GB", "NVIDIA H100"])
    with pytest.raises(NotMeasurableError, match=r"libnothing\.so cannot be loaded"):
        describe("libnothing.so")
    monkeypatch.setenv("NVML_BROKEN", "1")
    with pytest.raises(NotMeasurableError, match="nvmlInit_v2: Driver Not Loaded"):
        describe(driver)


def rank(host="a", machine=None, reader=True, source="rapl", reason=None, joules=10.0, steady=4.0):
    return {
        "machine": machine or host, "host": host, "reader": reader, "source": source, "reason": reason,
        "joules": joules, "steady": steady,
    }  # fmt: skip


def test_nodes_are_summed_and_no_machine_is_counted_twice():
    other = rank(reader=False, reason="not this rank's task", joules=0.0, steady=0.0)
    assert add_nodes([rank(), other, rank("b", joules=5.0)]) == RunEnergy(15.0, 8.0, "rapl")
    assert add_nodes([rank("a", "same"), rank("b", "same", joules=11.0)]) == RunEnergy(10.0, 4.0, "rapl")
    assert add_nodes([rank(), rank("b", steady=0.0)]) == RunEnergy(20.0, None, "rapl")


@pytest.mark.parametrize(
    ("ranks", "source"),
    [
        ([rank(), rank("b", reason="no permission to read x")], "not measurable: b: no permission to read x"),
        ([rank(), rank("b", reader=False)], "not measurable: no local rank 0 on b"),
        ([rank(), rank("b", source="nvml")], "not measurable: nodes differ: nvml, rapl"),
    ],
)
def test_one_node_that_cannot_be_measured_leaves_no_sum(ranks, source):
    assert add_nodes(ranks) == RunEnergy(None, None, source)


def test_only_local_rank_0_reads(tmp_path, monkeypatch):
    monkeypatch.setattr(meter, "node_counters", lambda gpus: ("rapl", [Counter("made", lambda: 1.0)]))
    engine = SingleEngine()
    assert node_meter(engine, "cpu").source == "rapl"
    engine.local_rank = 1
    assert node_meter(engine, "cpu").reason == "not this rank's task"


def five_more(monkeypatch) -> None:
    """A counter that finds 5 J more at every reading, so that each stretch between two marks takes 5 J."""
    state = {"joules": 0.0}

    def read() -> float:
        state["joules"] += 5
        return state["joules"]

    monkeypatch.setattr(meter, "node_counters", lambda gpus: ("rapl", [Counter("made", read)]))


def trained(folder: Path, **settings) -> Summary:
    asked = TrainSettings.model_validate({**SMALL, **settings})
    summary = train(asked, folder, SingleEngine(), time.time())
    assert summary == Summary.model_validate_json((folder / SUMMARY).read_text())
    return summary


def test_a_summary_has_the_energy_of_all_and_of_steady_steps(tmp_path, monkeypatch):
    five_more(monkeypatch)
    summary = trained(tmp_path / "cell")
    assert (summary.energy_joules, summary.energy_steady_joules, summary.energy_source) == (15, 5, "rapl")
    assert summary.joules_per_sample == 5 / (22 * 8)  # 24 steps, 2 of them warm-up
    assert not any("heartbeat" in name for name in summary.manifest)


def test_evaluations_between_steady_steps_are_not_theirs(tmp_path, monkeypatch):
    """Start, steady, evaluation of epoch 1, steady, last evaluation: four stretches and a half, two of them steady."""
    five_more(monkeypatch)
    summary = trained(tmp_path / "cell", evaluate="epoch", evaluate_draws=1)
    assert (summary.energy_joules, summary.energy_steady_joules) == (25, 10)


def test_a_resumed_run_does_not_pass_off_its_last_attempt_as_the_whole(tmp_path, monkeypatch):
    settings = {"checkpoint_epochs": 1, "epochs": 50}
    run_until(".checkpoint/step-*/checkpoint.json", tmp_path / "cell", **settings)
    five_more(monkeypatch)
    summary = trained(tmp_path / "cell", **settings)
    assert summary.attempts == 2
    assert summary.energy_joules is None
    assert summary.energy_source == "rapl"
    assert summary.energy_steady_joules > 0
    rows = read_table(tmp_path / "cell" / STEPS_FILE, STEPS)
    assert rows["attempt"].nunique() == 2
    mine = rows[(rows["attempt"] == rows["attempt"].max()) & (rows["phase"] == "steady")]
    assert summary.joules_per_sample == summary.energy_steady_joules / mine["samples"].sum()


def test_not_measurable_is_said_and_old_summaries_stay_readable(tmp_path, monkeypatch):
    def fail(gpus):
        raise NotMeasurableError("no energy counter (here)")

    monkeypatch.setattr(meter, "node_counters", fail)
    summary = trained(tmp_path / "cell")
    assert summary.energy_source.startswith("not measurable: ")
    assert summary.energy_source.endswith(": no energy counter (here)")
    assert (summary.energy_joules, summary.energy_steady_joules, summary.joules_per_sample) == (None, None, None)
    old = summary.model_dump(mode="json")
    for name in ("energy_joules", "energy_steady_joules", "joules_per_sample", "energy_source"):
        del old[name]
        assert "J" in Summary.model_fields[name].description or name == "energy_source"
    assert Summary.model_validate(old) == summary.model_copy(update={"energy_source": None})
