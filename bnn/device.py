"""Where a command computes: training, inference and pruning make memory, threads and device ready by this module."""

from __future__ import annotations

import torch

from bnn.engine import Engine
from bnn.errors import UserError
from bnn.memory import keep_freed_memory, peak_resident_bytes
from bnn.ranks import machine


def prepare_device(device: str, threads: int, engine: Engine) -> None:
    """Make memory, threads and `device` ('cpu' or 'cuda') of this rank ready; each rank has a GPU of its own.

    Every rank calls it before anything large is allocated and before tensors are exchanged. Raises UserError without a
    GPU, with too few for the ranks of a node, or for one that this torch has no code for.
    """
    keep_freed_memory()
    torch.set_num_threads(threads)
    select_gpu(device, engine)
    if device == "cuda" and engine.size > 1:
        check_own_gpus(gather_gpus(engine))


def select_gpu(device: str, engine: Engine) -> None:
    """Make this rank's GPU the current one, where `device` is 'cuda': before NCCL is first used, which starts on it.

    Raises UserError as `prepare_device`.
    """
    if device == "cpu":
        return
    if why := no_gpu():
        raise UserError(f"device cuda: no GPU for rank {engine.rank}: {why}")
    torch.cuda.set_device(choose_gpu(engine, torch.cuda.device_count()))
    major, minor = torch.cuda.get_device_capability()
    if not runs_on(torch.cuda.get_arch_list(), major, minor):
        raise UserError(f"device cuda: this torch holds no code for sm_{major}{minor} ({torch.cuda.get_device_name()})")


def no_gpu() -> str:
    """Why torch cannot compute on a GPU here, in one line; empty where it can."""
    if torch.version.cuda is None:
        return f"torch {torch.__version__} is built without CUDA (make setup BNN_CUDA=80,90)"
    if torch.cuda.is_available():
        return ""
    try:
        torch.cuda.init()
    except (RuntimeError, AssertionError) as error:  # no driver, one that is too old, none that answers, no device
        return " ".join(str(error).split()).split(". ")[0]
    return "the driver shows none (compare nvidia-smi and CUDA_VISIBLE_DEVICES)"


def choose_gpu(engine: Engine, count: int) -> int:
    """Index of this rank's GPU among the `count` that it sees. A launcher may show each rank its own alone."""
    if count > 1 and engine.local_rank >= count:
        raise UserError(
            f"device cuda: rank {engine.rank} is number {engine.local_rank + 1} of its node, which has {count} GPUs: "
            "start at most one rank per GPU"
        )
    return engine.local_rank if count > 1 else 0


def gather_gpus(engine: Engine) -> list[tuple[str, str]]:
    """(machine, UUID of its GPU) of every rank, on every rank. No rank has spoken to another one before."""
    try:
        return [tuple(each) for each in engine.gather([machine(), gpu_uuid()], "gpus")]
    except torch.distributed.DistBackendError as error:
        lines = [" ".join(line.split()) for line in str(error).splitlines() if line.strip()]
        raise UserError(f"engine {engine.name}: NCCL cannot join the ranks: {lines[-1] if lines else error}") from None


def check_own_gpus(gpus: list[tuple[str, str]]) -> None:
    """Raises UserError where two ranks would compute on the same GPU; `gpus` in rank order."""
    for rank, gpu in enumerate(gpus):
        if (other := gpus.index(gpu)) != rank:
            raise UserError(f"device cuda: ranks {other} and {rank} share GPU {gpu[1]}: start one rank per GPU")


def gpu_uuid() -> str:
    """UUID of this rank's GPU, in NVML's spelling."""
    return f"GPU-{torch.cuda.get_device_properties(torch.cuda.current_device()).uuid}"


def runs_on(architectures: list[str], major: int, minor: int) -> bool:
    """Whether code for these architectures (`sm_80`, `compute_90`, ...) runs on a GPU of capability major.minor.

    Machine code runs on the same major version from its minor on; `compute_` code is compiled for any later GPU.
    """
    for name in architectures:
        kind, _, digits = name.partition("_")
        version = int("".join(d for d in digits if d.isdigit()))
        if kind == "sm" and version // 10 == major and version % 10 <= minor:
            return True
        if kind == "compute" and version <= 10 * major + minor:
            return True
    return False


def synchronize(device: str) -> None:
    """Wait until a GPU has done all that was queued on it: a clock that is read earlier does not tell its time."""
    if device == "cuda":
        torch.cuda.synchronize()


def peak_memory_bytes(device: str) -> int:
    """The most bytes that this process has held so far, of the GPU's memory where it uses one, else resident."""
    return torch.cuda.max_memory_allocated() if device == "cuda" else peak_resident_bytes()
