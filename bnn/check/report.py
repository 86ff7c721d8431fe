"""The one file to send: what the machine is, how each check ended, what faults printed; without names of people."""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import platform
import re
import socket
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

import torch

from bnn.check.outcome import Context, Outcome
from bnn.commands.output import errors_named
from bnn.energy.counters import NotMeasurableError
from bnn.energy.nvml import describe
from bnn.provenance import cpu_model, git_state, versions
from bnn.records.files import write_text


def machine_facts() -> dict[str, Any]:
    """What is computed with: versions, processor, GPUs, and their software; None where there is none.

    GPUs are asked for by the driver's library, which leaves no trace of this process on them.
    """
    try:
        driver, gpus = describe()
    except NotMeasurableError as error:
        driver, gpus = f"not known: {error}", []
    nccl = torch.cuda.nccl.version() if torch.version.cuda else None
    return {
        "python": platform.python_version(),
        "versions": versions(),
        "revision": git_state()[0],
        "cpu": cpu_model(),
        "cpus": len(os.sched_getaffinity(0)),
        "gpus": gpus,
        "driver": driver,
        "torch_cuda": torch.version.cuda,
        "torch_nccl": ".".join(map(str, nccl)) if nccl else None,
    }


def write_report(
    out: Path, context: Context, facts: dict[str, Any], rows: Sequence[Outcome], complete: bool = False
) -> None:
    """Write OUT whole, with the checks that have ended so far. Raises UserError where it cannot be written."""
    names = own_names()
    checks = [{**asdict(row), "reason": anonymous(row.reason, names), "log": anonymous(row.log, names)} for row in rows]
    launcher = anonymous(" ".join(context.launcher), names)
    record = {
        "written": datetime.now().astimezone().isoformat(timespec="seconds"),
        "device": context.device,
        "ranks": context.ranks,
        "nodes": context.nodes,
        "launcher": launcher,
    }
    text = json.dumps({**record, **facts, "complete": complete, "checks": checks}, indent=1)
    with errors_named(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        write_text(out, text + "\n")


def own_names() -> dict[str, str]:
    """What tells whose machine this is, and what stands in its place: home folder, user, host."""
    home = os.environ.get("HOME") or "/"
    homes = {home.rstrip("/"), os.path.realpath(home)} - {"/"}
    users = {os.environ.get(name, "") for name in ("USER", "LOGNAME")}
    with contextlib.suppress(KeyError, OSError):  # a user id without a name
        users.add(getpass.getuser())
    full = {socket.gethostname(), platform.node(), socket.getfqdn()}
    hosts = full | {name.partition(".")[0] for name in full}
    found = dict.fromkeys(hosts, "HOST") | dict.fromkeys(users, "USER") | dict.fromkeys(homes, "~")
    return {name: word for name, word in found.items() if name and name != "localhost"}


def anonymous(text: str, names: dict[str, str]) -> str:
    """The text with each of `names` replaced where it is a word of its own, the longest first; hosts in any case."""
    for name in sorted(names, key=len, reverse=True):
        pattern = rf"(?<![A-Za-z0-9]){re.escape(name)}(?![A-Za-z0-9])"
        flags = re.IGNORECASE if names[name] == "HOST" else 0
        text = re.sub(pattern, names[name], text, flags=flags)
    return text
