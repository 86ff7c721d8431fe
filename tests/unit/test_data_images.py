"""Images of one's own: the same data set from a folder, a tar and a zip archive; decoded once, mapped by runs."""

import hashlib
import io
import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from rich.console import Console

from bnn.cli import cli
from bnn.data import DATASETS, dataset_facts, dataset_name, load_dataset, prepare_dataset
from bnn.data.commands import describe_datasets
from bnn.data.own import FACTS, PREPARED, Facts
from bnn.errors import UserError
from bnn.settings import TrainSettings
from tests.support.own_images import as_folder, as_tar, as_zip, picture, two_classes


def prepared(data_dir: Path, path: Path, **options):
    prepare_dataset("images", data_dir, console=Console(file=io.StringIO()), path=path, **options)
    return load_dataset("images", data_dir, **{"name": dataset_name("images", {"path": path, **options})})


def refused(data_dir: Path, path: Path, **options) -> str:
    """The one line by which it is refused; nothing is left that could be taken for a data set."""
    with pytest.raises(UserError) as caught:
        prepare_dataset("images", data_dir, console=Console(file=io.StringIO()), path=path, **options)
    text = str(caught.value)
    assert "\n" not in text
    assert not list(data_dir.glob(f"*/{PREPARED}"))
    return text


def test_images_and_labels_are_those_of_the_files(tmp_path):
    files = two_classes()
    data = prepared(tmp_path / "data", as_folder(tmp_path / "pets", files))
    assert (data.name, data.classes, data.input_shape) == ("pets", 2, (3, 5, 6))
    for part, split in (("train", data.train), ("test", data.test)):
        names = sorted(name for name in files if name.startswith(part))
        assert split.labels.tolist() == [int("/dog/" in name) for name in names]
        for image, name in zip(split.images, names, strict=True):
            pixels = np.asarray(Image.open(io.BytesIO(files[name])))
            np.testing.assert_array_equal(image, pixels.transpose(2, 0, 1))
    assert isinstance(data.train.images, np.memmap)
    assert "pets" in data.source


def test_a_folder_a_tar_and_a_zip_archive_are_the_same_data_set(tmp_path):
    files = two_classes()
    backwards = dict(reversed(files.items()))
    wrapped = {f"./pets/{name}": content for name, content in backwards.items()}
    paths = [
        as_folder(tmp_path / "pets", files),
        as_tar(tmp_path / "pets.tar", backwards),
        as_tar(tmp_path / "pets.tar.gz", files),
        as_tar(tmp_path / "pets.tgz", wrapped),
        as_zip(tmp_path / "pets.zip", wrapped),
    ]
    made = [prepared(tmp_path / f"data{number}", path) for number, path in enumerate(paths)]
    assert {data.name for data in made} == {"pets"}
    assert len({data.checksum for data in made}) == 1
    hashes = {hashlib.sha256(np.asarray(data.test.images).tobytes()).hexdigest() for data in made}
    assert len(hashes) == 1


def test_a_share_for_testing_is_taken_of_each_class_and_is_the_same_from_everything(tmp_path):
    files = {f"{name}/{number}.png": picture(number) for name in ("b", "a", "c") for number in range(20)}
    one = prepared(tmp_path / "one", as_folder(tmp_path / "set", files), test_share=0.25)
    two = prepared(tmp_path / "two", as_zip(tmp_path / "set.zip", dict(reversed(files.items()))), test_share="0.25")
    assert np.bincount(one.test.labels).tolist() == [5, 5, 5]
    assert np.bincount(one.train.labels).tolist() == [15, 15, 15]
    assert one.checksum == two.checksum
    other = prepared(tmp_path / "three", tmp_path / "set", test_share=0.25, split_seed=1)
    assert other.checksum != one.checksum
    together = {image.tobytes() for split in (one.train, one.test) for image in np.asarray(split.images)}
    assert len(together) == 20  # every class has the same 20 images


def test_grey_images_have_one_channel_and_a_conversion_is_asked_for(tmp_path):
    grey = {name: picture(seed, mode="L") for seed, name in enumerate(two_classes())}
    assert prepared(tmp_path / "a", as_folder(tmp_path / "grey", grey)).input_shape == (1, 5, 6)
    mixed = grey | {"train/cat/00.png": picture(1, mode="RGBA")}
    path = as_folder(tmp_path / "mixed", mixed)
    assert "mode RGBA" in refused(tmp_path / "b", path)
    assert prepared(tmp_path / "b", path, convert="RGB").input_shape == (3, 5, 6)
    facts = (tmp_path / "b/mixed" / PREPARED / FACTS).read_text()
    assert "converted to RGB" in facts


