"""Fills in what the record of every command says of how it came about."""

from __future__ import annotations

import sys
import time
from typing import Any

from bnn.provenance import git_state


def envelope(started_at: float) -> dict[str, Any]:
    """The fields of `bnn.records.envelope.Envelope` as of now; `started_at` in seconds since 1970."""
    revision, dirty = git_state()
    return {
        "command": sys.argv,
        "started_at": started_at,
        "stopped_at": time.time(),
        "git_revision": revision,
        "git_dirty": dirty,
    }
