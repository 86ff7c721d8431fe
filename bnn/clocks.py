"""How the clocks of a run's hosts lie to one another: what rank 0's clock reads when another's reads something.

The clock is `time.perf_counter`. Ranks of one running machine share it. Between machines a ping-pong over TCP compares
it with rank 0's: the answer was made at some moment between the question and its arrival, so that half the shortest
round trip bounds the error. It is read when steps begin and when they have ended; between both it drifts evenly.
"""

from __future__ import annotations

import contextlib
import math
import secrets
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bnn.ranks import machine

if TYPE_CHECKING:
    import numpy as np

    from bnn.engine import Engine

ROUNDS = 40
PATIENCE = 5.0  # seconds for all hosts to be heard; those that are not have no common clock
TOKEN_BYTES = 16
Clock = Callable[[], float]


@dataclass(frozen=True)
class ClockReading:
    """`offset`: rank 0's clock less this rank's, seconds, within `error`, when this rank's read `at`; NaN: unknown."""

    at: float
    offset: float
    error: float


@dataclass(frozen=True)
class ClockRelation:
    """Two readings, before and after what is to be dated."""

    start: ClockReading
    end: ClockReading

    @property
    def error(self) -> float:
        """Largest error of either reading, s; NaN if one is unknown."""
        return math.nan if math.isnan(self.start.error + self.end.error) else max(self.start.error, self.end.error)

    def offsets(self, at: np.ndarray) -> np.ndarray:
        """Rank 0's clock less this rank's at moments of this rank's clock, s."""
        import numpy as np

        if self.end.at <= self.start.at:
            return np.full(np.shape(at), self.start.offset)
        share = (at - self.start.at) / (self.end.at - self.start.at)
        return self.start.offset + share * (self.end.offset - self.start.offset)


def identity() -> str:
    """What tells this rank's clock from others: the running machine, and the time namespace within it."""
    with contextlib.suppress(OSError):
        return f"{machine()} {Path('/proc/self/ns/time').readlink()}"
    return machine()


def read_clock(engine: Engine, label: str) -> ClockReading:
    """Compare this rank's clock with rank 0's. Every rank must call it.

    Hosts that cannot reach rank 0's within some seconds have an unknown offset: that fails nothing else.
    """
    now = time.perf_counter()
    if engine.size == 1:
        return ClockReading(now, 0.0, 0.0)
    clocks = engine.gather(identity(), f"{label}.identity")
    mine = clocks[engine.rank]
    if len(set(clocks)) == 1:
        return ClockReading(now, 0.0, 0.0)
    leaders = {clocks.index(clock) for clock in set(clocks)} - {0}
    listener = _listen() if engine.rank == 0 else None
    told = engine.gather(listener and listener[1], f"{label}.address")[0]
    reading = ClockReading(now, math.nan, math.nan)
    if listener and told:
        reading = ClockReading(now, 0.0, 0.0)
        serve(listener[0], bytes.fromhex(told["token"]), len(leaders), PATIENCE)
    elif told and engine.rank in leaders:
        reading = ask(told["hosts"], told["port"], bytes.fromhex(told["token"]))
    readings = engine.gather([reading.at, reading.offset, reading.error], f"{label}.readings")
    return ClockReading(*map(float, readings[clocks.index(mine)]))


def _listen() -> tuple[socket.socket, dict[str, Any]]:
    """A socket of rank 0 and what the others are told of it: where it is, and a word that shows who may ask."""
    listener = socket.create_server(("", 0), backlog=512)
    name = socket.gethostname()
    hosts = [name]
    with contextlib.suppress(OSError):
        hosts += [str(found[4][0]) for found in socket.getaddrinfo(name, None, socket.AF_INET, socket.SOCK_STREAM)]
    told = {"hosts": hosts, "port": listener.getsockname()[1], "token": secrets.token_hex(TOKEN_BYTES)}
    return listener, told


def serve(listener: socket.socket, token: bytes, expected: int, patience: float, clock: Clock | None = None) -> None:
    """Answer so many hosts, one after the other, for `patience` seconds at most; then close the socket."""
    read = clock or time.perf_counter
    end = time.monotonic() + patience
    with listener:
        while expected and (left := end - time.monotonic()) > 0:
            listener.settimeout(left)
            with contextlib.suppress(OSError):
                connection, _ = listener.accept()
                with connection:
                    connection.settimeout(1.0)
                    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    if not secrets.compare_digest(_received(connection, len(token)), token):
                        continue
                    expected -= 1
                    while _received(connection, 1):
                        connection.sendall(struct.pack("!d", read()))


def ask(hosts: list[str], port: int, token: bytes, clock: Clock | None = None) -> ClockReading:
    """This rank's reading, by the first of these names of rank 0's host that answers; unknown if none does."""
    read = clock or time.perf_counter
    for host in hosts:
        with contextlib.suppress(OSError), socket.create_connection((host, port), PATIENCE) as connection:
            connection.settimeout(PATIENCE)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.sendall(token)
            best = ClockReading(read(), math.nan, math.inf)
            for _ in range(ROUNDS):
                before = read()
                connection.sendall(b"?")
                answer = _received(connection, 8)
                after = read()
                if len(answer) == 8 and (after - before) / 2 < best.error:
                    (there,) = struct.unpack("!d", answer)
                    best = ClockReading(after, there - (before + after) / 2, (after - before) / 2)
            if not math.isnan(best.offset):
                return best
    return ClockReading(read(), math.nan, math.nan)


def _received(connection: socket.socket, size: int) -> bytes:
    """So many bytes, fewer where the other side has ended."""
    data = b""
    while len(data) < size and (part := connection.recv(size - len(data))):
        data += part
    return data
