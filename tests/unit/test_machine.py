"""What a machine is found to be, on made-up file systems; whose results a folder holds; counts that follow cores."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bnn.errors import UserError
from campaign.ask.counts import LEAST_STEPS, cost
from campaign.io.yamlfile import read_yaml
from campaign.plan.campaign import load_campaign, parse_campaign
from campaign.plan.content import plan_content
from campaign.run.driver import look, site_here
from campaign.site.machine import Machine, completed, detect, find_gpus, keep, limited, name_results, recorded
from campaign.site.site import load_site

ROOT = Path(__file__).parents[2]
HERE = Machine("AMD EPYC 9654 96-Core Processor", 8, 2, 1, 62.6)


def write(file, text):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def fake(root, sockets=1, cores=4, smt=2, kb=16 * 2**20, siblings="core_cpus_list", apart=True):
    """A machine's files; hardware threads of a core are numbered `apart` (0 and 4) or side by side (0 and 1)."""
    total = sockets * cores
    for core in range(total):
        threads = [core + total * n for n in range(smt)] if apart else [core * smt + n for n in range(smt)]
        for cpu in threads:
            folder = root / f"sys/devices/system/cpu/cpu{cpu}/topology"
            write(folder / siblings, ",".join(map(str, threads)) + "\n")
            write(folder / "physical_package_id", f"{core // cores}\n")
    write(root / "proc/cpuinfo", "processor\t: 0\nmodel name\t: Made up CPU @ 2.00GHz\n")
    write(root / "proc/meminfo", f"MemTotal:       {kb} kB\nMemFree: 1 kB\n")
    return range(total * smt)


@given(
    sockets=st.integers(1, 4), cores=st.integers(1, 16), smt=st.sampled_from([1, 2, 4]), apart=st.booleans(),
    siblings=st.sampled_from(["core_cpus_list", "thread_siblings_list"]),
)  # fmt: skip
def test_cores_are_counted_whatever_their_numbers(tmp_path_factory, sockets, cores, smt, apart, siblings):
    root = tmp_path_factory.mktemp("machine")
    usable = fake(root, sockets, cores, smt, siblings=siblings, apart=apart)
    assert detect(root, usable) == Machine("Made up CPU @ 2.00GHz", sockets * cores, smt, sockets, 16.0)


def test_only_what_this_process_may_use_counts(tmp_path):
    fake(tmp_path, sockets=2, cores=4)
    assert replace(detect(tmp_path, {0, 8}), cpu="") == Machine("", 1, 2, 1, 16.0)  # both threads of one core
    assert replace(detect(tmp_path, {0, 1, 4}), cpu="") == Machine("", 3, 1, 2, 16.0)


@given(sockets=st.integers(1, 2), cores=st.integers(1, 6), smt=st.sampled_from([1, 2]), data=st.data())
def test_it_says_how_many_cores_are_left_out(tmp_path_factory, sockets, cores, smt, data):
    root = tmp_path_factory.mktemp("machine")
    online = fake(root, sockets, cores, smt)
    usable = data.draw(st.sets(st.sampled_from(list(online)), min_size=1))
    assert limited(detect(root, usable), root) == ""  # a kernel that does not say which there are
    write(root / "sys/devices/system/cpu/online", f"0-{max(online)}\n" if max(online) else "0\n")
    mine, there = len({cpu % (sockets * cores) for cpu in usable}), sockets * cores
    words = f"this process may use {mine} of {there} core{'s' if there > 1 else ''} (CPU affinity"
    assert limited(detect(root, usable), root).startswith(words) == (mine < there)
    assert (limited(detect(root, usable), root) == "") == (mine == there)


def test_the_kernels_lists_have_gaps(tmp_path):
    fake(tmp_path, sockets=2, cores=4, smt=1)
    write(tmp_path / "sys/devices/system/cpu/online", "0-2,5,7\n")
    assert limited(detect(tmp_path, {0, 7}), tmp_path).startswith("this process may use 2 of 5 cores")


def test_a_notice_of_other_results_says_why_under_taskset(tmp_path, monkeypatch):
    monkeypatch.setattr("campaign.site.machine.detect", lambda gpus: HERE)
    monkeypatch.setattr("campaign.run.driver.limited", lambda machine: "this process may use 8 of 16 cores")
    assert site_here(ROOT / "profiles/local", tmp_path)[1] == ""
    keep(replace(HERE, cores=16), tmp_path / "local")
    said = site_here(ROOT / "profiles/local", tmp_path)[1]
    assert said.endswith(f"go to {tmp_path / f'local-{HERE.slug}'}; this process may use 8 of 16 cores")


