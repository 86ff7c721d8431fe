"""Long commands, locks and the environment's stamp."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

import setup
from bootstrap import venv
from bootstrap.console import SetupError, last_line, run
from bootstrap.lock import locked

ROOT = Path(__file__).resolve().parents[2]


def test_a_command_leaves_its_output_in_the_log_and_says_how_long_it_took(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("counting", [sys.executable, "-c", "print(6 * 7)"], tmp_path / "log")
    assert (tmp_path / "log").read_text().splitlines()[-1] == "42"
    first, last = capsys.readouterr().out.splitlines()
    assert first.endswith("] counting ...")
    assert "] counting: done in " in last


def test_a_failure_names_the_step_its_last_line_and_the_log(tmp_path: Path) -> None:
    code = "import sys; print('no such thing'); sys.exit(3)"
    with pytest.raises(SetupError, match=r"counting failed \(exit code 3\): 'no such thing'.*log") as error:
        run("counting", [sys.executable, "-c", code], tmp_path / "log")
    assert str(tmp_path / "log") in str(error.value)


def test_a_full_disk_is_called_that(tmp_path: Path) -> None:
    code = "import sys; sys.exit('OSError: [Errno 28] No space left on device')"
    with pytest.raises(SetupError, match="the disk is full; free some space"):
        run("counting", [sys.executable, "-c", code], tmp_path / "log")


def test_progress_shows_the_compilers_percentage(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("[  6%] Building a.o\n[ 12%] Building b.o\n\x1b[1mwarning: odd\n   ^~~\n\n")
    assert last_line(log) == "[ 12%] Building b.o"
    log.write_text(f"first\n{'x' * 200}\n")
    assert last_line(log, room=10) == "xxxxxxx..."
    assert last_line(tmp_path / "none") == ""


def hold(lock: Path) -> subprocess.Popen[str]:
    code = f"""
import sys; sys.path.insert(0, {str(ROOT / "envs")!r})
from pathlib import Path
from bootstrap.lock import locked
with locked(Path({str(lock)!r}), "this"):
    print("held", flush=True)
    sys.stdin.readline()
print("released", flush=True)
"""
    return subprocess.Popen([sys.executable, "-c", code], text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def test_a_second_set_up_waits_for_the_first(tmp_path: Path) -> None:
    with hold(tmp_path / "lock") as first, hold(tmp_path / "lock") as second:
        assert first.stdout is not None
        assert second.stdout is not None
        # Whichever came first holds it; the other says that it waits, and gets it when the first is done.
        words = {first: first.stdout.readline(), second: second.stdout.readline()}
        waiting = next(process for process, word in words.items() if word != "held\n")
        holding = first if waiting is second else second
        assert words[holding] == "held\n"
        assert "another process is busy with this; waiting" in words[waiting]
        holding.communicate("go\n")
        assert waiting.communicate("go\n")[0].splitlines() == ["held", "released"]


def test_a_lock_ends_with_its_killed_holder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with hold(tmp_path / "lock") as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        other.kill()
        other.wait()
        with locked(tmp_path / "lock", "this"):
            assert capsys.readouterr().out == ""


def test_a_folder_that_cannot_hold_a_lock_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SetupError, match="file/lock: cannot be written"), locked(tmp_path / "file" / "lock", "this"):
        pass


def test_the_stamp_holds_while_files_and_facts_are_the_same(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").write_text("")
    pins = tmp_path / "requirements.txt"
    pins.write_text("numpy==1\n")
    before = {"runtime": venv.fingerprint([pins], {"mpi": ""})}
    assert not venv.stamped(tmp_path, before)
    venv.stamp(tmp_path, before | {"dev": "x"})
    assert venv.stamped(tmp_path, before)
    assert not venv.stamped(tmp_path, before | {"dev": "y"})
    assert before["runtime"] != venv.fingerprint([pins], {"mpi": "/opt/mpicc"})
    pins.write_text("numpy==2\n")
    assert before["runtime"] != venv.fingerprint([pins], {"mpi": ""})
    (tmp_path / venv.STAMP).write_text("{cut sho")
    assert not venv.stamped(tmp_path, before)


def test_half_installed_packages_are_installed_again(tmp_path: Path) -> None:
    packages = tmp_path / "lib" / "python3.11" / "site-packages"
    for name in ("whole-1.dist-info", "half-1.dist-info"):
        (packages / name).mkdir(parents=True)
        (packages / name / "METADATA").write_text("")
    (packages / "whole-1.dist-info" / "RECORD").write_text("")
    venv.drop_half_installed(tmp_path)
    assert [path.name for path in packages.iterdir()] == ["whole-1.dist-info"]


def test_the_users_pip_settings_stay_but_foreign_packages_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_CERT", "/etc/ca.pem")
    monkeypatch.setenv("PYTHONPATH", "/opt/site-packages")
    monkeypatch.setenv("PIP_TARGET", "/opt/elsewhere")
    env = venv.clean_environment()
    assert env["PIP_CERT"] == "/etc/ca.pem"
    assert not {"PYTHONPATH", "PIP_TARGET"} & env.keys()


def test_an_interposer_that_cannot_be_built_is_one_line_and_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(setup, "LOG", tmp_path / "log")
    setup.build_mpi_tools(Path(sys.executable), {**os.environ, "BNN_MPICC": "/nowhere/mpicc", "PYTHONPATH": str(ROOT)})
    said = [line for line in capsys.readouterr().out.splitlines() if "will not be profiled" in line]
    assert len(said) == 1
    assert "/nowhere/mpicc: not an MPI compiler wrapper" in said[0]


@pytest.mark.parametrize("called", ["mpi_trace/counters.c", "bench/allreduce/allreduce.c"])
def test_a_changed_tool_of_mpi_asks_for_a_new_set_up(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, called: str
) -> None:
    copy = tmp_path / "root"
    for folder in ("mpi_trace", "bench/allreduce"):
        shutil.copytree(ROOT / "bnn" / folder, copy / "bnn" / folder)
    shutil.copy(ROOT / "pyproject.toml", copy)
    monkeypatch.setattr(setup, "ROOT", copy)
    before = setup.wanted_stamp(False, "")
    with (copy / "bnn" / called).open("a") as source:
        source.write("\n")
    assert setup.wanted_stamp(False, "") != before


def test_horovod_is_built_when_no_installation_goes_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Its build imports torch to find its headers: packages that are being replaced would break that."""
    installing: set[str] = set()
    seen: list[tuple[set[str], bool]] = []
    listed = False

    def step(title: str, command: list[str | Path], *_: object, **__: object) -> None:
        nonlocal listed
        words = [str(word) for word in command]
        if "install" in words:
            installing.add(title)
            time.sleep(0.2)  # a build that did not wait would find it going on
            installing.discard(title)
            listed |= any(word.endswith("requirements.txt") for word in words)

    def build(*_: object) -> Path:
        for _ in range(10):
            seen.append((set(installing), listed))
            time.sleep(0.01)
        return tmp_path / "horovod.whl"

    monkeypatch.setattr(setup, "run", step)
    monkeypatch.setattr(setup, "prepare", lambda *_: None)
    monkeypatch.setattr(setup, "VENV", tmp_path)
    monkeypatch.setattr(setup.horovod, "bundled_mpi", lambda _: None)
    monkeypatch.setattr(setup.cuda, "installed_torch", lambda venv: setup.cuda.Torch("2.13.0", None, (), ()))
    monkeypatch.setattr(setup.horovod, "ensure_wheel", build)
    setup.install(dev=True, mpicc="", lock=0)
    assert seen
    assert all(not going and complete for going, complete in seen)


