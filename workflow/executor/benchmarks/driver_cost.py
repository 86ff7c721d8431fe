"""What Snakemake costs on the machine on which its jobs are measured: python driver_cost.py [--executor local]

A campaign of many trivial scripts, one at a time, of which two sleep: an early one and a late one. While they sleep,
with all later ones ready and waiting, the driver's CPU time is read from /proc. `local` is Snakemake's own executor
with a token that one job takes, as workflows without this plugin have it.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SNAKEFILE = """
COUNT = {count}

rule all:
    localrule: True
    input: expand("out/{{n}}", n=range(1, COUNT + 1))

rule work:
    output: "out/{{n}}"
    log: "logs/{{n}}"
    {how}
    shell: "bash {{params.script}} >{{log}} 2>&1"
"""
HOW = {
    "batch-script": """params: script=lambda wildcards: f"jobs/{wildcards.n}.sh"
    resources:
        batch_script=lambda wildcards: f"jobs/{wildcards.n}.sh",
        batch_order=lambda wildcards: int(wildcards.n),""",
    "local": """params: script=lambda wildcards: f"jobs/{wildcards.n}.sh"
    priority: lambda wildcards: COUNT - int(wildcards.n)
    threads: workflow.cores
    resources: exclusive=1""",
}
OPTIONS = {
    "batch-script": ["--executor", "batch-script", "--batch-script-scheduler", "none", "--batch-script-retries", "0",
                     "--jobs", "100000"],
    "local": ["--resources", "exclusive=1"],
}  # fmt: skip


def cpu_seconds(pid: int) -> float:
    """User and system time of a process, its threads included and its children not, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def wait_for(path: Path, driver: subprocess.Popen[bytes]) -> None:
    while not path.exists():
        if driver.poll() is not None:
            raise SystemExit(f"the driver has ended with {driver.returncode}")
        time.sleep(0.1)


def measure(folder: Path, executor: str, count: int, places: list[int], seconds: float) -> list[float]:
    """The driver's share of a core, while the scripts at some places (from 1) sleep."""
    (folder / "Snakefile").write_text(SNAKEFILE.format(count=count, how=HOW[executor]))
    for name in ("jobs", "out", "logs"):
        (folder / name).mkdir()
    for number in range(1, count + 1):
        sleep = f"touch at-{number}; until [ -e go-{number} ]; do sleep 0.5; done; " if number in places else ""
        (folder / "jobs" / f"{number}.sh").write_text(f"{sleep}echo x >out/{number}\n")
    command = [sys.executable, "-m", "snakemake", "--cores", "all", "--nolock", "--scheduler", "greedy",
               *OPTIONS[executor]]  # fmt: skip
    shares = []
    with (folder / "driver.log").open("wb") as log:
        driver = subprocess.Popen(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            for place in places:
                wait_for(folder / f"at-{place}", driver)
                time.sleep(3)  # what the start of a job costs is over
                cpu, begin = cpu_seconds(driver.pid), time.monotonic()
                time.sleep(seconds)
                shares.append((cpu_seconds(driver.pid) - cpu) / (time.monotonic() - begin))
                print(f"{executor}: {shares[-1]:.2%} of a core at job {place} of {count}", flush=True)
                (folder / f"go-{place}").touch()
            if driver.wait() != 0:
                raise SystemExit((folder / "driver.log").read_text()[-2000:])
        finally:
            driver.kill()
            driver.wait()
    return shares


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--executor", choices=list(HOW), default="batch-script")
    parser.add_argument("--jobs", type=int, default=230)
    parser.add_argument("--places", type=int, nargs="+", default=[5, 200])
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--limit", type=float, default=0.01, help="share of a core that is not to be exceeded")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        shares = measure(Path(folder), options.executor, options.jobs, sorted(options.places), options.seconds)
    if max(shares) > options.limit:
        raise SystemExit(f"more than {options.limit:.2%} of a core")


if __name__ == "__main__":
    main()
