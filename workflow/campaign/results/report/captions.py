"""Captions and the introduction: written once, as reStructuredText, for this report and for Snakemake's own."""

from __future__ import annotations

from pathlib import Path

from markupsafe import Markup

from bnn.errors import UserError

FOLDER = Path(__file__).resolve().parents[3] / "report"


def caption_html(name: str, folder: Path = FOLDER) -> Markup:
    """HTML of `<folder>/<name>`. Raises UserError when the file is absent or not valid reStructuredText."""
    from docutils.core import publish_parts
    from docutils.utils import SystemMessage

    path = folder / name
    try:
        text = path.read_text()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    # no file or raw directives: a caption is text; a warning already is an error
    settings = {
        "file_insertion_enabled": False, "raw_enabled": False, "_disable_config": True,
        "halt_level": 2, "report_level": 5,
    }  # fmt: skip
    try:
        return Markup(publish_parts(text, writer="html5", settings_overrides=settings)["fragment"])  # noqa: S704
    except SystemMessage as error:
        raise UserError(f"{path}: {error}") from None
