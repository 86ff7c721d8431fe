"""Runs a command that shares a lock until it ends: `python -m campaign.io.sharing LOCK COMMAND...`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from bnn.errors import UserError
from campaign.io.locking import shared


def main(lock: str, *command: str) -> None:
    """Become the command, which inherits the lock: the kernel frees it when the last of its processes is gone."""
    try:
        with shared(Path(lock), " ".join(command[:3])) as fd:
            os.set_inheritable(fd, True)
            os.execvp(command[0], command)
    except (UserError, OSError) as error:
        words = f"{command[0]}: {error.strerror}" if isinstance(error, OSError) else error
        print(f"error: {words}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main(*sys.argv[1:])