def test_hidden_files_and_litter_are_left_out_and_others_beside_the_classes_are_named(tmp_path):
    files = two_classes() | {
        ".DS_Store": b"x", "train/cat/.hidden.png": b"x", "train/dog/Thumbs.db": b"x", "README.md": b"x",
        "__MACOSX/train/cat/._00.png": b"x", "train/.git/config": b"x", "train/labels.csv": b"x",
    }  # fmt: skip
    console = Console(file=io.StringIO(), width=200)
    path = as_zip(tmp_path / "pets.zip", files)
    prepare_dataset("images", tmp_path / "data", console=console, path=path)
    assert "2 files outside of classes' folders are left out (README.md, train/labels.csv)" in console.file.getvalue()
    plain = prepared(tmp_path / "plain", as_folder(tmp_path / "pets", two_classes()))
    assert load_dataset("images", tmp_path / "data", name="pets").checksum == plain.checksum


def test_a_data_set_that_is_prepared_is_not_decoded_again_and_survives_its_files(tmp_path):
    path = as_tar(tmp_path / "pets.tar", two_classes())
    first = prepared(tmp_path / "data", path)
    facts = tmp_path / "data/pets" / PREPARED / FACTS
    before = facts.stat().st_mtime_ns
    prepare_dataset("images", tmp_path / "data", path=path)
    path.unlink()
    prepare_dataset("images", tmp_path / "data", path=path)
    prepare_dataset("images", tmp_path / "data", name="pets")
    assert facts.stat().st_mtime_ns == before
    assert load_dataset("images", tmp_path / "data", path=path).checksum == first.checksum


def test_damaged_arrays_are_made_anew_and_a_run_refuses_them(tmp_path):
    path = as_tar(tmp_path / "pets.tar", two_classes())
    first = prepared(tmp_path / "data", path).checksum
    folder = tmp_path / "data/pets" / PREPARED
    for name in ("train-images.npy", "test-targets.npy"):
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[:-1])
        with pytest.raises(UserError, match=name):
            load_dataset("images", tmp_path / "data", name="pets")
        prepare_dataset("images", tmp_path / "data", path=path)
        assert load_dataset("images", tmp_path / "data", name="pets").checksum == first
    (folder / "train-images.npy").write_bytes(content := (folder / "train-images.npy").read_bytes()[:-1] + b"?")
    prepare_dataset("images", tmp_path / "data", path=path)
    assert (folder / "train-images.npy").read_bytes() != content


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"test_share": 0.5}, "test_share=None, not 0.5"),
        ({"train_size": 7}, "6 training images, not train_size=7"),
        ({"checksum": f"sha256:{'0' * 64}"}, f"not sha256:{'0' * 64}"),
        ({"path": "elsewhere.tar"}, "not from elsewhere.tar"),
        ({"convert": "L"}, "convert=none, not L"),
    ],
)
def test_another_data_set_of_the_same_name_is_refused(tmp_path, options, words):
    path = as_tar(tmp_path / "pets.tar", two_classes())
    prepared(tmp_path / "data", path)
    for function in (load_dataset, prepare_dataset):
        with pytest.raises(UserError) as caught:
            function("images", tmp_path / "data", **{"name": "pets", **options})
        assert words in str(caught.value)
        assert str(tmp_path / "data/pets" / PREPARED) in str(caught.value)


def test_files_that_have_changed_since_take_another_name(tmp_path):
    path = as_folder(tmp_path / "pets", two_classes())
    prepared(tmp_path / "data", path)
    (path / "train/cat/00.png").write_bytes(picture(99))
    with pytest.raises(UserError, match="has changed since"):
        prepare_dataset("images", tmp_path / "data", path=path)
    assert prepared(tmp_path / "data", path, name="pets2").name == "pets2"


def test_what_is_stated_is_checked_before_anything_appears(tmp_path):
    path = as_tar(tmp_path / "pets.tar", two_classes())
    assert "6 training images, not train_size=5" in refused(tmp_path / "data", path, train_size=5)
    assert "its content is sha256:" in refused(tmp_path / "data", path, checksum=f"sha256:{'0' * 64}")
    checksum = prepared(tmp_path / "other", path).checksum
    assert prepared(tmp_path / "data", path, checksum=checksum, train_size=6).checksum == checksum
    moved = path.rename(tmp_path / "moved.tar")
    assert load_dataset("images", tmp_path / "data", name="pets", path=moved, checksum=checksum).name == "pets"


