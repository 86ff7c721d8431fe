"""The first test on a machine with GPUs: means over 2 of them by NCCL, started as a run is: python envs/nccl_check.py

    --engine horovod|torch      Horovod as `make setup BNN_CUDA=...` builds it, or torch.distributed with any CUDA torch
    --mib N                     size of what is averaged (default 256 MiB)
    --launcher "mpiexec -n 2"   how two ranks are started; "srun -N2 -n2 --mpi=pmi2" tries the network between two nodes

NCCL says in its log (NCCL_DEBUG=INFO) which way it takes; those lines and the bandwidth are printed. Exit codes: 0 the
means are right and went by NCCL, 1 they are wrong, or did not, 2 something is missing (one line).
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

RANKS = 2
REPEATS = 10
RIGHT = "right means"
# NCCL's own words: its version, the network it found, its communicators, and how the ranks are joined (P2P: NVLink or
# PCIe; SHM: the host's memory; NET: a network).
TELLING = re.compile(r"(NCCL version .*)|NCCL INFO (Using network .*|Channel .* via .*|.* nranks 2 .*Init COMPLETE)")


class CheckError(Exception):
    """What the check cannot go on without, in one line."""


@dataclass(frozen=True)
class Launch:
    """The settings that `bnn.engine` asks for; Horovod's are its defaults here."""

    engine: str
    device: str = "cuda"
    cycle_time_ms: float = 1.0
    fusion_buffer_mb: float = 128.0


def bus_bandwidth(size_bytes: int, seconds: float, ranks: int = RANKS) -> float:
    """GB/s over each link in a ring's allreduce: 2(N-1)/N of the bytes cross it (what NCCL's own tests call busbw)."""
    return 2 * (ranks - 1) / ranks * size_bytes / seconds / 1e9


def telling(line: str) -> str | None:
    """What a line of NCCL's log says of the way that it takes, without host and process; None for all other lines."""
    found = TELLING.search(line)
    return next((words for words in found.groups() if words), None) if found else None


def check_machine(engine: str, needed: int) -> None:
    """Raises CheckError when there is no CUDA, too few GPUs, no code for them or no NCCL in Horovod."""
    import torch

    from bnn.device import runs_on

    if torch.version.cuda is None:
        raise CheckError(f"torch {torch.__version__} is built without CUDA: make setup BNN_CUDA=80,90 (envs/README.md)")
    count = torch.cuda.device_count()
    if count < needed:
        raise CheckError(f"{needed} GPUs are needed, torch {torch.__version__} sees {count} (compare nvidia-smi)")
    for index in range(count):
        major, minor = torch.cuda.get_device_capability(index)
        if not runs_on(torch.cuda.get_arch_list(), major, minor):
            raise CheckError(
                f"GPU {index} ({torch.cuda.get_device_name(index)}) has compute capability {major}.{minor}, for which "
                f"torch {torch.__version__} has no code: make setup BNN_CUDA={major}{minor} (envs/README.md)"
            )
    if engine == "horovod":
        try:
            import horovod.torch as hvd
        except ImportError as error:
            raise CheckError(f"Horovod cannot be loaded ({error}): make setup builds it, or --engine torch") from None
        if not hvd.nccl_built():
            raise CheckError("this Horovod is built without NCCL: make setup BNN_CUDA=80,90, or --engine torch")


def one_rank(launch: Launch, mib: int) -> int:
    """What every rank does; returns the exit code. Raises CheckError."""
    import torch

    from bnn.engine import start_engine

    engine = start_engine(launch)
    if engine.size != RANKS:
        raise CheckError(f"{RANKS} ranks are needed, the launcher started {engine.size}")
    device = torch.device(launch.device)
    if device.type == "cuda":
        device = torch.device("cuda", engine.local_rank)
        torch.cuda.set_device(device)
    numbers = (torch.arange(mib * 2**18, device=device) % 1000).float()  # small whole numbers: exact in float32

    def average(block: torch.Tensor) -> torch.Tensor:
        engine.average_([block], "block")
        return block

    right = torch.equal(average(numbers * (2 * engine.rank)), numbers)  # the mean of 0 and twice the numbers

    def finish() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    block, began = numbers.clone(), finish()
    for _ in range(REPEATS):
        average(block)
    seconds = (finish() - began) / REPEATS
    words = f"{RIGHT}, {bus_bandwidth(4 * block.numel(), seconds):.1f} GB/s" if right else "WRONG means"
    # In one piece, since the ranks share a pipe: print may write the end of the line by itself.
    os.write(1, f"nccl_check: rank {engine.rank} on {socket.gethostname()}: {words}\n".encode())
    engine.close()
    return 0 if right else 1


