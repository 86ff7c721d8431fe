"""The one seam between a training loop and what reduces its gradients: Horovod, torch.distributed or nothing.

Which gradients leave when, and in how many messages, is `bnn.exchange`.
"""

from __future__ import annotations

import json
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any, Protocol

import torch
from torch import Tensor

from bnn.errors import UserError
from bnn.ranks import launched, local_rank, machine, refuse_several


def flat(tensor: Tensor) -> Tensor:
    """A dense tensor's memory as a vector that shares it.

    The libraries want contiguous tensors; a channels_last one is, seen as a vector. Parameters are dense, and autograd
    gives gradients their parameter's strides, so that a vector means the same on every rank.
    """
    return tensor.as_strided((tensor.numel(),), (1,))


class LaunchSettings(Protocol):
    """What an engine must know of a command's settings. `cycle_time_ms` and `fusion_buffer_mb` are Horovod's."""

    @property
    def engine(self) -> str: ...
    @property
    def device(self) -> str: ...
    @property
    def cycle_time_ms(self) -> float: ...
    @property
    def fusion_buffer_mb(self) -> float: ...


class Engine(ABC):
    """A few verbs on the ranks of one run. Every rank calls each of them in the same order."""

    name: str
    rank = 0
    size = 1
    local_rank = 0

    def average_(self, tensors: Iterable[Tensor], label: str) -> None:
        """Replace floating-point tensors by their mean over the ranks."""
        if self.size == 1:
            return
        started = [(self.start_average(t, f"{label}.{i}"), t) for i, t in enumerate(tensors) if t.is_floating_point()]
        for handle, tensor in started:
            self.finish_average(handle, tensor)

    @abstractmethod
    def start_average(self, tensor: Tensor, name: str) -> Any:
        """Begin to replace a dense tensor by its mean over the ranks; returns what `finish_average` wants.

        Nobody may touch the tensor until then. Every rank starts the same names in the same order.
        """

    @abstractmethod
    def finish_average(self, handle: Any, tensor: Tensor) -> None:
        """Return when the mean is there (on a GPU: when what is queued from now on will see it)."""

    @abstractmethod
    def broadcast_(self, tensors: Iterable[Tensor], label: str) -> None:
        """Replace tensors by those of rank 0."""

    @abstractmethod
    def gather(self, value: Any, label: str) -> list[Any]:
        """The JSON-serialisable `value` of every rank, in rank order, on every rank."""

    def barrier(self, label: str) -> None:
        """Return when every rank has called it."""
        self.gather(None, f"barrier.{label}")

    @abstractmethod
    def close(self) -> None:
        """Leave the run in good order."""

    def abort(self, code: int) -> None:
        """End this process at once: the launcher then ends the other ranks, which may wait in a collective."""
        if self.size > 1:
            os._exit(code)
        raise SystemExit(code)


class SingleEngine(Engine):
    """One process, no communication library."""

    name = "single"

    def start_average(self, tensor: Tensor, name: str) -> None:
        return None

    def finish_average(self, handle: Any, tensor: Tensor) -> None:
        return None

    def broadcast_(self, tensors: Iterable[Tensor], label: str) -> None:
        return None

    def gather(self, value: Any, label: str) -> list[Any]:
        return [value]

    def close(self) -> None:
        return None


class HorovodEngine(Engine):
    """Horovod: MPI on CPUs, NCCL on GPUs. Cycle time and fusion buffer are set before it starts."""

    name = "horovod"

    def __init__(self, settings: LaunchSettings) -> None:
        os.environ["HOROVOD_CYCLE_TIME"] = str(settings.cycle_time_ms)
        os.environ["HOROVOD_FUSION_THRESHOLD"] = str(int(settings.fusion_buffer_mb * 2**20))
        if settings.device == "cuda":  # else `synchronize` would block the host inside every step
            os.environ.setdefault("HOROVOD_ENABLE_ASYNC_COMPLETION", "1")
        try:
            import horovod.torch as hvd
        except ImportError as error:
            raise UserError(f"engine horovod: Horovod cannot be loaded ({error}); 'make setup' builds it") from None
        hvd.init()
        if settings.device == "cuda" and hvd.size() > 1 and not hvd.nccl_built():
            raise UserError("engine horovod: this Horovod was built without NCCL; use engine torch on GPUs")
        self._hvd = hvd
        self.rank, self.size, self.local_rank = hvd.rank(), hvd.size(), hvd.local_rank()

    def start_average(self, tensor: Tensor, name: str) -> Any:
        return self._hvd.allreduce_async_(flat(tensor), name=name, op=self._hvd.Average)

    def finish_average(self, handle: Any, tensor: Tensor) -> None:
        self._hvd.synchronize(handle)

    def broadcast_(self, tensors: Iterable[Tensor], label: str) -> None:
        if self.size == 1:
            return
        handles = [self._hvd.broadcast_async_(flat(t), 0, name=f"{label}.{i}") for i, t in enumerate(tensors)]
        for handle in handles:
            self._hvd.synchronize(handle)

    def gather(self, value: Any, label: str) -> list[Any]:
        # Horovod's own object gather pickles; JSON bytes do not run code on the receiving rank
        data = torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8)
        sizes = self._hvd.allgather(torch.tensor([len(data)]), name=f"{label}.sizes").tolist()
        raw = bytes(self._hvd.allgather(data, name=label).tolist())
        ends = [sum(sizes[: i + 1]) for i in range(len(sizes))]
        return [json.loads(raw[end - size : end]) for size, end in zip(sizes, ends, strict=True)]

    def close(self) -> None:
        self._hvd.shutdown()


