"""Locks where the file system has none: said in one line, code 2, with the setting that mends it."""

import errno
import fcntl
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from bnn.errors import UserError
from campaign.io.locking import Lock, holder, shared
from campaign.names.layout import Layout
from campaign.render.scripts import render_jobs, script_text
from tests.support.campaigns import CAMPAIGN, SITE, campaign, changed, hashes, place, ready, site

# flock(2) as a file system without it answers
NO_FLOCK = "#include <errno.h>\nint flock(int fd, int how) { (void)fd; (void)how; errno = %s; return -1; }\n"
ERRORS = ["ENOSYS", "ENOLCK", "ENOTSUP"]


@pytest.fixture(params=ERRORS)
def without_flock(request, tmp_path):
    """An environment whose programs find no flock(2)."""
    compiler = shutil.which("gcc")
    if compiler is None:
        pytest.skip("gcc is not installed")
    source, library = tmp_path / "no_flock.c", tmp_path / "no_flock.so"
    source.write_text(NO_FLOCK % request.param)
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source], check=True)
    return {"PATH": "/usr/bin:/bin", "LD_PRELOAD": str(library), "HOSTNAME": "here"}


@pytest.mark.parametrize("kind", ["none", "slurm"])
def test_a_job_says_that_there_are_no_locks_and_is_not_tried_again(kind, without_flock, tmp_path):
    queues = {"queues": [{"name": "q", "max_nodes": 9, "max_minutes": 9}], "walltimes": [{"minutes": 9}]}
    values = changed(SITE, "site/scheduler", {"kind": kind} | (queues if kind != "none" else {}))
    found = campaign(CAMPAIGN | {"bench": {"models": ["fc"], "batch_sizes": [8]}}, site(values))
    layout, here = Layout(tmp_path / "results", "toy"), place(tmp_path)
    scripts = [script_text(found.cells[0], found, layout, here)]
    if kind == "none":
        scripts.append(script_text(found.bench[0], found, layout, here))
    for text in scripts:
        done = subprocess.run(["bash"], input=text, capture_output=True, text=True, env=without_flock, timeout=30)
        assert done.returncode == 2, done.stderr
        (line,) = done.stderr.splitlines()
        assert "cannot be locked here (flock: " in line
        assert line.endswith("give site.locks a folder on a file system with flock")
    assert not (tmp_path / "runs").exists(), "nothing ran"


@pytest.mark.parametrize("code", ERRORS)
def test_the_driver_says_it_before_any_job(code, tmp_path, monkeypatch):
    def flock(_fd, _how):
        number = getattr(errno, code)
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    path = tmp_path / "locks/driver"
    with pytest.raises(UserError, match=rf"^{path}: cannot be locked \(.*give site.locks a folder on one that has$"):
        Lock(path, "the campaign")
    assert path.exists()
    assert holder(path) is None, "a question is no reason to stop"


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"file/locks/driver: "):
        Lock(tmp_path / "file/locks/driver", "the campaign")


