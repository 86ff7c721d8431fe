"""The jobs after cells: which a campaign asks for, how they are told, and when one has to run again."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bnn.errors import UserError
from campaign.io.locking import Lock
from campaign.io.unreadable import aside
from campaign.jobs.after import AfterJob
from campaign.names.layout import Layout
from campaign.plan.content import plan_content
from campaign.render.scripts import Place, script_text
from campaign.results.figures.catalogue import available, not_measured
from campaign.tell.after_table import after_table
from campaign.tell.why import find_job, why
from tests.support.campaigns import CAMPAIGN, SITE, campaign, changed, prepared, site
from tests.support.finished import finish, write_after

SWEEPS = [{"semantics": "zero"}, {"semantics": "bprune"}, {"semantics": "zero", "by": "unit"}]
LEARN: dict[str, Any] = {
    "roles": ["pruning"],
    "dataset": "mnist-sample",
    "models": ["fc"],
    "kinds": ["bnn", "cnn"],
    "nodes": [1, 2],
    "batch_sizes": [8],
    "repeats": 2,
    "infer": {"draws": 30, "images": 60},
    "prune": {"percent": [50, 90], "draws": 8, "images": 60, "sweeps": SWEEPS, "where": {"nodes": [1]}},
}


def with_study(**changes: Any) -> dict[str, Any]:
    study = {key: value for key, value in (LEARN | changes).items() if value is not None}
    return changed(CAMPAIGN, "studies/learn", study)


def jobs(command: str, **changes: Any) -> list[AfterJob]:
    return [job for job in campaign(with_study(**changes)).after if job.command == command]


def test_every_posterior_is_inferred_and_pruned_once_per_sweep() -> None:
    inferred, pruned = jobs("infer"), jobs("prune")
    assert [(job.cell.kind, job.cell.nodes, job.cell.repeat) for job in inferred] == [
        ("bnn", 1, 1), ("bnn", 2, 1), ("bnn", 1, 2), ("bnn", 2, 2),
    ]  # fmt: skip
    assert len(pruned) == 2 * len(SWEEPS)
    assert {job.word for job in pruned} == {"zero-global-weight", "bprune-global-weight", "zero-global-unit"}
    assert len({job.name for job in (*inferred, *pruned)}) == 10
    layout = Layout(Path("results"), "toy")
    assert len({job.record(layout) for job in (*inferred, *pruned)}) == 10
    assert inferred[0].record(layout).name == "inference.json"


def test_options_say_what_the_section_says() -> None:
    job = jobs("prune")[0]
    words = job.options
    assert words[words.index("--percent") + 1] == "50,90"
    assert words[words.index("--semantics") + 1] == "zero"
    assert words[words.index("--images") + 1] == "60"
    assert words[words.index("--threads") + 1] == "8"  # the site's cores
    assert words[words.index("--seed") + 1] == "7"
    assert job.fingerprint in words[words.index("--labels") + 1]


def test_another_fingerprint_for_whatever_changes_the_numbers() -> None:
    first = jobs("infer")[0].fingerprint
    assert jobs("infer", infer={"draws": 31, "images": 60})[0].fingerprint != first
    assert jobs("infer", settings={"learning_rate": 0.5})[0].fingerprint != first
    assert jobs("infer", description="other words")[0].fingerprint == first
    assert jobs("infer", prune=None)[0].fingerprint == first


@pytest.mark.parametrize(("command", "before"), [("infer", "db05ecdd8444486a"), ("prune", "5fbabc111fb1af0e")])
def test_jobs_compute_where_their_cells_do(command: str, before: str) -> None:
    """`before` is the fingerprint of a time when no job was told a device: records of CPU cells stay current."""
    gpus = site(changed(SITE, "site/hardware/gpus_per_node", 2))
    values = with_study(settings={"device": "cuda"}, variants=["base", "host"])
    values["variants"]["host"] = {"description": "without a GPU", "settings": {"device": "cpu"}}
    found = campaign(values, gpus)
    asked = [job for job in found.after if job.command == command]
    assert {job.cell.variant for job in asked} == {"base", "host"}
    place = Place(Path("/work"), Path("/opt/bin"), Path("/data"))
    for job in asked:
        cuda = job.cell.variant == "base"
        assert job.device == ("cuda" if cuda else "cpu")
        assert job.gpus == cuda
        assert ("--device cuda" in " ".join(job.options)) == cuda
        script = script_text(job, found, Layout(Path("results"), "toy"), place)
        assert ("--device cuda" in script, "--device" in script) == (cuda, cuda)
        assert (" and a GPU on this machine" in script) == cuda
    first = replace(jobs(command)[0], trained="trained", launch="launch")
    assert first.fingerprint == before
    assert replace(first, device="cuda").fingerprint != before


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"kinds": ["cnn"]}, "studies.learn.infer: no cell of the study saves a posterior"),
        ({"settings": {"save_posterior": False}}, "no cell of the study saves a posterior"),
        ({"infer": {"draws": 0}}, "draws: 0 must be at least 1"),
        ({"infer": {"draws": 5, "where": {"nodes": [4]}}}, "where.nodes: 4 is not in the study's nodes"),
        ({"prune": {"percent": [100], "draws": 5, "sweeps": SWEEPS}}, "100 must be less than 100"),
        ({"prune": {"percent": [5], "draws": 5, "sweeps": [*SWEEPS, SWEEPS[0]]}}, "is listed twice"),
        ({"prune": {"percent": [5], "draws": 5, "sweeps": [{"semantics": "some"}]}}, "semantics"),
        ({"infer": {"draws": 5, "shift": ["rotate:2"]}}, "shift[0]: 'rotate:2' is not KIND:SEVERITY, KIND one of"),
        ({"infer": {"draws": 5, "shift": ["blur:6"]}}, "'blur:6' is not KIND:SEVERITY"),
        ({"infer": {"draws": 5, "shift": ["blur:1", "blur:1"]}}, "shift: 'blur:1' is listed twice"),
        ({"infer": {"draws": 5, "temperature": "warm"}}, "temperature: 'warm' is not fit or a number above 0"),
        ({"infer": {"draws": 5, "temperature": 0}}, "temperature: 0 must be more than 0"),
        ({"infer": {"draws": 5, "temperature": 1.0}}, "learn.infer.temperature: at temperature 1 everything"),
        ({"infer": {"draws": 5, "temperature_images": 9}}, "temperature_images: there is no temperature: fit"),
        ({"infer": {"draws": 5, "temperature_split": "test"}}, "temperature_split: there is no temperature: fit"),
        (
            {"infer": {"draws": 5, "temperature": "fit", "temperature_split": "test"}},
            "temperature_split: test images that are not predicted; say by images how many are",
        ),
        ({"infer": {"draws": 5, "ood": {"dataset": "mnits"}}}, "infer.ood.dataset: unknown data set 'mnits'"),
        ({"infer": {"draws": 5, "ood": {"dataset": "mnist-sample"}}}, "ood: the held-out images are of this data set"),
        ({"infer": {"draws": 6, "ensemble": 1}}, "infer.ensemble: 1 must be at least 2"),
        (
            {"infer": {"draws": 6, "ensemble": 3}},
            "ensemble: 3 posteriors are to be mixed, and mnist-sample_fc_bnn",
        ),
        (
            {"infer": {"draws": 5, "ensemble": 2}},
            "infer.draws: 5: 2 posteriors are mixed in equal parts",
        ),
        ({"infer": {"draws": 5, "threads": 9}}, "9 threads are more than toy's 8 hardware threads"),
    ],
)
def test_a_mistake_is_named_with_its_key(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError) as caught:
        campaign(with_study(**changes))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


MORE: dict[str, Any] = {
    "draws": 30, "images": 60, "kinds": ["bnn", "cnn"], "shift": ["rotation:3", "jpeg:1"], "temperature": "fit",
    "temperature_images": 90, "temperature_split": "test", "ood": {"dataset": "infinite-mnist", "images": 40},
}  # fmt: skip


def test_shifts_and_temperatures_are_jobs_of_their_own_and_the_rest_stays_what_it_was() -> None:
    found = jobs("infer", infer=MORE)
    assert {job.cell.kind for job in found} == {"bnn", "cnn"}
    assert len(found) == len({job.name for job in found}) == len({job.fingerprint for job in found}) == 8 * 6
    mine = [job for job in found if job.cell == found[0].cell]
    assert [job.word for job in mine] == [
        "", "temperature-fit", "rotation-3", "rotation-3_temperature-fit", "jpeg-1", "jpeg-1_temperature-fit",
    ]  # fmt: skip
    layout = Layout(Path("results"), "toy")
    assert mine[2].record(layout) == mine[0].record(layout).parent / "rotation-3" / "inference.json"
    assert [job.rule() for job in mine] == ["infer", *["infer_conditions"] * 5]
    entry = mine[3].plan_entry("toy")
    assert (entry["shift"], entry["temperature"]) == ("rotation:3", "fit")
    plain = jobs("infer", infer={key: MORE[key] for key in ("draws", "images")})
    without = jobs("infer", infer={key: value for key, value in MORE.items() if key != "ood"})
    assert plain[0].fingerprint == without[0].fingerprint == jobs("infer")[0].fingerprint != found[0].fingerprint


def test_options_of_shifts_temperatures_and_another_data_set_are_those_of_the_command() -> None:
    """`bnn infer` itself takes the options, and the other data set goes with images that are not shifted."""
    for job in jobs("infer", infer=MORE):
        told = " ".join(job.measures)
        assert ("--shift rotation:3" in told, "--shift jpeg:1" in told) == tuple(
            job.conditions.shift == shift for shift in MORE["shift"]
        )
        fitted = "--temperature fit --temperature-images 90 --temperature-split test" in told
        assert fitted == (job.conditions.temperature == "fit")
        assert ("--ood infinite-mnist --ood-images 40" in told) == (job.conditions.shift is None)
        assert len(job.reads) == (2 if job.conditions.shift is None else 1)
    asked = {("mnist-sample", "{}"), ("infinite-mnist", "{}"), ("synthetic", "{'size': 64}")}
    assert {(name, str(options)) for name, options in campaign(with_study(infer=MORE)).datasets()} == asked
    found = jobs("infer", infer={"draws": 5, "temperature": 2.50})
    assert {job.word for job in found} == {"", "temperature-2.5"}


def test_ensembles_take_repeats_of_a_point_in_turn_and_leave_other_jobs_as_they_were(tmp_path: Path) -> None:
    asked = {"draws": 6, "images": 60, "shift": ["noise:2"]}
    found = jobs("infer", repeats=5, infer=asked | {"ensemble": 2})
    mixed = [job for job in found if job.others]
    assert {(job.cell.nodes, *(cell.repeat for cell in job.after)) for job in mixed} == {
        (1, 1, 2), (1, 3, 4), (2, 1, 2), (2, 3, 4),
    }  # fmt: skip
    assert {job.word for job in mixed} == {"ensemble-2", "ensemble-2_noise-2"}
    assert all(len({replace(cell, repeat=1) for cell in job.after}) == 1 for job in mixed)
    plain = jobs("infer", repeats=5, infer=asked)
    assert [job.fingerprint for job in found if not job.others] == [job.fingerprint for job in plain]
    layout = Layout(tmp_path, "toy")
    assert len({job.record(layout) for job in found}) == len({job.name for job in found}) == len(found)
    table = after_table(campaign(with_study(repeats=5, infer=asked | {"ensemble": 2}, prune=None)), layout)
    assert table is not None
    scripts = [str(script) for script in table.columns[-1].cells]
    assert "infer_mnist-sample_fc_bnn_n1_b8_base_r{1,3}_ensemble-2.sh" in scripts
    place = Place(Path("/work"), Path("/opt/bin"), Path("/data"))
    text = script_text(mixed[0], campaign(with_study()), layout, place)
    assert all(str(layout.posterior(cell)) in text for cell in mixed[0].after)


def test_an_ensemble_is_current_as_long_as_all_its_members_are(tmp_path: Path) -> None:
    found = campaign(with_study(infer={"draws": 6, "ensemble": 2}, nodes=[1], prune=None))
    layout = Layout(tmp_path, "toy")
    finish(found, layout)
    job = next(job for job in found.after if job.others)
    assert job.is_current(layout)
    assert [line for line in why(job, layout) if "campaign why" in line] == [
        f"a cell of its: campaign why {cell.name}" for cell in job.after
    ]
    again = campaign(with_study(infer={"draws": 6, "ensemble": 2}, nodes=[1], prune=None, settings={"beta": 0.5}))
    assert next(each for each in again.after if each.others).fingerprint != job.fingerprint
    summary = layout.summary(job.after[1])
    kept = summary.read_text()
    summary.write_text(kept.replace("a" * 64, "c" * 64))
    assert not job.is_current(layout), "its second member was trained again"
    summary.write_text(kept)
    assert job.is_current(layout)
    summary.unlink()
    assert not job.is_current(layout)


def test_the_schema_knows_the_shifts_of_the_command() -> None:
    from bnn.inference.severities import KINDS, SEVERITIES

    every = [f"{kind}:{severity}" for kind in KINDS for severity in SEVERITIES]
    assert len(jobs("infer", infer={"draws": 5, "shift": every})) == 4 * (1 + len(every))


def test_figures_are_there_where_the_plan_has_their_jobs() -> None:
    plan = plan_content(campaign(with_study()))
    drawn = available(plan)
    assert {"fig8", "fig9b", "snr", "pruning_speed", "inference_runtime", "inference_reliability"} <= set(drawn)
    reasons = not_measured(plan)
    assert reasons["fig9a"] == "this campaign does not prune conv"
    assert reasons["fig4a"] == "this campaign does not predict with vgg16"
    bare = not_measured(plan_content(campaign()))
    assert "section infer" in bare["inference_runtime"]
    assert "section prune" in bare["fig8"]
    own = plan_content(campaign(with_study(target="pruning_full")))
    assert "fig8" not in available(own)  # only a target of its own runs them
    assert own["prune"][0]["target"] == "pruning_full"


def test_scripts_quote_and_pass_shellcheck(tmp_path: Path) -> None:
    wild = campaign(with_study())
    layout = Layout(tmp_path / "my results; x", "toy")
    place = Place(tmp_path / "it's here", Path("/opt/a b/bin"), tmp_path / "data")
    for job in wild.after:
        script = tmp_path / f"{job.command}.sh"
        script.write_text(script_text(job, wild, layout, place))
        checked = subprocess.run(
            [Path(sys.executable).parent / "shellcheck", script], capture_output=True, text=True, check=False
        )
        assert checked.returncode == 0, checked.stdout


def test_a_record_that_cannot_be_read_is_missing_from_then_on(tmp_path: Path) -> None:
    """Cut, or of another version."""
    driver = prepared(tmp_path, with_study())
    layout, [first, second, *_] = driver.layout, driver.campaign.after
    assert os.access(layout.job(first.name), os.X_OK)
    assert driver.current == frozenset()
    records = [layout.summary(first.cell), first.record(layout), second.record(layout)]
    for path in records:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")
    kept = layout.finished(first.cell)
    kept.write_text('{"hash": "')
    lock = Lock(layout.driver_lock, "the campaign")
    prepared(tmp_path, with_study())
    assert all(path.exists() for path in records), "nothing is changed under a run that is going on"
    lock.release()
    assert prepared(tmp_path, with_study()).current == frozenset()
    assert not any(path.exists() for path in (*records, kept))
    assert all(aside(path).read_text() == "{}" for path in records)


def test_a_record_that_cannot_be_opened_is_left_where_it_is(tmp_path: Path) -> None:
    driver = prepared(tmp_path, with_study())
    record = driver.campaign.after[0].record(driver.layout)
    record.mkdir(parents=True)  # reading it fails, for root too
    prepared(tmp_path, with_study())
    assert record.is_dir()


def test_the_plan_lists_jobs_with_their_scripts(tmp_path: Path) -> None:
    found = campaign(with_study(target="pruning_full"))
    layout = Layout(tmp_path, "toy")
    table = after_table(found, layout)
    assert table is not None
    columns = {str(column.header): list(column.cells) for column in table.columns}
    assert columns["job"] == ["infer"] * 2 + ["prune"] * 3
    assert columns["repeats"] == ["2"] * 5
    assert columns["done"] == ["0"] * 5
    assert columns["study"][0] == "learn (target pruning_full)"
    scripts = {script.replace("{1..2}", repeat) for script in columns["script"] for repeat in ("1", "2")}
    assert scripts == {layout.job(job.name).name for job in found.after}
    once = after_table(campaign(with_study(repeats=1, nodes=[1], prune=None)), layout)
    assert once is not None
    assert list(once.columns[-1].cells) == ["infer_mnist-sample_fc_bnn_n1_b8_base_r1.sh"]
    assert after_table(campaign(), layout) is None


def test_why_tells_of_every_job(tmp_path: Path) -> None:
    found, layout = campaign(with_study()), Layout(tmp_path, "toy")
    job = found.after[0]
    assert find_job(found, layout, job.name) is job
    assert find_job(found, layout, job.cell.name).command == "train"
    assert why(job, layout)[0] == "would run: it has not finished so far"
    finish(found, layout)
    assert {why(each, layout)[0].split(":")[0] for each in found.jobs} == {"would not run"}
    write_after(job, layout, "b" * 64)
    assert why(job, layout)[0] == "would run: its record is of other options or of another training"
    assert f"its cell: campaign why {job.cell.name}" in why(job, layout)
    job.record(layout).write_text("{")
    assert why(job, layout)[0].startswith("would run: its record cannot be read and will be made anew (")
    aside(job.record(layout)).touch()
    job.record(layout).unlink()
    assert str(aside(job.record(layout))) in why(job, layout)[0]
