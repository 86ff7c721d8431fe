"""Sites: what a site file may say."""

import pytest

from bnn.errors import UserError
from campaign.launchers import Placement
from campaign.sites import load_site, parse_site
from tests.support.campaigns import SITE, changed


def test_a_site_and_its_launcher():
    values = changed(SITE, "site/environment", {"modules": ["gcc/12"], "variables": {"A": 1, "B": -0.5, "C": "x y"}})
    site = parse_site(values, "site.yaml")
    assert site.launcher.command(Placement(1, 4, 1)) == ["mpiexec", "-n", "4", "-prepend-rank"]
    assert site.variables == {"A": "1", "B": "-0.5", "C": "x y"}
    assert site.modules == ("gcc/12",)
    assert (site.ranks_per_node, site.threads, site.node_label, site.has_gpus) == (1, 1, "nodes", False)


SLIPS = [
    ("sites", {}, r"site.yaml: sites: unknown key, did you mean site\?"),
    ("site/name", "../x", r"site.yaml: site.name: '../x' is not a name"),
    ("site/hardware/cores_node", 3, r"site.yaml: site.hardware.cores_node: unknown key, did you mean cores_per_node\?"),
    ("site/hardware", None, r"site.yaml: site.hardware: missing"),
    ("site/hardware/cores_per_node", 0, r"site.yaml: site.hardware.cores_per_node: 0 must be at least 1"),
    ("site/scheduler/kind", "cron", r"site.yaml: site.scheduler.kind: 'cron' is none of none, slurm, pbs, cobalt"),
    ("site/launcher/kind", "ssh", r"site.yaml: site.launcher.kind: 'ssh' is none of mpiexec, aprun, pals, srun"),
    ("site/launcher/options", "-v", r"site.yaml: site.launcher.options: expected array"),
    ("site/threads", 9, r"site.yaml: site.threads: 1 ranks x 9 threads are more than a node's 8 hardware threads"),
    ("site/environment", {"variables": {"A;B": 1}}, r"site.yaml: site.environment.variables.A;B: not a name"),
    ("site/cv_limit", 0, r"site.yaml: site.cv_limit: 0 must be more than 0"),
    ("site/profiler", {"kind": "gprof"}, r"site.yaml: site.profiler.kind: 'gprof' is none of none, bnn, site"),
    ("site/profiler", {"kind": "site"}, r"site.yaml: site.profiler.library: missing; kind site needs the library"),
    (
        "site/profiler",
        {"kind": "site", "library": "/a b.so"},
        r"site.yaml: site.profiler.library: .* no path with spaces",
    ),
    ("site/profiler", {"kind": "bnn", "library": "/a.so"}, r"site.yaml: site.profiler.library: kind bnn has none"),
    ("site/grid", [1], r"site.yaml: site.grid: expected object"),
]


@pytest.mark.parametrize(("path", "value", "message"), SLIPS, ids=[path for path, _, _ in SLIPS])
def test_a_slip_is_one_line_with_file_and_key(path, value, message):
    with pytest.raises(UserError, match=message) as error:
        parse_site(changed(SITE, path, value), "site.yaml")
    assert "\n" not in str(error.value)


def test_a_profiler_is_off_unless_asked_for_and_for_horovod_only():
    assert parse_site(SITE, "site.yaml").profiler_of("horovod") is None
    values = {"kind": "site", "library": "/opt/libmpitrace.so", "environment": {"SAVE_ALL_TASKS": 1}}
    site = parse_site(changed(SITE, "site/profiler", values), "site.yaml")
    assert site.profiler_of("torch") is None
    assert site.profiler_of("horovod").variables == {"SAVE_ALL_TASKS": "1"}
    assert parse_site(changed(SITE, "site/profiler", {"kind": "none", "timeline": True}), "s").profiler_of("horovod")


def test_a_profile_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UserError, match=r"nowhere: No such file"):
        load_site(tmp_path / "nowhere")
