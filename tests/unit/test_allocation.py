"""Queues and what jobs ask of them; launchers and where ranks lie."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bnn.errors import UserError
from campaign.allocation import Queue, Scheduler, Walltime
from campaign.driver import prepare
from campaign.launchers import Launcher, Placement
from campaign.sites import parse_site
from tests.support.campaigns import CAMPAIGN, SITE, campaign, changed

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
    import json

    monkeypatch.delenv("CAMPAIGN_ACCOUNT", raising=False)
    (tmp_path / "config.yaml").write_text(json.dumps(CAMPAIGN))
    (tmp_path / "site.yaml").write_text(json.dumps(changed(SLURM, "site/scheduler/account_required", True)))
    driver = prepare(tmp_path / "site.yaml", tmp_path / "config.yaml", tmp_path / "results")
    assert "no job will be submitted" in driver.notice
    with pytest.raises(UserError, match=r"site.scheduler.account: missing"):
        driver.start()
    monkeypatch.setenv("CAMPAIGN_ACCOUNT", "mine")
    driver = prepare(tmp_path / "site.yaml", tmp_path / "config.yaml", tmp_path / "results")
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
