"""A miniature campaign through the real Snakemake, with real Horovod ranks: 1 and 2 nodes, both kinds, one repeat.

The tests share one project folder and run in order: each leaves the campaign finished for the next.
"""

import json
import os
import shutil
import signal
import subprocess
import time
import zipfile
from itertools import pairwise
from pathlib import Path

import pytest

from bnn.mpi_trace.build import build
from bnn.records import PROVENANCE, STEPS, STEPS_FILE, Provenance, Summary, read_table
from bnn.records.bench import header_path
from campaign.io.locking import Lock, holder
from campaign.names.cell import Cell
from campaign.names.layout import Layout
from campaign.plan.campaign import load_campaign
from campaign.results.figures.catalogue import FIGURES
from campaign.results.tables.schemas import TABLES
from campaign.run.journal import last_of_scripts
from campaign.site.site import load_site
from tests.support.browser import assert_readable, with_chromium
from tests.support.ranks import BIN, environment, need_horovod

pytestmark = [pytest.mark.snakemake, pytest.mark.mpi, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
SITE = """
site:
  name: mini
  title: two ranks of a test
  node_label: ranks on one machine
  hardware: {cores_per_node: 2}
  scheduler: {kind: none}
  launcher: {kind: mpiexec}
  profiler: {kind: bnn, timeline: true}
"""
CAMPAIGN = """
name: mini
seed: 1
nodes: [1, 2]
accuracy_targets: [0.1, 0.9]
settings: {width: 0.125, warmup_steps: 1, rho_init: -4, learning_rate: 1e-3}
studies:
  mini:
    roles: [scaling, accuracy]
    dataset: synthetic
    dataset_options: {shape: [1, 8, 8], classes: 4, size: 96, test_size: 16}
    models: [fc]
    batch_sizes: [8]
    settings: {epochs: 2, save_posterior: false}
bench: {models: [fc], batch_sizes: [8], rounds: 2, implementations: [bnn-flipout-reference]}
"""
COMMAND = [str(BIN / "snakemake"), "--profile", "profiles/mini", "--config", "campaign=mini.yaml"]


class Project:
    """A copy of the workflow with a site and a campaign of its own."""

    def __init__(self, folder: Path, campaign: str = CAMPAIGN) -> None:
        self.folder = folder
        for name in ("Snakefile", "workflow", "envs"):
            source = ROOT / name
            copy = shutil.copytree if source.is_dir() else shutil.copy
            copy(source, folder / name)
        profile = folder / "profiles/mini"
        profile.mkdir(parents=True)
        options = (ROOT / "profiles/local/config.yaml").read_text()
        (profile / "config.yaml").write_text(options.replace("cores: all", "cores: 2"))
        (profile / "site.yaml").write_text(SITE)
        (folder / "mini.yaml").write_text(campaign)

    @property
    def environment(self) -> dict[str, str]:
        """With which Python takes the copy's package campaign."""
        return environment() | {"PYTHONPATH": str(self.folder / "workflow")}

    def snakemake(self, *arguments: str, command=COMMAND) -> subprocess.CompletedProcess[str]:
        words = [command[0], *arguments, *command[1:]]
        return subprocess.run(
            words,
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=600,
            stdin=subprocess.DEVNULL,
        )

    def campaign(self, command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """The command `campaign` with this campaign."""
        words = [str(BIN / "campaign"), command, *arguments, "--profile", "profiles/mini", "--campaign", "mini.yaml"]
        return subprocess.run(words, cwd=self.folder, env=environment(), capture_output=True, text=True, timeout=600)

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """The driver in a session of its own, to be killed."""
        with (self.folder / "driver.log").open("wb") as log:
            return subprocess.Popen(
                [COMMAND[0], *arguments, *COMMAND[1:]], cwd=self.folder, env=self.environment, stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    def dry_jobs(self, *arguments: str) -> dict[str, int]:
        """Rule -> number of jobs that a dry run announces."""
        done = self.snakemake("-n", *arguments)
        assert done.returncode == 0, done.stderr
        text = done.stdout + done.stderr
        if "Nothing to be done" in text:
            return {}
        table = text.split("Job stats:")[1].split("total")[0].splitlines()[3:]
        return {rule: int(count) for rule, count in (line.split() for line in table if line.strip())}

    @property
    def layout(self) -> Layout:
        return Layout(self.folder / "results", "mini")

    def cells(self) -> list[Cell]:
        found = load_campaign(self.folder / "mini.yaml", load_site(self.folder / "profiles/mini"))
        return [planned.cell for planned in found.cells]

    def starts(self, cell: Cell) -> int:
        """Attempts that the job's log tells of."""
        lines = (self.layout.folder(cell) / "job.log").read_text().splitlines()
        return sum(line.startswith("# job local") for line in lines)

    def check_finished(self) -> None:
        """Every cell is whole, and no two were ever measured at the same time."""
        spans = []
        for cell in self.cells():
            folder = self.layout.folder(cell)
            summary = Summary.model_validate_json(self.layout.summary(cell).read_text())
            assert summary.verdict.status in ("OK", "WARN"), summary.verdict
            for name, entry in summary.manifest.items():
                assert (folder / name).stat().st_size == entry.bytes
            assert not list(folder.glob(".partial-*"))
            steps = read_table(folder / STEPS_FILE, STEPS)
            ranks = Provenance.model_validate_json((folder / PROVENANCE).read_text()).ranks
            start = min(rank.started_at for rank in ranks)
            assert start <= steps["started_at"].min()
            end = max(*(rank.stopped_at for rank in ranks), (steps["started_at"] + steps["seconds"]).max())
            spans.append((start, end, cell.name))
        for (_, end, first), (start, _, second) in pairwise(sorted(spans)):
            assert end <= start, f"{first} and {second} overlapped"


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    need_horovod()
    build()
    return Project(tmp_path_factory.mktemp("project"))


def wait_until(condition, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.1)


def test_a_dry_run_shows_everything_and_its_scripts_are_real(project):
    jobs = project.dry_jobs("all_figures")
    assert jobs["train"] == 4
    assert {"data", "tables", "fig1", "fig2c", "fig2d", "fig3c", "report", "all_figures"} <= set(jobs)
    assert not project.layout.root.exists(), "a dry run writes nothing"
    said = project.snakemake("-n", "all_figures").stdout
    planned = project.campaign("plan")
    assert planned.returncode == 0, planned.stderr
    for cell in project.cells():
        script = project.layout.script(cell)
        assert f"batch_script={script.relative_to(project.folder)}," in said
        assert "mpiexec -n" in script.read_text()
        assert not project.layout.folder(cell).exists()


def test_a_dry_run_of_the_peer_comparison_trains_nothing_and_its_script_is_real(project):
    jobs = project.dry_jobs("peer_comparison")
    assert {"bench", "bench_tables", "draw_peer_comparison", "report", "peer_comparison"} <= set(jobs)
    assert (jobs["bench"], jobs.get("train", 0)) == (1, 0)
    assert project.campaign("plan").returncode == 0
    script = project.layout.job("bench_step_fc_b8").read_text()
    options = "--model fc --batch 8 --threads 2 --rounds 2 --implementations bnn-flipout-reference"
    assert f"bnn bench step {options} --labels " in script
    assert "bench" not in project.dry_jobs("all_figures"), "nothing but its own target measures it"


def test_one_command_runs_the_campaign_and_prints_the_report_last(project):
    done = project.snakemake("all_figures")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "results/mini/report.html"
    layout = project.layout
    assert layout.report.stat().st_size > 10_000
    for name in ("fig1", "fig2c", "fig2d", "fig3c"):
        assert layout.figure(name, "svg").exists()
        assert layout.figure(name, "png").exists()
    for name in ("cells", "steps", "throughput", "scaling", "accuracy"):
        assert layout.table(name).exists()
    project.check_finished()
    for cell in project.cells():
        steps = read_table(layout.folder(cell) / STEPS_FILE, STEPS)
        assert set(steps["engine"]) == {"horovod"}
        assert set(steps["rank"]) == set(range(cell.nodes))
        assert steps.groupby("rank")["step"].nunique().to_list() == [24 // cell.nodes] * cell.nodes
        first = (layout.folder(cell) / "job.log").read_text().splitlines()[0]
        assert first.startswith("# job local ")


def test_the_campaign_has_an_mpi_profile_of_every_rank(project):
    layout = project.layout
    for cell in project.cells():
        found = sorted(path.name for path in (layout.folder(cell) / "mpi").glob("mpi_profile.*.parquet"))
        assert [name.split(".")[2] for name in found] == [str(rank) for rank in range(cell.nodes)]
        assert not (layout.folder(cell) / ".mpi").exists()
    ranks = read_table(layout.table("mpi_ranks"), TABLES["mpi_ranks"])
    assert len(ranks) == 2 * (1 + 2)
    assert set(ranks.loc[ranks["ranks"] == 1, "gradient_check"]) == {"no exchange"}
    two = ranks[ranks["ranks"] == 2]
    assert set(two["gradient_check"]) == {"exact"}
    cells = read_table(layout.table("cells"), TABLES["cells"])
    parameters = cells.set_index(["kind", "nodes"])["parameters_trainable"]
    for _, row in two.iterrows():
        assert row["gradient_bytes_per_step"] == 4 * parameters[row["kind"], 2]
    assert (ranks["metric_exchanges_per_epoch"] <= 1).all()
    assert set(cells["mpi"]) == {"recorded"}
    assert all((layout.results / timeline).stat().st_size for timeline in cells["mpi_timeline"])
    assert ">MPI_Allreduce<" in layout.figure("fig2d", "svg").read_text()
    assert "exchange exactly 4 bytes per trainable parameter" in layout.report.read_text()


def test_snakemake_s_own_report_has_every_figure_with_its_caption(project):
    """It is for archives of workflows: categories, labels and captions, and the description of the whole."""
    done = project.snakemake("all_figures", "--report", "own.zip")
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(project.folder / "own.zip") as archive:
        names = archive.namelist()
        (page,) = [name for name in names if name.endswith("report.html")]
        text = archive.read(page).decode()
    assert "Scaling campaign after Sharma" in text
    figures = list(project.layout.figure("fig1", "svg").parent.glob("*.svg"))
    assert len([name for name in names if name.endswith(".svg")]) == len(figures) > 5
    for name in ("fig2c", "fig3c"):
        spec = FIGURES[name]
        assert json.dumps(spec.category)[1:-1] in text
        assert json.dumps(spec.title)[1:-1] in text
    assert "Time to" in text


def test_running_again_does_nothing(project):
    assert project.dry_jobs("all_figures") == {}
    assert "Nothing to be done" in project.snakemake("all_figures").stderr


def test_comments_captions_and_figure_modules_rerun_no_training(project):
    with (project.folder / "workflow/campaign/results/figures/runtime.py").open("a") as module:
        module.write("# a comment\n")
    with (project.folder / "workflow/report/fig2c.rst").open("a") as caption:
        caption.write("\nMore words.\n")
    with (project.folder / "workflow/rules/training.smk").open("a") as rule:
        rule.write("# a comment\n")
    with (project.folder / "mini.yaml").open("a") as campaign:
        campaign.write("# a comment\n")
    for name in ("Snakefile", "mini.yaml", "profiles/mini/site.yaml"):
        (project.folder / name).touch()
    jobs = set(project.dry_jobs("all_figures"))
    assert jobs <= {"fig2c", "report", "all_figures"}
    assert "fig2c" in jobs, "its module has changed"


def test_a_changed_setting_reruns_the_cells_that_it_touches_even_without_snakemakes_memory(project):
    file = project.folder / "mini.yaml"
    before = file.read_text()
    file.write_text(before.replace("rho_init: -4", "rho_init: -5"))
    assert project.dry_jobs("all_figures")["train"] == 2, "a conventional network has no rho"
    memory = project.folder / ".snakemake/metadata"
    memory.rename(project.folder / "metadata")
    assert project.dry_jobs("all_figures")["train"] == 2
    (project.folder / "metadata").rename(memory)
    file.write_text(before)
    assert "train" not in project.dry_jobs("all_figures")


def test_deleting_a_cells_folder_reruns_it_and_what_follows(project):
    cell = project.cells()[0]
    folder = project.layout.folder(cell)
    folder.rename(project.folder / "aside")
    jobs = project.dry_jobs("all_figures")
    assert jobs["train"] == 1
    assert {"tables", "fig2c", "fig3c", "report"} <= set(jobs)
    assert "train" not in project.dry_jobs("report"), "the report is of what has been measured"
    (project.folder / "aside").rename(folder)


def test_the_peer_comparison_measures_draws_and_reports_and_is_done_then(project):
    done = project.snakemake("peer_comparison")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "results/mini/report.html"
    layout = project.layout
    bench = read_table(layout.table("bench"), TABLES["bench"]).set_index("implementation")
    assert {"cnn", "cnn-again", "bnn-flipout-reference"} <= set(bench.index)
    assert (bench["step_seconds"] > 0).all()
    assert read_table(layout.table("bench_runs"), TABLES["bench_runs"])["peak_flops_per_second"].notna().all()
    assert "bnn-flipout-reference</td>" in layout.report.read_text()
    assert ">bnn-flipout-reference<" in layout.figure("peer_comparison", "svg").read_text()
    assert project.dry_jobs("peer_comparison") == {}
    assert project.dry_jobs("all_figures") == {}
    file = project.folder / "mini.yaml"
    before = file.read_text()
    file.write_text(before.replace("rounds: 2", "rounds: 3"))
    assert project.dry_jobs("peer_comparison")["bench"] == 1
    assert not {"bench", "train"} & set(project.dry_jobs("all_figures"))
    file.write_text(before)
    assert "bench" not in project.dry_jobs("peer_comparison")
    record = layout.root / "bench/step/fc/batch=8.parquet"
    header = header_path(record).read_text()
    header_path(record).write_text(header[:-30])
    assert project.dry_jobs("peer_comparison")["bench"] == 1, "it cannot be read: measured anew"
    header_path(record).write_text(header)
    assert "bench" not in project.dry_jobs("peer_comparison")


@pytest.mark.browser
@with_chromium
def test_its_report_can_be_read(project, browser):
    """With what was measured of two ranks and of the peers."""
    assert_readable(browser, project.layout.report)


def test_slips_are_one_line_before_anything_runs(project):
    file = project.folder / "mini.yaml"
    before = file.read_text()
    file.write_text(before.replace("    models:", "    modles:"))
    done = project.snakemake("all_figures")
    file.write_text(before)
    assert done.returncode == 2
    assert done.stderr.splitlines()[1:] == ["mini.yaml: studies.mini.modles: unknown key, did you mean models?"]
    done = project.snakemake("all_figures", command=[COMMAND[0], "--cores", "1"])
    assert done.returncode == 2
    assert done.stderr.strip() == "no site given: use snakemake --profile PROFILE with one of profiles/mini"


def test_targets_that_run_nothing(project):
    done = project.snakemake("plan")
    assert done.returncode == 0
    assert "4 cells, 4 finished" in done.stdout + done.stderr
    done = project.snakemake("gpu_scaling")
    assert done.returncode == 2
    assert "gpu_scaling: site mini has no GPUs" in done.stderr
    assert project.dry_jobs("gpu_scaling") == {"gpu_scaling": 1}


def test_a_script_that_is_written_anew_is_no_reason_to_run_its_cell(project):
    script = project.layout.script(project.cells()[0])
    script.write_text(script.read_text() + "# as another template would have it\n")
    assert "train" not in project.dry_jobs("cpu_scaling")
    assert project.campaign("plan").returncode == 0
    assert "another template" not in script.read_text()
    assert "train" not in project.dry_jobs("cpu_scaling")


def test_a_second_driver_is_refused_by_name(project):
    project.layout.report.unlink()
    lock = Lock(project.layout.driver_lock, "the campaign")
    done = project.snakemake("all_figures")
    lock.release()
    assert done.returncode == 2
    line = f"the campaign in results/mini is already being run by process {os.getpid()} on "
    assert line in done.stderr
    assert not project.layout.report.exists()


def test_killing_everything_loses_nothing(project):
    first, _, third, _ = project.cells()
    layout = project.layout
    untouched = [layout.summary(cell).stat().st_mtime_ns for cell in project.cells()[1::2]]
    for cell in (first, third):
        shutil.rmtree(layout.folder(cell))
    driver = project.start("cpu_scaling")
    wait_until(lambda: layout.folder(first).exists() and list(layout.folder(first).glob(".partial-*")))
    os.killpg(driver.pid, signal.SIGKILL)
    driver.wait()
    # the ranks of a killed launcher end by themselves, and their locks with them
    wait_until(lambda: holder(layout.measuring_lock) is None)
    assert holder(layout.driver_lock) is None
    done = project.snakemake("cpu_scaling")
    assert done.returncode == 0, done.stderr
    project.check_finished()
    assert [layout.summary(cell).stat().st_mtime_ns for cell in project.cells()[1::2]] == untouched
    assert project.starts(third) == 1


def test_a_job_that_outlives_its_driver_is_waited_for_not_repeated(project):
    cell = project.cells()[2]
    layout = project.layout
    shutil.rmtree(layout.folder(cell))
    driver = project.start("cpu_scaling")
    wait_until(lambda: layout.folder(cell).exists() and list(layout.folder(cell).glob(".partial-*")))
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait()
    done = project.snakemake("cpu_scaling")
    assert done.returncode == 0, done.stderr
    assert project.starts(cell) == 1
    project.check_finished()


def test_a_failing_cell_is_named_with_its_log_and_stops_no_other(project):
    text = CAMPAIGN.replace("models: [fc]", "models: [no.such:model, fc]").replace("nodes: [1, 2]", "nodes: [1]")
    (project.folder / "mini.yaml").write_text(text.replace("name: mini", "name: failing"))
    working = project.cells()[2:]
    for cell in working:
        shutil.rmtree(project.layout.folder(cell))
    done = project.snakemake("cpu_scaling")
    assert done.returncode != 0
    said = done.stdout + done.stderr
    for cell in project.cells()[:2]:
        log = f"results/mini/cells/synthetic/no.such%3Amodel/{cell.kind}/nodes=1/batch=8/variant=base/repeat=1/job.log"
        assert f"log: {log}" in said
        assert not project.layout.summary(cell).exists()
    for cell in working:
        assert project.layout.summary(cell).exists()
    outcomes = [last_of_scripts(project.layout)[cell.name]["outcome"] for cell in project.cells()]
    assert outcomes == ["failed", "failed", "done", "done"]
    assert json.loads(project.layout.plan.read_text())["campaign"] == "failing"
