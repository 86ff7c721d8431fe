"""A cell's identity and its folder: the only place where a cell's paths are made and parsed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from bnn.errors import UserError
from bnn.records.files import SUMMARY

# Of a cell's folders and its name: what tells them apart.
PLACE = "{dataset}/{model}/{kind}/nodes={nodes}/batch={batch}/variant={variant}/repeat={repeat}"
NAME = "{dataset}_{model}_{kind}_n{nodes}_b{batch}_{variant}_r{repeat}"


def selects(where: Mapping[str, Sequence[Any]], facts: Mapping[str, Any]) -> bool:
    """Whether `where` lists the fact under each of its keys; without keys it selects everything."""
    return all(facts.get(key) in values for key, values in where.items())


def _text(value: str) -> str:
    """A value as one path component and file-name-safe word (user models are 'package.module:function')."""
    return quote(value, safe="-_.")


@dataclass(frozen=True, order=True)
class Cell:
    """One training run of the campaign. Batch size is per rank; repeats count from 1."""

    site: str
    dataset: str
    model: str
    kind: str
    nodes: int
    batch_size: int
    variant: str
    repeat: int

    @property
    def folder(self) -> Path:
        """Folder of its records, relative to the results folder."""
        return Path(self.site) / "cells" / self.place

    @property
    def place(self) -> Path:
        """Its folders below those of all cells: cells/, and infer/ and prune/ for the jobs after it."""
        return Path(PLACE.format(**self.words))

    @property
    def summary(self) -> Path:
        """Its summary.json, relative to the results folder: the file that says the cell is finished."""
        return self.folder / SUMMARY

    @property
    def name(self) -> str:
        """A name without spaces or slashes, unique within the site: dataset_model_kind_nN_bB_variant_rR."""
        return NAME.format(**self.words)

    @property
    def words(self) -> dict[str, str]:
        """Its identity within the site, as its folders and its name have it."""
        return {
            "dataset": _text(self.dataset), "model": _text(self.model), "kind": self.kind, "nodes": str(self.nodes),
            "batch": str(self.batch_size), "variant": _text(self.variant), "repeat": str(self.repeat),
        }  # fmt: skip

    @property
    def hash(self) -> str:
        """Twelve hexadecimal digits that identify the cell to a scheduler."""
        return hashlib.sha256(self.folder.as_posix().encode()).hexdigest()[:12]

    def labels(self) -> dict[str, str]:
        """Identity as text, for the records."""
        return {key: str(value) for key, value in asdict(self).items()}

    def facts(self) -> dict[str, Any]:
        """Its identity by the names of a study's axes."""
        return {
            "datasets": self.dataset, "models": self.model, "kinds": self.kind, "nodes": self.nodes,
            "batch_sizes": self.batch_size, "variants": self.variant,
        }  # fmt: skip

    @classmethod
    def from_folder(cls, folder: Path) -> Cell:
        """Inverse of `folder`. Raises UserError for a path that is not a cell's."""
        parts = folder.parts
        try:
            site, cells, dataset, model, kind, nodes, batch, variant, repeat = parts[-9:]
            keys = [part.split("=", 1) for part in (nodes, batch, variant, repeat)]
            if cells != "cells" or [key for key, _ in keys] != ["nodes", "batch", "variant", "repeat"]:
                raise ValueError
            n, b, v, r = (value for _, value in keys)
            return cls(site, unquote(dataset), unquote(model), kind, int(n), int(b), unquote(v), int(r))
        except ValueError:
            raise UserError(f"{folder}: not the folder of a cell") from None


IDENTITY = tuple(field.name for field in fields(Cell))
