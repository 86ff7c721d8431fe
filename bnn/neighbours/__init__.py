"""What the rest of the machine did while a run measured: other programs, the hypervisor, quotas, heat, memory.

`NeighbourMeter` reads Linux's counters where a run goes from one phase to the next, and never within one; `together`
makes one table of all ranks of it. What a machine does not show is None, never 0.
"""

from bnn.neighbours.meter import NeighbourMeter
from bnn.neighbours.together import Neighbours, gather_neighbours

__all__ = ["NeighbourMeter", "Neighbours", "gather_neighbours"]
