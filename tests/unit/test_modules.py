"""Modules in a shell that is no login shell: prepared, found at the usual places, or missed in one line."""

import subprocess
from pathlib import Path

import pytest

from bnn.errors import UserError
from campaign.names.layout import Layout
from campaign.render.scripts import script_text
from tests.support.campaigns import SITE, campaign, changed, place, site

REAL = Path("/usr/share/modules/init/bash")  # Environment Modules
# As Lmod's and Environment Modules' files are: they use what is not set, and let commands fail.
INIT = """
[ -n "$NOT_SET_AT_ALL" ] && echo set
false
grep -q nothing /dev/null | cat
module() {{ [ -z "$ALSO_NOT_SET" ]; echo "module $*" >>{log}; export LOADED="${{LOADED:+$LOADED:}}$2"; }}
"""


def run(tmp_path, environment, installed=True, **variables):
    """The part of a cell's script that prepares its environment, and what it exports; on a machine without modules."""
    found = campaign(at=site(changed(SITE, "site/environment", environment)))
    folder = tmp_path / "place"
    folder.mkdir()
    text = script_text(found.cells[0], found, Layout(folder / "results", "toy"), place(folder))
    head, mark = text.split("# The log goes on"), "set -euo pipefail\n"
    part = mark + head[0].split("# Files that make")[1] if "# Files that make" in head[0] else mark
    part = part.replace(mark, mark + "#", 1) + '\necho "options $-"; echo "LOADED ${LOADED:-}"\n'
    if not installed:
        part = part.replace("/etc/profile.d/", "/nowhere/").replace("/usr/share/", "/nowhere/")
    variables = {"PATH": "/usr/bin:/bin", "HOSTNAME": "h", "HOME": str(tmp_path)} | variables
    return subprocess.run(["bash"], input=part, capture_output=True, text=True, env=variables, timeout=60)


def test_files_are_read_before_modules_are_loaded_whatever_they_leave_unset(tmp_path):
    init = tmp_path / "it's an init; touch oops"
    init.write_text(INIT.format(log=tmp_path / "calls"))
    done = run(tmp_path, {"prepare": [str(init)], "modules": ["gcc/12", "cray mpich"]})
    assert done.returncode == 0, done.stderr
    assert "LOADED gcc/12:cray mpich" in done.stdout
    assert (tmp_path / "calls").read_text() == "module load gcc/12\nmodule load cray mpich\n"
    options = done.stdout.split("options ")[1].split()[0]
    assert {"e", "u"} <= set(options), "the script goes on as strict as it was"
    assert not list(tmp_path.glob("**/oops"))


def test_without_a_preparation_the_usual_files_are_tried(tmp_path):
    (tmp_path / "home/init").mkdir(parents=True)
    (tmp_path / "home/init/bash").write_text(INIT.format(log=tmp_path / "calls"))
    done = run(tmp_path, {"modules": ["gcc/12"]}, MODULESHOME=str(tmp_path / "home"))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "calls").read_text() == "module load gcc/12\n"


def test_a_file_that_is_missing_and_a_module_that_nobody_knows_are_one_line(tmp_path):
    done = run(tmp_path, {"prepare": ["/nowhere/init"]})
    assert done.returncode == 2
    assert done.stderr == "site.environment.prepare: /nowhere/init: no file that can be read here\n"


def test_a_shell_that_does_not_know_module_says_so(tmp_path):
    done = run(tmp_path, {"modules": ["gcc/12"]}, installed=False)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "module: this shell does not know it: name the file that defines it under site.environment.prepare"
    ]


@pytest.mark.skipif(not REAL.exists(), reason="environment-modules is not installed")
@pytest.mark.parametrize("prepare", [[], [str(REAL)]])
def test_the_real_environment_modules(tmp_path, prepare):
    (tmp_path / "gcc").mkdir()
    (tmp_path / "gcc/12").write_text("#%Module1.0\nsetenv LOADED gcc-twelve\n")
    done = run(tmp_path, {"prepare": prepare, "modules": ["gcc/12"]}, MODULEPATH=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "LOADED gcc-twelve" in done.stdout
    (tmp_path / "place").rename(tmp_path / "first")
    done = run(tmp_path, {"prepare": prepare, "modules": ["icc/1"]}, MODULEPATH=str(tmp_path))
    assert done.returncode != 0
    assert "icc/1" in done.stderr


def test_a_module_that_cannot_be_loaded_ends_the_job(tmp_path):
    init = tmp_path / "init"
    init.write_text('module() { echo "no module $2" >&2; return 1; }\n')
    done = run(tmp_path, {"prepare": [str(init)], "modules": ["gcc/99"]})
    assert done.returncode == 1
    assert done.stderr == "no module gcc/99\n"


@pytest.mark.parametrize("path", ["modules.sh", "$HOME/x", "~/x", "/a\nb", 7])
def test_a_preparation_is_a_path(path):
    with pytest.raises(UserError, match=r"site.environment.prepare\[0\]: "):
        site(changed(SITE, "site/environment", {"prepare": [path]}))


def test_another_preparation_is_another_launch_and_none_changes_nothing():
    launches = [
        campaign(at=site(changed(SITE, "site/environment", given))).cells[0].launch
        for given in ({}, {"prepare": []}, {"prepare": ["/etc/profile.d/modules.sh"]})
    ]
    assert launches[0] == launches[1] != launches[2]
