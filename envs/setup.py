"""Sets up everything that the project needs in `.venv`: `make setup` calls it, and so may you: python3 envs/setup.py.

    --dev    also what tests and linters need

Environment: BNN_MPICC (build Horovod against this MPI instead of the bundled MPICH), BNN_CUDA and BNN_CUDA_HOME (with
NCCL for these GPUs, with this toolkit or "none"), BNN_ENGINE=torch (no Horovod, nothing compiled), CXX, TMPDIR,
XDG_CACHE_HOME, and pip's own settings. It can be interrupted and run again at any time. Exit codes: 0 done, 2 something
is missing (one line each on what to do), 130 interrupted.
"""

from __future__ import annotations

import argparse
import os
import socket
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

from bootstrap import checks, cuda, horovod
from bootstrap.completing import complete
from bootstrap.console import SetupError, end_all, run, say
from bootstrap.venv import clean_environment, fingerprint, prepare, stamped

ENVS = Path(__file__).resolve().parent
ROOT = ENVS.parent
EXECUTOR = ROOT / "workflow" / "executor"  # Snakemake's plugin that submits jobs to schedulers
VENV = ROOT / ".venv"
LOG = ROOT / ".setup.log"
MPI_CHOICE = "mpicc.txt"
ENGINE_CHOICE = "engine.txt"
ENGINES = ("horovod", "torch")
HOROVOD_LOG = ROOT / ".setup-horovod.log"
# What Horovod's build needs in the environment: the framework and its own requirements.
BUILD_PACKAGES = ("torch", "mpich", "cffi", "cloudpickle", "psutil", "pyyaml")
# On all cores, where pip would use one. Templates among the packages are no Python and do not count as failures.
COMPILE = "import compileall, sysconfig; compileall.compile_dir(sysconfig.get_path('purelib'), quiet=2, workers=0)"
TWO_RANKS = (
    "import torch, horovod.torch as hvd; hvd.init(); "
    "assert hvd.size() == 2 and hvd.allreduce(torch.ones(3), op=hvd.Sum).tolist() == [2.0] * 3"
)
TWO_RANKS_OF_TORCH = (
    "import torch, torch.distributed as dist; from bnn.ranks import launched; told = launched(); "
    "rank, size = told.rank, told.size; "
    "dist.init_process_group('gloo', init_method='env://', rank=rank, world_size=size); ones = torch.ones(3); "
    "dist.all_reduce(ones); assert size == 2 and ones.tolist() == [2.0] * 3; dist.destroy_process_group()"
)
HAS_NCCL = {
    "horovod": "import horovod.torch as hvd; assert hvd.cuda_built() and hvd.nccl_built() and hvd.mpi_built()",
    "torch": "import torch.distributed as dist; assert dist.is_nccl_available()",
}


def chosen_mpi() -> str:
    """The site's mpicc: BNN_MPICC, else the one that this environment was set up with; empty for the bundled MPICH."""
    try:
        remembered = (VENV / MPI_CHOICE).read_text()
    except OSError:
        remembered = ""
    return os.environ.get("BNN_MPICC") or remembered


def chosen_engine() -> str:
    """BNN_ENGINE, else what this environment was set up for, else horovod. Raises SetupError for an unknown one."""
    try:
        remembered = (VENV / ENGINE_CHOICE).read_text()
    except OSError:
        remembered = ""
    engine = os.environ.get("BNN_ENGINE") or remembered or ENGINES[0]
    if engine not in ENGINES:
        raise SetupError(f"BNN_ENGINE={engine}: is none of {', '.join(ENGINES)}")
    return engine


