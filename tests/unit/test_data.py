"""Data sets by name: options, folders, errors, downloads (from a server on this machine), and the synthetic one."""

import hashlib
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from bnn.data import DATASETS, cifar10, dataset_facts, load_dataset, prepare_dataset, resolve_data_dir
from bnn.data.base import Split
from bnn.data.commands import describe_datasets, parse_pairs, prepare
from bnn.data.files import download
from bnn.errors import UserError

GOOD = b"the file" * 50_000


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("imagenet", {}, ["'imagenet'", "cifar10"]),
        ("cifar10", {"size": 3}, ["cifar10", "'size'", "none"]),
        ("mnist", {"size": 3}, ["mnist", "'size'", "shape"]),
        ("mnist-sample", {"shape": [3, 27, 32]}, ["mnist-sample", "shape=[3, 27, 32]"]),
        ("mnist", {"shape": "0,32,32"}, ["mnist", "shape='0,32,32'"]),
        ("mnist-sample", {"shape": [3, 10_000_000, 32]}, ["mnist-sample", "shape=[3, 10000000, 32]"]),
        ("mnist-sample", {"shape": [True, 32, 32]}, ["shape=[True, 32, 32]", "no numbers"]),
        ("synthetic", {"shape": [True, 32, 32]}, ["shape=[True, 32, 32]", "no numbers"]),
        ("infinite-mnist", {"sizes": 3}, ["'sizes'", "alpha"]),
        ("infinite-mnist", {"size": 0}, ["size=0"]),
        ("infinite-mnist", {"size": "many"}, ["size='many'"]),
        ("infinite-mnist", {"alpha": float("nan")}, ["alpha=nan"]),
        ("infinite-mnist", {"base": "cifar10"}, ["base='cifar10'", "mnist-sample"]),
        ("synthetic", {"shape": [3, 32]}, ["shape=[3, 32]"]),
        ("synthetic", {"shape": "3,0,32"}, ["shape='3,0,32'"]),
        ("synthetic", {"classes": 1}, ["classes=1"]),
    ],
)
@pytest.mark.parametrize("function", [load_dataset, prepare_dataset])
def test_unknown_names_options_and_values_are_refused_by_name(tmp_path, function, name, options, words):
    with pytest.raises(UserError) as caught:
        function(name, tmp_path, **options)
    assert all(word in str(caught.value) for word in words)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("task", ["classification", "segmentation", "regression"])
def test_one_value_is_enough_for_a_regression_only(task):
    options = {"task": task, "classes": 1, "size": 4, "test_size": 2, "shape": (1, 2, 3)}
    if task == "regression":
        assert load_dataset("synthetic", **options).train.labels.shape == (4, 1)
    else:
        with pytest.raises(UserError, match=r"classes=1: .*at least 2"):
            load_dataset("synthetic", **options)


def test_facts_are_those_of_the_loaded_data(tmp_path):
    prepare_dataset("infinite-mnist", tmp_path, size=50)
    for name, options in (
        ("mnist-sample", {}),
        ("mnist-sample", {"shape": "3,32,33"}),
        ("infinite-mnist", {"size": 50}),
        ("synthetic", {"shape": [1, 28, 20], "classes": 7, "size": 99}),
    ):
        facts, data = dataset_facts(name, options), load_dataset(name, tmp_path, **options)
        assert facts.input_shape == data.input_shape
        assert facts.classes == data.classes
        assert facts.train_size == len(data.train)
    assert dataset_facts("cifar10").train_size == 50_000
    assert dataset_facts("mnist").input_shape == (1, 28, 28)


def test_the_folder_is_the_one_given_else_the_environment_s_else_results_data(monkeypatch):
    monkeypatch.delenv("BNN_DATA_DIR", raising=False)
    assert resolve_data_dir() == Path("results/data")
    monkeypatch.setenv("BNN_DATA_DIR", "/somewhere")
    assert resolve_data_dir(None) == Path("/somewhere")
    assert resolve_data_dir("/else") == Path("/else")


def test_the_command_in_an_error_is_quoted_for_the_shell(tmp_path):
    folder = tmp_path / "my data; rm x"
    with pytest.raises(UserError) as caught:
        load_dataset("mnist", folder)
    assert f"--data-dir '{folder}'" in str(caught.value)


