"""Completes a folder of packages once: under its lock, stamped last of all; whatever stops it is one line."""

from __future__ import annotations

import errno
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from bootstrap.console import SetupError, end_all, say
from bootstrap.lock import locked
from bootstrap.venv import holds_stamp, stamp


def complete(
    name: str,
    folder: Path,
    wanted: dict[str, str],
    logs: Sequence[Path],
    install: Callable[[int], None],
    *,
    done: Callable[[Path, dict[str, str]], bool] = holds_stamp,
    hint: str = "",
) -> int:
    """Fill `folder`, unless it was completed with the fingerprints `wanted`; returns the exit code.

    `install` gets the descriptor of the lock, which lies beside the folder. `logs` are begun anew. `name` is who speaks
    on stderr, `hint` is said when all is there. 0: it is ready, 2: something is missing, 130: interrupted.
    """
    if done(folder, wanted):
        return 0
    for ending in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, signal.default_int_handler)
    try:
        with locked(folder.with_name(f"{folder.name}.lock"), "the same set-up") as lock:
            if not done(folder, wanted):
                for log in logs:
                    log.unlink(missing_ok=True)
                install(lock)
                stamp(folder, wanted)
                say(f"done: {folder} is ready{hint}")
    except SetupError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        print(f"{name}: the disk is full ({error.filename}): free some space and run it again", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        end_all()
        print(f"{name}: interrupted; run it again to go on from here", file=sys.stderr)
        return 130
    return 0
