"""`bnn infer A B C`: mixtures of posteriors, ensembles of conventional networks, and one of these alone."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import entropy
from torch import nn

from bnn.cli import main
from bnn.data import load_dataset
from bnn.engine import SingleEngine
from bnn.errors import UserError
from bnn.inference import chunks
from bnn.inference.mixture import SEED_STEP, Mixture
from bnn.inference.run import infer
from bnn.inference.settings import InferSettings
from bnn.posterior import load_posterior
from bnn.posterior.save import save_network
from bnn.pruning.run import prune
from bnn.pruning.settings import PruneSettings
from bnn.records import inference as records
from bnn.records.columns import read_table
from tests.support.posteriors import paper_network, traced

IMAGES = 30


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Posteriors a, b (narrow fc), c (conv), and conventional networks x, y, z."""
    folder = tmp_path_factory.mktemp("posteriors")
    made = {
        "a": paper_network("fc", 1 / 16), "b": paper_network("fc", 1 / 32, seed=1),
        "c": paper_network("conv", 1 / 32, seed=2),
        **{name: paper_network("fc", 1 / 16, seed=seed, kind="cnn") for seed, name in enumerate("xyz")},
    }  # fmt: skip
    for name, network in made.items():
        save_network(network, folder / name)
    return folder


def run(folder: Path, names: str, out: Path, **more: Any) -> tuple[records.InferenceSummary, np.ndarray]:
    """The summary and the draws (draws, images, classes) of a mixture of these posteriors."""
    first, *others = [folder / name for name in names]
    values = {"dataset": "mnist-sample", "images": IMAGES, "draws": 12, **more}
    summary = infer(InferSettings(posterior=first, others=tuple(others), **values), out, SingleEngine(), 0.0)
    assert summary is not None
    with np.load(out / records.ARRAYS_FILE, allow_pickle=False) as found:
        return summary, found["probabilities"]


@pytest.mark.parametrize("mode", ["exact", "flipout"])
def test_a_mixture_takes_turns_of_its_members_own_draws(folder: Path, tmp_path: Path, mode: str) -> None:
    summary, mixed = run(folder, "abc", tmp_path / "mixed", mode=mode)
    for place, name in enumerate("abc"):
        seed = (1 + place * SEED_STEP) % 2**63
        alone, own = run(folder, name, tmp_path / name, draws=4, seed=seed, mode=mode)
        assert mixed[place::3].tobytes() == own.tobytes()
        assert summary.members[place] == alone.posterior
        assert alone.members == []
    assert summary.posterior == summary.members[0]
    assert summary.draws == 12


def test_members_with_the_same_weights_draw_other_noise(folder: Path) -> None:
    """The seeds of members differ: with the same, a mixture would hold every sample twice."""
    networks = [load_posterior(folder / "a"), load_posterior(folder / "a")]
    mixture = Mixture([folder / "a"] * 2, networks)
    blocks = [[torch.rand(5, 1, 28, 28)]] * 2
    one, other = (torch.stack(list(mixture.probabilities(1, share, blocks))) for share in mixture.shares(range(6)))
    assert not any(torch.equal(a, b) for a in one for b in other)


def test_scores_of_an_ensemble_by_hand(folder: Path, tmp_path: Path) -> None:
    """Three conventional networks, run by torch: their mean, and how far they disagree."""
    summary, mixed = run(folder, "xyz", tmp_path / "out", draws=100)
    table = read_table(tmp_path / "out" / records.IMAGES_FILE, records.IMAGES)
    test = load_dataset("mnist-sample").test
    pixels = torch.from_numpy(test.images[table["image"].to_numpy()]).float() / 255
    with torch.no_grad():
        by_torch = torch.stack([load_posterior(folder / name)(pixels).softmax(1) for name in "xyz"]).double().numpy()
    np.testing.assert_allclose(mixed, by_torch, atol=1e-6)
    mean = by_torch.mean(0)
    assert summary.draws == len(mixed) == 3
    assert summary.accuracy == (mean.argmax(1) == test.labels[table["image"]]).mean()
    of_members = np.mean([entropy(each, axis=1) for each in by_torch], axis=0)
    np.testing.assert_allclose(table["mutual_information"], entropy(mean, axis=1) - of_members, atol=1e-6)
    assert summary.mutual_information > 0.01
    assert [member.sigma_median for member in summary.members] == [None] * 3
    assert len({member.sha256 for member in summary.members}) == 3
    assert summary.verdict.status in ("OK", "WARN")
    assert not any("degenerate" in reason for reason in summary.verdict.reasons)


