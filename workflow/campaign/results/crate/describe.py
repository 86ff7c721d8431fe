"""What a crate says of itself: the entities of ro-crate-metadata.json, by the library rocrate."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

import pandas as pd

from bnn.errors import UserError
from campaign.results.crate.contents import Part

if TYPE_CHECKING:
    from rocrate.model.entity import Entity
    from rocrate.rocrate import ROCrate

PROGRAM, NAME = "#program", "bnn-at-scale"
PYTHON, LINUX, MPI_FORUM = "https://www.python.org/", "https://www.kernel.org/", "https://www.mpi-forum.org/"
SPDX = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+-]*")
URL = re.compile(r"https?://[^\s<>\"{}|\\^`]+")
ORCID = re.compile(r"https://orcid\.org/(\d{4}-\d{4}-\d{4}-\d{3}[\dX])", re.ASCII)


@dataclass(frozen=True)
class Author:
    """A person; `orcid` is empty where none is given."""

    name: str
    orcid: str = ""


@dataclass(frozen=True)
class About:
    """What the user says of the crate: licence (an SPDX identifier or a URL), name, description, authors.

    `code` is where the program's code lies; empty where it is not said.
    """

    license: str
    name: str
    description: str
    authors: tuple[Author, ...] = ()
    code: str = ""


def license_of(given: str) -> tuple[str, str]:
    """Address and name of a licence. Raises UserError for what is neither an SPDX identifier nor a URL."""
    if URL.fullmatch(given):
        return given, given
    if SPDX.fullmatch(given):
        return f"https://spdx.org/licenses/{given}", given
    raise UserError(f"--license: {given!r} is no SPDX identifier (CC-BY-4.0) and no URL")


def author_of(given: str) -> Author:
    """`NAME` or `NAME=ORCID`. Raises UserError for an ORCID that is none."""
    name, _, orcid = (part.strip() for part in given.partition("="))
    orcid = f"https://orcid.org/{orcid}" if orcid and "/" not in orcid else orcid
    if not name or (orcid and not is_orcid(orcid)):
        raise UserError(f"--author: {given!r} is no name, nor a name and an ORCID (Ada Lovelace=0000-0002-1825-0097)")
    return Author(name, orcid)


def is_orcid(address: str) -> bool:
    """Whether it has the form of an ORCID, and its last digit is the check of the others (ISO 7064, mod 11-2)."""
    found = ORCID.fullmatch(address)
    if not found:
        return False
    digits, total = found[1].replace("-", ""), 0
    for digit in digits[:-1]:
        total = (total + int(digit)) * 2
    return digits[-1] == "0123456789X"[(12 - total % 11) % 11]


def address_of(given: str) -> str:
    """A URL as it is given, or nothing. Raises UserError for what is none."""
    if given and not URL.fullmatch(given):
        raise UserError(f"--code: {given!r} is no URL")
    return given


def describe(
    crate: ROCrate, plan: dict[str, Any], about: About, files: Sequence[tuple[Part, str, int]],
    cells: pd.DataFrame, provenance: pd.DataFrame,
) -> None:  # fmt: skip
    """Fill a crate with its entities. `files`: each part with its sha256 and its size in bytes."""
    from rocrate.model.contextentity import ContextEntity

    crate.name, crate.description = about.name, about.description
    crate.datePublished = datetime.now(UTC).date().isoformat()
    address, words = license_of(about.license)
    crate.license = crate.add(
        ContextEntity(crate, address, {"@type": "CreativeWork", "name": words, "description": f"licence {words}"})
    )
    people = [
        crate.add(ContextEntity(crate, author.orcid or f"#author-{number}", {"@type": "Person", "name": author.name}))
        for number, author in enumerate(about.authors, 1)
    ]
    _set(crate.root_dataset, "author", people)
    entities = {part.path: _file(crate, part, digest, size) for part, digest, size in files}
    action = crate.add(ContextEntity(crate, "#campaign", _run(plan, cells)))
    action["instrument"] = _software(crate, provenance, about.code)
    action["object"] = entities["plan.json"]
    action["result"] = [
        entity for path, entity in entities.items() if path.startswith(("tables/", "figures/", "report"))
    ]
    _set(action, "agent", people)
    crate.root_dataset["mentions"] = action


def _file(crate: ROCrate, part: Part, digest: str, size: int) -> Entity:
    facts = {
        "name": part.path, "description": part.description, "encodingFormat": part.media_type,
        "contentSize": str(size), "sha256": digest,
    }  # fmt: skip
    return crate.add_file(dest_path=part.path, properties=facts)


def _run(plan: dict[str, Any], cells: pd.DataFrame) -> dict[str, Any]:
    """The campaign as an action."""
    site, done = plan["site"], cells.dropna(subset=["hash"])
    said: dict[str, Any] = {
        "@type": "CreateAction", "name": f"campaign {plan['campaign']} on {site.get('title') or site['name']}",
        "description": f"{len(done)} of {len(cells)} cells were trained and measured; tables, figures and report made",
    }  # fmt: skip
    for key, value in (("startTime", done["started_at"].min()), ("endTime", done["stopped_at"].max())):
        if not pd.isna(value):
            said[key] = datetime.fromtimestamp(float(value), UTC).isoformat(timespec="seconds")
    return said


def _software(crate: ROCrate, provenance: pd.DataFrame, code: str) -> Entity:
    """The program, which needs all libraries in all versions that any rank of any cell ran with."""
    from rocrate.model.contextentity import ContextEntity

    found: dict[tuple[str, str, str], None] = {}
    for row in provenance.to_dict("records"):
        for name, release in json.loads(row["versions"]).items():
            found[(name, release, f"https://pypi.org/project/{name}/")] = None
        found |= {("Python", row["python"], PYTHON): None, ("operating system", row["platform"], LINUX): None}
        if not pd.isna(row["mpi_library"]):
            found[("MPI library", " ".join(str(row["mpi_library"]).split()), MPI_FORUM)] = None
    libraries = [_application(crate, f"#software-{number}", *facts) for number, facts in enumerate(sorted(found), 1)]
    revisions = sorted({str(value) for value in provenance["git_revision"].dropna()})
    release = ", ".join(revisions) or _release()
    if code:
        program = _application(crate, PROGRAM, NAME, release, code)
    else:  # an application must have an address
        program = crate.add(ContextEntity(crate, PROGRAM, {"@type": "CreativeWork", "name": NAME, "version": release}))
    _set(program, "softwareRequirements", libraries)
    return program


def _application(crate: ROCrate, identifier: str, name: str, release: str, url: str) -> Entity:
    from rocrate.model.contextentity import ContextEntity

    facts = {"@type": "SoftwareApplication", "name": name, "version": release, "softwareVersion": release, "url": url}
    return crate.add(ContextEntity(crate, identifier, facts))


def _set(entity: Entity, name: str, values: Sequence[Entity]) -> None:
    """Set a property; one value is no list, no value is no property."""
    if values:
        entity[name] = values if len(values) > 1 else values[0]


def _release() -> str:
    try:
        return version(NAME)
    except PackageNotFoundError:
        return "unknown"
