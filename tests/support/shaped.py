"""Allreduces and replayed cells over links that are slow on purpose.

    python -m tests.support.shaped --out FOLDER CELL...

Virtual hosts of one rank each send to one another at a given rate (needs root; Debian: iproute2). At every rate MPI's
allreduce is timed on 2, 4, ... hosts, and every cell is replayed on each number of hosts; with `--trained 2` its
network is also trained on two. FOLDER gets `<rate>/allreduce.csv`, `<rate>/<cell>-<hosts>.parquet` with their headers
and `<rate>/<cell>-trained-<hosts>/`; what is there already is kept.
"""

from __future__ import annotations

import json
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from bnn.records.files import CELL, SUMMARY
from tests.support.hosts import HOST_SCRIPT, THROUGH_LINKS, claim, net_of, no_hosts, shape, sweep, wire
from tests.support.ranks import BIN, environment

# Hydra starts a proxy on each host by this in place of ssh: options, host, command.
LAUNCH = """\
#!/bin/sh
while [ "${{1#-}}" != "$1" ]; do shift; done
host=$1
shift
exec bash {script} "$host" {home} sh -c "$*"
"""


class Hosts:
    """Virtual hosts on which commands are started as one MPI job, one rank each."""

    def __init__(self, home: Path, slot: int, count: int) -> None:
        self.name, self.home = f"bnn{slot}", home
        self.names = [f"{self.name}n{index}" for index in range(1, count + 1)]
        net = net_of(slot)
        addresses = {name: f"{net}.{index}" for index, name in enumerate(self.names, 1)}
        wire(self.name, net, addresses, home)
        with (home / "hosts").open("a") as file:  # by which the proxies find mpiexec
            file.write(f"{net}.254 {socket.gethostname()}\n")
        self._launcher = home / "launch"
        self._launcher.write_text(LAUNCH.format(script=shlex.quote(str(HOST_SCRIPT)), home=shlex.quote(str(home))))
        self._launcher.chmod(0o755)
        self._bridge = f"{self.name}br"

    def mpiexec(self, ranks: int, *command: str | Path) -> None:
        """Raises CalledProcessError; its output is this one's."""
        words = ["mpiexec", "-launcher", "ssh", "-launcher-exec", str(self._launcher), "-iface", self._bridge,
                 "-hosts", ",".join(self.names[:ranks]), "-n", str(ranks), *map(str, command)]  # fmt: skip
        subprocess.run(words, env=environment() | THROUGH_LINKS, check=True, stdin=subprocess.DEVNULL)


@contextmanager
def virtual_hosts(home: Path, count: int) -> Iterator[Hosts]:
    """So many hosts, gone afterwards. Exits with the reason where there can be none."""
    if reason := no_hosts():
        sys.exit(reason)
    slot, lock = claim()
    with lock:
        home.mkdir(parents=True, exist_ok=True)
        if (home / "sys").is_dir():  # left by a killed run
            (home / "sys").rmdir()
        try:
            yield Hosts(home, slot, count)
        finally:
            sweep(f"bnn{slot}")


def cell_name(cell: Path) -> str:
    """`vgg16-bnn-batch=32` of a cell's folder."""
    parts = [part for part in cell.resolve().parts if not part.startswith(("repeat=", "nodes=", "variant="))]
    return "-".join(parts[-3:])


def train(hosts: Hosts, cell: Path, count: int, steps: int, out: Path) -> None:
    """Train a cell's network on so many hosts; the record's label `cell` says whose it is."""
    if (out / SUMMARY).is_file():
        return
    settings = out.with_suffix(".json")
    settings.write_text(json.dumps(json.loads((cell / CELL).read_text())["settings"] | {"labels": {"cell": str(cell)}}))
    hosts.mpiexec(
        count, BIN / "bnn", "train", "--settings", settings, "--max-steps", str(steps + 4), "--warmup-steps", "4",
        "--out", out,
    )  # fmt: skip


@click.command()
@click.argument("cells", nargs=-1, type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--rates", default="1gbit,200mbit", show_default=True, help="of every host's link, as tc reads them")
@click.option("--hosts", "counts", default="1,2,4,8", show_default=True, help="numbers of hosts")
@click.option("--steps", default=12, show_default=True, help="replayed steps after warm-up")
@click.option("--rounds", default=5, show_default=True, help="of the allreduces")
@click.option("--most", default=2**27, show_default=True, help="largest allreduce, bytes")
@click.option("--trained", type=int, help="hosts, one core each, on which cells are trained as well")
@click.option("--out", type=click.Path(path_type=Path), required=True)
def main(
    cells: tuple[Path, ...], rates: str, counts: str, steps: int, rounds: int, most: int, trained: int | None, out: Path
) -> None:
    """Measure what is not there yet."""
    numbers = sorted(int(count) for count in counts.split(","))
    out = out.resolve()
    with virtual_hosts(out / ".hosts", numbers[-1]) as hosts:
        for rate in rates.split(","):
            shape(hosts.names, rate)
            folder = out / rate
            if not (folder / "allreduce.csv").is_file():
                hosts.mpiexec(
                    numbers[-1], BIN / "bnn", "bench", "allreduce", "--least", "1024", "--most", str(most),
                    "--rounds", str(rounds), "--computing", "--node", f"virtual host, {rate}",
                    "--out", folder / "allreduce.csv",
                )  # fmt: skip
            for cell in cells:
                for count in numbers:
                    record = folder / f"{cell_name(cell)}-{count}.parquet"
                    if not record.is_file():
                        hosts.mpiexec(
                            count, BIN / "bnn", "bench", "replay", cell.resolve(), "--steps", str(steps),
                            "--warmup", "3", "--out", record,
                        )  # fmt: skip
                if trained:
                    train(hosts, cell.resolve(), trained, steps, folder / f"{cell_name(cell)}-trained-{trained}")


if __name__ == "__main__":
    main()
