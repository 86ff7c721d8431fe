"""The interface that every data set implements; to add one, write a module with a RECIPE and list it in bnn.data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from bnn.data.base import Dataset, DatasetFacts, Options


def nothing_to_prepare(_data_dir: Path, _options: Any, _console: Console) -> None:
    """`prepare` of a data set without files."""


@dataclass(frozen=True)
class Recipe:
    """How a data set is described, loaded and prepared. `options` validates what the functions receive.

    `facts` reads no image. `own`: a kind of data sets that users bring, each with a name of its own, rather than one.
    """

    title: str
    options: type[Options]
    facts: Callable[[Path, Any], DatasetFacts]
    load: Callable[[Path, Any], Dataset]
    prepare: Callable[[Path, Any, Console], None] = nothing_to_prepare
    own: bool = False