def wanted_stamp(dev: bool, mpicc: str, gpus: cuda.Request | None = None, engine: str = ENGINES[0]) -> dict[str, str]:
    """The fingerprints of the parts that this call is to set up."""
    facts = {"python": sys.version, "prefix": sys.base_prefix, "venv": str(VENV), "mpi": mpicc}
    if engine != ENGINES[0]:
        facts["engine"] = engine
    if gpus:
        facts |= {"cuda": gpus.listed, "cuda_home": gpus.home}
    common = [*(ENVS / "bootstrap").glob("*.py"), ENVS / "setup.py", ENVS / "build.txt", ROOT / "pyproject.toml"]
    common.append(EXECUTOR / "pyproject.toml")
    for called in ("mpi_trace", "bench/allreduce"):
        folder = ROOT / "bnn" / called
        common += [*sorted(folder.glob("*.[ch]")), *folder.glob("build.py")]
    kernels = ROOT / "bnn" / "kernels"
    common += [*kernels.glob("src/*.h"), *kernels.glob("src/*.cpp"), *kernels.glob("build.py")]
    common += (ROOT / "bnn").glob("compiled.py")
    common += ENVS.glob("cuda*.txt") if gpus else []
    wanted = {"runtime": fingerprint([*common, ENVS / "requirements.txt"], facts)}
    if dev:
        wanted["dev"] = fingerprint([ENVS / "requirements-dev.txt"], wanted)
    return wanted


def requirements(with_mpich: bool, cuda_major: int | None = None) -> Path:
    """The pinned requirements; a copy for a site's own MPI, without the bundled one, and for CUDA, with its torch."""
    pinned = ENVS / "requirements.txt"
    if with_mpich and cuda_major is None:
        return pinned
    text = pinned.read_text()
    if not with_mpich:  # the bundled mpiexec would hide the site's
        text = "".join(line for line in text.splitlines(keepends=True) if not line.startswith("mpich=="))
    if cuda_major is not None:
        text = cuda.requirements(text, cuda.pins(ENVS, cuda_major))
    copy = VENV / "requirements.txt"
    copy.write_text(text)
    return copy


def install(dev: bool, mpicc: str, lock: int, gpus: cuda.Request | None = None, engine: str = ENGINES[0]) -> None:
    """Fill `.venv`. For engine torch there is no Horovod, and nothing else that needs a compiler. Raises SetupError.

    Horovod's build starts when all packages are there: it asks torch where its headers are, and torch imports packages
    that another installation, going on beside, might just be replacing. (The answer is then empty, and the build fails
    a minute later for want of a header.)
    """
    python = VENV / "bin" / "python"
    env = clean_environment()

    def pip(title: str, *words: str | Path) -> None:
        run(title, [python, "-m", "pip", *words], LOG, env, holds=[lock])

    prepare(VENV, LOG)
    (VENV / MPI_CHOICE).write_text(mpicc)
    (VENV / ENGINE_CHOICE).write_text(engine)
    compiled = engine == "horovod"
    cuda.remember(VENV, gpus)
    cuda_major = cuda.major(gpus) if gpus else None
    pinned = requirements(with_mpich=not mpicc, cuda_major=cuda_major)
    if mpicc:
        pip("removing the bundled MPI, if it is there", "uninstall", "--yes", "mpich")
    files = [ENVS / "build.txt", pinned, *([ENVS / "requirements-dev.txt"] if dev else [])]
    lists = [word for file in files for word in ("-r", file)]
    first = [package for package in BUILD_PACKAGES if package != "mpich" or not mpicc]
    with cuda.explained(LOG) if gpus else nullcontext():
        pip("installing build tools, torch and MPI", "install", "--no-compile", *lists[:2], "-c", pinned, *first)
    toolkit = None
    if gpus and cuda_major is not None:
        toolkit = install_toolkit(pip, pinned, gpus, cuda_major)
    elif compiled:
        toolkit = cuda.for_cpus(cuda.installed_torch(VENV))
    pip("installing everything else", "install", "--no-compile", *lists)
    with ThreadPoolExecutor(max_workers=1) as background:
        wheel = None
        if compiled:
            mpi = horovod.site_mpi(mpicc) if mpicc else horovod.bundled_mpi(VENV)
            wheel = background.submit(horovod.ensure_wheel, VENV, mpi, HOROVOD_LOG, toolkit)
        try:
            run("compiling Python modules", [python, "-c", COMPILE], LOG, env, holds=[lock])
            built = wheel.result() if wheel else None
        except BaseException:
            end_all()
            raise
    if built:
        pip("installing Horovod", "install", "--no-deps", "--force-reinstall", built)
    editable: list[str | Path] = ["-e", ROOT, "-e", EXECUTOR]
    pip("installing bnn, campaign and the executor", "install", "--no-deps", "--no-build-isolation", *editable)
    if compiled:
        build_mpi_tools(python, env | ({"BNN_MPICC": mpicc} if mpicc else {}))
        build_kernels(python, env)
    else:
        say("engine torch: no Horovod, no CPU kernels (Flipout on CPUs is slower, in plain torch), no MPI profiles")
    try_ranks(python, env, mpicc, engine)
    if gpus:
        try_nccl(python, env, "torch" if gpus.home == cuda.NO_TOOLKIT else "horovod")