class TorchEngine(Engine):
    """torch.distributed: gloo on CPUs, NCCL on GPUs; started by torchrun, mpiexec or srun."""

    name = "torch"

    def __init__(self, settings: LaunchSettings) -> None:
        import torch.distributed as dist
        from torch.distributed.rendezvous import rendezvous

        told = launched()
        if told.size is None:
            raise UserError(
                f"engine torch: {told.launcher} does not say how many ranks there are; set RANK, WORLD_SIZE, LOCAL_RANK"
            )
        self.rank, self.size = told.rank, told.size
        if self.size > 1 and "MASTER_ADDR" not in os.environ:
            raise UserError("engine torch: MASTER_ADDR and MASTER_PORT must name rank 0's host and a free port")
        self._dist = dist
        self._device = torch.device(settings.device)  # what the backend takes; of several GPUs the current one
        if self.size > 1:
            store, _, _ = next(rendezvous("env://", rank=self.rank, world_size=self.size))
            self.local_rank = neighbours_before(store, self.rank)
            backend = "nccl" if settings.device == "cuda" else "gloo"
            dist.init_process_group(backend, store=store, rank=self.rank, world_size=self.size)

    def start_average(self, tensor: Tensor, name: str) -> Any:
        return self._dist.all_reduce(flat(tensor), async_op=True)

    def finish_average(self, handle: Any, tensor: Tensor) -> None:
        handle.wait()
        tensor.div_(self.size)

    def broadcast_(self, tensors: Iterable[Tensor], label: str) -> None:
        if self.size == 1:
            return
        for tensor in tensors:
            here = flat(tensor)
            sent = here.to(self._device)  # itself, unless it lies elsewhere, as optimizers' step counters do
            self._dist.broadcast(sent, src=0)
            if sent is not here:
                here.copy_(sent)

    def gather(self, value: Any, label: str) -> list[Any]:
        if self.size == 1:
            return [value]
        device = self._device
        data = torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8).to(device)
        sizes = [torch.zeros(1, dtype=torch.int64, device=device) for _ in range(self.size)]
        self._dist.all_gather(sizes, torch.tensor([len(data)], device=device))
        lengths = [int(size) for size in sizes]
        padded = torch.zeros(max(lengths), dtype=torch.uint8, device=device)
        padded[: len(data)] = data
        parts = [torch.empty_like(padded) for _ in range(self.size)]
        self._dist.all_gather(parts, padded)
        return [json.loads(bytes(p[:n].tolist())) for p, n in zip(parts, lengths, strict=True)]

    def close(self) -> None:
        if self.size > 1:
            self._dist.destroy_process_group()


def neighbours_before(store: Any, rank: int) -> int:
    """Which rank of its machine this is, from 0: what its launcher states, else by asking the others.

    `store` is torch.distributed's, before any backend is there. Every rank must call it.
    """
    store.set(f"bnn.machine.{rank}", machine())
    stated = local_rank()
    if stated is not None:
        return stated
    return [store.get(f"bnn.machine.{other}").decode() for other in range(rank)].count(machine())


def start_engine(settings: LaunchSettings) -> Engine:
    """Start the engine the settings ask for. Raises UserError when it cannot be had or does not fit the launch."""
    if settings.engine == "horovod":
        return HorovodEngine(settings)
    if settings.engine == "torch":
        return TorchEngine(settings)
    refuse_several("engine single", "choose engine horovod or torch")
    return SingleEngine()
