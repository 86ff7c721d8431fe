"""What is refused of images of one's own, each by one line that names it, whatever the files are."""

import contextlib
import gzip
import io
import os
import socket
import tarfile
import zipfile
import zlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, features

from bnn.data import containers, decode, members, prepare_dataset
from bnn.data.decode import decoding
from bnn.data.members import clean
from bnn.data.own import PREPARED
from bnn.data.tree import chosen_for_test
from bnn.errors import UserError
from tests.support.own_images import as_folder, as_tar, as_zip, picture, two_classes

GOOD = two_classes()
JPEG = picture(7, (24, 24), kind="JPEG")


def refused(path: Path, **options) -> str:
    """The one line by which it is refused; it names the path, and no data set appears."""
    data_dir = path.parent / "data"
    with pytest.raises(UserError) as caught:
        prepare_dataset("images", data_dir, path=path, name="x", **options)
    text = str(caught.value)
    assert "\n" not in text
    assert text.startswith(str(path))
    assert not (data_dir / "x" / PREPARED).exists()
    assert [found.name for found in data_dir.glob("x/*")] in ([], [".lock"])
    return text


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"train/cat/00.png": GOOD["train/cat/00.png"][:60]}, ["'train/cat/00.png'", "truncated or damaged"]),
        ({"train/cat/00.png": b""}, ["'train/cat/00.png'", "no PNG or JPEG"]),
        ({"train/cat/00.png": b"hello"}, ["'train/cat/00.png'", "no PNG or JPEG"]),
        ({"train/cat/00.png": b"GIF89a" + bytes(99)}, ["'train/cat/00.png'", "no PNG or JPEG"]),
        ({"train/cat/00.png": picture(1, kind="JPEG")}, ["'train/cat/00.png'", "a JPEG image", "ending"]),
        ({"train/cat/00.jpg": picture(1)}, ["'train/cat/00.jpg'", "a PNG image", "ending"]),
        ({"train/dog/01.png": picture(1, (5, 5))}, ["'train/dog/01.png' is 5x5 RGB", "is 6x5 RGB"]),
        ({"train/dog/01.png": picture(1, mode="L")}, ["'train/dog/01.png' is 6x5 grey", "is 6x5 RGB"]),
        ({"train/dog/01.png": picture(1, mode="RGBA")}, ["'train/dog/01.png'", "mode RGBA", "convert"]),
        ({"train/dog/01.png": picture(1, mode="P")}, ["'train/dog/01.png'", "mode P", "convert"]),
        ({"train/dog/01.png": picture(1, mode="1")}, ["'train/dog/01.png'", "mode 1", "convert"]),
        ({"train/dog/01.png": picture(1, transparency=(1, 2, 3))}, ["'train/dog/01.png'", "transparent"]),
        ({"train/dog/01.png": "animation"}, ["'train/dog/01.png'", "animation"]),
        ({"train/dog/notes.txt": b"x"}, ["'train/dog/notes.txt'", "no image"]),
        ({"train/dog/old/1.png": picture(1)}, ["'train/dog/old/1.png'", "outside of train/<class>/"]),
        ({"train/1.png": picture(1)}, ["'train/1.png'", "outside of"]),
        ({"validation/dog/1.png": picture(1)}, ["'validation/dog/1.png'", "outside of train/<class>/"]),
        ({"train/bird/1.png": picture(1)}, ["'bird' is in train and not in test"]),
        ({"test/bird/1.png": picture(1)}, ["'bird' is in test and not in train"]),
        ({"train/bird/.png": b"x", "test/bird/1.png": picture(1)}, ["'train/bird': a class without images"]),
        ({"train/bird\n/1.png": picture(1)}, ["cannot be printed"]),
        ({"train/cat\\1.png": picture(1)}, ["backslash"]),
    ],
    ids=str,
)
@pytest.mark.parametrize("pack", [as_folder, as_tar, as_zip])
def test_files_that_are_no_data_set_are_refused_by_name(tmp_path, pack, changes, words):
    if changes.get("train/dog/01.png") == "animation":
        buffer = io.BytesIO()
        frames = [Image.open(io.BytesIO(picture(seed))) for seed in (1, 2)]
        frames[0].save(buffer, "PNG", save_all=True, append_images=frames[1:])
        changes = {"train/dog/01.png": buffer.getvalue()}
    name = {as_folder: "set", as_tar: "set.tar", as_zip: "set.zip"}[pack]
    text = refused(pack(tmp_path / name, GOOD | changes))
    assert all(word in text for word in words), text


