"""Sites: what a site file may say."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from bnn.errors import UserError
from campaign.io.schema import SCHEMAS
from campaign.plan.campaign import SECTIONS, parse_campaign
from campaign.site.launchers import Placement
from campaign.site.site import load_site, parse_site
from tests.support.campaigns import CAMPAIGN, SITE, changed

ROOT = Path(__file__).parents[2]


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


def profile(folder, name, text):
    """A copy of profiles/slurm under a name, with a site file of its own."""
    copy = folder / "profiles" / name
    copy.mkdir(parents=True)
    (copy / "config.yaml").write_text((ROOT / "profiles/slurm/config.yaml").read_text())
    (copy / "site.yaml").write_text(text)
    return copy


def edited(*changes, name="mysite"):
    """The text of profiles/slurm/site.yaml as somebody edits it."""
    text = (ROOT / "profiles/slurm/site.yaml").read_text().replace("name: slurm", f"name: {name}", 1)
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, 1)
    return text


def asked(folder, text, name="mysite"):
    """What `campaign site check` says of it, and its exit code."""
    command = [sys.executable, "-m", "campaign.tell.cli", "site", "check", str(profile(folder, name, text))]
    environment = {key: value for key, value in os.environ.items() if key != "CAMPAIGN_ACCOUNT"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment, timeout=120)
    assert len(done.stderr.splitlines()) <= 1, done.stderr
    return done.returncode, done.stdout + done.stderr


END = "  profiler:\n    kind: bnn\n"


def ending(more):
    """More keys at the end of the file."""
    return (END, END + more)


def variable(written):
    return [ending(f"  environment: {{variables: {{A: {written}}}}}\n")]


LINE = r"line \d+: site.scheduler"
GRID = "  grid:\n    papr:\n      nodes: [1, 2]\n"
CHECKED = {
    "queue": (
        [("max_minutes: 1440", "max_minutes: 24:00:00")],
        rf'{LINE}.queues\[1\].max_minutes: 24:00:00 is 86400 .* write "24:00:00" in quotes',
    ),
    "limit": ([("minutes: 480", "minutes: 8:00:00")], rf"{LINE}.walltimes\[1\].minutes: 8:00:00 is 28800"),
    "grid": ([ending(GRID)], "site.grid.papr: the campaign config.yaml is called paper"),
    "affinity": (variable("1:32"), r'.*variables.A: 1:32 is 92 .*write "1:32" in quotes'),
    "octal": (variable("010"), r'.*variables.A: 010 is 8 .*write "010" in quotes'),
    "version": (variable("1.50"), r'.*variables.A: 1.50 would become 1.5: write "1.50" in quotes'),
    "no": (variable("no"), r'.*variables.A: no is the boolean false .*write "no" in quotes'),
    "copy": ([("name: mysite", "name: slurm")], "site.name: slurm is not the name of the profile's folder, mysite"),
    "array": ([("options: []", "options: [--array=1-9]")], r"site.scheduler.options\[0\]: --array is not the site's"),
}


@pytest.mark.parametrize("case", CHECKED)
def test_site_check_names_what_would_be_wrong_silently(case, tmp_path):
    changes, message = CHECKED[case]
    code, said = asked(tmp_path, edited(*changes))
    assert code == 2
    assert re.search(rf"^campaign: .*/profiles/mysite/site.yaml: {message}", said), said


def test_site_check_finds_the_mended_files_fine(tmp_path):
    mended = edited(
        ("max_minutes: 1440", 'max_minutes: "1-00:00:00"'), ("minutes: 480", 'minutes: "08:00:00"'),
        ("options: []", "options: [--clusters=beta]"),
        ending('  environment: {variables: {A: "1:32", B: "010", C: "1.50", D: "no", E: 1, F: 1.5}}\n'),
    )  # fmt: skip
    assert asked(tmp_path, mended)[0] == 0
    found = load_site(tmp_path / "profiles/mysite")
    assert found.variables == {"A": "1:32", "B": "010", "C": "1.50", "D": "no", "E": "1", "F": "1.5"}
    assert [queue.max_minutes for queue in found.scheduler.queues] == [60, 1440]
    assert [limit.minutes for limit in found.scheduler.walltimes] == [60, 480]


def test_a_site_that_cuts_other_campaigns_only_is_told_so(tmp_path):
    code, said = asked(tmp_path, edited(ending("  grid:\n    another-study:\n      nodes: [1]\n")))
    assert code == 0
    assert "site.grid: nothing for campaign paper (only another-study): it runs uncut" in said


def test_a_profile_has_the_name_of_its_folder_and_any_other_file_its_own(tmp_path, monkeypatch):
    copy = profile(tmp_path, "mysite", edited(name="slurm"))
    monkeypatch.chdir(copy)
    for path in (copy, copy / "site.yaml", Path(), Path("site.yaml"), Path("../mysite")):
        with pytest.raises(UserError, match=r"site.name: slurm is not the name of the profile's folder, mysite"):
            load_site(path)
    (copy / "config.yaml").unlink()
    assert load_site(copy).name == "slurm", "no profile of Snakemake's"
    for known in ROOT.glob("profiles/*/site.yaml"):
        assert load_site(known.parent).name == known.parent.name


@pytest.mark.parametrize(
    "limit", ["00:00:00", "8:00", "08:00:30", "8h", "1-0:0:0", "480", "-1:00:00", "08:60:00", "8:00:00\n"]
)
def test_a_limit_is_minutes_or_hours_minutes_and_no_seconds(limit):
    queue = {"name": "q", "max_nodes": 1, "max_minutes": limit}
    scheduler = {"kind": "slurm", "queues": [queue], "walltimes": [{"minutes": 1}]}
    with pytest.raises(UserError, match=r'max_minutes: .* is not a number of minutes, "HH:MM:00" or "D-HH:MM:00"'):
        parse_site(changed(SITE, "site/scheduler", scheduler), "site.yaml")


@pytest.mark.parametrize("key", ["papr", "Paper", "PAPER", "papers", "the-paper", "paper2", "pape"])
def test_a_cut_of_a_campaign_that_is_called_almost_so_is_refused(key):
    at = parse_site(changed(SITE, "site/grid", {key: {"nodes": [1]}}), "site.yaml")
    with pytest.raises(UserError, match=rf"^site.yaml: site.grid.{key}: the campaign c.yaml is called paper"):
        parse_campaign(CAMPAIGN | {"name": "paper"}, "c.yaml", at)
    both = parse_site(changed(SITE, "site/grid", {key: {"nodes": [1]}, "paper": {}}), "site.yaml")
    assert parse_campaign(CAMPAIGN | {"name": "paper"}, "c.yaml", both).cells


@pytest.mark.parametrize("key", ["studies", "settings", "variants", "bench"])
def test_a_cut_without_a_campaigns_name_is_refused(key):
    at = parse_site(changed(SITE, "site/grid", {key: {}}), "site.yaml")
    with pytest.raises(UserError, match=rf"^site.yaml: site.grid.{key}: a campaign's name is missing above it"):
        parse_campaign(CAMPAIGN, "c.yaml", at)


def test_the_sections_of_a_campaign_are_those_of_its_schema():
    schema = yaml.safe_load((SCHEMAS / "campaign.schema.yaml").read_text())
    assert set(schema["properties"]) - {"name"} == SECTIONS


@pytest.mark.parametrize(("path", "value"), [("account", 12345), ("account", 1.5), ("options", [7])])
def test_a_number_where_a_text_belongs_is_told_to_be_quoted(path, value):
    queues = [{"name": "q", "max_nodes": 1, "max_minutes": 9}]
    scheduler = {"kind": "slurm", "queues": queues, "walltimes": [{"minutes": 1}]}
    with pytest.raises(UserError, match=rf"site.scheduler.{path}.*: expected string.*: put it in quotes"):
        parse_site(changed(SITE, "site/scheduler", scheduler | {path: value}), "site.yaml")
