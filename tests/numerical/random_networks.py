"""Takes networks put together at random through every stage: python tests/numerical/random_networks.py --networks 2000.

Each is right or refused by a UserError of one line (tests/numerical/test_random_networks.py). A network's number
repeats it, and goes on where a run was stopped: --first N.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch

from bnn.errors import UserError
from tests.numerical.test_random_networks import through_every_stage
from tests.support.random_networks import RandomNetwork


def outcome(seed: int, biases: bool = False) -> str:
    """What became of a network: its units can be removed, or only its weights, it is refused, or there is a fault."""
    try:
        dtype = (torch.float32, torch.float64)[seed % 2]
        return "by unit" if through_every_stage(seed, dtype, biases) else "by weight"
    except UserError as error:
        print(f"network {seed}: refused: {error}", flush=True)
        return "refused" if "\n" not in str(error) and "computes something else" not in str(error) else "fault"
    except Exception as error:
        print(f"network {seed}: {type(error).__name__}: {' '.join(str(error).split())[:300]}", flush=True)
        return "fault"


def main() -> int:
    """Exit code 1 where there is a fault."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--networks", type=int, default=100)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--biases", action="store_true", help="with Bayesian biases")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    counts: Counter[str] = Counter()
    start, operations = time.perf_counter(), Counter[str]()
    for seed in range(asked.first, asked.first + asked.networks):
        operations.update(RandomNetwork(seed).names)
        result = outcome(seed, asked.biases)
        counts[result] += 1
        if result == "fault":
            print(f"network {seed}: fault, of {', '.join(RandomNetwork(seed).names)}", flush=True)
        if sum(counts.values()) % 20 == 0:
            print(f"up to {seed}: {dict(counts)} in {time.perf_counter() - start:.0f} s", flush=True)
    print(f"{sum(counts.values())} networks: {dict(counts)}; operations: {dict(operations)}")
    return int(counts["fault"] > 0)


if __name__ == "__main__":
    sys.exit(main())