@pytest.mark.parametrize(
    ("files", "options", "words"),
    [
        ({}, {}, "no images"),
        ({"train/cat/a.txt": b"x"}, {}, "no images"),
        ({name: GOOD[name] for name in GOOD if "cat" in name}, {}, "one class alone ('cat')"),
        ({name: GOOD[name] for name in GOOD if "train" in name}, {}, "no images in test/"),
        (GOOD, {"test_share": 0.5}, "test_share is for images without"),
        ({"cat/1.png": picture(1), "dog/1.png": picture(1)}, {}, "option test_share"),
        ({"cat/1.png": picture(1), "dog/1.png": picture(1)}, {"test_share": 0.5}, "leaves a split without"),
        ({"cat/1.png": picture(1), "2.png": picture(1)}, {"test_share": 0.5}, "'2.png': an image outside of <class>/"),
    ],
)
def test_layouts_that_are_none_are_refused(tmp_path, files, options, words):
    folder = tmp_path / "set"
    folder.mkdir()
    assert words in refused(as_folder(folder, files), **options)


def test_an_empty_folder_is_an_empty_class(tmp_path):
    folder = as_folder(tmp_path / "set", GOOD)
    (folder / "train/bird").mkdir()
    assert "'train/bird': a class without images" in refused(folder)


def test_a_path_must_lead_to_a_folder_or_an_archive(tmp_path):
    assert "does not exist" in refused(tmp_path / "set.zip")
    for name in ("set.tar", "set.tar.gz", "set.zip", "set", "set.png"):
        os.mkfifo(tmp_path / name)
        assert "a named pipe, where a file is expected" in refused(tmp_path / name)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket.zip"))
        assert "a socket" in refused(tmp_path / "socket.zip")
    (tmp_path / "set.rar").write_bytes(b"Rar!")
    assert "neither a folder nor a .tar" in refused(tmp_path / "set.rar")


@pytest.mark.parametrize("ending", ["tar", "tar.gz", "zip"])
def test_archives_of_another_kind_are_refused(tmp_path, ending):
    for content in (
        b"",
        b"hello" * 500,
        gzip.compress(b"hello" * 500),
        as_tar(tmp_path / "a.tar", GOOD).read_bytes()[:5000],
    ):
        path = tmp_path / f"set.{ending}"
        path.write_bytes(content)
        assert "truncated, damaged or another kind of file" in refused(path)