# Both versions, as a machine mounts them: where a group's folder is, the kernel says here.
MOUNTS = """\
1 0 0:1 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw
2 0 0:2 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
3 0 0:3 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu
"""


@pytest.mark.parametrize(
    ("group", "file", "text", "cores", "threads"),
    [
        ("0::/a/b", "sys/fs/cgroup/a/b/cpu.max", "250000 100000", 2, 1),
        ("0::/a/b", "sys/fs/cgroup/a/cpu.max", "600000 100000", 4, 1),  # an ancestor's; six threads of four cores
        ("0::/", "sys/fs/cgroup/cpu.max", "50000 100000", 1, 1),
        ("0::/a", "sys/fs/cgroup/a/cpu.max", "max 100000", 4, 2),
        ("4:cpu,cpuacct:/a", "sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_quota_us", "300000", 3, 1),
        ("4:cpu:/a", "sys/fs/cgroup/cpu/a/cpu.cfs_quota_us", "-1", 4, 2),
        ("0::/a", "sys/fs/cgroup/a/cpu.max", "garbage", 4, 2),
    ],
)
def test_quotas_of_control_groups(tmp_path, group, file, text, cores, threads):
    usable = fake(tmp_path)
    write(tmp_path / "proc/self/cgroup", group + "\n")
    write(tmp_path / "proc/self/mountinfo", MOUNTS)
    write(tmp_path / file, text)
    write((tmp_path / file).parent / "cpu.cfs_period_us", "100000")
    found = detect(tmp_path, usable)
    assert (found.cores, found.threads_per_core) == (cores, threads)


def test_memory_is_what_the_control_group_admits(tmp_path):
    usable = fake(tmp_path)
    write(tmp_path / "proc/self/cgroup", "0::/a\n")
    write(tmp_path / "proc/self/mountinfo", MOUNTS)
    write(tmp_path / "sys/fs/cgroup/a/memory.max", f"{4 * 2**30}\n")
    assert detect(tmp_path, usable).memory_gb == 4
    write(tmp_path / "sys/fs/cgroup/a/memory.max", "max\n")
    assert detect(tmp_path, usable).memory_gb == 16


def test_a_kernel_that_says_nothing_has_a_core_for_each_thread(tmp_path):
    found = detect(tmp_path, {0, 1, 2})
    assert (found.cores, found.threads_per_core, found.sockets, found.memory_gb) == (3, 1, 1, 0)


@pytest.mark.parametrize(
    ("visible", "count"),
    [(None, 2), ("0", 1), ("1,0", 2), ("", 0), ("-1", 0), ("0,-1,1", 1), ("0,7", 1), ("GPU-12", 1)],
)
def test_gpus_that_are_there_and_not_hidden(tmp_path, monkeypatch, visible, count):
    for number in range(2):
        folder = tmp_path / f"proc/driver/nvidia/gpus/0000:0{number}:00.0"
        write(folder / "information", "Model: \t\t NVIDIA RTX A6000\nIRQ: 1\n")
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert find_gpus(tmp_path) == ["NVIDIA RTX A6000"] * count


def test_numbers_in_the_file_count_instead(monkeypatch):
    monkeypatch.setattr("campaign.site.machine.detect", lambda gpus: HERE)
    found, machine = completed({"detect": True, "cores_per_node": 4, "memory_gb": 8, "gpus_per_node": 0}, "none", "x")
    assert (found["cores_per_node"], found["threads_per_core"], found["memory_gb"]) == (4, 4, 8)
    assert machine == HERE  # whose results these are does not change with them
    with pytest.raises(UserError, match=r"^x: site.hardware.detect: jobs of slurm run on other machines"):
        completed({"detect": True}, "slurm", "x")
    with pytest.raises(UserError, match=r"^x: site.hardware.cores_per_node: missing"):
        completed({"gpus_per_node": 1}, "none", "x")


OTHER = Machine("Intel(R) Xeon(R) CPU E5-2680 v4 @ 2.40GHz", 14, 2, 1, 31.2)


