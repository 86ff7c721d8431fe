"""The phases of a run, told to what counts by phase: the MPI profile, and the meter of the machine's neighbours."""

from __future__ import annotations

from bnn.mpi_trace import mark
from bnn.neighbours import NeighbourMeter


class Phases:
    """Counts from its making, in the phase `startup`, until `stop`. `now` is the phase that goes on.

    Entering a phase reads the machine's counters, so a step enters one only where `now` is another.
    """

    def __init__(self) -> None:
        self.now = "startup"
        self.neighbours = NeighbourMeter(self.now)

    def enter(self, phase: str) -> None:
        """From now on count under `phase`."""
        mark(phase)
        self.neighbours.enter(phase)
        self.now = phase

    def stop(self) -> None:
        """Count no longer; what comes now is the run's end."""
        mark("end")
        self.neighbours.stop()