def test_a_damaged_member_of_any_compression_is_refused(tmp_path):
    for kind in (zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        path = tmp_path / f"set-{kind}.zip"
        with zipfile.ZipFile(path, "w", kind) as archive:
            for name, content in GOOD.items():
                archive.writestr(name, content)
        with zipfile.ZipFile(path) as archive:
            first = archive.infolist()[0]
        start = first.header_offset + 30 + len(first.filename)
        whole = path.read_bytes()
        for place in range(start + 4, start + first.compress_size - 4, max(1, first.compress_size // 8)):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
            assert "\n" not in refused(path)


def test_what_is_no_file_in_a_folder_is_refused(tmp_path):
    for number, (make, words) in enumerate((
        (lambda at: at.symlink_to("00.png"), "a symbolic link"), (os.mkfifo, "a named pipe"),
        (lambda at: at.symlink_to("/etc"), "a symbolic link"), (lambda at: at.symlink_to("nowhere"), "a symbolic link"),
    )):  # fmt: skip
        folder = as_folder(tmp_path / f"set{number}", GOOD)
        make(folder / "train/cat/special.png")
        text = refused(folder)
        assert f"'train/cat/special.png': {words}" in text


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (tarfile.SYMTYPE, "a symbolic link"), (tarfile.LNKTYPE, "a link"), (tarfile.FIFOTYPE, "a named pipe"),
        (tarfile.CHRTYPE, "a device"), (tarfile.BLKTYPE, "a device"), (tarfile.CONTTYPE, ""),
    ],
)  # fmt: skip
def test_special_members_of_a_tar_archive_are_refused(tmp_path, kind, words):
    path = tmp_path / "set.tar"
    as_tar(path, GOOD)
    with tarfile.open(path, "a") as archive:
        member = tarfile.TarInfo("train/cat/special.png")
        member.type, member.linkname = kind, "/etc/passwd"
        archive.addfile(member)
    assert f"'train/cat/special.png': {words}" in refused(path)


def test_special_members_of_a_zip_archive_are_refused(tmp_path):
    for mode, words in ((0o120777, "a symbolic link"), (0o010644, "a named pipe"), (0o020644, "a device")):
        path = as_zip(tmp_path / "set.zip", GOOD)
        with zipfile.ZipFile(path, "a") as archive:
            member = zipfile.ZipInfo("train/cat/special.png")
            member.external_attr = mode << 16
            archive.writestr(member, "/etc/passwd")
        assert f"'train/cat/special.png': {words}" in refused(path)


def test_an_encrypted_member_is_refused(tmp_path):
    path = as_zip(tmp_path / "set.zip", GOOD)
    content = bytearray(path.read_bytes())
    at = content.index(b"PK\x01\x02")
    content[at + 8] |= 1  # the flag of the first member in the central directory
    path.write_bytes(content)
    assert "an encrypted file" in refused(path)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("../x.png", "leads out"), ("train/../../x.png", "leads out"), ("/train/cat/x.png", "is absolute"),
        ("C:/train/cat/x.png", "is absolute"), ("train/cat/\udcff.png", "not UTF-8"), ("a/" * 20 + "x.png", "deep"),
        ("x" * 2000 + ".png", "1024"), ("train/cat/00.png", "two with this name"),
        ("./train//cat/00.png", "two with this name"), ("train/cat", "a file and a folder"),
    ],
)  # fmt: skip
def test_names_that_lead_elsewhere_are_refused(tmp_path, name, words):
    with tarfile.open(as_tar(tmp_path / "set.tar", GOOD), "a", errors="surrogateescape") as archive:
        archive.addfile(tarfile.TarInfo(name))
    assert words in refused(tmp_path / "set.tar")
    if "\udcff" not in name:
        with zipfile.ZipFile(as_zip(tmp_path / "set.zip", GOOD), "a") as archive, contextlib.suppress(UserWarning):
            archive.writestr(zipfile.ZipInfo(name), b"")
        assert words in refused(tmp_path / "set.zip")


def test_names_in_a_zip_archive_that_are_not_utf_8_are_refused(tmp_path):
    path = as_zip(tmp_path / "set.zip", GOOD | {"train/cat/LATIN.png": picture(1)})
    path.write_bytes(path.read_bytes().replace(b"LATIN", b"lat\xefn"))
    assert "its name is not UTF-8" in refused(path)
    path.write_bytes(
        as_zip(tmp_path / "other.zip", GOOD | {"train/cat/ZERO.png": picture(1)})
        .read_bytes()
        .replace(b"ZERO", b"ZE\0O")
    )
    assert "cannot be printed" in refused(path)


def test_utf_8_without_its_flag_and_decomposed_names_are_the_same_class(tmp_path):
    files = {name.replace("cat", "kätzchen"): content for name, content in GOOD.items()}
    decomposed = {name.replace("cat", "ka\u0308tzchen"): content for name, content in GOOD.items()}
    plain = as_zip(
        tmp_path / "plain.zip", {name.replace("cat", "k__tzchen"): content for name, content in GOOD.items()}
    )
    plain.write_bytes(plain.read_bytes().replace(b"k__tzchen", "kätzchen".encode()))
    made = set()
    for path in (plain, as_tar(tmp_path / "a.tar", files), as_zip(tmp_path / "b.zip", decomposed)):
        prepare_dataset("images", tmp_path / path.stem, path=path, name="x")
        made.add((tmp_path / path.stem / "x" / PREPARED / "facts.json").read_text().split('"checksum"')[1][:80])
        assert "kätzchen" in (tmp_path / path.stem / "x" / PREPARED / "facts.json").read_text()
    assert len(made) == 1