def install_toolkit(pip: Callable[..., None], pinned: Path, gpus: cuda.Request, cuda_major: int) -> cuda.Toolkit:
    """What Horovod's GPU operations are compiled with; checks the torch that is installed. Raises SetupError."""
    torch = cuda.installed_torch(VENV)
    cuda.check_torch(torch, gpus, cuda_major)
    if not gpus.home:  # PyPI's toolkit
        compiler = cuda.compiler_requirement(torch)
        pip("installing the CUDA compiler", "install", "--no-compile", "-c", pinned, compiler)
    return cuda.toolkit(VENV, gpus, cuda_major, torch)


def try_ranks(python: Path, env: Mapping[str, str], mpicc: str, engine: str) -> None:
    """Two ranks sum up, where the bundled MPI starts them; a site's MPI may not start here. Raises SetupError."""
    ranks: list[str | Path] = [VENV / "bin" / "mpiexec", "-n", "2", python, "-c"]
    if engine == "torch":
        if not mpicc:
            rank_0 = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
            run("trying torch.distributed on 2 ranks", [*ranks, TWO_RANKS_OF_TORCH], LOG, {**env, **rank_0})
    elif mpicc:
        run("loading Horovod", [python, "-c", "import horovod.torch"], LOG, env)
    else:
        run("trying Horovod on 2 ranks", [*ranks, TWO_RANKS], LOG, env)


def free_port() -> int:
    """A port of this machine that nobody listens at."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def try_nccl(python: Path, env: Mapping[str, str], engine: str) -> None:
    """Ask what will reduce gradients on GPUs whether it has NCCL; there may be no GPU here. Raises SetupError."""
    run(f"asking {engine} for NCCL", [python, "-c", HAS_NCCL[engine]], LOG, env)
    say("on a machine with GPUs, first of all: .venv/bin/bnn check --device cuda")


def build_mpi_tools(python: Path, env: Mapping[str, str]) -> None:
    """Build what counts MPI calls and what times allreduces. No run needs them: a failure is said and no more."""
    try:
        run("building the MPI interposer", [python, "-m", "bnn.mpi_trace.build"], LOG, env)
    except SetupError as error:
        say(f"MPI calls will not be profiled: {error}")
    try:
        run("building what times allreduces", [python, "-m", "bnn.bench.allreduce.build"], LOG, env)
    except SetupError as error:
        say(f"`bnn bench allreduce` will not time MPI by itself: {error}")


def build_kernels(python: Path, env: Mapping[str, str]) -> None:
    """Build the CPU kernels. Without them Flipout is computed in plain torch, so that a failure is said and no more."""
    try:
        run("building the kernels", [python, "-m", "bnn.kernels.build"], LOG, env)
    except SetupError as error:
        say(f"Flipout will be slower, in plain torch: {error}")


def main() -> int:
    """Check, then set up what is not there yet; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dev", action="store_true", help="also what tests and linters need")
    dev = parser.parse_args().dev
    mpicc = chosen_mpi()
    try:
        engine = chosen_engine()
        gpus = cuda.chosen(VENV)
        if gpus and engine == "torch":
            gpus = replace(gpus, home=cuda.NO_TOOLKIT)
    except SetupError as error:
        print(f"setup: {error}", file=sys.stderr)
        return 2
    wanted = wanted_stamp(dev, mpicc, gpus, engine)
    if stamped(VENV, wanted):
        return 0
    missing = list(checks.problems(VENV, horovod.cache_folder(), cuda=gpus is not None, compiler=engine == "horovod"))
    missing += cuda.problems(gpus) if gpus else []
    for line in missing:
        print(f"setup: {line}", file=sys.stderr)
    if missing:
        return 2
    return complete(
        "setup",
        VENV,
        wanted,
        [LOG, HOROVOD_LOG],
        lambda lock: install(dev, mpicc, lock, gpus, engine),
        done=stamped,
        hint=" (activate it: . .venv/bin/activate)",
    )


if __name__ == "__main__":
    sys.exit(main())
