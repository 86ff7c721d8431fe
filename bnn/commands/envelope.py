"""Fills in what the record of every command says of how it came about."""

from __future__ import annotations

import sys
import time
from typing import Any

from bnn.provenance import git_state


def envelope(started_at: float) -> dict[str, Any]:
    """The fields that say when, by which command and by which code a record was made, the last as of now.

    `started_at` is in seconds since 1970; `git_dirty` is None outside a checkout.
    """
    revision, dirty = git_state()
    return {
        "command": sys.argv,
        "started_at": started_at,
        "stopped_at": time.time(),
        "git_revision": revision,
        "git_dirty": dirty,
    }
