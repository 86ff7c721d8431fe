"""The folder of a packed job: its script, and what the runner is told to run."""

from __future__ import annotations

import json
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from snakemake_executor_plugin_batch_script import runner
from snakemake_executor_plugin_batch_script.packing import request, room

FOLDER = ".packs"  # beside the scripts, with a folder for each packed job
SCRIPT, JOB = "pack.sh", "job"
HERE = "@PACK@"  # in the script of packed jobs: the job's folder


def write_pack(folder: Path, scripts: Sequence[tuple[Path, str]], log_of: Callable[[Path], Path | None]) -> None:
    """Write what a job of several scripts (each with the name of its job) is, its own script and its manifest.

    `log_of` tells where a script's output goes by itself. Raises OSError.
    """
    requests = []
    for script, _ in scripts:
        wanted = request(script)
        if wanted is None:
            raise FileNotFoundError(2, "does not say what it needs of a packed job", str(script))
        requests.append(wanted)
    head = requests[0].head  # the same for all
    has = room(head)
    if has is None:
        raise FileNotFoundError(2, "the script of packed jobs cannot be read", str(head))
    members = [
        {"label": script.stem, "name": name, "script": str(script), "nodes": wanted.nodes,
         "seconds": 60 * wanted.minutes,
         "log": str(log_of(script) or folder / f"{script.stem}.log")}
        for (script, name), wanted in zip(scripts, requests, strict=True)
    ]  # fmt: skip
    manifest = {"submitted": time.time(), "nodes": has.nodes, "seconds": 60 * has.minutes, "members": members}
    text = head.read_text().replace(HERE, str(folder)).rstrip("\n")
    start = shlex.join([sys.executable, "-I", str(Path(runner.__file__).resolve()), str(folder)])
    folder.mkdir(parents=True)
    (folder / runner.MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n")
    script = folder / SCRIPT
    script.write_text(f"{text}\nexec {start}\n")
    script.chmod(0o755)


def jobs_in(place: Path) -> list[tuple[str, str]]:
    """Ids and names of the packed jobs with a folder there, the newest last: schedulers may count anew."""
    found = []
    for file in place.glob(f"*/{JOB}"):
        with suppress(OSError, ValueError):
            found.append((file.stat().st_mtime, file.read_text().strip(), file.parent.name))
    return [(job, name) for _, job, name in sorted(found)]
