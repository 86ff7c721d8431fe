"""Joules of a run, from counters that need no privileges: Cray's of a node, RAPL's of processors, NVML's of GPUs."""

from bnn.energy.meter import EnergyMeter, RunEnergy, node_meter, total_energy

__all__ = ["EnergyMeter", "RunEnergy", "node_meter", "total_energy"]