def test_bombs_are_refused_before_they_are_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(members, "LARGEST_FILE", 10_000)
    monkeypatch.setattr(containers, "LARGEST_FILE", 10_000)
    monkeypatch.setattr(containers, "LARGEST_HEADERS", 10_000)
    bomb = GOOD | {"train/cat/x.png": bytes(20_000)}
    for path in (as_tar(tmp_path / "set.tar.gz", bomb), as_zip(tmp_path / "set.zip", bomb)):
        assert "'train/cat/x.png': 20,000 bytes, more than 10,000" in refused(path)
    with tarfile.open(tmp_path / "name.tar.gz", "w:gz", format=tarfile.PAX_FORMAT) as archive:
        member = tarfile.TarInfo("x.png")
        member.pax_headers = {"comment": "x" * 20_000}
        archive.addfile(member)
    assert "bytes of headers" in refused(tmp_path / "name.tar.gz")
    monkeypatch.setattr(members, "MOST_FILES", 5)
    assert "more than 5 files" in refused(as_zip(tmp_path / "many.zip", GOOD))
    monkeypatch.setattr(members, "MOST_FILES", 500)
    monkeypatch.setattr(members, "MOST_BYTES", 500)
    assert "500 bytes in them" in refused(as_zip(tmp_path / "large.zip", GOOD))


def test_headers_of_a_tar_archive_have_bounds_together(tmp_path):
    long = tarfile.TarInfo("././@LongLink")
    long.type, long.size = tarfile.GNUTYPE_LONGNAME, 300_000
    chained = b"".join(long.tobuf(tarfile.GNU_FORMAT) + b"a" * 300_032 for _ in range(40))
    (tmp_path / "chained.tar").write_bytes(chained + bytes(1024))
    assert "bytes of headers" in refused(tmp_path / "chained.tar")
    holes = tarfile.TarInfo("train/cat/x.png")
    holes.pax_headers = {
        "GNU.sparse.major": "1",
        "GNU.sparse.minor": "0",
        "GNU.sparse.name": "x",
        "GNU.sparse.realsize": "9",
    }
    with tarfile.open(tmp_path / "holes.tar", "w", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(holes)
    content = (tmp_path / "holes.tar").read_bytes().rstrip(b"\0")
    (tmp_path / "holes.tar").write_bytes(content + bytes(-len(content) % 512) + b"1000000\n")  # a map without an end
    assert "headers" in refused(tmp_path / "holes.tar")


def test_16_bits_per_channel_and_turned_images_are_refused(tmp_path):
    rows = b"".join(b"\0" + bytes(6 * 3 * 2) for _ in range(5))

    def chunk(kind, data):
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    size = (6).to_bytes(4, "big") + (5).to_bytes(4, "big")
    deep = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size + bytes([16, 2, 0, 0, 0]))
    deep += chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path = as_folder(tmp_path / "deep", GOOD | {"train/cat/00.png": deep})
    assert "16 bits per channel" in refused(path)
    assert "16 bits per channel" in refused(path, convert="L")
    buffer, exif = io.BytesIO(), Image.Exif()
    exif[decode.ORIENTATION] = 6
    Image.new("RGB", (6, 5)).save(buffer, "JPEG", exif=exif)
    path = as_folder(tmp_path / "turned", {name.replace(".png", ".jpg"): buffer.getvalue() for name in GOOD})
    assert "lies turned, by its EXIF orientation" in refused(path)


def test_a_size_that_a_zip_archive_understates_is_refused(tmp_path):
    path = as_zip(tmp_path / "set.zip", GOOD | {"train/cat/x.png": bytes(50_000)})
    content = path.read_bytes()
    path.write_bytes(content.replace((50_000).to_bytes(4, "little"), (100).to_bytes(4, "little")))
    assert "truncated" in refused(path)


def test_images_of_too_many_pixels_are_refused_by_their_headers(tmp_path, monkeypatch):
    monkeypatch.setattr(decode, "MOST_PIXELS", 29)
    assert "6x5 pixels, more than 29" in refused(as_folder(tmp_path / "set", GOOD))
    monkeypatch.setattr(decode, "MOST_PIXELS", 1 << 24)
    huge = bytearray(GOOD["train/cat/00.png"])
    huge[16:24] = (60_000).to_bytes(4, "big") * 2  # the header's width and height
    huge[29:33] = zlib.crc32(huge[12:29]).to_bytes(4, "big")
    assert "more than 16,777,216" in refused(as_folder(tmp_path / "huge", GOOD | {"train/cat/00.png": bytes(huge)}))


