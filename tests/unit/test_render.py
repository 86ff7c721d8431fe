"""Job scripts: rendered only when they change, safe with any name, one at a time, honest about what ended."""

import os
import shutil
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest

from bnn.errors import UserError
from bnn.settings import read_settings
from campaign.io.locking import Lock, holder
from campaign.names.layout import Layout
from campaign.render.scripts import Place, render_jobs, script_text
from tests.support.campaigns import CAMPAIGN, SITE, campaign, changed, hashes, place, site

NASTY = 'it\'s; $(touch oops) `touch oops` "q" \\ é\n#'


@pytest.fixture
def layout(tmp_path):
    return Layout(tmp_path / "results", "toy")


@pytest.fixture
def here(tmp_path):
    return place(tmp_path)


def jobs(found, layout, here):
    render_jobs(found, layout, here)
    hashes(found, layout)
    return [layout.script(planned.cell) for planned in found.cells]


def run(script, **keywords):
    return subprocess.run(["bash", str(script)], capture_output=True, text=True, timeout=60, cwd="/", **keywords)


def wait_until(condition, seconds=30):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def test_only_what_changed_is_written_and_what_is_stale_goes(layout, here):
    first = campaign()
    assert len(render_jobs(first, layout, here)) == 32
    stamps = {path: path.stat().st_mtime_ns for path in layout.jobs.iterdir()}
    assert render_jobs(first, layout, here) == []
    assert {path: path.stat().st_mtime_ns for path in layout.jobs.iterdir()} == stamps
    second = campaign(changed(CAMPAIGN, "variants/slow/settings/beta", 0.5))
    written = render_jobs(second, layout, here)
    assert len(written) == 8 + 4, "settings of 8 cells; scripts of 4, for a cnn has no beta"
    assert all("slow" in path.name for path in written)
    third = campaign(changed(CAMPAIGN, "nodes", [1]))
    render_jobs(third, layout, here)
    assert len(list(layout.jobs.iterdir())) == 16


def test_a_run_that_is_going_on_keeps_its_scripts(layout, here):
    render_jobs(campaign(changed(CAMPAIGN, "nodes", [1])), layout, here)
    before = {path: path.read_text() for path in layout.jobs.iterdir()}
    names = {path.stem for path in before}
    render_jobs(campaign(changed(CAMPAIGN, "settings/epochs", 5)), layout, here, keep=names)
    assert {path: path.read_text() for path in before} == before
    assert len(list(layout.jobs.iterdir())) == 32


def test_settings_files_are_what_bnn_reads(layout, here):
    found = campaign()
    render_jobs(found, layout, here)
    for planned in found.cells:
        settings = read_settings(layout.settings(planned.cell))
        assert settings.fingerprint() == planned.settings.fingerprint()
        assert settings.labels["variant"] == planned.cell.variant


def test_scripts_of_any_names_are_sound_shell(tmp_path):
    folder = tmp_path / NASTY
    folder.mkdir()
    values = changed(SITE, "site/environment", {"modules": ["a b; c"], "variables": {"X": NASTY, "Y": "$HOME"}})
    values = changed(values, "site/launcher/options", ["-env", NASTY])
    study = CAMPAIGN["studies"]["speed"] | {"models": ["my.module:model"]}
    found = campaign(changed(CAMPAIGN, "studies", {"speed": study}), site(values))
    layout = Layout(folder / "results", "toy")
    here = place(folder)
    (here.programs / "bnn").write_text('#!/usr/bin/env bash\nprintf "%s\\0" "$X" "$Y" "$@" >"$5/words"; exit 9\n')
    (here.programs / "mpiexec").write_text('#!/usr/bin/env bash\n[ "$4" = "$X" ] || exit 8\nshift 4\nexec "$@"\n')
    render_jobs(found, layout, here)
    script = layout.script(found.cells[0].cell)
    given = folder / "given"
    module = {"BASH_FUNC_module%%": '() { printf "%s\\0" "$@" >"$GIVEN"; }', "GIVEN": str(given)}
    done = run(script, env=os.environ | module)
    assert "failed with exit status 9" in done.stderr
    assert given.read_text().split("\0") == ["load", "a b; c", ""]
    words = (layout.folder(found.cells[0].cell) / "words").read_text().split("\0")
    assert words[:2] == [NASTY, "$HOME"]
    assert words[2:] == [
        "train", "--settings", str(layout.settings(found.cells[0].cell)),
        "--out", str(layout.folder(found.cells[0].cell)), "",
    ]  # fmt: skip
    assert not list(tmp_path.rglob("oops"))


