"""Mutates posteriors and loads them: python tests/fuzz/posteriors.py --mutations 1000000 [--first N] [--jobs N].

Each either loads or is refused by a UserError of one line. Nothing else may happen: no other exception, no code that is
imported or run, no file that is opened elsewhere, no crash of the process, and at no time more memory than 64 MiB plus
50 times the files' size beyond what the process had. What loads is also run once on random inputs, where an error is
none of loading's, but the process must live on. A mutation's number repeats it: --first N --mutations 1.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
import sys
import time
from collections import Counter
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch

from bnn.errors import UserError
from bnn.posterior import GraphNetwork, load_posterior
from bnn.posterior.arguments import UNFITTING
from bnn.posterior.sizes import elements
from tests.fuzz.mutate import Files, mutated
from tests.fuzz.watch import CONSTANT, SECONDS, TIMES, Watch, forget_peak, limit_memory, memory

Report = tuple[Counter[str], list[str]]
Make = Callable[[int, list[Files]], Files]  # what the mutation of a number is
MOST_ELEMENTS = 1 << 22  # of a value, per example, in a posterior that is run
MEMORY = "/dev/shm"  # files that are written a million times need no disk


def load(folder: Path, files: Files, watch: Watch) -> tuple[str, str | None]:
    """("loaded" or "refused", a fault or None) of one posterior."""
    for name, data in files.items():
        (folder / name).write_bytes(data)
    forget_peak()
    before, start, fault = memory("VmRSS"), time.perf_counter(), None
    with watch.over(folder) as seen:
        try:
            network = load_posterior(folder)
            result = "loaded"
        except UserError as error:
            result = "refused"
            text = str(error)
            if "\n" in text or not text.strip():
                fault = f"a refusal that is not one line: {text!r}"
            elif "allocate" in text or "not enough memory" in text:
                fault = f"memory was asked for: {text}"
        except BaseException as error:
            result, fault = "fault", f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    seconds, taken = time.perf_counter() - start, memory("VmHWM") - before
    if seen:
        fault = "; ".join(seen[:3])
    if taken > CONSTANT + TIMES * sum(map(len, files.values())):
        fault = f"{taken:,} bytes were taken for files of {sum(map(len, files.values())):,}"
    if seconds > SECONDS:
        fault = f"{seconds:.0f} s"
    if result == "loaded":
        result = run(network)
    return result, fault


def run(network: GraphNetwork) -> str:
    """ "ran", or "loaded" where the values do not suit the operations, or would not fit into the memory."""
    if max((elements(node.output_shape) for node in network.graph.nodes), default=0) > MOST_ELEMENTS:
        return "loaded"
    with contextlib.suppress(*UNFITTING), torch.no_grad():
        network(torch.rand(3, *network.graph.input_shape, dtype=network.dtype))
        return "ran"
    return "loaded"


def work(pipe: Connection, seeds: list[Files], first: int, last: int, step: int, make: Make) -> None:
    """Every `step`-th mutation from `first` on; says each number before it is tried."""
    torch.set_num_threads(1)
    watch = Watch()
    with TemporaryDirectory(dir=MEMORY if os.access(MEMORY, os.W_OK) else None) as name:
        folder = Path(name)
        for files in seeds:  # what is imported and built on a first use is not the mutations' doing
            for file, data in files.items():
                (folder / file).write_bytes(data)
            load_posterior(folder)
        limit_memory(1 << 30)
        for number in range(first, last, step):
            pipe.send(("trying", number, None))
            pipe.send(("done", number, load(folder, make(number, seeds), watch)))
    pipe.send(("end", last, None))


def fuzz(seeds: list[Files], first: int, mutations: int, jobs: int, say: bool = False, make: Make = mutated) -> Report:
    """How often each result came, and the faults. A process that dies is a fault; another one goes on behind it."""
    counts: Counter[str] = Counter()
    faults: list[str] = []
    context = multiprocessing.get_context("spawn")
    last, workers = first + mutations, {}

    def start(place: int) -> None:
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=work, args=(theirs, seeds, place, last, jobs, make), daemon=True)
        process.start()
        theirs.close()
        workers[ours] = (process, place)

    def found(fault: str) -> None:
        faults.append(fault)
        if say:
            print(fault, flush=True)

    for place in range(jobs):
        start(first + place)
    while workers:
        for pipe in wait(list(workers)):
            assert isinstance(pipe, Connection)
            process, number = workers[pipe]
            try:
                what, number, outcome = pipe.recv()
            except EOFError:
                process.join()
                counts["crash"] += 1
                found(f"mutation {number}: the process ended with {process.exitcode}")
                del workers[pipe]
                if counts["crash"] < 20 and number + jobs < last:
                    start(number + jobs)
                continue
            workers[pipe] = (process, number)
            if what == "end":
                process.join()
                del workers[pipe]
            elif what == "done":
                result, fault = outcome
                counts[result] += 1
                if fault:
                    found(f"mutation {number}: {fault}")
                if say and sum(counts.values()) % 10_000 == 0:
                    print(f"up to {number:,}: {dict(counts)}, {len(faults)} faults", flush=True)
    return counts, faults


def main() -> int:
    """Exit code 1 where there is a fault."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mutations", type=int, default=3000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--poison", action="store_true", help="every argument of every operation, not mutations")
    parser.add_argument("--jobs", type=int, default=2)
    asked = parser.parse_args()
    from tests.fuzz.poison import CASES, poisoned
    from tests.fuzz.seeds import posteriors

    start = time.perf_counter()
    with TemporaryDirectory() as folder:
        seeds = posteriors(Path(folder))
    number, make = (len(CASES), poisoned) if asked.poison else (asked.mutations, mutated)
    counts, faults = fuzz(seeds, asked.first, number, asked.jobs, say=True, make=make)
    print(f"{len(seeds)} posteriors, {sum(counts.values()):,} mutations in {time.perf_counter() - start:.0f} s: "
          f"{dict(counts)}; {len(faults)} faults")  # fmt: skip
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
