"""What drawings and tables rest on: the digest changes where their source does, and nowhere else."""

import dataclasses
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from campaign.results import sources
from campaign.results.figures.catalogue import FIGURES
from campaign.results.sources import CATALOGUE, Sources

ROOT = Path(__file__).parents[2]
SCRIPT = "campaign.results.steps.figure"


def copied(folder: Path) -> Path:
    """The packages and what the report reads beside them."""
    skip = shutil.ignore_patterns("__pycache__", "*.so")
    shutil.copytree(ROOT / "bnn", folder / "bnn", ignore=skip)
    for name in ("campaign", "templates", "report"):
        shutil.copytree(ROOT / "workflow" / name, folder / "workflow" / name, ignore=skip)
    return folder


def read(folder: Path) -> dict[str, str]:
    """All digests of a copy."""
    copy = Sources((folder / "bnn", folder / "workflow/campaign"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sources, "here", lambda: copy)
        found = {name: sources.of_figure(name) for name in FIGURES}
        return found | {"tables": sources.of_tables(), "report": sources.of_report()}


@pytest.fixture(scope="module")
def before(tmp_path_factory):
    return read(copied(tmp_path_factory.mktemp("original")))


@pytest.mark.parametrize(
    ("file", "changed"),
    [
        ("workflow/campaign/results/figures/mpi.py", {"fig2d"}),
        ("workflow/campaign/results/figures/accuracy.py", {"fig3c"}),
        ("workflow/campaign/results/figures/gpu.py", {"fig7a", "fig7b"}),
        ("workflow/campaign/results/figures/style.py", {*FIGURES, "report"}),
        ("workflow/campaign/results/figures/catalogue.py", {"report"}),
        ("workflow/campaign/results/tables/scaling.py", {"tables"}),
        ("workflow/campaign/results/report/headline.py", {"report"}),
        ("workflow/report/fig2a.rst", {"report"}),
        ("workflow/templates/report.css", {"report"}),
        ("workflow/templates/job.sh.j2", set()),
        ("workflow/campaign/tell/status.py", set()),
        ("workflow/campaign/render/scripts.py", set()),
        ("bnn/training/loop.py", set()),
        ("bnn/layers/flipout.py", set()),
        ("bnn/records/columns.py", {*FIGURES, "tables", "report"}),
    ],
)
def test_a_changed_file_changes_what_rests_on_it_alone(file, changed, before, tmp_path):
    copy = copied(tmp_path / "copy")
    with (copy / file).open("a") as source:
        source.write("\n")
    after = read(copy)
    assert {name for name in before if before[name] != after[name]} == changed


def test_a_changed_definition_changes_tables_report_and_the_figures_that_use_it(before, tmp_path):
    copy = copied(tmp_path / "copy")
    with (copy / "bnn/metrics.py").open("a") as source:
        source.write("STEADY = None\n")
    after = read(copy)
    changed = {name for name in before if before[name] != after[name]}
    assert {"tables", "report", "fig2a", "fig3a"} <= changed
    assert not {"fig1", "snr"} & changed


def test_a_figures_own_entry_counts_and_no_others(monkeypatch):
    before = {name: sources.of_figure(name) for name in FIGURES}
    arguments = {"role": "scaling", "model": "fc"}
    monkeypatch.setitem(FIGURES, "fig2a", dataclasses.replace(FIGURES["fig2a"], arguments=arguments))
    assert {name for name in FIGURES if before[name] != sources.of_figure(name)} == {"fig2a"}


def test_two_figures_of_one_function_differ():
    assert len({sources.of_figure(name) for name in FIGURES}) == len(FIGURES)


def test_neither_place_nor_time_counts(before, tmp_path):
    copy = copied(tmp_path / "elsewhere")
    for path in copy.rglob("*"):
        os.utime(path, (1, 1))
    assert read(copy) == before


def imported(module: str) -> set[str]:
    """The project's modules that Python has loaded after `import module`."""
    code = f"import sys, {module}; print(*(m for m in sys.modules if m.split('.')[0] in ('bnn', 'campaign')))"
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'workflow'}"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "module",
    [SCRIPT, "campaign.results.steps.tables", "campaign.results.steps.claims", "campaign.results.steps.report"],
)
def test_all_that_python_loads_is_in_the_closure_and_little_else(module):
    closure, loaded = sources.here().closure([module]), imported(module)
    assert loaded <= closure
    assert len(closure - loaded) < 20, "what functions import"
    assert not {name for name in closure if name.startswith(("bnn.training", "bnn.layers", "campaign.render"))}


def test_every_figures_module_is_in_its_closure_with_what_it_loads():
    modules = sorted({spec.module for spec in FIGURES.values()})
    together = sources.here().closure(modules)
    assert imported(", ".join(modules)) <= together


def test_nothing_that_draws_reads_the_catalogue_but_the_entry_of_its_figure():
    readers = {
        name
        for name in sources.here().closure([SCRIPT, *(spec.module for spec in FIGURES.values())])
        if any(imported.startswith(CATALOGUE) for imported in sources.here()._module(name).imports)
    }
    assert readers == {SCRIPT, "campaign.results.figures.draw"}


def test_which_imports_count(tmp_path):
    package = tmp_path / "campaign"
    files = {
        "__init__.py": "",
        "a.py": "from __future__ import annotations\nfrom typing import TYPE_CHECKING\nimport os.path\n"
        "from campaign import b\nif TYPE_CHECKING:\n    from campaign import typed\nelse:\n    import campaign.other\n"
        "def f():\n    if True:\n        from campaign.inner import within\n"
        "try:\n    import campaign.tried\nexcept ImportError:\n    import campaign.failed\n",
        "b.py": "import typing\nif typing.TYPE_CHECKING:\n    import campaign.typed\nfrom .inner import value\n",
        "inner/__init__.py": "from . import deep\nfrom ..up import x\nvalue = 1\n",
        "inner/deep.py": "x = 1 if value else (lambda: 2)\n",
        "inner/within.py": "",
        **{f"{name}.py": "" for name in ("typed", "other", "tried", "failed", "up", "unused")},
    }
    for name, text in files.items():
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text(text)
    found = Sources([package]).closure(["campaign.a"])
    names = {"a", "b", "inner", "inner.deep", "inner.within", "other", "tried", "failed", "up"}
    assert found == {"campaign", *(f"campaign.{name}" for name in names)}


def test_what_bnns_functions_import_is_the_training_and_does_not_count(tmp_path):
    for name, text in {"__init__": "def f():\n    import bnn.heavy\n", "light": "import bnn", "heavy": ""}.items():
        (tmp_path / "bnn").mkdir(exist_ok=True)
        (tmp_path / "bnn" / f"{name}.py").write_text(text)
    assert Sources([tmp_path / "bnn"]).closure(["bnn.light"]) == {"bnn", "bnn.light"}


def test_the_digests_load_nothing_heavy():
    code = "import sys; from campaign.results import sources as s; s.of_figure('fig2a'), s.of_tables(), s.of_report(); "
    code += "print({'matplotlib', 'pandas', 'numpy', 'torch', 'scipy'} & set(sys.modules))"
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'workflow'}"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.strip() == "set()"