def test_rendered_scripts_pass_shellcheck(layout, here):
    program = shutil.which("shellcheck")
    if program is None:
        pytest.skip("shellcheck is not installed")
    values = changed(SITE, "site/environment", {"modules": ["gcc/12"], "variables": {"X": 'it\'s; "q" \\ é'}})
    found = campaign(at=site(values))
    render_jobs(found, layout, here)
    scripts = [str(layout.script(planned.cell)) for planned in found.cells[:2]]
    done = subprocess.run([program, "-x", *scripts], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


PROFILERS = [
    {"kind": "bnn"},
    {"kind": "bnn", "timeline": True},
    {"kind": "site", "library": "/opt/trace/lib';x.so", "environment": {"A": 'it\'s; "q" \\ é'}},
]


@pytest.mark.parametrize("profiler", PROFILERS, ids=["bnn", "timeline", "site"])
def test_profiling_scripts_pass_shellcheck_and_launch_anew(layout, here, profiler):
    program = shutil.which("shellcheck")
    if program is None:
        pytest.skip("shellcheck is not installed")
    found = campaign(at=site(changed(SITE, "site/profiler", profiler)))
    assert found.cells[0].launch != campaign().cells[0].launch
    script = jobs(found, layout, here)[0]
    done = subprocess.run([program, "-x", str(script)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert ("HOROVOD_TIMELINE=" in script.read_text()) == bool(profiler.get("timeline"))


def test_engines_without_horovod_are_not_profiled(layout, here):
    values = changed(CAMPAIGN, "settings/engine", "torch")
    at = site(changed(SITE, "site/profiler", {"kind": "bnn"}))
    assert campaign(values, at).cells[0].launch == campaign(values).cells[0].launch
    assert "mpi_trace" not in script_text(campaign(values, at).cells[0], campaign(values, at), layout, here)


def test_ranks_are_preloaded_and_profiles_kept_beside_the_records(layout, here, tmp_path):
    found = campaign(at=site(changed(SITE, "site/profiler", {"kind": "bnn", "timeline": True})))
    folder = layout.folder(found.cells[0].cell)
    (here.programs / "python").write_text(
        "#!/usr/bin/env bash\n"
        'if [ "$2" = bnn.watchdog ]; then echo "$@" >watched; exit; fi\n'
        'echo "$@" >>calls\n'
        'if [ "$3" = prepare ]; then rm -rf "$4"; mkdir "$4"; echo /opt/lib.so; else rm -rf "$5"; mv "$4" "$5"; fi\n'
    )
    (here.programs / "python").chmod(0o755)
    (here.programs / "mpiexec").write_text(
        '#!/usr/bin/env bash\nshift 3\necho "$@" >>calls\n[ "$1" = env ] || exit 4\n'
        'shift; while [[ "$1" == *=* ]]; do shift; done\nexec "$@"\n'
    )
    script = jobs(found, layout, here)[0]
    assert run(script).returncode == 0
    prepared, launched, kept = (tmp_path / "calls").read_text().splitlines()
    assert prepared == f"-m bnn.mpi_trace prepare {folder}/.mpi"
    assert f" LD_PRELOAD=/opt/lib.so BNN_MPI_TRACE_DIR={folder}/.mpi BNN_MPI_TRACE_JOBID=" in launched
    assert f" HOROVOD_TIMELINE={folder}/.mpi/timeline.json bnn train" in launched
    assert kept == f"-m bnn.mpi_trace keep {folder}/.mpi {folder}/mpi"
    assert (tmp_path / "watched").read_text().startswith(f"-m bnn.watchdog {folder} --ranks 1 --pid ")
    assert (folder / "mpi").is_dir()
    # a script that was killed after its ranks had finished leaves the profiles aside: the next one keeps them
    (folder / "mpi").rename(folder / ".mpi")
    before = layout.summary(found.cells[0].cell).stat().st_mtime_ns
    assert "already finished" in run(script, env={"PATH": "/usr/bin:/bin"}).stdout
    assert (folder / "mpi").is_dir()
    assert (tmp_path / "calls").read_text().splitlines()[3:] == [kept]
    assert layout.summary(found.cells[0].cell).stat().st_mtime_ns > before, "tables without the profiles are outdated"


def test_a_cell_runs_without_an_interposer_and_its_log_says_so(layout, here, tmp_path):
    (here.programs / "python").write_text("#!/usr/bin/env bash\necho 'bnn.mpi_trace: not built' >&2\nexit 2\n")
    (here.programs / "python").chmod(0o755)
    (here.programs / "mpiexec").write_text('#!/usr/bin/env bash\nshift 3\necho "$@" >>calls\nexec "$@"\n')
    found = campaign(at=site(changed(SITE, "site/profiler", {"kind": "bnn"})))
    assert run(jobs(found, layout, here)[0]).returncode == 0
    assert "LD_PRELOAD" not in (tmp_path / "calls").read_text()
    assert "bnn.mpi_trace: not built" in (layout.folder(found.cells[0].cell) / "job.log").read_text()


def test_a_script_runs_from_anywhere_and_only_once(layout, here, tmp_path):
    found = campaign()
    script = jobs(found, layout, here)[0]
    cell = found.cells[0].cell
    assert run(script).returncode == 0
    assert layout.summary(cell).exists()
    log = (layout.folder(cell) / "job.log").read_text().splitlines()
    assert log[0].startswith("# job local ")
    assert found.cells[0].settings.fingerprint() in log[0]
    assert log[1].startswith("training with")
    again = run(script)
    assert (again.returncode, "already finished" in again.stdout) == (0, True)
    assert (tmp_path / "runs").read_text().count("start") == 1


def system_path(folder, *programs):
    """A PATH on which the system has these programs, each noting which one was called."""
    (folder / "system").mkdir()
    for name in programs:
        program = folder / "system" / name
        noted = f'echo {name} >>"{folder}/system_calls"\nexec "{folder}/bin/{name}" "$@"'
        program.write_text(f"#!/usr/bin/env bash\n{noted}\n")
        program.chmod(0o755)
    return f"{folder / 'system'}:/usr/bin:/bin"


@pytest.mark.parametrize("activated", [False, True])
def test_pals_is_the_systems_mpiexec_although_the_environment_has_one(layout, here, tmp_path, activated):
    """Also where the job starts with the PATH of a shell that has the environment activated, under another name."""
    found = campaign(at=site(changed(SITE, "site/launcher", {"kind": "pals"})))
    script = jobs(found, layout, here)[0]
    (here.programs / "mpiexec").write_text('#!/usr/bin/env bash\nwhile [ "$1" != bnn ]; do shift; done\nexec "$@"\n')
    path = system_path(tmp_path, "mpiexec", "bnn")
    (tmp_path / "alias").symlink_to(here.programs)
    done = run(script, env={"PATH": f"{tmp_path / 'alias'}:{path}" if activated else path})
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "system_calls").read_text() == "mpiexec\n", "all other programs are the environment's"


def test_pals_without_an_mpiexec_of_the_system_is_one_line(layout, here, tmp_path):
    found = campaign(at=site(changed(SITE, "site/launcher", {"kind": "pals"})))
    done = run(jobs(found, layout, here)[0], env={"PATH": f"{here.programs}:/usr/bin:/bin"})
    assert done.returncode == 2
    assert done.stderr == "launcher pals: no mpiexec of PALS on PATH (environment.modules)\n"


def test_kind_mpiexec_is_the_environments_although_the_system_has_one(layout, here, tmp_path):
    script = jobs(campaign(), layout, here)[0]
    assert run(script, env={"PATH": system_path(tmp_path, "mpiexec")}).returncode == 0
    assert not (tmp_path / "system_calls").exists()


def test_a_summary_that_was_deleted_by_mistake_comes_back_but_not_without_its_records(layout, here, tmp_path):
    found = campaign()
    script, cell = jobs(found, layout, here)[0], found.cells[0].cell
    run(script)
    layout.summary(cell).unlink()
    assert run(script).returncode == 0
    assert layout.summary(cell).exists()
    assert (tmp_path / "runs").read_text().count("start") == 1
    layout.summary(cell).unlink()
    (layout.folder(cell) / "cell.json").unlink()
    assert run(script).returncode == 0
    assert (tmp_path / "runs").read_text().count("start") == 2


@pytest.mark.parametrize("change", ["settings/epochs", "ranks"])
def test_changed_settings_or_launch_run_again(layout, here, tmp_path, change):
    run(jobs(campaign(), layout, here)[0])
    values = changed(CAMPAIGN, change, 3) if change != "ranks" else CAMPAIGN
    at = site(changed(SITE, "site/ranks_per_node", 2)) if change == "ranks" else site()
    script = jobs(campaign(values, at), layout, here)[0]
    assert run(script).returncode == 0
    assert (tmp_path / "runs").read_text().count("start") == 2


def test_a_failure_names_the_log_and_shows_its_end(layout, here, tmp_path):
    (tmp_path / "fail").touch()
    found = campaign()
    done = run(jobs(found, layout, here)[0])
    assert done.returncode == 3
    assert f"failed with exit status 3, log: {layout.folder(found.cells[0].cell)}/job.log" in done.stderr
    assert "the machine is on fire" in done.stderr
    assert not layout.summary(found.cells[0].cell).exists()


def test_a_launcher_that_claims_success_without_records_has_failed(layout, here):
    (here.programs / "bnn").write_text("#!/usr/bin/env bash\nexit 0\n")
    assert run(jobs(campaign(), layout, here)[0]).returncode == 1


def test_scripts_take_turns_and_the_same_cell_runs_once(layout, here, tmp_path):
    (tmp_path / "sleep").write_text("0.3")
    found = campaign()
    scripts = jobs(found, layout, here)[:2]
    running = [
        subprocess.Popen(["bash", str(script)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for script in [*scripts, scripts[0]]
    ]
    said = [process.communicate(timeout=60) for process in running]
    assert [process.returncode for process in running] == [0, 0, 0], said
    lines = [line.split()[0] for line in (tmp_path / "runs").read_text().splitlines()]
    assert lines == ["start", "stop", "start", "stop"]
    assert sum("waiting for " in out for out, _ in said) >= 1


def test_a_killed_script_leaves_the_lock_to_what_it_started(layout, here, tmp_path):
    """kill -9 of the script alone: its ranks live on, keep both locks, and a second script waits for them."""
    (tmp_path / "sleep").write_text("1")
    found = campaign()
    script = jobs(found, layout, here)[0]
    first = subprocess.Popen(["bash", str(script)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_until((tmp_path / "runs").exists)
    first.kill()
    first.wait()
    assert "process" in holder(layout.lock(found.cells[0].cell))
    second = run(script)
    assert (second.returncode, "waiting for cell" in second.stdout) == (0, True)
    assert "already finished" in second.stdout
    assert [line.split()[0] for line in (tmp_path / "runs").read_text().splitlines()] == ["start", "stop"]


def test_locks_are_free_when_everything_is_killed(layout, here, tmp_path):
    (tmp_path / "sleep").write_text("60")
    found = campaign()
    script = jobs(found, layout, here)[0]
    first = subprocess.Popen(["bash", str(script)], stdout=subprocess.DEVNULL, start_new_session=True)
    wait_until((tmp_path / "runs").exists)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    wait_until(lambda: holder(layout.measuring_lock) is None)
    (tmp_path / "sleep").write_text("0")
    assert run(script).returncode == 0


def test_a_terminated_script_ends_its_launcher(layout, here, tmp_path):
    (tmp_path / "sleep").write_text("60")
    found = campaign()
    (here.programs / "mpiexec").write_text('#!/usr/bin/env bash\nshift 3\ntrap "kill %1" TERM\n"$@" &\nwait\n')
    script = jobs(found, layout, here)[0]
    first = subprocess.Popen(["bash", str(script)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    runs = tmp_path / "runs"
    wait_until(lambda: runs.exists() and runs.read_text().endswith("\n"))  # a file is there before its line is
    pid = int(runs.read_text().split()[1])
    first.terminate()
    assert first.wait(timeout=30) != 0
    wait_until(lambda: not Path(f"/proc/{pid}").exists())


def test_one_driver_at_a_time(tmp_path):
    path = tmp_path / "driver"
    assert holder(path) is None
    lock = Lock(path, "the campaign in results/toy")
    assert f"process {os.getpid()} on " in holder(path)
    with pytest.raises(UserError, match=f"results/toy is already being run by process {os.getpid()} on "):
        Lock(path, "the campaign in results/toy")
    child = subprocess.Popen(["sleep", "30"])
    lock.release()
    assert holder(path) is None, "a program that the driver started does not keep its lock"
    child.kill()
    child.wait()


def test_a_data_folder_of_the_environment_is_kept_in_scripts(layout, here, monkeypatch):
    monkeypatch.setenv("BNN_DATA_DIR", "/elsewhere/d s")
    assert Place.here(layout).data_dir == Path("/elsewhere/d s")
    text = script_text(campaign().cells[0], campaign(), layout, replace(here, data_dir=Path("/elsewhere/d s")))
    lines = [line for line in text.splitlines() if line.startswith(("data_dir=", "export BNN_DATA_DIR"))]
    command = "\n".join(["unset BNN_DATA_DIR", *lines, 'echo "$BNN_DATA_DIR"'])
    done = subprocess.run(["bash", "-uc", command], capture_output=True, text=True)
    assert done.stdout == "/elsewhere/d s\n"