def launch_ranks(options: argparse.Namespace, launcher: Sequence[str]) -> int:
    """Start the ranks, show what tells, judge; returns the exit code. Raises CheckError."""
    beside = Path(sys.executable).parent / launcher[0]  # the bundled MPICH's comes before any other
    program = str(beside) if beside.is_file() else shutil.which(launcher[0])
    if program is None:
        raise CheckError(f"{launcher[0]}: no such program; --launcher names another way to start {RANKS} ranks")
    command = [program, *launcher[1:], sys.executable, str(Path(__file__).resolve())]
    command += ["--rank", "--engine", options.engine, "--mib", str(options.mib), "--device", options.device]
    with socket.socket() as free:
        free.bind(("", 0))
        port = free.getsockname()[1]
    env = {"MASTER_ADDR": socket.gethostname(), "MASTER_PORT": str(port)} | os.environ | {"NCCL_DEBUG": "INFO"}
    env.pop("NCCL_DEBUG_FILE", None)
    print(f"$ {shlex.join(command)}", flush=True)
    lines: list[str] = []
    with subprocess.Popen(
        command, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as ranks:
        assert ranks.stdout is not None
        for line in ranks.stdout:
            lines.append(line)
            words = telling(line) or (line.strip() if "nccl_check:" in line else None)
            if words:
                print(words, flush=True)
    return judge(ranks.returncode, lines)


def judge(status: int, lines: Sequence[str]) -> int:
    """The exit code, from how the ranks ended and what they printed."""
    right = len(set(re.findall(rf"nccl_check: rank (\d+) on \S+ {RIGHT}", "".join(lines))))
    joined = any(words.startswith("Channel") or words.endswith("COMPLETE") for words in map(telling, lines) if words)
    if status == 0 and right == RANKS and joined:
        print(f"nccl_check: all right: {RANKS} ranks, by NCCL")
        return 0
    if status == 2 and right == 0:
        return 2
    print("".join(lines[-20:]), end="", file=sys.stderr)
    why = f"exit code {status}, {right} of {RANKS} ranks were right"
    if status == 0 and right == RANKS:
        why = "the means are right, but NCCL's log tells of no communicator of 2 ranks"
    print(f"nccl_check: failed: {why} (the last lines are above)", file=sys.stderr)
    return 1


def main() -> int:
    """Parse, then be the launcher or one rank; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", choices=("horovod", "torch"), default="horovod")
    parser.add_argument("--mib", type=int, default=256)
    parser.add_argument("--launcher", default=f"mpiexec -n {RANKS}")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help=argparse.SUPPRESS)  # cpu: for tests
    parser.add_argument("--rank", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    launcher = shlex.split(options.launcher)
    if options.mib < 1 or not launcher:
        parser.error("--mib wants 1 or more, --launcher a command")
    try:
        from bnn.errors import UserError
    except ImportError:
        print(
            "nccl_check: start it with the project's own Python: .venv/bin/python envs/nccl_check.py", file=sys.stderr
        )
        return 2
    try:
        if options.rank:
            return one_rank(Launch(options.engine, options.device), options.mib)
        if options.device == "cuda":
            check_machine(options.engine, RANKS if Path(launcher[0]).name == "mpiexec" else 1)
        return launch_ranks(options, launcher)
    except (CheckError, UserError) as error:
        print(f"nccl_check: {error}", file=sys.stderr, flush=True)
        return 2


if __name__ == "__main__":
    sys.exit(main())