def test_another_machine_has_results_of_its_own(tmp_path):
    assert name_results("local", HERE, tmp_path) == ("local", "")
    assert list(tmp_path.iterdir()) == []  # reading writes nothing
    keep(HERE, tmp_path / "local")
    assert name_results("local", HERE, tmp_path) == ("local", "")
    assert name_results("local", replace(HERE, memory_gb=60), tmp_path) == ("local", "")  # another kernel
    name, said = name_results("local", OTHER, tmp_path)
    assert name == "local-intel-xeon-e5-2680-v4-14c"
    assert str(HERE) in said
    assert name in said
    keep(OTHER, tmp_path / name)
    more = replace(OTHER, memory_gb=125.0)
    assert name_results("local", OTHER, tmp_path)[0] == name
    assert name_results("local", more, tmp_path)[0] == f"{name}-2"
    for changed in ({"cores": 4}, {"cpu": "Another"}, {"gpus": 1, "gpu": "GPU"}, {"sockets": 2}):
        assert name_results("local", replace(HERE, **changed), tmp_path)[0] != "local"


def test_results_of_an_earlier_version_tell_by_their_cells(tmp_path, monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 16)
    cell = tmp_path / "local/cells/synthetic/vgg16/bnn/nodes=1/batch=16/variant=base/repeat=1/provenance.json"
    rank = {"cpu_model": HERE.cpu, "cores": 16, "memory_bytes": int(62.6 * 2**30)}
    write(cell, json.dumps({"ranks": [rank]}))
    assert name_results("local", HERE, tmp_path) == ("local", "")
    assert name_results("local", OTHER, tmp_path)[0] != "local"
    write(cell, json.dumps({"ranks": [rank | {"cores": 2}]}))
    assert name_results("local", HERE, tmp_path)[0] != "local"


@pytest.mark.parametrize("text", ["", "[]", "{}", json.dumps(asdict(HERE) | {"cores": "8"}), '{"cpu": 3}'])
def test_a_record_that_cannot_be_read_is_named(tmp_path, text):
    write(tmp_path / "machine.json", text)
    with pytest.raises(UserError, match=r"machine.json: not the record of a machine"):
        recorded(tmp_path, HERE)


def local_on(monkeypatch, **machine):
    monkeypatch.setattr("campaign.site.machine.detect", lambda gpus: replace(HERE, **{"memory_gb": 999.0, **machine}))
    return load_campaign(ROOT / "config.yaml", load_site(ROOT / "profiles/local"))


def counts_of(campaign, study):
    return list(campaign.studies[study].nodes)


@pytest.mark.parametrize(
    ("cores", "wanted"),
    [(2, [1, 2]), (3, [1, 2, 3]), (4, [1, 2, 4]), (6, [1, 2, 4, 6]), (8, [1, 2, 4, 8]),
     (64, [1, 2, 4, 8, 16, 32, 64])],
)  # fmt: skip
def test_ranks_go_up_to_the_cores(monkeypatch, cores, wanted):
    found = local_on(monkeypatch, cores=cores)
    assert counts_of(found, "throughput") == counts_of(found, "large-batch") == wanted
    assert {cell.cell.nodes for cell in found.cells if cell.study == "throughput"} == set(wanted)


def test_one_core_with_two_threads_runs_two_ranks(monkeypatch):
    assert counts_of(local_on(monkeypatch, cores=1, threads_per_core=2), "throughput") == [1, 2]


def test_memory_bounds_ranks(monkeypatch):
    whole = local_on(monkeypatch, cores=64)
    need = whole.site.rank_memory_gb
    assert counts_of(local_on(monkeypatch, cores=64, memory_gb=need * 8 / 0.8), "throughput") == [1, 2, 4, 8]


def work(campaign, name):
    """Time of a study's cells in runs of one rank times steps that count."""
    cells = [cell for cell in campaign.cells if name in cell.studies]
    return sum((c.settings.max_steps - c.settings.warmup_steps) * cost([c.cell.nodes]) for c in cells)


def test_two_cores_are_cut_as_the_file_says(monkeypatch):
    found = local_on(monkeypatch, cores=2)
    study = read_yaml(ROOT / "profiles/local/site.yaml")["site"]["grid"]["paper"]["studies"]["throughput"]
    cells = [cell for cell in found.cells if cell.study == "throughput"]
    assert found.cut == ()
    assert {cell.cell.repeat for cell in cells} == set(range(1, study["repeats"] + 1))
    assert {cell.settings.max_steps for cell in cells} == {study["settings"]["max_steps"]}


