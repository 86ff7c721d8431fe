"""Signs of life of a rank: the training thread sets attributes, a thread beside it writes them to a file.

Nothing here imports torch, so that a rank is seen alive before its libraries are loaded. A file that cannot be written
(full disk, no permission) is tried again with the next beat and never fails or delays the training.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from pathlib import Path

from bnn.records.files import HEARTBEAT, heartbeat_name
from bnn.records.heartbeat import SIZE, HeartbeatRecord, Part

PERIOD = 1.0  # seconds between two beats


class Heartbeat:
    """State of one rank, written about once a second into `out` from `start` to `stop`.

    Without `start` it only keeps the state. The training thread may call all methods; `move` and `advance` set
    attributes and make no system call.
    """

    def __init__(self, out: Path, rank: int | None = None, period: float = PERIOD) -> None:
        self.rank = rank
        self.attempt: int | None = None
        self.step = 0
        self.steps: int | None = None
        self.part: Part = "start"
        self.moved = time.time()
        self._out, self._period = out, period
        self._host, self._pid = socket.gethostname(), os.getpid()
        self._first_step, self._batch_size = 0, 0
        # seconds in steps until the last pause, and since when they go on; one tuple, since two threads look at it
        self._stepping: tuple[float, float | None] = (0.0, None)
        self._done = False
        self._quit = threading.Event()
        self._thread: threading.Thread | None = None
        self._file: int | None = None

    def move(self, part: Part) -> None:
        """Another part begins, or a long one has made progress."""
        self.part = part
        self.moved = time.time()

    def advance(self, step: int) -> None:
        """So many steps are complete."""
        self.step = step
        self.moved = time.time()

    def begin(self, attempt: int, first_step: int, steps: int, batch_size: int) -> None:
        """The steps `first_step` to `steps` (the last excluded) of this attempt begin; samples are counted from now."""
        self.attempt, self.steps = attempt, steps
        self._first_step, self._batch_size = first_step, batch_size
        self._stepping = (0.0, time.time())
        self.advance(first_step)

    def pause(self) -> None:
        """What comes now belongs to no step (an evaluation, a checkpoint): the rate leaves its time out."""
        self._stepping = (self._seconds(time.time()), None)

    def resume(self) -> None:
        """Steps go on."""
        self._stepping = (self._stepping[0], time.time())

    def _seconds(self, now: float) -> float:
        """Seconds in steps of this attempt."""
        before, since = self._stepping
        return before if since is None else before + now - since

    def record(self) -> HeartbeatRecord:
        """What is written now. Raises ValueError while the rank is not known."""
        if self.rank is None:
            raise ValueError("a heartbeat needs a rank")
        now, samples = time.time(), (self.step - self._first_step) * self._batch_size
        return HeartbeatRecord(
            rank=self.rank,
            host=self._host,
            pid=self._pid,
            attempt=self.attempt,
            step=self.step,
            steps=self.steps,
            part=self.part,
            moved=self.moved,
            beat=now,
            samples_per_second=samples / max(self._seconds(now), 1e-9) if samples else None,
            done=self._done,
        )

    def start(self) -> None:
        """Begin to beat, if the rank is known."""
        if self.rank is not None and self._thread is None:
            self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
            self._thread.start()

    def confirm(self, rank: int) -> None:
        """Take the engine's word on which rank this is, and give up a rank that the environment stated wrongly.

        The file of that rank stays: by now the rank itself may be writing it.
        """
        if self.rank != rank and self._thread is not None:
            self._end()
            self._quit.clear()
            self._thread = None
        self.rank = rank
        self.move("start")
        self.start()

    def stop(self) -> None:
        """Write a last time, that this rank is done."""
        self._done = True
        self._end()

    def _end(self) -> None:
        """Let the thread write once more. Waits a few seconds at most: a file system can hang."""
        self._quit.set()
        if self._thread is not None:
            self._thread.join(timeout=5)

    @property
    def _path(self) -> Path:
        return self._out / HEARTBEAT / heartbeat_name(self.rank or 0)

    def _beat(self) -> None:
        self._write()
        while not self._quit.wait(self._period):
            self._write()
        self._write()
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _write(self) -> None:
        try:
            if self._file is None:
                self._file = self._open()
            os.pwrite(self._file, self.record().padded(), 0)
        except OSError:  # tried again with the next beat
            if self._file is not None:
                with contextlib.suppress(OSError):
                    os.close(self._file)
                self._file = None

    def _open(self) -> int:
        """The rank's file, of the fixed size. Rewriting it asks a file system for no new space and no new name."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC
        try:
            file = os.open(self._path, flags, 0o644)
        except FileNotFoundError:  # one rank in many is the first: the others do not ask for the folder
            self._path.parent.mkdir(parents=True, exist_ok=True)
            file = os.open(self._path, flags, 0o644)
        os.ftruncate(file, SIZE)
        return file