def titles_of_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: str) -> list[str]:
    """What an installation for this engine would run."""
    titles: list[str] = []

    def wheel(*words: object) -> Path:
        titles.append("Horovod's wheel")
        return tmp_path / "horovod.whl"

    monkeypatch.setattr(setup, "run", lambda title, *words, **options: titles.append(title))
    monkeypatch.setattr(setup, "prepare", lambda venv, log: None)
    monkeypatch.setattr(setup, "VENV", tmp_path)
    monkeypatch.setattr(setup.horovod, "bundled_mpi", lambda venv: None)
    monkeypatch.setattr(setup.cuda, "installed_torch", lambda venv: setup.cuda.Torch("2.13.0", None, (), ()))
    monkeypatch.setattr(setup.horovod, "ensure_wheel", wheel)
    setup.install(dev=False, mpicc="", lock=0, engine=engine)
    return titles


def test_engine_torch_compiles_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    of_horovod = titles_of_install(tmp_path, monkeypatch, "horovod")
    of_torch = titles_of_install(tmp_path, monkeypatch, "torch")
    compiled = {"Horovod's wheel", "installing Horovod", "building the MPI interposer", "building the kernels",
                "building what times allreduces"}  # fmt: skip
    assert compiled | {"trying Horovod on 2 ranks"} == set(of_horovod) - set(of_torch)
    assert set(of_torch) - set(of_horovod) == {"trying torch.distributed on 2 ranks"}


def test_the_engine_is_remembered_and_another_set_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(setup, "VENV", tmp_path)
    monkeypatch.delenv("BNN_ENGINE", raising=False)
    assert setup.chosen_engine() == "horovod"
    (tmp_path / setup.ENGINE_CHOICE).write_text("torch")
    assert setup.chosen_engine() == "torch"
    monkeypatch.setenv("BNN_ENGINE", "horovod")
    assert setup.chosen_engine() == "horovod"
    monkeypatch.setenv("BNN_ENGINE", "gloo")
    with pytest.raises(SetupError, match=r"BNN_ENGINE=gloo: is none of horovod, torch"):
        setup.chosen_engine()
    assert setup.wanted_stamp(False, "", None, "torch") != setup.wanted_stamp(False, "", None, "horovod")


def test_what_tries_torch_on_two_ranks_runs() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    shared = os.environ | {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    ranks = [
        subprocess.Popen([sys.executable, "-c", setup.TWO_RANKS_OF_TORCH], env=shared | {"RANK": str(rank)})
        for rank in range(2)
    ]
    assert [rank.wait(120) for rank in ranks] == [0, 0]
