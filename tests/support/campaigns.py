"""Campaign and site files of tests, and programs that stand in for `mpiexec` and `bnn` in job scripts."""

from __future__ import annotations

import copy
import stat
from pathlib import Path
from typing import Any

from campaign.names.layout import Layout
from campaign.plan.campaign import Campaign, parse_campaign
from campaign.render.scripts import Place
from campaign.run.driver import Driver, look
from campaign.site.site import Site, parse_site

SITE: dict[str, Any] = {
    "site": {
        "name": "toy",
        "hardware": {"cores_per_node": 8},
        "scheduler": {"kind": "none"},
        "launcher": {"kind": "mpiexec", "options": ["-prepend-rank"]},
    }
}
CAMPAIGN: dict[str, Any] = {
    "name": "tiny",
    "seed": 7,
    "nodes": [1, 2],
    "accuracy_targets": [0.5],
    "settings": {"epochs": 2},
    "variants": {"slow": {"description": "the reference", "settings": {"estimator": "flipout-reference"}}},
    "studies": {
        "speed": {
            "roles": ["scaling"],
            "dataset": "synthetic",
            "dataset_options": {"size": 64},
            "models": ["fc"],
            "batch_sizes": [8],
            "variants": ["base", "slow"],
            "repeats": 2,
        }
    },
}


def changed(values: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A deep copy with `value` at a path of keys joined by '/'; None removes the key."""
    result = copy.deepcopy(values)
    *parents, last = path.split("/")
    place = result
    for key in parents:
        place = place[key]
    if value is None:
        del place[last]
    else:
        place[last] = value
    return result


def site(values: dict[str, Any] = SITE) -> Site:
    return parse_site(values, "site.yaml")


def campaign(values: dict[str, Any] = CAMPAIGN, at: Site | None = None) -> Campaign:
    return parse_campaign(values, "config.yaml", at or site())


def place(folder: Path) -> Place:
    """A place whose programs are stand-ins: mpiexec runs the program once, bnn writes the records of a finished run.

    bnn appends `start` and `stop` lines to folder/runs. Before it finishes it sleeps folder/sleep seconds, and leaves
    no summary where folder/fail exists.
    """
    programs = folder / "bin"
    programs.mkdir()
    _program(programs / "mpiexec", 'shift 3\nexec "$@"')
    _program(
        programs / "bnn",
        f"""
cd {folder}
out=$5 settings=$3
echo "start $$ $out" >>runs
echo "training with $settings"
sleep "$(cat sleep 2>/dev/null || echo 0)"
if [ -e fail ]; then echo "the machine is on fire"; exit 3; fi
"{folder}/finish" "$settings" "$out"
echo "stop $$ $out" >>runs
""",
    )
    _program(
        folder / "finish",
        """
hash=$(cat "${1%.json}.hash")
echo '{"hash": "'"$hash"'"}' >"$2/cell.json"
{ echo '{"hash": "'"$hash"'",'; grep '"launch"' "$1"; echo '}'; } >"$2/summary.json"
""",
    )
    return Place(folder, programs, folder / "data")


def _program(path: Path, text: str) -> None:
    path.write_text(f"#!/usr/bin/env bash\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def hashes(found: Campaign, layout: Layout) -> None:
    """Tell the stand-in for bnn each run's hash (it does not compute one)."""
    for planned in found.cells:
        layout.settings(planned.cell).with_suffix(".hash").write_text(planned.settings.fingerprint())


def prepared(folder: Path, values: dict[str, Any] = CAMPAIGN) -> Driver:
    """A campaign made ready from files, as the workflow does it. JSON is YAML."""
    import json

    (folder / "config.yaml").write_text(json.dumps(values))
    (folder / "site.yaml").write_text(json.dumps(SITE))
    return ready(folder / "site.yaml", folder / "config.yaml", folder / "results")


def ready(*files: Path) -> Driver:
    """The campaign of a site's file, a campaign file and a results folder, made ready unless somebody runs it."""
    driver = look(*files)
    if not driver.busy:
        driver.make_ready()
    return driver
