"""What several ranks do together: starts them as a run does, and judges by what each of them says."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from bnn.check.numerics import need_gpus
from bnn.check.outcome import AbsentError, Context, FaultError, one_line

# NCCL's own words: its version, the network it found, its communicators, and how the ranks are joined (P2P: NVLink or
# PCIe; SHM: the host's memory; NET: a network).
TELLING = re.compile(r"(NCCL version .*)|NCCL INFO (Using network .*|Channel .* via .*|.* nranks \d+ .*Init COMPLETE)")
SAID = re.compile(r"bnn check: rank (\d+): (right|wrong): ([^\n]*?)(?=bnn check: rank|\n|$)")


def telling(line: str) -> str | None:
    """What a line of NCCL's log says of the way that it takes, without host and process; None for all other lines."""
    found = TELLING.search(line)
    return next((words for words in found.groups() if words), None) if found else None


def way(words: str) -> str:
    """How two ranks are joined, from what follows `via`: P2P, SHM, or NET with the kind of network (NET/IB)."""
    parts = words.split("/")
    return "/".join(parts[: 2 if parts[0] == "NET" else 1])


def bus_bandwidth(size_bytes: int, seconds: float, ranks: int) -> float:
    """GB/s over each link in a ring's allreduce: 2(N-1)/N of the bytes cross it (what NCCL's own tests call busbw)."""
    return 2 * (ranks - 1) / ranks * size_bytes / seconds / 1e9


def horovod_exchange(context: Context) -> str:
    need_horovod(context)
    return launch(context, "horovod", "exchange")


def horovod_training(context: Context) -> str:
    need_horovod(context)
    return launch(context, "horovod", "training")


def torch_exchange(context: Context) -> str:
    return launch(context, "torch", "exchange")


def torch_training(context: Context) -> str:
    return launch(context, "torch", "training")


def need_horovod(context: Context) -> None:
    """Raises AbsentError where Horovod is not installed, or cannot work on this device."""
    try:
        import horovod.torch as hvd
    except ImportError as error:
        raise AbsentError(f"Horovod cannot be loaded ({error}): make setup builds it") from None
    if context.device == "cuda" and not hvd.nccl_built():
        raise AbsentError("this Horovod is built without NCCL: make setup BNN_CUDA=80,90")


def launch(context: Context, engine: str, part: str) -> str:
    """Start the ranks and show what they print; returns rank 0's line. Raises AbsentError and FaultError."""
    need_gpus(context)
    if part == "training" and context.nodes > 1:
        raise AbsentError("across nodes the exchange is all that is checked: the ranks of a training share a folder")
    command = [*program(context.launcher), sys.executable, "-m", "bnn.check.rank", part, engine, context.to_json()]
    with socket.socket() as free:
        free.bind(("", 0))
        port = free.getsockname()[1]
    first = "127.0.0.1" if context.nodes == 1 else socket.gethostname()  # a machine may not know its own name
    environment = {"MASTER_ADDR": first, "MASTER_PORT": str(port)} | os.environ | {"NCCL_DEBUG": "INFO"}
    environment.pop("NCCL_DEBUG_FILE", None)
    print(f"$ {shlex.join(command)}", flush=True)
    lines: list[str] = []
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, errors="replace",
    ) as ranks:  # fmt: skip
        assert ranks.stdout is not None
        for line in ranks.stdout:
            lines.append(line)
            print(line, end="", flush=True)
    return judge(ranks.returncode, lines, context.ranks, context.device == "cuda")


def program(launcher: Sequence[str]) -> list[str]:
    """The launcher's words, its program looked up. Raises AbsentError where there is none."""
    beside = Path(sys.executable).parent / launcher[0]  # the bundled MPICH's comes before any other
    found = str(beside) if beside.is_file() else shutil.which(launcher[0])
    if found is None:
        raise AbsentError(f"{launcher[0]}: no such program; --launcher names another way to start ranks")
    return [found, *launcher[1:]]


def judge(status: int, lines: Sequence[str], ranks: int, by_nccl: bool) -> str:
    """Rank 0's line, if all ranks are right.

    Raises FaultError otherwise. It does so too where NCCL should have joined the ranks and its log does not say so.
    """
    said = {int(rank): (word, text) for rank, word, text in SAID.findall("".join(lines))}
    wrong = [f"rank {rank}: {text}" for rank, (word, text) in sorted(said.items()) if word == "wrong"]
    if wrong:
        raise FaultError(wrong[0])
    if status != 0 or set(said) != set(range(ranks)):
        last = next((line for line in reversed(lines) if line.startswith("bnn: ")), lines[-1] if lines else "no output")
        raise FaultError(f"exit code {status}, {len(said)} of {ranks} ranks were right; {one_line(last)}")
    if not by_nccl:
        return said[0][1]
    words = [word for word in map(telling, lines) if word]
    if not any(f"nranks {ranks} " in word for word in words):
        raise FaultError(f"the results are right, but NCCL's log tells of no communicator of {ranks} ranks")
    ways = sorted({way(word.rsplit("via ", 1)[1]) for word in words if " via " in word})
    version = next((word for word in words if word.startswith("NCCL version")), "NCCL")
    return f"{said[0][1]}; {version}{' via ' + ', '.join(ways) if ways else ''}"
