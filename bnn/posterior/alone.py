"""One at a time in a process: what uses things that torch, or the recording of leaves, keeps once for all threads."""

from __future__ import annotations

import threading

# Held by who exports a model, and by who runs a graph on shapes alone: torch's exporter keeps what it notes of the
# operations that it sees process-wide, and finds there what another thread has just removed.
ALONE = threading.RLock()