def test_locks_lie_where_the_site_says_apart_for_every_results_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    at = site(changed(SITE, "site/locks", "~/my locks"))
    found, here = campaign(at=at), place(tmp_path)
    first, second = (at.layout(tmp_path / name) for name in ("results", "others"))
    assert first.lock_folder.parent == tmp_path / "home/my locks"
    assert first.lock_folder != second.lock_folder
    assert at.layout(tmp_path / "x/../results").lock_folder == first.lock_folder
    assert site().layout(tmp_path).lock_folder == tmp_path / "toy/.locks"
    render_jobs(found, first, here)
    hashes(found, first)
    cell = found.cells[0].cell
    with_lock = Lock(first.measuring_lock, "a test")
    waiting = subprocess.Popen(["bash", first.script(cell)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert waiting.stdout.readline().startswith(f"{cell.name}: waiting for process {os.getpid()}")
    with_lock.release()
    assert waiting.wait(timeout=60) == 0, waiting.stderr.read()
    assert first.summary(cell).exists()
    assert not (tmp_path / "results/toy/.locks").exists()
    assert {path.name for path in first.lock_folder.iterdir()} == {"measuring", f"{cell.name}.cell"}


def test_the_driver_takes_the_lock_that_the_site_says(tmp_path):
    (tmp_path / "config.yaml").write_text(json.dumps(CAMPAIGN))
    (tmp_path / "site.yaml").write_text(json.dumps(changed(SITE, "site/locks", str(tmp_path / "locks"))))
    driver = ready(tmp_path / "site.yaml", tmp_path / "config.yaml", tmp_path / "results")
    driver.start()
    assert [path.name for path in (tmp_path / "locks").rglob("driver")] == ["driver"]
    again = ready(tmp_path / "site.yaml", tmp_path / "config.yaml", tmp_path / "results")
    assert f"process {os.getpid()}" in str(again.busy)
    driver.lock.release()


@pytest.mark.parametrize("locks", ["relative", "", "/a\nb", "$HOME/x"])
def test_a_lock_folder_is_a_path(locks):
    with pytest.raises(UserError, match=r"site.locks: "):
        site(changed(SITE, "site/locks", locks))


def test_paths_are_unchanged_without_the_setting():
    assert Layout(Path("results"), "toy").driver_lock == Path("results/toy/.locks/driver")


HOLD = 'exec 8>>"$0"; flock "$@" 8 || exit 1; echo "cell x, process $$ on here since now" >"$0"; echo held; read -r'
SHARE = """
import sys
from pathlib import Path
from campaign.io.locking import shared
with shared(Path(sys.argv[1]), "fig2a.svg"):
    print("shared", flush=True)
    sys.stdin.readline()
"""


def talking(*words):
    """A process that says when it has got so far, and goes on when it is told a line."""
    return subprocess.Popen(
        [str(word) for word in words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def ended(process):
    """Tell it to go on; what it printed to stderr."""
    errors = process.communicate("\n", timeout=60)[1]
    assert process.returncode == 0, errors
    return errors


def test_who_shares_a_lock_sleeps_while_a_job_is_measured_and_says_so_once(tmp_path):
    lock = tmp_path / "locks/measuring"
    lock.parent.mkdir()
    job = talking("bash", "-c", HOLD, lock)
    assert job.stdout.readline() == "held\n"
    waiting = talking(sys.executable, "-c", SHARE, lock)
    assert waiting.stderr.readline() == f"fig2a.svg: waits for a measurement: {lock.read_text()}"
    process = psutil.Process(waiting.pid)
    before = process.cpu_times()
    time.sleep(1)
    after = process.cpu_times()
    assert (after.user + after.system) - (before.user + before.system) <= 0.02, "it sleeps"
    assert process.status() == psutil.STATUS_SLEEPING
    ended(job)
    assert waiting.stdout.readline() == "shared\n"
    assert lock.read_text().startswith(f"fig2a.svg, process {waiting.pid} on ")
    assert ended(waiting) == ""


def test_two_share_a_lock_and_a_job_waits_for_both(tmp_path):
    lock = tmp_path / "locks/measuring"
    first, second = (talking(sys.executable, "-c", SHARE, lock) for _ in range(2))
    assert [process.stdout.readline() for process in (first, second)] == ["shared\n"] * 2
    taken = ["bash", "-c", HOLD, str(lock), "-n"]
    assert subprocess.run(taken, stdin=subprocess.DEVNULL).returncode == 1
    assert ended(first) == ""
    assert subprocess.run(taken, stdin=subprocess.DEVNULL).returncode == 1
    second.kill()
    second.communicate()
    assert subprocess.run(taken, input="\n", text=True).returncode == 0, "the kernel frees a killed process's lock"


@pytest.mark.parametrize("code", ERRORS)
def test_a_lock_that_cannot_be_shared_is_named(code, tmp_path, monkeypatch):
    def flock(_fd, _how):
        number = getattr(errno, code)
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    path = tmp_path / "locks/measuring"
    with pytest.raises(UserError, match=rf"^{path}: cannot be locked \(.*give site.locks a folder"), shared(path, "x"):
        raise AssertionError("it must not be reached")


def test_an_error_under_a_shared_lock_is_not_taken_for_one_of_the_lock(tmp_path):
    with pytest.raises(OSError, match="no such table"), shared(tmp_path / "lock", "x"):
        raise OSError(errno.ENOSYS, "no such table")


def test_a_command_shares_a_lock_until_it_ends(tmp_path):
    lock = tmp_path / "locks/measuring"
    program = "echo running; read -r; exit 7"
    command = talking(sys.executable, "-m", "campaign.io.sharing", lock, "bash", "-c", program)
    assert command.stdout.readline() == "running\n"
    taken = ["bash", "-c", HOLD, str(lock), "-n"]
    assert subprocess.run(taken, stdin=subprocess.DEVNULL).returncode == 1
    command.communicate("\n", timeout=60)
    assert command.returncode == 7
    assert subprocess.run(taken, input="\n", text=True).returncode == 0


def test_a_full_disk_is_one_line_that_names_the_lock(tmp_path, monkeypatch):
    def full(fd, content):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("campaign.io.locking.os.write", full)
    with pytest.raises(UserError, match=r"driver: No space left on device$"):
        Lock(tmp_path / "driver", "a test")


def test_a_command_that_is_not_there_is_one_line_with_code_2(tmp_path):
    words = [sys.executable, "-m", "campaign.io.sharing", str(tmp_path / "lock"), "no-such-program"]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.strip().splitlines()[-1] == "error: no-such-program: No such file or directory"
    assert "Traceback" not in done.stderr
