"""Data, settings and records that are no files: named at once, where their reader would wait for ever."""

import errno
import fcntl
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from filelock import SoftFileLock, Timeout
from rich.console import Console

from bnn.data.files import locked
from bnn.data.idx import read_idx
from bnn.data.mapped import open_mapped
from bnn.errors import UserError
from bnn.regular import open_regular, read_text_regular, require_regular
from bnn.settings import read_settings

MNIST = ["train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"]


def other(path, kind):
    """Something at `path` that is no file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as bound:
            folder = Path.cwd()
            os.chdir(path.parent)  # names of sockets are short
            bound.bind(path.name)
            os.chdir(folder)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()


WORDS = {"pipe": "a named pipe", "socket": "a socket", "device": "a device", "folder": "a folder"}


@pytest.mark.parametrize("kind", WORDS)
@pytest.mark.parametrize("read", [open_regular, require_regular, read_text_regular, read_settings])
def test_what_is_no_file_is_named(kind, read, tmp_path):
    path = tmp_path / "settings.json"
    other(path, kind)
    with pytest.raises(UserError, match=rf"^{path}: {WORDS[kind]}, where a file is expected$"):
        read(path)


def test_a_file_is_read_through_links_and_what_is_missing_is_missing(tmp_path):
    (tmp_path / "file").write_bytes(b"abc")
    (tmp_path / "link").symlink_to("file")
    with open_regular(tmp_path / "link") as stream:
        assert stream.read() == b"abc"
    with pytest.raises(FileNotFoundError):
        open_regular(tmp_path / "nothing")
    with pytest.raises(UserError, match="nothing: No such file or directory"):
        read_text_regular(tmp_path / "nothing")
    (tmp_path / "file").write_bytes(b"\xff")
    with pytest.raises(UserError, match="file: not UTF-8 text"):
        read_text_regular(tmp_path / "file")


@pytest.mark.parametrize("kind", WORDS)
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_an_idx_file_that_is_none_is_named(suffix, kind, tmp_path):
    path = tmp_path / f"labels{suffix}"
    other(path, kind)
    with pytest.raises(UserError, match=rf"^{path}: {WORDS[kind]}, where a file is expected$"):
        read_idx(path, (10,))


@pytest.mark.parametrize("kind", ["pipe", "device"])
@pytest.mark.parametrize(
    ("dataset", "files"),
    [("mnist", MNIST), ("mnist", [f"{name}.gz" for name in MNIST]), ("cifar10", ["cifar-10-binary.tar.gz"]),
     ("infinite-mnist", MNIST)],
)  # fmt: skip
def test_bnn_data_prepare_names_it_and_does_not_wait(dataset, files, kind, tmp_path):
    for name in files:
        other(tmp_path / dataset.removeprefix("infinite-") / name, kind)
    command = [sys.executable, "-m", "bnn.cli", "data", "prepare", dataset, "--data-dir", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    assert re.search(rf"{re.escape(str(tmp_path))}/.*: {WORDS[kind]}, where a file is expected$", line)


def test_prepared_images_are_files(tmp_path):
    path = tmp_path / "images.npy"
    os.mkfifo(path)
    with pytest.raises(UserError, match=r"a named pipe, where a file is expected"):
        open_mapped(path, (1,), np.uint8)


@pytest.mark.parametrize("code", ["ENOSYS", "ENOLCK", "ENOTSUP"])
def test_a_data_folder_without_flock_is_locked_by_a_file_that_is_there(code, tmp_path, monkeypatch):
    def flock(_fd, _how):
        raise OSError(getattr(errno, code), "no locks")

    monkeypatch.setattr(fcntl, "flock", flock)
    console = Console(record=True, width=400)
    with locked(tmp_path / "data", console):
        assert (tmp_path / "data/.preparing").exists()
        with pytest.raises(Timeout):
            SoftFileLock(tmp_path / "data/.preparing").acquire(timeout=0)
    assert not (tmp_path / "data/.preparing").exists()
    assert "has no flock" in console.export_text()