def test_values_that_do_not_fit_are_not_converted(tmp_path):
    buffer = io.BytesIO()
    Image.fromarray(np.full((5, 6), 40_000, np.uint16)).save(buffer, "PNG")
    path = as_folder(tmp_path / "set", GOOD | {"train/cat/00.png": buffer.getvalue()})
    assert "mode I;16" in refused(path, convert="L")


def test_a_disk_without_room_is_named_before_anything_is_decoded(tmp_path, monkeypatch):
    monkeypatch.setattr("bnn.data.files.shutil.disk_usage", lambda _: SimpleNamespace(free=10))
    assert "prepared it takes 900 bytes" in refused(as_folder(tmp_path / "set", GOOD))


@given(st.integers(0, 10_000))
def test_a_truncated_tar_archive_is_never_a_smaller_data_set(tmp_path_factory, length):
    folder = tmp_path_factory.mktemp("cut")
    content = as_tar(folder / "whole.tar", GOOD).read_bytes()
    end = len(content.rstrip(b"\0"))
    (folder / "set.tar").write_bytes(content[: length * end // 10_000])
    refused(folder / "set.tar")


@given(st.integers(0, len(JPEG) - 1))
def test_a_truncated_image_is_refused_or_has_all_its_pixels(length):
    with decoding():
        _, whole = decode.decode("set", "a.jpg", JPEG, "none", None)
        with contextlib.suppress(UserError):
            _, cut = decode.decode("set", "a.jpg", JPEG[:length], "none", None)
            np.testing.assert_array_equal(cut, whole)


@given(st.integers(0, len(GOOD["train/cat/00.png"]) - 1), st.integers(1, 255))
def test_a_changed_byte_of_a_png_is_noticed_or_harmless(place, change):
    content = GOOD["train/cat/00.png"]
    damaged = bytearray(content)
    damaged[place] ^= change
    with decoding():
        _, whole = decode.decode("set", "a.png", content, "none", None)
        with contextlib.suppress(UserError):
            _, read = decode.decode("set", "a.png", bytes(damaged), "none", None)
            np.testing.assert_array_equal(read, whole)


@given(st.binary(max_size=300), st.sampled_from(["tar", "tar.gz", "zip"]))
def test_any_bytes_are_refused(tmp_path_factory, content, ending):
    path = tmp_path_factory.mktemp("any") / f"set.{ending}"
    path.write_bytes(content)
    refused(path)


NAMES = st.lists(
    st.sampled_from(["..", ".", "", "a", "b.png", "/", "\\", "C:", "~", "\udc80", "\x00", "é"]), max_size=6
)


@given(NAMES.map("/".join) | st.text(max_size=20))
def test_a_clean_name_stays_below_its_folder_and_is_clean(name):
    try:
        cleaned = clean(name)
    except ValueError:
        return
    root = Path("/root/of/all")
    assert Path(os.path.normpath(root / cleaned)).is_relative_to(root)
    assert clean(cleaned) == cleaned
    cleaned.encode("utf-8")


@settings(max_examples=50)
@given(st.sets(st.text("abc", min_size=1), min_size=1), st.floats(0.01, 0.99), st.integers(0, 5))
def test_what_is_chosen_for_testing_does_not_depend_on_an_order(names, share, seed):
    names = sorted(names)
    one = {names[at] for at in chosen_for_test(names, share, seed)}
    two = {names[::-1][at] for at in chosen_for_test(names[::-1], share, seed)}
    assert one == two
    assert len(one) == round(share * len(names))


def test_pillow_is_the_one_that_is_pinned():
    pins = (Path(__file__).parents[2] / "envs/requirements.txt").read_text()
    assert f"pillow=={Image.__version__}\n" in pins
    assert features.check("jpg")
    assert features.check("zlib")


@pytest.mark.parametrize("path", ["cifar10/cifar-10-binary.tar.gz", "mnist/train-images-idx3-ubyte.gz"])
def test_a_pipe_in_place_of_a_staged_file_is_refused_and_not_waited_for(tmp_path, path):
    name = path.split("/")[0]
    (tmp_path / name).mkdir()
    for part in ("t10k-images-idx3", "t10k-labels-idx1", "train-labels-idx1"):
        (tmp_path / name / f"{part}-ubyte.gz").write_bytes(b"")
    os.mkfifo(tmp_path / path)
    with pytest.raises(UserError, match="a named pipe, where a file is expected"):
        prepare_dataset(name, tmp_path)