@pytest.mark.parametrize("model", ["fc", "conv", "resnet18"])
def test_a_conventional_network_alone_is_one_pass(tmp_path: Path, model: str) -> None:
    network = paper_network(model, 1 / 16, kind="cnn")
    save_network(network, tmp_path / "p")
    options = {"shape": network.graph.input_shape, "size": 8, "test_size": IMAGES}
    summary, draws = run(tmp_path, "p", tmp_path / "out", dataset="synthetic", dataset_options=options, draws=7)
    pixels = torch.from_numpy(load_dataset("synthetic", **options).test.images.copy()).float() / 255
    with torch.no_grad():
        np.testing.assert_allclose(draws, network(pixels).softmax(1)[None].numpy(), atol=1e-5)
    assert (summary.draws, summary.mutual_information, summary.softmax_spread) == (1, 0, None)
    kernels = sum(parameter.numel() for parameter in network.parameters() if parameter.dim() > 1)
    assert summary.posterior.kernel_weights == summary.posterior.nonzeros == kernels
    assert summary.posterior.effective_bits is None
    with pytest.raises(UserError, match="no Bayesian layer"):
        prune(PruneSettings(posterior=tmp_path / "p", dataset="mnist-sample"), tmp_path / "pruned", 0.0)


def test_a_conventional_member_counts_as_the_others_and_is_run_once(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes: list[int] = []
    forward = nn.Linear.forward
    monkeypatch.setattr(nn.Linear, "forward", lambda self, x: (passes.append(1), forward(self, x))[1])
    _, alone = run(folder, "x", tmp_path / "alone")
    layers = len(passes)
    _, mixed = run(folder, "xa", tmp_path / "out", draws_at_once=2)
    assert len(passes) == 2 * layers
    assert all(np.array_equal(draw, alone[0]) for draw in mixed[0::2])
    assert len({draw.tobytes() for draw in mixed[1::2]}) == 6


@pytest.mark.parametrize("mode", ["exact", "flipout", "local-reparameterization"])
@pytest.mark.parametrize("at_once", [1, 5, 12])
def test_chunks_change_nothing(folder: Path, tmp_path: Path, at_once: int, mode: str) -> None:
    names = "axc"
    _, whole = run(folder, names, tmp_path / "whole", mode=mode)
    _, parts = run(folder, names, tmp_path / "parts", mode=mode, draws_at_once=at_once)
    assert whole.tobytes() == parts.tobytes()


def test_an_interrupted_mixture_keeps_its_chunks(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    write = chunks.write_chunk

    def stop_after_two(place: Path, chunk: chunks.Chunk) -> None:
        if len(made) == 2:
            raise KeyboardInterrupt
        made.append(chunk.first)
        write(place, chunk)

    monkeypatch.setattr(chunks, "write_chunk", stop_after_two)
    with pytest.raises(KeyboardInterrupt):
        run(folder, "ab", tmp_path / "out", draws_at_once=3)
    again: list[int] = []
    monkeypatch.setattr(chunks, "write_chunk", lambda place, chunk: (again.append(chunk.first), write(place, chunk)))
    _, resumed = run(folder, "ab", tmp_path / "out", draws_at_once=3)
    assert (made, again) == ([0, 3], [6, 9])
    _, fresh = run(folder, "ab", tmp_path / "fresh")
    assert resumed.tobytes() == fresh.tobytes()


def test_every_draw_is_of_one_member_once(folder: Path) -> None:
    networks = [load_posterior(folder / name) for name in "abc"]
    mixture = Mixture([folder / name for name in "abc"], networks)
    for size in range(1, 8):
        seen: dict[int, tuple[int, int]] = {}
        for first in range(0, 12, size):
            chunk = range(first, min(12, first + size))
            for share in mixture.shares(chunk):
                assert len(share.draws) == len(share.places)
                for own, place in zip(share.draws, share.places, strict=True):
                    assert chunk[place] not in seen
                    seen[chunk[place]] = (share.member, own)
        assert seen == {draw: (draw % 3, draw // 3) for draw in range(12)}


def test_the_fingerprint_of_one_posterior_is_what_it_was() -> None:
    """Chunks of before are taken; computed by the code before mixtures were there."""
    settings = InferSettings(posterior=Path("p"), dataset="mnist-sample", draws=40)
    assert settings.fingerprint("0" * 64, 2) == "cb34a7180224c836"


def test_a_job_of_other_members_is_run_again(folder: Path, tmp_path: Path) -> None:
    first, _ = run(folder, "xy", tmp_path / "out", labels={"job": "j"})
    same, _ = run(folder, "xy", tmp_path / "out", labels={"job": "j"})
    assert same.stopped_at == first.stopped_at
    other, _ = run(folder, "xz", tmp_path / "out", labels={"job": "j"})
    alone, _ = run(folder, "x", tmp_path / "out", labels={"job": "j"})
    assert len({first.stopped_at, other.stopped_at, alone.stopped_at}) == 3


def test_records_of_before_are_read(folder: Path, tmp_path: Path) -> None:
    run(folder, "a", tmp_path / "out")
    record = json.loads((tmp_path / "out" / records.INFERENCE).read_text())
    for name in ("members", "aurc", "accuracy_at_90_coverage", "calibration_error_debiased", "shift"):
        del record[name]
    old = records.InferenceSummary.model_validate(record)
    assert (old.members, old.aurc) == ([], None)


def test_a_member_that_has_not_moved_is_named(folder: Path, tmp_path: Path) -> None:
    network = paper_network("fc", 1 / 16, seed=5)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith("rho"):
                parameter.fill_(-12.0)
    network.graph = network.graph.model_copy(update={"extra": {"settings": {"rho_init": -12.0}}})
    save_network(network, tmp_path / "still")
    values = {"dataset": "mnist-sample", "images": IMAGES, "draws": 4}
    settings = InferSettings(posterior=folder / "a", others=(tmp_path / "still",), **values)
    summary = infer(settings, tmp_path / "out", SingleEngine(), 0.0)
    assert summary is not None
    (reason,) = [reason for reason in summary.verdict.reasons if "degenerate" in reason]
    assert reason.startswith(f"{tmp_path / 'still'}: degenerate posterior")


def unlike() -> dict[str, nn.Module]:
    flat = nn.Flatten()
    return {
        "wide": nn.Sequential(flat, nn.Linear(3 * 28 * 28, 10)),
        "few": nn.Sequential(flat, nn.Linear(28 * 28, 7)),
        "soft": nn.Sequential(flat, nn.Linear(28 * 28, 10), nn.Softmax(1)),
    }


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("wide", r"wide: it takes images of shape \[3, 28, 28\], and .*x of \[1, 28, 28\]; they cannot be mixed"),
        ("few", r"few: its output has shape \[None, 7\], that of .*x \[None, 10\]; they cannot be mixed"),
        ("soft", "soft: layer 2: the model ends in a softmax"),
    ],
)
def test_members_that_are_unlike_are_named(folder: Path, tmp_path: Path, name: str, words: str) -> None:
    network = traced(unlike()[name], (3 if name == "wide" else 1, 28, 28))
    save_network(network, tmp_path / name)
    settings = InferSettings(posterior=folder / "x", others=(tmp_path / name,), dataset="mnist-sample")
    with pytest.raises(UserError, match=words):
        infer(settings, tmp_path / "out", SingleEngine(), 0.0)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ("abc", "--draws 100: 3 posteriors are mixed in equal parts; give a multiple of 3"),
        ("xyx", "x: the same posterior as"),
    ],
)
def test_what_cannot_be_mixed_is_one_line(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], names: str,
    words: str,
) -> None:  # fmt: skip
    paths = [str(folder / name) for name in names]
    monkeypatch.setattr(
        sys, "argv", ["bnn", "infer", *paths, "--dataset", "mnist-sample", "--out", str(tmp_path / "o")]
    )
    with pytest.raises(SystemExit) as caught:
        main()
    told = capsys.readouterr().err.strip()
    assert caught.value.code == 2
    assert words in told
    assert len(told.splitlines()) == 1


def test_the_command_takes_any_number_of_posteriors(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["--dataset", "mnist-sample", "--images", "10", "--threads", "1", "--out", str(tmp_path / "o")]
    monkeypatch.setattr(sys, "argv", ["bnn", "infer", *(str(folder / name) for name in "xyz"), *words])
    main()
    summary = records.InferenceSummary.model_validate_json((tmp_path / "o" / records.INFERENCE).read_text())
    assert [Path(member.path).name for member in summary.members] == ["x", "y", "z"]
