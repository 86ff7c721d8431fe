"""Writing a crate, as a folder or a zip archive: whole or not at all."""

from __future__ import annotations

import json
import shutil
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from bnn.atomic import atomic_file, atomic_folder
from bnn.errors import UserError
from bnn.records.columns import read_table
from bnn.regular import file_sha256, open_regular
from campaign.io.files import os_errors_named
from campaign.names.layout import Layout
from campaign.plan.read import read_plan
from campaign.results.crate.contents import Part, parts
from campaign.results.tables.schemas import TABLES
from campaign.results.validate.crate import METADATA

if TYPE_CHECKING:
    from campaign.results.crate.describe import About

ZIP = ".zip"
EPOCH = (1980, 1, 1, 0, 0, 0)  # the first time that an archive can tell: no time of ours is in it


def write_crate(layout: Layout, out: Path, about: About, records: bool = False) -> list[Part]:
    """Write the crate of a site's folder to `out`, an archive where it ends in .zip. Returns what is in it.

    Raises UserError where a part is missing, rocrate is not installed, `out` is something else than an older crate or
    within what is exported.
    """
    require_library()
    _check_place(layout, out)
    found = parts(layout, records)
    with os_errors_named(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        if out.suffix != ZIP:
            with atomic_folder(out) as folder:
                _fill(layout, folder, found, about)
            return found
        with atomic_file(out) as aside, tempfile.TemporaryDirectory(dir=out.parent, prefix=".crate-") as beside:
            _fill(layout, Path(beside), found, about)
            _pack(Path(beside), aside)
    return found


def require_library() -> None:
    """Raise UserError unless rocrate is there."""
    from importlib.util import find_spec

    if find_spec("rocrate") is None:
        raise UserError("a crate needs the package rocrate: pip install rocrate")


def _check_place(layout: Layout, out: Path) -> None:
    """What is replaced has to be a crate; what is exported must not hold what is written."""
    if out.resolve().is_relative_to(layout.root.resolve()):
        raise UserError(f"{out}: lies within {layout.root}, which is exported")
    if out.suffix == ZIP:
        if out.exists() and not (out.is_file() and zipfile.is_zipfile(out)):
            raise UserError(f"{out}: there is something else than a zip archive")
        if out.exists():
            with zipfile.ZipFile(out) as older:
                if METADATA not in older.namelist():
                    raise UserError(f"{out}: an archive that is no crate, it has no {METADATA}")
    elif out.exists() and not (out / METADATA).is_file() and not (out.is_dir() and not any(out.iterdir())):
        raise UserError(f"{out}: there is something that is no crate, it has no {METADATA}")


def _fill(layout: Layout, folder: Path, found: list[Part], about: About) -> None:
    """Copy all parts, hashing what was written, and write the metadata last."""
    from rocrate.rocrate import ROCrate

    from campaign.results.crate.describe import describe

    files = []
    for part in found:
        path = folder / part.path
        path.parent.mkdir(parents=True, exist_ok=True)
        with open_regular(part.source) as source, path.open("wb") as target:
            shutil.copyfileobj(source, target)
        files.append((part, file_sha256(path), path.stat().st_size))
    cells, provenance = (
        read_table(folder / "tables" / f"{name}.parquet", TABLES[name]) for name in ("cells", "provenance")
    )
    crate = ROCrate()
    describe(crate, read_plan(layout.plan), about, files, cells, provenance)
    text = json.dumps(crate.metadata.generate(), indent=1, ensure_ascii=False, sort_keys=True)
    (folder / METADATA).write_text(f"{text}\n", encoding="utf-8")


def _pack(folder: Path, archive: Path) -> None:
    """Pack a folder: metadata first, then files by name."""
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        for name in sorted(names, key=lambda name: name != METADATA):
            entry = zipfile.ZipInfo(name, EPOCH)
            entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            with (folder / name).open("rb") as source, packed.open(entry, "w") as target:
                shutil.copyfileobj(source, target)
