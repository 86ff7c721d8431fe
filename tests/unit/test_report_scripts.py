"""The thin scripts of the workflow, run as Snakemake runs them: with `snakemake` defined."""

import json
import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest
from snakemake.iocontainers import Namedlist

from campaign.results.figures.draw import DRAW
from campaign.results.tables import TABLES
from tests.support.cells import SITE, entry, plan, write_cell

SCRIPTS = Path(__file__).parents[2] / "workflow" / "scripts"


def run(script, **fields):
    """Run a script; its fields are named lists of files, as Snakemake's are, but for the plan, a parameter."""
    inputs = dict(fields["input"])
    fields["params"] = SimpleNamespace(**vars(fields.get("params", SimpleNamespace())), plan=inputs.pop("plan"))
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


def test_scripts_exist_for_every_figure():
    assert {path.stem for path in SCRIPTS.glob("*.py")} - {"tables", "report"} == set(DRAW)


def test_tables_then_figure_then_report(results):
    site = results / SITE["name"]
    plan_file = str(site / "plan.json")
    files = [str(site / "tables" / f"{name}.parquet") for name in TABLES]
    run("tables", input={"plan": plan_file}, output=files, params=SimpleNamespace(results=str(results)))
    assert all(Path(path).exists() for path in files)
    svg, png = (str(site / "figures" / f"fig2a.{kind}") for kind in ("svg", "png"))
    chosen = [path for path in files if Path(path).stem in ("cells", "throughput")]
    run("fig2a", input={"plan": plan_file, "tables": Namedlist(chosen)}, output={"svg": svg, "png": png})
    assert Path(svg).read_text().lstrip().startswith("<?xml")
    assert Path(png).read_bytes().startswith(b"\x89PNG")
    html = str(site / "report.html")
    inputs = {"plan": plan_file, "tables": Namedlist(files), "figures": Namedlist([svg])}
    run("report", input=inputs, output={"html": html})
    assert "Figure 2a" in Path(html).read_text()


def test_a_mistake_ends_in_one_line(results, capsys):
    inputs = {"plan": str(results / "absent.json"), "tables": Namedlist([])}
    with pytest.raises(SystemExit) as ended:
        run("fig2a", input=inputs, output={"svg": "x.svg", "png": "x.png"})
    assert ended.value.code == 2
    assert capsys.readouterr().err.strip() == f"error: {results / 'absent.json'}: No such file or directory"


def test_a_figure_without_any_value_says_so_in_its_place(tmp_path):
    cells = [entry(kind=kind, nodes=1) for kind in ("bnn", "cnn")]
    site = tmp_path / SITE["name"]
    site.mkdir()
    (site / "plan.json").write_text(json.dumps(plan(cells)))
    files = [str(site / "tables" / f"{name}.parquet") for name in TABLES]
    inputs = {"plan": str(site / "plan.json")}
    run("tables", input=inputs, output=files, params=SimpleNamespace(results=str(tmp_path)))
    svg, png = (str(site / "figures" / f"fig2a.{kind}") for kind in ("svg", "png"))
    run("fig2a", input={**inputs, "tables": Namedlist(files)}, output={"svg": svg, "png": png})
    assert "Not drawn: " in Path(svg).read_text()
    assert "no repeat of its 2 points counts" in Path(svg).read_text()
    html = str(site / "report.html")
    run("report", input={**inputs, "tables": Namedlist(files), "figures": Namedlist([svg])}, output={"html": html})
    page = Path(html).read_text()
    assert "throughput (scaling vgg16): no repeat of its 2 points counts; the table of cells says why" in page
    assert "Not drawn: " not in page