@settings(max_examples=12)
@given(st.integers(2, 200))
def test_more_cores_take_no_more_time(cores):
    with pytest.MonkeyPatch.context() as patch:
        two, many = local_on(patch, cores=2), local_on(patch, cores=cores)
    for name in ("throughput", "large-batch"):
        steps = {cell.settings.max_steps - cell.settings.warmup_steps for cell in many.cells if name in cell.studies}
        assert min(steps) >= LEAST_STEPS
        if work(many, name) > work(two, name):  # only where nothing more can be cut
            assert steps == {LEAST_STEPS}
    assert bool(many.cut) == (cores > 2)


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ("atuo", r"expected array or object, not 'atuo'"),
        ({"up_to": "core"}, r"up_to: 'core' is none of cores, gpus"),
        ({"at_most": 2}, r"nodes.up_to: missing"),
        ({"up_to": "cores", "at_least": 2}, r"nodes.at_least: unknown key"),
        ({"up_to": "gpus"}, r"local has no GPU that can be used \(looked for: .*nvidia-smi"),
    ],
)
def test_slips_are_named(monkeypatch, nodes, message):
    monkeypatch.setattr("campaign.site.machine.detect", lambda gpus: HERE)
    site = load_site(ROOT / "profiles/local")
    values = read_yaml(ROOT / "config.yaml")
    site.grid["paper"]["studies"]["throughput"]["nodes"] = nodes
    with pytest.raises(UserError, match=message):
        parse_campaign(values, "config.yaml", site)


def test_a_scheduler_has_no_one_machine():
    site = load_site(ROOT / "profiles/slurm")
    values = read_yaml(ROOT / "config.yaml") | {"nodes": {"up_to": "cores"}}
    site.grid.clear()
    with pytest.raises(UserError, match=r"nodes.up_to: slurm has a scheduler and many machines"):
        parse_campaign(values, "config.yaml", site)


def test_only_a_study_is_cut_to_a_time():
    values = read_yaml(ROOT / "config.yaml") | {"nodes": {"up_to": "cores", "time_of": [1, 2]}}
    with pytest.raises(UserError, match=r"config.yaml: nodes.time_of: of a study's own nodes only"):
        parse_campaign(values, "config.yaml", replace(load_site(ROOT / "profiles/local"), grid={}))


def test_the_plan_names_the_machine_and_what_was_cut(monkeypatch):
    many, two = plan_content(local_on(monkeypatch, cores=8)), plan_content(local_on(monkeypatch, cores=2))
    assert many["site"]["title"].endswith(f"({HERE.cpu}, 8 cores, 999 GiB)")
    assert many["site"]["cut for more cores"][0].startswith("throughput: repeats 3 to 1")
    assert two["site"]["cut for more cores"] is None


def test_a_machine_takes_its_results_folder_when_jobs_start(tmp_path, monkeypatch):
    monkeypatch.setattr("campaign.site.machine.detect", lambda gpus: HERE)
    driver = look(ROOT / "profiles/local", ROOT / "config.yaml", tmp_path)
    record = tmp_path / "local/machine.json"
    assert not record.exists()
    driver.start()
    assert recorded(tmp_path / "local", OTHER) == HERE
    monkeypatch.setattr("campaign.site.machine.detect", lambda gpus: OTHER)
    other = look(ROOT / "profiles/local", ROOT / "config.yaml", tmp_path)
    assert other.layout.site == "local-intel-xeon-e5-2680-v4-14c"
    assert other.notice.startswith(f"{tmp_path / 'local'} holds measurements of")
    other.start()
    assert recorded(tmp_path / "local", OTHER) == HERE
    assert recorded(other.layout.root, HERE) == OTHER


def test_cells_of_another_machine_are_named_as_such(tmp_path, monkeypatch):
    monkeypatch.setattr("campaign.site.machine.detect", lambda gpus: HERE)
    keep(OTHER, tmp_path / "local")
    site, said = site_here(ROOT / "profiles/local", tmp_path)
    assert site.name == "local-amd-epyc-9654-96-core-processor-8c"
    assert "holds measurements of Intel" in said
    found = load_campaign(ROOT / "config.yaml", site)
    assert {cell.cell.site for cell in found.cells} == {site.name}
