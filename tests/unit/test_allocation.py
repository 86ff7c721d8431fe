"""Queues and what jobs ask of them; launchers and where ranks lie."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bnn.errors import UserError
from campaign.site.allocation import Pack, Packing, Queue, Scheduler, Walltime
from campaign.site.launchers import Launcher, Placement
from campaign.site.site import parse_site
from tests.support.campaigns import CAMPAIGN, SITE, campaign, changed, ready

QUEUES = [
    {"name": "debug", "max_nodes": 2, "max_minutes": 60},
    {"name": "big", "min_nodes": 8, "max_nodes": 64, "max_minutes": 180},
]
SLURM = changed(SITE, "site/scheduler", {"kind": "slurm", "queues": QUEUES, "walltimes": [{"minutes": 30}]})


def at(values=SLURM):
    return parse_site(values, "site.yaml")


def test_jobs_take_the_queue_that_needs_the_fewest_nodes():
    found = campaign(changed(CAMPAIGN, "nodes", [1, 2, 4, 16]), at())
    asked = {cell.cell.nodes: cell.allocation for cell in found.cells}
    assert [(n, a.queue, a.nodes, a.clock) for n, a in sorted(asked.items())] == [
        (1, "debug", 1, "00:30:00"), (2, "debug", 2, "00:30:00"),
        (4, "big", 8, "00:30:00"), (16, "big", 16, "00:30:00"),
    ]  # fmt: skip
    assert asked[4].node_hours == 4.0


def test_the_first_walltime_that_is_of_the_job_counts():
    limits = [{"minutes": 100, "where": {"nodes": [2], "kinds": ["bnn"]}}, {"minutes": 20}]
    found = campaign(at=at(changed(SLURM, "site/scheduler/walltimes", limits)))
    minutes = {(c.cell.kind, c.cell.nodes): (c.allocation.queue, c.allocation.minutes) for c in found.cells}
    assert minutes == {
        ("bnn", 1): ("debug", 20), ("cnn", 1): ("debug", 20), ("cnn", 2): ("debug", 20), ("bnn", 2): ("big", 100),
    }  # fmt: skip


@given(
    st.lists(st.builds(Queue, st.sampled_from("abc"), st.integers(1, 50), st.integers(1, 50)), min_size=1, max_size=5),
    st.integers(1, 60),
    st.integers(1, 60),
)
def test_an_allocation_fits_its_queue_and_the_job(queues, machines, minutes):
    scheduler = Scheduler("slurm", tuple(queues), (Walltime(minutes),))
    fitting = [queue for queue in queues if queue.max_nodes >= machines and queue.max_minutes >= minutes]
    if not fitting:
        with pytest.raises(UserError, match=f"none takes it: {machines} nodes for {minutes} minutes"):
            scheduler.allocate(machines, {}, "it")
        return
    found = scheduler.allocate(machines, {}, "it")
    assert found.minutes == minutes
    assert found.nodes >= machines
    assert any(q.name == found.queue and q.min_nodes <= found.nodes <= q.max_nodes for q in fitting)


def test_jobs_share_one_where_their_queue_asks_for_more_than_they_need():
    shared = changed(SLURM, "site/scheduler/packing", {})
    found = campaign(changed(CAMPAIGN, "nodes", [1, 2, 4, 8]), at(shared))
    asked = {cell.cell.nodes: cell.allocation for cell in found.cells}
    assert {n: a.pack for n, a in asked.items()} == {1: None, 2: None, 4: Pack("big", 8, 30), 8: None}
    assert (asked[4].node_hours, asked[4].share, asked[8].share) == (4.0, 2.0, 4.0)
    larger = campaign(changed(CAMPAIGN, "nodes", [1]), at(changed(shared, "site/scheduler/packing", {"nodes": 2})))
    assert {cell.allocation.pack for cell in larger.cells} == {Pack("debug", 2, 30)}


def test_jobs_share_one_in_turn_as_long_as_their_queue_allows():
    found = campaign(changed(CAMPAIGN, "nodes", [2, 16]), at(changed(SLURM, "site/scheduler/packing", {"in_turn": 5})))
    asked = {cell.cell.nodes: cell.allocation.pack for cell in found.cells}
    assert asked == {2: Pack("debug", 2, 60), 16: Pack("big", 16, 150)}


def test_scripts_of_shared_jobs_are_there_as_long_as_one_may_be_shared(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, values in (("config.yaml", changed(CAMPAIGN, "nodes", [4])), ("site.yaml", SLURM)):
        (tmp_path / name).write_text(json.dumps(values))
    shared = changed(SLURM, "site/scheduler/packing", {})
    scripts = []
    for values in (shared, shared, SLURM):
        (tmp_path / "site.yaml").write_text(json.dumps(values))
        driver = ready(Path("site.yaml"), Path("config.yaml"), Path("results"))
        scripts.append([path.name for path in driver.layout.jobs.glob("pack_*")])
        asked = f"#BATCH_SCRIPT --pack {tmp_path}/results/toy/jobs/pack_big_n8_m30_1x1.sh --nodes 4 --minutes 30\n"
        assert (asked in driver.layout.script(driver.campaign.cells[0].cell).read_text()) == (values is shared)
    assert scripts == [["pack_big_n8_m30_1x1.sh"], ["pack_big_n8_m30_1x1.sh"], []]


@given(
    st.builds(Packing, st.integers(1, 60), st.integers(1, 9)),
    st.builds(Queue, st.just("q"), st.integers(1, 50), st.integers(1, 300), st.integers(1, 50)),
    st.integers(1, 50),
    st.integers(1, 300),
)
def test_a_shared_job_fits_its_queue_and_holds_at_least_two(packing, queue, machines, minutes):
    if queue.min_nodes > queue.max_nodes or machines > queue.max_nodes or minutes > queue.max_minutes:
        return
    if pack := packing.of(queue, machines, minutes):
        assert queue.min_nodes <= pack.nodes <= queue.max_nodes
        assert pack.minutes <= queue.max_minutes
        assert (pack.nodes // machines) * (pack.minutes // minutes) >= 2


HERE = r"site.yaml: site.scheduler."
REFUSED = [
    ({"site/scheduler/walltimes": [{"minutes": 999}]},
     HERE + r"queues: none takes .*_n1_.*: 1 nodes for 999 minutes; there are debug \(1-2 nodes, 60 min\), big"),
    ({"site/scheduler/walltimes": [{"minutes": 5, "where": {"kinds": ["cnn"]}}]},
     HERE + r"walltimes: none is of .*_bnn_"),
    ({"site/scheduler/queues": None}, HERE + "queues: missing"),
    ({"site/scheduler/queues": []}, HERE + "queues: must not be empty"),
    ({"site/scheduler/queues": [QUEUES[1] | {"min_nodes": 65}]}, HERE + r"queues\[0\].min_nodes: more than max_nodes"),
    ({"site/scheduler/queues": [QUEUES[0] | {"name": "a b; rm"}]}, HERE + r"queues\[0\].name: 'a b; rm' is not a name"),
    ({"site/scheduler/select": "a=b"}, HERE + "select: only PBS has one"),
    ({"site/scheduler/kind": "none"}, HERE + "queues: kind none has no queues"),
    ({"site/scheduler": {"kind": "none", "packing": {}}}, HERE + "packing: kind none has no jobs to pack"),
    ({"site/scheduler/kind": "cobalt", "site/scheduler/packing": {}}, HERE + "packing: under cobalt only aprun"),
    ({"site/scheduler/packing": {"in_turn": 0}}, HERE + "packing.in_turn: "),
    ({"site/scheduler/packing": {"turns": 2}}, HERE + "packing"),
    ({"site/scheduler/account": "$(id)"}, HERE + r"account: '\$\(id\)' is not a name"),
    ({"site/nodes_per_machine": 2, "site/threads": 4}, "studies.speed.nodes: 3 nodes do not fill machines of 2"),
    ({"site/nodes_per_machine": 9}, "site.yaml: site.threads: 9 ranks x 1 threads are more than a node's 8"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "message"), REFUSED, ids=[message for _, message in REFUSED])
def test_what_cannot_run_is_refused_with_the_reason(changes, message):
    values = SLURM
    for path, value in changes.items():
        values = changed(values, path, value)
    with pytest.raises(UserError, match=message):
        campaign(changed(CAMPAIGN, "nodes", [1, 3]), at(values))


def test_a_missing_account_is_said_in_the_plan_and_refused_before_any_job(tmp_path, monkeypatch):
    monkeypatch.delenv("CAMPAIGN_ACCOUNT", raising=False)
    (tmp_path / "config.yaml").write_text(json.dumps(CAMPAIGN))
    (tmp_path / "site.yaml").write_text(json.dumps(changed(SLURM, "site/scheduler/account_required", True)))
    driver = ready(tmp_path / "site.yaml", tmp_path / "config.yaml", tmp_path / "results")
    assert "no job will be submitted" in driver.notice
    with pytest.raises(UserError, match=r"site.scheduler.account: missing"):
        driver.start()
    monkeypatch.setenv("CAMPAIGN_ACCOUNT", "mine")
    driver = ready(tmp_path / "site.yaml", tmp_path / "config.yaml", tmp_path / "results")
    assert driver.notice == ""
    script = driver.layout.script(driver.campaign.cells[0].cell)
    assert "#SBATCH --account=mine\n" in script.read_text()
    driver.start()


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("mpiexec", "mpiexec -n 8 -ppn 4 -x"),
        ("aprun", "aprun -n 8 -N 4 -cc depth -d 32 -j 2 -x"),
        ("pals", "mpiexec -n 8 --ppn 4 --depth 32 --cpu-bind depth -x"),
        ("srun", "srun --nodes=2 --ntasks=8 --ntasks-per-node=4 --cpus-per-task=32 -x"),
    ],
)
def test_launchers(kind, words):
    assert " ".join(Launcher(kind, ("-x",)).command(Placement(2, 4, 32, smt=2))) == words


def test_parts_of_machines_fill_them():
    gpus = at(changed(changed(SLURM, "site/nodes_per_machine", 4), "site/hardware/gpus_per_node", 4))
    assert gpus.place(2, 1, 2) == Placement(1, 2, 2)
    assert gpus.place(12, 1, 2) == Placement(3, 4, 2)
    assert at(SITE).place(3, 2, 1) == Placement(1, 6, 1), "without a scheduler all are on this machine"
