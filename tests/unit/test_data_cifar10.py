"""CIFAR-10: a small archive of the same build, read from the tar file or from an unpacked folder."""

import hashlib
import io
import tarfile
from pathlib import Path

import numpy as np
import pytest

from bnn.data import cifar10, load_dataset, prepare_dataset
from bnn.errors import UserError

RECORDS = 20


def batch(seed: int) -> bytes:
    random = np.random.default_rng(seed)
    records = random.integers(0, 256, (RECORDS, cifar10.RECORD_BYTES), dtype=np.uint8)
    records[:, 0] = random.permutation(np.repeat(np.arange(10), RECORDS // 10))
    return records.tobytes()


@pytest.fixture
def members(monkeypatch) -> dict[str, bytes]:
    monkeypatch.setattr(cifar10, "BATCH_RECORDS", RECORDS)
    batches = {f"{cifar10.FOLDER}/{name}": batch(seed) for seed, name in enumerate(cifar10.BATCHES)}
    return {f"{cifar10.FOLDER}/batches.meta.txt": b"airplane\n", **batches}


def add(archive: tarfile.TarFile, name: str, data: bytes = b"", kind: bytes = tarfile.REGTYPE, link: str = "") -> None:
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname = len(data), kind, link
    archive.addfile(info, io.BytesIO(data))


def write_archive(data_dir: Path, members: dict[str, bytes], monkeypatch, *extra: tuple) -> Path:
    path = data_dir / "cifar10" / cifar10.ARCHIVE
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as archive:
        add(archive, cifar10.FOLDER, kind=tarfile.DIRTYPE)
        for name, data in members.items():
            add(archive, name, data)
        for member in extra:
            add(archive, *member)
    trust(path, monkeypatch)
    return path


def trust(path: Path, monkeypatch) -> None:
    monkeypatch.setattr(cifar10, "ARCHIVE_MD5", hashlib.md5(path.read_bytes()).hexdigest())


def unpack(data_dir: Path, members: dict[str, bytes]) -> Path:
    folder = data_dir / "cifar10"
    (folder / cifar10.FOLDER).mkdir(parents=True)
    for name, data in members.items():
        (folder / name).write_bytes(data)
    return folder / cifar10.FOLDER


def check(data, members: dict[str, bytes]) -> None:
    first = np.frombuffer(members[f"{cifar10.FOLDER}/data_batch_2.bin"], np.uint8).reshape(RECORDS, -1)
    assert (len(data.train), len(data.test), data.input_shape) == (5 * RECORDS, RECORDS, (3, 32, 32))
    assert data.train.labels[RECORDS] == first[0, 0]
    assert data.train.images[RECORDS, 1, 2, 3] == first[0, 1 + 1024 + 2 * 32 + 3]  # green, row 2, column 3
    assert data.test.images.tobytes() == b"".join(
        members[f"{cifar10.FOLDER}/test_batch.bin"][start + 1 : start + cifar10.RECORD_BYTES]
        for start in range(0, RECORDS * cifar10.RECORD_BYTES, cifar10.RECORD_BYTES)
    )


def test_the_archive_is_read_without_unpacking(tmp_path, members, monkeypatch):
    path = write_archive(tmp_path, members, monkeypatch)
    prepare_dataset("cifar10", tmp_path)
    check(load_dataset("cifar10", tmp_path), members)
    assert list(path.parent.iterdir()) == [path]


def test_an_unpacked_folder_is_accepted_and_named(tmp_path, members):
    unpack(tmp_path, members)
    data = load_dataset("cifar10", tmp_path)
    check(data, members)
    assert "checked by structure only" in data.source


def test_missing_files_name_the_command(tmp_path):
    with pytest.raises(UserError, match=r"cifar10: cifar-10-binary.tar.gz not found in .* 'bnn data prepare cifar10"):
        load_dataset("cifar10", tmp_path)


@pytest.mark.parametrize("change", [lambda data: data[:-20], lambda data: data[:99] + b"\xff\0" + data[101:]])
def test_an_archive_with_another_md5_is_refused_by_name(tmp_path, members, monkeypatch, change):
    path = write_archive(tmp_path, members, monkeypatch)
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(UserError, match=r"cifar-10-binary.tar.gz: truncated, damaged or another file"):
        load_dataset("cifar10", tmp_path)


@pytest.mark.parametrize("change", [lambda data: data[: len(data) // 2], lambda data: b"no archive"])
def test_what_is_no_archive_is_refused_even_when_its_md5_fits(tmp_path, members, monkeypatch, change):
    path = write_archive(tmp_path, members, monkeypatch)
    path.write_bytes(change(path.read_bytes()))
    trust(path, monkeypatch)
    with pytest.raises(UserError, match=r"cifar-10-binary.tar.gz: not a readable tar.gz file"):
        load_dataset("cifar10", tmp_path)


@pytest.mark.parametrize(
    "member",
    [
        ("../evil.bin", b"x"),
        ("/tmp/evil.bin", b"x"),
        (f"{cifar10.FOLDER}/../../evil.bin", b"x"),
        (f"{cifar10.FOLDER}/link.bin", b"", tarfile.SYMTYPE, "/etc/passwd"),
        (f"{cifar10.FOLDER}/hard.bin", b"", tarfile.LNKTYPE, "/etc/passwd"),
        (f"{cifar10.FOLDER}/pipe", b"", tarfile.FIFOTYPE),
    ],
)
def test_unsafe_members_are_refused(tmp_path, members, monkeypatch, member):
    write_archive(tmp_path, members, monkeypatch, member)
    with pytest.raises(UserError, match="unsafe member"):
        load_dataset("cifar10", tmp_path)
    assert not list(tmp_path.rglob("evil*"))


def test_members_missing_doubled_or_of_another_size_are_refused(tmp_path, members, monkeypatch):
    test_batch = f"{cifar10.FOLDER}/test_batch.bin"
    write_archive(tmp_path, members, monkeypatch, (test_batch, members[test_batch]))
    with pytest.raises(UserError, match="two members"):
        load_dataset("cifar10", tmp_path)
    write_archive(tmp_path, members | {test_batch: b"short"}, monkeypatch)
    with pytest.raises(UserError, match=r"test_batch.bin: 5 bytes, expected 61,460"):
        load_dataset("cifar10", tmp_path)
    del members[test_batch]
    write_archive(tmp_path, members, monkeypatch)
    with pytest.raises(UserError, match=r"has no cifar-10-batches-bin/test_batch.bin"):
        load_dataset("cifar10", tmp_path)


def test_damage_in_an_unpacked_folder_is_refused_by_name(tmp_path, members):
    folder = unpack(tmp_path, members)
    path = folder / "data_batch_3.bin"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    with pytest.raises(UserError, match=r"data_batch_3.bin: 61,459 bytes"):
        load_dataset("cifar10", tmp_path)
    path.write_bytes(b"\x0b" + whole[1:])  # class 11 of 10
    with pytest.raises(UserError, match=r"damaged: .*data_batch_3.bin"):
        load_dataset("cifar10", tmp_path)
    path.unlink()
    with pytest.raises(UserError, match=r"data_batch_3.bin: not found"):
        load_dataset("cifar10", tmp_path)
