"""The thin scripts of the workflow, run as Snakemake runs them: with `snakemake` defined."""

import json
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path
from threading import Thread
from types import SimpleNamespace

import pytest
from snakemake.iocontainers import Namedlist

from campaign.io.locking import Lock
from campaign.names.layout import Layout
from campaign.results.tables.schemas import TABLES
from tests.support.cells import SITE, entry, plan, write_cell

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "workflow" / "scripts"


def run(script, params=(), **fields):
    """Run a script; its fields are named lists of files, as Snakemake's are, but for the plan, a parameter."""
    inputs = dict(fields["input"])
    fields["params"] = dict(params) | {"plan": inputs.pop("plan")}
    fields["input"] = inputs
    named = {key: Namedlist(fromdict=value) if isinstance(value, dict) else value for key, value in fields.items()}
    runpy.run_path(str(SCRIPTS / f"{script}.py"), init_globals={"snakemake": SimpleNamespace(**named)})


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    cells = [entry(kind=kind, nodes=n) for kind in ("bnn", "cnn") for n in (1, 2)]
    for cell in cells:
        write_cell(folder, cell)
    (folder / SITE["name"] / "plan.json").write_text(json.dumps(plan(cells)))
    return folder


def test_one_script_draws_all_figures():
    assert {path.stem for path in SCRIPTS.glob("*.py")} == {"draw", "tables", "claims", "projection", "report"}


def test_tables_then_figure_then_report(results):
    site = results / SITE["name"]
    plan_file = str(site / "plan.json")
    files = [str(site / "tables" / f"{name}.parquet") for name in TABLES]
    run("tables", input={"plan": plan_file}, output=files, params={"results": str(results)})
    assert all(Path(path).exists() for path in files)
    svg, png = (str(site / "figures" / f"fig2a.{kind}") for kind in ("svg", "png"))
    chosen = [path for path in files if Path(path).stem in ("cells", "throughput")]
    run(
        "draw",
        params={"figure": "fig2a"},
        input={"plan": plan_file, "tables": Namedlist(chosen)},
        output={"svg": svg, "png": png},
    )
    assert Path(svg).read_text().lstrip().startswith("<?xml")
    assert Path(png).read_bytes().startswith(b"\x89PNG")
    html = str(site / "report.html")
    inputs = {"plan": plan_file, "tables": Namedlist(files), "figures": Namedlist([svg])}
    run("report", input=inputs, output={"html": html})
    assert "Figure 2a" in Path(html).read_text()


def test_a_mistake_ends_in_one_line(results, capsys):
    inputs = {"plan": str(results / "absent.json"), "tables": Namedlist([])}
    with pytest.raises(SystemExit) as ended:
        run("draw", params={"figure": "fig2a"}, input=inputs, output={"svg": "x.svg", "png": "x.png"})
    assert ended.value.code == 2
    assert capsys.readouterr().err.strip() == f"error: {results / 'absent.json'}: No such file or directory"


def test_a_figure_without_any_value_says_so_in_its_place(tmp_path):
    cells = [entry(kind=kind, nodes=1) for kind in ("bnn", "cnn")]
    site = tmp_path / SITE["name"]
    site.mkdir()
    (site / "plan.json").write_text(json.dumps(plan(cells)))
    files = [str(site / "tables" / f"{name}.parquet") for name in TABLES]
    inputs = {"plan": str(site / "plan.json")}
    run("tables", input=inputs, output=files, params={"results": str(tmp_path)})
    svg, png = (str(site / "figures" / f"fig2a.{kind}") for kind in ("svg", "png"))
    run(
        "draw",
        params={"figure": "fig2a"},
        input={**inputs, "tables": Namedlist(files)},
        output={"svg": svg, "png": png},
    )
    assert "Not drawn: " in Path(svg).read_text()
    assert "no repeat of its 2 points counts" in Path(svg).read_text()
    html = str(site / "report.html")
    run("report", input={**inputs, "tables": Namedlist(files), "figures": Namedlist([svg])}, output={"html": html})
    page = Path(html).read_text()
    assert "throughput (scaling vgg16): no repeat of its 2 points counts; the table of cells says why" in page
    assert "Not drawn: " not in page


def test_a_step_loads_and_computes_nothing_while_a_job_is_measured(results, capsys):
    site = results / SITE["name"]
    lock = Layout(results, SITE["name"]).measuring_lock
    job = Lock(lock, "a cell")
    svg, png = (site / "figures" / f"fig1.{kind}" for kind in ("svg", "png"))
    given = {
        "params": {"figure": "fig1", "measuring": str(lock)},
        "input": {"plan": str(site / "plan.json"), "tables": Namedlist([])},
        "output": {"svg": str(svg), "png": str(png)},
    }
    step = Thread(target=run, args=("draw",), kwargs=given)
    step.start()
    step.join(1)
    assert step.is_alive()
    assert not svg.exists()
    job.release()
    step.join(60)
    assert not step.is_alive()
    assert svg.exists()
    assert re.fullmatch(r"fig1.svg: waits for a measurement: process \d+ on .*\n", capsys.readouterr().err)


def test_nothing_heavy_is_loaded_before_the_lock_is_asked_for():
    """The module that a step runs is stood in for by one that says what has been loaded until then."""
    code = """
import sys, types
from campaign.results.steps.common import run
heavy = {"matplotlib", "pandas", "numpy", "pyarrow", "torch", "scipy", "jinja2"}
sys.modules["step"] = types.SimpleNamespace(main=lambda snakemake: print(heavy & set(sys.modules)))
run("step", types.SimpleNamespace(params={}))
"""
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'workflow'}"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout == "set()\n"
