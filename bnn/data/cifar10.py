"""CIFAR-10 (Krizhevsky 2009): 50,000 training and 10,000 test colour images, 32x32, from the binary archive.

Nothing is unpickled and nothing is unpacked: the batches are read out of the archive, which is verified first. A folder
that somebody unpacked by hand is accepted too; only its structure can be checked, and the data set's source says so.
"""

from __future__ import annotations

import hashlib
import tarfile
import zlib
from pathlib import Path, PurePosixPath
from typing import Final

import numpy as np
from rich.console import Console

from bnn.data.base import Dataset, DatasetFacts, Options, Split, not_found
from bnn.data.files import download, file_digest, locked
from bnn.data.recipe import Recipe
from bnn.errors import UserError

NAME = "cifar10"
URLS = ("https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",)
ARCHIVE = "cifar-10-binary.tar.gz"
ARCHIVE_MD5 = "c32a1d4ab5d03f1284b67883e8d87530"
FOLDER = "cifar-10-batches-bin"
CLASSES = 10
SHAPE: Final = (3, 32, 32)
IMAGE_BYTES = 3 * 32 * 32
RECORD_BYTES = 1 + IMAGE_BYTES  # the class, then red, green and blue planes, row by row
BATCH_RECORDS = 10_000
TRAIN_BATCHES = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
TEST_BATCH = "test_batch.bin"
BATCHES = (*TRAIN_BATCHES, TEST_BATCH)


def read_archive(path: Path) -> dict[str, bytes]:
    """The content of the six batches, by name, after verifying the archive's MD5.

    Raises UserError naming the archive, and the member where one is missing, doubled, of another size or unsafe.
    """
    if file_digest(path, "md5") != ARCHIVE_MD5:
        raise UserError(f"{path}: truncated, damaged or another file (MD5 is not {ARCHIVE_MD5})")
    batches: dict[str, bytes] = {}
    try:
        with tarfile.open(path, "r|gz") as archive:
            for member in archive:
                _read_member(archive, member, path, batches)
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise UserError(f"{path}: not a readable tar.gz file ({error})") from None
    missing = [name for name in BATCHES if name not in batches]
    if missing:
        raise UserError(f"{path}: has no {FOLDER}/{missing[0]}")
    return batches


def _read_member(archive: tarfile.TarFile, member: tarfile.TarInfo, path: Path, batches: dict[str, bytes]) -> None:
    name = PurePosixPath(member.name)
    if name.is_absolute() or ".." in name.parts or not (member.isfile() or member.isdir()):
        raise UserError(f"{path}: unsafe member {member.name!r}")
    if name.parent != PurePosixPath(FOLDER) or name.name not in BATCHES:
        return
    if name.name in batches:
        raise UserError(f"{path}: two members {member.name!r}")
    _check_size(f"{path}: {member.name}", member.size)
    stream = archive.extractfile(member)
    if stream is None:
        raise UserError(f"{path}: {member.name}: not a file")
    batches[name.name] = stream.read()


def _check_size(what: str, size: int) -> None:
    expected = BATCH_RECORDS * RECORD_BYTES
    if size != expected:
        raise UserError(f"{what}: {size:,} bytes, expected {expected:,}")


def read_folder(folder: Path) -> dict[str, bytes]:
    """The content of an unpacked archive's batches. Raises UserError naming a file missing or of another size."""
    batches = {}
    for name in BATCHES:
        path = folder / name
        if not path.is_file():
            raise UserError(f"{path}: not found")
        _check_size(str(path), path.stat().st_size)
        batches[name] = path.read_bytes()
    return batches


def parse_batches(batches: dict[str, bytes], names: tuple[str, ...], origin: Path) -> Split:
    """Images and labels of the named batches, one after the other, with as many images of each class."""
    records = np.concatenate([np.frombuffer(batches[name], np.uint8).reshape(-1, RECORD_BYTES) for name in names])
    labels = records[:, 0].astype(np.int64)
    counts = np.bincount(labels, minlength=CLASSES)
    if len(counts) > CLASSES or np.any(counts != len(labels) // CLASSES):
        raise UserError(f"{origin}: damaged: {', '.join(names)} must hold as many images of each of {CLASSES} classes")
    return Split(np.ascontiguousarray(records[:, 1:]).reshape(-1, *SHAPE), labels)


def _facts(_data_dir: Path, _options: Options) -> DatasetFacts:
    return DatasetFacts(SHAPE, CLASSES, BATCH_RECORDS * len(TRAIN_BATCHES))


def _load(data_dir: Path, _options: Options) -> Dataset:
    folder = data_dir / NAME
    archive, unpacked = folder / ARCHIVE, folder / FOLDER
    if archive.exists():
        origin, batches, checksum = archive, read_archive(archive), f"md5:{ARCHIVE_MD5}"
        source = f"{NAME}: the 50,000 training images of {ARCHIVE}"
    elif unpacked.exists():
        origin, batches = unpacked, read_folder(unpacked)
        checksum = f"sha256:{hashlib.sha256(b''.join(batches[name] for name in TRAIN_BATCHES)).hexdigest()}"
        source = f"{NAME}: the 50,000 training images of an unpacked {FOLDER}, checked by structure only"
    else:
        raise not_found(NAME, ARCHIVE, folder)
    train, test = (parse_batches(batches, names, origin) for names in (TRAIN_BATCHES, (TEST_BATCH,)))
    return Dataset(NAME, train, test, CLASSES, source, checksum)


def _prepare(data_dir: Path, options: Options, console: Console) -> None:
    """Download the archive unless it or the unpacked folder is there, then read and verify it."""
    folder = data_dir / NAME
    archive, unpacked = folder / ARCHIVE, folder / FOLDER
    if not (archive.exists() or unpacked.exists()):
        with locked(folder, console):
            if not archive.exists():
                download(NAME, URLS, archive, ARCHIVE_MD5, console)
    _load(data_dir, options)


RECIPE = Recipe("colour photographs, downloaded or staged", Options, _facts, _load, _prepare)
