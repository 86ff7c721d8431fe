"""The section `bench` of a campaign: its points, its scripts, and one clear line for every slip."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from bnn.errors import UserError
from bnn.records.bench import header_path
from campaign.io.locking import Lock
from campaign.io.unreadable import aside
from campaign.names.layout import Layout
from campaign.plan.campaign import load_campaign
from campaign.plan.content import plan_content
from campaign.render.scripts import Place, render_jobs, script_text
from campaign.site.site import load_site
from tests.support.bench import SECONDS, write_bench
from tests.support.campaigns import CAMPAIGN, SITE, campaign, changed, prepared, ready, site

ROOT = Path(__file__).parents[2]
BENCH = {"models": ["vgg16", "fc"], "batch_sizes": [32, 128], "rounds": 3, "peers": ["tfp"]}
WITH = CAMPAIGN | {"bench": BENCH}


def test_points_are_models_times_batch_sizes_on_all_cores() -> None:
    found = campaign(WITH).bench
    assert [(point.model, point.batch) for point in found] == [
        ("vgg16", 32), ("vgg16", 128), ("fc", 32), ("fc", 128),
    ]  # fmt: skip
    assert {(point.threads, point.rounds, point.peers) for point in found} == {(8, 3, ("tfp",))}
    assert campaign().bench == ()


def test_what_is_measured_or_how_it_is_launched_changes_the_fingerprint() -> None:
    first = campaign(WITH).bench[0].fingerprint
    values = [changed(WITH, "bench/rounds", 4), changed(WITH, "bench/peers", []), changed(WITH, "bench/threads", 2)]
    other = campaign(WITH, site(changed(SITE, "site/environment", {"variables": {"MKL_VERBOSE": 1}})))
    assert len({first, *(campaign(each).bench[0].fingerprint for each in values), other.bench[0].fingerprint}) == 5


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("bench/models", ["vgg61"], r"config.yaml: bench.models\[0\]: unknown model 'vgg61', did you mean vgg16\?"),
        ("bench/threads", 9, r"config.yaml: bench.threads: 9 threads are more than toy's 8 hardware threads"),
        ("bench/peers", ["pyro"], r"config.yaml: bench.peers: pyro is unknown; there are bayesian-torch, tfp"),
        ("bench/implementations", ["cnn-fast"], r"config.yaml: bench.implementations: cnn-fast is unknown; there are"),
        ("bench/rounds", 0, r"config.yaml: bench.rounds: 0 must be at least 1"),
        ("bench/batch_sizes", None, r"config.yaml: bench.batch_sizes: missing"),
        ("bench/batches", [1], r"config.yaml: bench.batches: unknown key, did you mean batch_sizes\?"),
    ],
)
def test_a_slip_is_one_line_with_file_and_key(path: str, value: object, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        campaign(changed(WITH, path, value))
    assert "\n" not in str(error.value)


def test_a_site_cuts_the_benchmark_and_is_named_in_its_slips() -> None:
    cut = changed(SITE, "site/grid", {"tiny": {"bench": {"models": ["fc"], "peers": []}}})
    found = campaign(WITH, site(cut)).bench
    assert [(point.model, point.peers) for point in found] == [("fc", ())] * 2
    slip = changed(SITE, "site/grid", {"tiny": {"bench": {"peers": ["pyro"]}}})
    with pytest.raises(UserError, match=r"site.yaml: site.grid.tiny.bench.peers: pyro is unknown"):
        campaign(WITH, site(slip))


def test_the_local_site_compares_a_small_step_and_the_papers_campaign_all() -> None:
    found = load_campaign(ROOT / "config.yaml", load_site(ROOT / "profiles/local"))
    assert [(point.model, point.batch) for point in found.bench] == [("vgg16", 32)]
    assert found.bench[0].peers == ("bayesian-torch", "tfp")


def test_the_plan_says_where_each_record_is() -> None:
    entry = plan_content(campaign(WITH))["bench"][1]
    assert entry["record"] == "toy/bench/step/vgg16/batch=128.parquet"
    assert entry["options"] == [
        "--model", "vgg16", "--batch", "128", "--threads", "8", "--rounds", "3", "--peers", "tfp",
    ]  # fmt: skip


def place(folder: Path) -> Place:
    """A place whose `bnn` notes its words, the threads it was given, and holds on for as long as folder/sleep says."""
    programs = folder / "bin"
    programs.mkdir()
    bnn = programs / "bnn"
    bnn.write_text(
        "#!/usr/bin/env bash\n"
        f'printf "%s\\n" "$OMP_NUM_THREADS" "$@" >"{folder}/words"\n'
        f'sleep "$(cat "{folder}/sleep" 2>/dev/null || echo 0)"\n'
        f'exit "$(cat "{folder}/status" 2>/dev/null || echo 0)"\n'
    )
    bnn.chmod(0o755)
    return Place(folder, programs, folder / "data")


def test_scripts_are_rendered_with_the_cells_and_go_with_the_section(tmp_path: Path) -> None:
    layout, here = Layout(tmp_path / "results", "toy"), place(tmp_path)
    scripts = [layout.job(f"bench_step_{model}_b{batch}") for model in ("vgg16", "fc") for batch in (32, 128)]
    assert set(scripts) <= set(render_jobs(campaign(WITH), layout, here))
    assert render_jobs(campaign(WITH), layout, here) == []
    assert render_jobs(campaign(changed(WITH, "bench/rounds", 4)), layout, here) == scripts
    render_jobs(campaign(), layout, here)
    assert not any(script.exists() for script in scripts)


def test_the_script_measures_under_the_sites_measuring_lock(tmp_path: Path) -> None:
    layout, here = Layout(tmp_path / "results", "toy"), place(tmp_path)
    found = campaign(changed(WITH, "bench/models", ["mine:net"]))
    render_jobs(found, layout, here)
    script = layout.job(found.bench[0].name)
    lock = Lock(layout.measuring_lock, "a test")
    running = subprocess.Popen(["bash", script], cwd="/", stdout=subprocess.PIPE, text=True)
    assert running.stdout is not None
    assert f"waiting for process {os.getpid()}" in running.stdout.readline()
    assert not (tmp_path / "words").exists()
    lock.release()
    assert running.wait(timeout=30) == 0
    running.stdout.close()
    record = found.bench[0].record(layout)
    assert record == layout.root / "bench/step/mine%3Anet/batch=32.parquet"
    words = ["8", "bench", "step", *found.bench[0].options, "--out", str(record)]
    assert (tmp_path / "words").read_text().splitlines() == words
    assert record.parent.is_dir()


def test_a_failing_benchmark_fails_its_job_and_frees_the_lock(tmp_path: Path) -> None:
    layout, here = Layout(tmp_path / "results", "toy"), place(tmp_path)
    render_jobs(campaign(WITH), layout, here)
    (tmp_path / "status").write_text("2")
    done = subprocess.run(["bash", layout.job("bench_step_fc_b32")], capture_output=True)
    assert done.returncode == 2
    Lock(layout.measuring_lock, "a test").release()


def test_names_from_a_file_stay_words(tmp_path: Path) -> None:
    found = campaign(WITH, site(changed(SITE, "site/environment", {"modules": ["a; touch oops"]})))
    layout = Layout(tmp_path / "it's $HOME", "toy")
    text = script_text(found.bench[0], found, layout, Place(tmp_path, tmp_path, tmp_path))
    assert "module load 'a; touch oops'" in text
    assert "record='" in text
    assert subprocess.run(["bash", "-n"], input=text, text=True).returncode == 0


def test_a_record_of_other_options_is_not_current(tmp_path: Path) -> None:
    driver = prepared(tmp_path, WITH)
    point, layout = driver.campaign.bench[0], driver.layout
    assert point.name not in driver.current
    entry = plan_content(driver.campaign)["bench"][0]
    write_bench(layout.results, entry, SECONDS)
    assert point.is_current(layout)
    assert again(tmp_path, WITH).current == {point.name}
    record = point.record(layout)
    os.utime(record, (1, 1))
    os.utime(header_path(record), (1, 1))
    assert again(tmp_path, WITH).current == {point.name}, "times say nothing"
    write_bench(layout.results, entry, SECONDS, options=["--model", "vgg16"])
    assert not again(tmp_path, WITH).current


def test_a_label_says_how_a_record_was_launched(tmp_path: Path) -> None:
    found = campaign(WITH)
    entry, point = plan_content(found)["bench"][0], found.bench[0]
    elsewhere = campaign(WITH, site(changed(SITE, "site/environment", {"variables": {"MKL_VERBOSE": 1}}))).bench[0]
    layout = Layout(tmp_path, "toy")
    write_bench(tmp_path, entry, SECONDS)
    assert point.is_current(layout)
    assert elsewhere.is_current(layout), "an old header does not tell"
    write_bench(tmp_path, entry, SECONDS, labels={"job": point.fingerprint})
    assert point.is_current(layout)
    assert not elsewhere.is_current(layout)
    assert json.loads(point.options[point.options.index("--labels") + 1]) == {"job": point.fingerprint}


def test_rows_that_are_cut_or_have_no_header_are_missing_from_then_on(tmp_path: Path) -> None:
    driver = prepared(tmp_path, WITH)
    layout = driver.layout
    records = [point.record(layout) for point in driver.campaign.bench]
    for entry in plan_content(driver.campaign)["bench"]:
        write_bench(layout.results, entry, SECONDS)
    header_path(records[0]).write_text("{")
    header_path(records[1]).unlink()
    with records[2].open("r+b") as file:
        file.truncate(records[2].stat().st_size - 30)
    assert again(tmp_path, WITH).current == {driver.campaign.bench[3].name}
    assert [record.exists() for record in records] == [False, False, False, True]
    assert all(aside(record).exists() for record in records[:3])
    write_bench(layout.results, plan_content(driver.campaign)["bench"][0], SECONDS)
    again(tmp_path, WITH)
    assert not aside(records[0]).exists(), "it has been made anew"


def again(folder: Path, values: dict[str, object]):  # type: ignore[no-untyped-def]
    return ready(folder / "site.yaml", folder / "config.yaml", folder / "results")
