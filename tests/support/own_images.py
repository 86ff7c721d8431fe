"""Small data sets of one's own for tests: the same files as a folder, a tar archive and a zip archive."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

Files = dict[str, bytes]


def picture(
    seed: int, size: tuple[int, int] = (6, 5), mode: str = "RGB", kind: str = "PNG", **options: object
) -> bytes:
    """An image of random pixels, (width, height)."""
    channels = {"L": (), "P": (), "1": ()}.get(mode, (len(mode),))
    values = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], *channels), dtype=np.uint8)
    image = Image.fromarray(values).convert(mode) if mode in ("P", "1") else Image.fromarray(values, mode)
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def two_classes(train: int = 3, test: int = 2) -> Files:
    """train/{cat,dog}/*.png and test/..., all different."""
    return {
        f"{part}/{name}/{number:02}.png": picture(100 * seed + number)
        for part, count, first in (("train", train, 0), ("test", test, 2))
        for seed, name in enumerate(("cat", "dog"), start=first)
        for number in range(count)
    }


def as_folder(path: Path, files: Files) -> Path:
    for name, content in files.items():
        file = path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    return path


def as_tar(path: Path, files: Files, **headers: object) -> Path:
    """`headers`: attributes of all members."""
    with tarfile.open(path, "w:gz" if path.name.endswith("gz") else "w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            for key, value in headers.items():
                setattr(member, key, value)
            archive.addfile(member, io.BytesIO(content))
    return path


def as_zip(path: Path, files: Files) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path
