"""The ranks that allreduces are timed on: bare MPI, or the engine that a run would use."""

from __future__ import annotations

import ctypes
import os
import time
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import numpy as np

from bnn.bench.allreduce.names import ALGORITHM, BELOW
from bnn.errors import UserError

if TYPE_CHECKING:
    from bnn.engine import Engine

FLOAT = 4  # bytes of what is summed


class Ranks(ABC):
    """All ranks of a job. Every rank calls the same methods in the same order."""

    library: str  # what `campaign project` knows the curve by
    version: str
    rank: int
    hosts: list[str]  # of every rank
    groups = False  # whether fewer ranks than all can be timed

    @property
    def size(self) -> int:
        """Ranks of the job."""
        return len(self.hosts)

    @abstractmethod
    def choose(self, ranks: int) -> None:
        """From now on time the first `ranks` ranks."""

    @abstractmethod
    def right(self, count: int) -> bool:
        """Whether an allreduce of `count` float32 gives the sum, on all ranks."""

    @abstractmethod
    def seconds(self, count: int, calls: int) -> float:
        """Seconds per allreduce of `count` float32 in place, `calls` in a row: the slowest rank's, on all ranks."""

    def left(self, count: int, calls: int, alone: float) -> float:
        """What computing keeps beside `calls` such allreduces in a row of the speed that it has in `alone` seconds.

        The least share of any rank, on all ranks. Raises NotImplementedError where it is not told.
        """
        raise NotImplementedError(f"{self.library} is not timed beside a thread that computes")

    @abstractmethod
    def close(self) -> None:
        """Leave in good order."""


class MpiRanks(Ranks):
    """MPI by itself, float32 sums of zeros. `algorithm`: one of ALGORITHMS that MPICH is to take, else its own choice.

    Raises UserError where this MPI does not let itself be told.
    """

    groups = True

    def __init__(self, most: int, algorithm: str | None) -> None:
        from bnn.bench.allreduce.build import library

        if algorithm:
            os.environ.update({ALGORITHM: algorithm, **BELOW})
        self._calls = ctypes.CDLL(str(library()), mode=ctypes.RTLD_GLOBAL)
        self.library = f"mpi-{algorithm}" if algorithm else "mpi"
        rank, size = ctypes.c_int(), ctypes.c_int()
        self._try("start", ctypes.byref(rank), ctypes.byref(size))
        self.rank = rank.value
        room = self._calls.bnn_allreduce_host_room()
        text, hosts = ctypes.create_string_buffer(8192), ctypes.create_string_buffer(room * size.value)
        self._try("facts", text, len(text), hosts, room)
        first = next(iter(text.value.decode(errors="replace").splitlines()), "")
        self.version = " ".join(first.split())
        names = [hosts.raw[at : at + room] for at in range(0, room * size.value, room)]
        self.hosts = [name.split(b"\0")[0].decode(errors="replace") for name in names]
        if algorithm:
            self._check_forced(algorithm)
        self._buffer = np.zeros(most, dtype=np.float32)
        self._data = self._buffer.ctypes.data_as(ctypes.POINTER(ctypes.c_float))

    def _check_forced(self, algorithm: str) -> None:
        value = ctypes.c_int(0)
        if self._calls.bnn_allreduce_choice(ALGORITHM.encode(), ctypes.byref(value)) or not value.value:
            self.close()
            raise UserError(f"--algorithm {algorithm}: this MPI cannot be told ({self.version}); MPICH 4 can")

    def _try(self, name: str, *arguments: object) -> None:
        code = getattr(self._calls, f"bnn_allreduce_{name}")(*arguments)
        if code:
            raise UserError(f"MPI: bnn_allreduce_{name} failed with code {code} ({getattr(self, 'version', '')})")

    def choose(self, ranks: int) -> None:
        """Make the group; the other ranks sleep."""
        self._try("group", ranks)

    def right(self, count: int) -> bool:
        """Compare with the sum of rank + 1."""
        wrong = ctypes.c_double()
        self._try("check", self._data, count, ctypes.byref(wrong))
        return not wrong.value

    def seconds(self, count: int, calls: int) -> float:
        """Timed within the library, from a barrier of the group on."""
        found = ctypes.c_double()
        self._try("time", self._data, count, calls, ctypes.byref(found))
        return found.value

    def left(self, count: int, calls: int, alone: float) -> float:
        """A thread of each rank computes within the library."""
        found = ctypes.c_double()
        self._try("beside", self._data, count, calls, ctypes.c_double(alone), ctypes.byref(found))
        return found.value

    def close(self) -> None:
        """MPI_Finalize."""
        self._try("stop")


class EngineRanks(Ranks):
    """The engine of a run, from handing a tensor over until its mean is there: with Horovod's cycle and negotiation."""

    def __init__(self, engine: Engine, library: str, version: str, most: int, device: str) -> None:
        import torch

        from bnn.ranks import machine

        self._engine, self.library, self.version, self.rank = engine, library, version, engine.rank
        self.hosts = engine.gather(machine(), "allreduce.hosts")
        self._device = device
        self._buffer = torch.zeros(most, device=device)

    def choose(self, ranks: int) -> None:
        """All ranks, or none."""
        if ranks != self.size:
            raise ValueError(f"an engine averages over all of its {self.size} ranks, not over {ranks}")

    def right(self, count: int) -> bool:
        """Compare with the mean of rank + 1."""
        part = self._buffer[:count].fill_(self.rank + 1)
        self._engine.finish_average(self._engine.start_average(part, f"check.{count}"), part)
        fine = bool((part == (self.size + 1) / 2).all())
        part.zero_()
        return all(self._engine.gather(fine, "allreduce.right"))

    def seconds(self, count: int, calls: int) -> float:
        """Timed from Python, from a barrier on."""
        part = self._buffer[:count]
        self._engine.barrier("allreduce")
        start = time.perf_counter()
        for _ in range(calls):
            self._engine.finish_average(self._engine.start_average(part, f"timed.{count}"), part)
        if self._device == "cuda":
            import torch

            torch.cuda.synchronize()
        mine = (time.perf_counter() - start) / calls
        return float(max(self._engine.gather(mine, "allreduce.seconds")))

    def close(self) -> None:
        """As a run ends."""
        self._engine.close()
