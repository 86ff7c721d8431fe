"""The peers' environment: its pins, and what is said when it cannot be had."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bnn.bench import run
from bnn.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
ENVS = ROOT / "envs"


def pinned(name: str) -> dict[str, str]:
    lines = [line.strip() for line in (ENVS / name).read_text().splitlines()]
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def test_peers_are_pinned_and_share_our_torch() -> None:
    peers, ours = pinned("peers.txt"), pinned("requirements.txt")
    assert peers["torch"] == ours["torch"]
    assert peers["bayesian-torch"] == "0.5.0"
    assert peers["tensorflow-probability"].startswith("0.25.")
    assert peers["tensorflow-cpu"].startswith("2.21.")
    assert {name: peers[name] for name in peers.keys() & ours.keys()} == {
        name: ours[name] for name in peers.keys() & ours.keys()
    }, "a package has two versions in the two environments"


def test_without_a_network_the_set_up_says_so_in_one_line(tmp_path: Path) -> None:
    shutil.copytree(ENVS, tmp_path / "envs", ignore=shutil.ignore_patterns("__pycache__"))
    env = os.environ | {"PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1"}
    done = subprocess.run([sys.executable, tmp_path / "envs" / "peers.py"], capture_output=True, text=True, env=env)
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("peers: installing bayesian-torch, TensorFlow and TFP failed")
    assert "is there a network?" in line
    assert not (tmp_path / ".venv-peers" / "bnn-setup.json").exists()


def test_a_failed_set_up_of_the_peers_is_a_user_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "peers.py"
    script.write_text("import sys; print('working'); sys.exit('peers: no network')")
    monkeypatch.setattr(run, "PEERS_SETUP", script)
    with pytest.raises(UserError, match=r"^peers: no network$"):
        run.prepare_peers()
    script.write_text("")
    run.prepare_peers()
    script.unlink()
    with pytest.raises(UserError, match=r"peers\.py is missing; peers need a checkout"):
        run.prepare_peers()