def test_importing_loads_nothing_heavy():
    code = (
        "import sys, bnn.data, bnn.data.pipeline, bnn.data.commands; "
        "print([m for m in ('torch', 'scipy', 'requests') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_synthetic_images_are_distinct_random_and_small():
    data = load_dataset("synthetic", shape="3,64,64", classes=5, size=200_000, test_size=10)
    assert data.synthetic
    assert "synthetic" in data.source
    assert data.input_shape == (3, 64, 64)
    assert np.shares_memory(data.train.images[:1], data.train.images[1:2])  # 2.4 GB if they did not
    assert set(np.unique(data.train.labels)) == set(range(5))
    some = data.train.images[np.random.default_rng(0).permutation(200_000)[:100]]
    assert len({image.tobytes() for image in some}) == 100
    assert abs(some.mean() - 127.5) < 1
    again = load_dataset("synthetic", shape="3,64,64", classes=5, size=200_000, test_size=10)
    np.testing.assert_array_equal(again.train.images[-1], data.train.images[-1])
    assert not np.array_equal(data.test.images[0], data.train.images[0])
    with pytest.raises(ValueError, match="read-only"):
        data.train.images[0, 0, 0, 0] = 0


def test_a_split_refuses_other_types_and_lengths():
    images, labels = np.zeros((2, 1, 3, 3), np.uint8), np.zeros(2, np.int64)
    assert len(Split(images, labels)) == 2
    for wrong in (
        (images.astype(float), labels),
        (images, labels[:1]),
        (images[0], labels),
        (images, labels.astype(int) * 1.0),
    ):
        with pytest.raises(ValueError, match="must be"):
            Split(*wrong)


@pytest.fixture
def server():
    """Serves /good, /damaged, /short (ends early) and nothing else; yields its address and the paths asked for."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            body = {"/good": GOOD, "/damaged": GOOD[:-1] + b"?", "/short": GOOD}.get(self.path)
            self.send_response(200 if body else 404)
            self.send_header("Content-Length", str(len(body or b"")))
            self.end_headers()
            self.wfile.write((body or b"")[: 1000 if self.path == "/short" else None])

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}", asked
        running.shutdown()


def fetch(server, folder, *names):
    urls = [f"{server[0]}/{name}" for name in names]
    console = Console(file=(folder / "console.txt").open("w"))
    download("mnist", urls, folder / "got.gz", hashlib.md5(GOOD).hexdigest(), console)


def test_a_download_tries_its_mirrors_in_order(tmp_path, server):
    fetch(server, tmp_path, "missing", "damaged", "short", "good", "never")
    assert server[1] == ["/missing", "/damaged", "/short", "/good"]
    assert (tmp_path / "got.gz").read_bytes() == GOOD


def test_a_failed_download_names_every_address_and_leaves_nothing(tmp_path, server):
    with pytest.raises(UserError) as caught:
        fetch(server, tmp_path, "missing", "damaged")
    text = str(caught.value)
    assert "cannot download got.gz" in text
    assert f"{server[0]}/missing: HTTP 404; {server[0]}/damaged: damaged or another file" in text
    assert [path.name for path in tmp_path.iterdir()] == ["console.txt"]


def test_preparing_without_a_network_is_one_clear_line(tmp_path, monkeypatch):
    monkeypatch.setattr(cifar10, "URLS", ("http://127.0.0.1:1/cifar-10-binary.tar.gz",))
    with pytest.raises(UserError, match=r"cifar10: cannot download cifar-10-binary.tar.gz \(http.*: ConnectionError\)"):
        prepare_dataset("cifar10", tmp_path)


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "infinite-mnist").write_text("a file in the way")
    with pytest.raises(UserError, match=r"infinite-mnist: .*infinite-mnist: File exists"):
        prepare_dataset("infinite-mnist", tmp_path, size=10)


def test_the_commands_print_what_there_is(tmp_path):
    console = Console(width=200, record=True, file=(tmp_path / "console.txt").open("w"))
    describe_datasets(console)
    text = console.export_text(clear=True)
    assert all(name in text for name in DATASETS)
    assert "shape=3,32,32" in text
    prepare("infinite-mnist", tmp_path, parse_pairs(["size=60", "alpha=0.5"]), tmp_path / "r.json", console)
    assert "60 training and 1,000 test images" in console.export_text()


@pytest.mark.parametrize(("pairs", "message"), [(["size"], "size"), (["=3"], "key=value"), (["a=1", "a=2"], "twice")])
def test_options_from_the_command_line_are_checked(pairs, message):
    with pytest.raises(UserError, match=message):
        parse_pairs(pairs)
