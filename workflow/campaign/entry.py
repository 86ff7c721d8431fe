"""From Snakemake's configuration to a campaign made ready: what the Snakefile asks of this package first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bnn.errors import UserError
from campaign.driver import Driver, prepare
from campaign.layout import RESULTS
from campaign.schema import did_you_mean
from campaign.sites import SITE_FILE

KEYS = {"site", "campaign", "results"}


def open_campaign(config: Mapping[str, Any], configfiles: Sequence[str | Path], project: Path) -> Driver:
    """The campaign that `snakemake --profile profiles/SITE [--config campaign=FILE results=FOLDER]` asks for.

    `config` and `configfiles` are Snakemake's, `project` is the Snakefile's folder. Raises UserError with one line.
    """
    unknown = sorted(set(config) - KEYS)
    if unknown:
        raise UserError(f"--config {unknown[0]}: unknown key{did_you_mean(unknown[0], KEYS - {'site'})}")
    files = [Path(file) for file in configfiles]
    if len(files) != 1 or not isinstance(config.get("site"), Mapping):
        profiles = sorted(f"profiles/{path.parent.name}" for path in project.glob(f"profiles/*/{SITE_FILE}"))
        raise UserError(f"no site given: use snakemake --profile PROFILE with one of {', '.join(profiles)}")
    campaign = Path(str(config.get("campaign", project / "config.yaml")))
    return prepare(_short(files[0]), _short(campaign), Path(str(config.get("results", RESULTS))))


def _short(path: Path) -> Path:
    """Relative to the current folder when it lies below: messages and scripts then name it as a user would."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
