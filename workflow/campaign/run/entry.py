"""From Snakemake's configuration to a campaign: what the Snakefile asks of this package first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bnn.errors import UserError
from campaign.io.schema import did_you_mean
from campaign.names.layout import RESULTS
from campaign.run.driver import Driver, look
from campaign.site.site import SITE_FILE

KEYS = {"campaign", "results"}  # of --config


def open_campaign(
    config: Mapping[str, Any], given: Mapping[str, Any], configfiles: Sequence[str | Path], project: Path
) -> Driver:
    """The campaign that `snakemake --profile profiles/SITE [--config campaign=FILE results=FOLDER]` asks for.

    `config`, `given` (what --config adds to it) and `configfiles` are Snakemake's, `project` is the Snakefile's folder.
    A profile names its own file of options as Snakemake's `configfile`, so that the site's file beside it is read by
    this package alone: Snakemake's reader takes 24:00:00 for 86400, and ends in a traceback where the file is missing.
    A profile may also name site.yaml itself. Raises UserError with one line.
    """
    unknown = sorted(set(given) - KEYS)
    if unknown:
        raise UserError(f"--config {unknown[0]}: unknown key{did_you_mean(unknown[0], KEYS)}")
    files = [Path(file) for file in configfiles]
    if len(files) != 1 or not (files[0].name == SITE_FILE or isinstance(config.get("configfile"), str)):
        profiles = sorted(f"profiles/{path.parent.name}" for path in project.glob(f"profiles/*/{SITE_FILE}"))
        raise UserError(f"no site given: use snakemake --profile PROFILE with one of {', '.join(profiles)}")
    campaign = Path(str(given.get("campaign", project / "config.yaml")))
    return look(_short(files[0].parent / SITE_FILE), _short(campaign), Path(str(given.get("results", RESULTS))))


def _short(path: Path) -> Path:
    """Relative to the current folder when it lies below: messages and scripts then name it as a user would."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