def test_facts_are_known_without_decoding_or_stated_before(tmp_path):
    path = as_tar(tmp_path / "pets.tar", two_classes())
    assert dataset_facts("images", {"name": "pets", "train_size": 12}, tmp_path).train_size == 12
    with pytest.raises(UserError) as caught:
        dataset_facts("images", {"path": str(path), "test_share": 0.2}, tmp_path / "my data")
    command = f"--data-dir '{tmp_path}/my data' --option name=pets --option path={path} --option test_share=0.2"
    assert f"run 'bnn data prepare images {command}'" in str(caught.value)
    prepared(tmp_path, path)
    facts = dataset_facts("images", {"name": "pets"}, tmp_path)
    assert (facts.input_shape, facts.classes, facts.train_size) == ((3, 5, 6), 2, 6)
    noted = Facts.model_validate_json((tmp_path / "pets" / PREPARED / FACTS).read_text())
    assert noted.class_names == ("cat", "dog")
    assert noted.counts == ((3, 3), (2, 2))
    with pytest.raises(UserError, match="not train_size=12"):
        dataset_facts("images", {"name": "pets", "train_size": 12}, tmp_path)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "option name is missing"),
        ({"name": "../x"}, "name='../x': must be"),
        ({"name": ""}, "name='': must be"),
        ({"name": "a b"}, "name='a b'"),
        ({"name": "cifar10"}, "name='cifar10': is the name of another data set"),
        ({"path": "two words.zip"}, "'two words' of its path is no name"),
        ({"path": "mnist.zip"}, "name='mnist'"),
        ({"path": "a\nb", "name": "x"}, "can be printed"),
        ({"name": "x", "test_share": 1}, "test_share=1"),
        ({"name": "x", "test_share": 0}, "test_share=0"),
        ({"name": "x", "convert": "CMYK"}, "convert='CMYK'"),
        ({"name": "x", "checksum": "abc"}, "checksum='abc'"),
    ],
)
def test_options_are_refused_by_name(tmp_path, options, words):
    for function in (load_dataset, prepare_dataset):
        with pytest.raises(UserError) as caught:
            function("images", tmp_path, **options)
        assert words in str(caught.value)
        assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("path", "name"), [("a/cifar10-jpeg.tar.gz", "cifar10-jpeg"), ("PETS.ZIP", "PETS"), ("x.tgz", "x"), ("b/c", "c")]
)
def test_a_data_set_is_called_as_its_file_unless_it_is_named(path, name):
    assert dataset_name("images", {"path": path}) == name
    assert dataset_name("images", {"path": path, "name": "other"}) == "other"
    assert dataset_name("mnist") == "mnist"


def test_a_hash_rests_on_the_content_where_it_is_stated_and_on_the_path_where_not():
    def fingerprint(**options):
        return TrainSettings(dataset="images", dataset_options=options).fingerprint()

    stated = {"checksum": f"sha256:{'0' * 64}", "name": "x"}
    assert fingerprint(path="a", **stated) == fingerprint(path="b", **stated) == fingerprint(**stated)
    assert fingerprint(path="a") != fingerprint(path="b")
    assert fingerprint(**stated) != fingerprint(**stated | {"checksum": f"sha256:{'1' * 64}"})


def test_the_list_shows_options_of_data_sets_that_need_some(tmp_path):
    console = Console(file=io.StringIO(), width=300)
    describe_datasets(console)
    text = console.file.getvalue()
    assert all(name in text for name in DATASETS)
    assert "test_share=" in text
    assert "path=" in text


def test_the_command_says_what_it_made_and_records_it(tmp_path):
    path = as_tar(tmp_path / "pets.tar", two_classes())
    words = ["data", "prepare", "images", "--data-dir", str(tmp_path / "data"), "--option", f"path={path}"]
    result = CliRunner().invoke(cli, [*words, "--record", str(tmp_path / "record.json")])
    assert result.exit_code == 0, result.output
    record = json.loads((tmp_path / "record.json").read_text())
    assert record["dataset"] == "pets"
    assert record["checksum"] in result.output
