"""The command line: types and choices shown, completed in the shell, checked in one line; threads taken by hand."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Literal

import click
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from bnn import cores
from bnn.cli import cli, main
from bnn.commands.options import bounds, setting_options
from bnn.commands.threads import threads_for_all, threads_given, threads_of_checkpoint
from bnn.cores import Room, local_ranks, physical_cores, room_here, sharing
from bnn.engine import SingleEngine
from bnn.records.checkpoint import MARKER, CheckpointMarker
from bnn.records.files import CHECKPOINT
from bnn.settings import TrainSettings

ROOT = Path(__file__).resolve().parents[2]


class Example(BaseModel):
    place: Path = Field(description="where")
    way: Literal["on", "off"] | None = Field(None, description="which")
    yes: bool = Field(True, description="whether")
    count: int | None = Field(None, ge=1, le=9, description="how many")
    size: float = Field(2.5, gt=0, description="how much")
    shares: tuple[Annotated[float, Field(ge=0)], ...] | None = Field(None, description="several")
    more: dict[str, int] = Field(default_factory=dict, description="the rest")
    free: str = Field("x", description="anything")


def test_help_shows_types_choices_bounds_and_defaults():
    @click.command()
    @setting_options(Example, argument="place", known={"free": ["alpha", "beta"]})
    def command(**given):
        """Of a test."""

    text = " ".join(CliRunner().invoke(command, ["--help"], terminal_width=200).output.split())
    for words in (
        "[OPTIONS] PLACE", "--way [on|off] which", "--yes [true|false] whether [default: true]",
        "--count INTEGER how many [>=1, <=9]", "--size NUMBER how much [>0; default: 2.5]", "--shares N,N,... several",
        "--more JSON the rest", "--free TEXT anything [default: x]",
    ):  # fmt: skip
        assert words in text


@pytest.mark.parametrize("command", ["train", "infer", "prune"])
def test_no_option_of_a_command_says_only_value(command):
    shown = CliRunner().invoke(cli, [command, "--help"]).output
    assert "VALUE" not in shown
    assert "[cpu|cuda]" in shown
    assert "the cores this process may use" in " ".join(shown.split())


@given(st.integers(-(10**9), 10**9), st.floats(-1e5, 1e5))
def test_bounds_are_those_that_pydantic_checks(low, high):
    model = type("M", (BaseModel,), {"__annotations__": {"x": float}, "x": Field(0.0, gt=low, le=high)})
    found = [part.strip() for part in bounds(model.model_fields["x"]).split(",")]
    assert [part.startswith(sign) for part, sign in zip(found, (">", "<="), strict=True)] == [True, True]
    assert float(found[0][1:]) == pytest.approx(low)
    assert float(found[1][2:]) == pytest.approx(high, rel=1e-5, abs=1e-5)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("train --out x --batch-size none", "--batch-size: "),
        ("train --out x --kind dnn", "kind: Input should be 'bnn' or 'cnn'"),
        ("train --out x --compile maybe", "compile: "),
        ("train --out x --threads 0", "threads: "),
        ("train --out", "'--out' requires an argument"),
        ("train", "'--out'"),
        ("train --out x --bach-size 3", "--bach-size"),
        ("infer here --dataset mnist-sample --out x --draws -1", "--draws: "),
        ("prune here --dataset mnist-sample --out x --by weights", "--by: "),
        ("bench step --out x --rounds 0", "'--rounds'"),
        ("bench step --out x --threads two", "'--threads'"),
    ],
)
def test_a_bad_value_is_one_line_that_names_the_option(words, said, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["bnn", *words.split()])
    with pytest.raises(SystemExit) as exit_:
        main()
    assert exit_.value.code == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("bnn: ")
    assert said in line


# --- completion, by the protocol that the shells speak


def complete(program: str, words: str, folder: Path = ROOT) -> list[str]:
    """What bash would offer for the last word of a line."""
    variables = {
        f"_{program.upper()}_COMPLETE": "bash_complete",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split(" ")) - 1),
    }
    done = subprocess.run(
        [Path(sys.executable).with_name(program)],
        env=os.environ | variables,
        cwd=folder,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return [line.partition(",")[2] for line in done.stdout.splitlines()]


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("bnn tr", ["train"]),
        ("bnn train --kind ", ["bnn", "cnn"]),
        ("bnn train --save-posterior ", ["true", "false"]),
        ("bnn train --checkpoint-e", ["--checkpoint-epochs"]),
        ("bnn train --model r", ["resnet18"]),
        ("bnn train --dataset mn", ["mnist", "mnist-sample"]),
        ("bnn infer here --mode f", ["flipout"]),
        ("bnn prune here --semantics ", ["zero", "bprune", "mean-only"]),
        ("bnn bench step --peers tfp,ba", ["tfp,bayesian-torch"]),
        ("campaign stat", ["status"]),
        ("campaign site check thet", ["theta"]),
        ("campaign plan --profile profiles/loc", ["profiles/local"]),
    ],
)
def test_the_shell_completes(words, offered):
    assert complete(words.split()[0], words) == offered


def test_the_shell_completes_cells_that_have_been_planned(tmp_path):
    jobs = tmp_path / "results" / "local" / "jobs"
    jobs.mkdir(parents=True)
    for name in (
        "a_fc_bnn_n1_b8_base_r1.json",
        "a_fc_cnn_n1_b8_base_r1.json",
        "a_fc_bnn_n1_b8_base_r1.sh",
        ".plan.json",
    ):
        (jobs / name).touch()
    assert complete("campaign", "campaign why a_fc_b", tmp_path) == ["a_fc_bnn_n1_b8_base_r1"]


def test_completion_loads_neither_torch_nor_numpy():
    code = "import sys, bnn.cli; print(sorted({'torch', 'numpy', 'pandas', 'psutil'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_shells_are_given_a_script():
    for shell in ("bash", "zsh", "fish"):
        done = subprocess.run(
            [Path(sys.executable).with_name("bnn")], env=os.environ | {"_BNN_COMPLETE": f"{shell}_source"},
            capture_output=True, text=True,
        )  # fmt: skip
        assert "_BNN_COMPLETE" in done.stdout


# --- threads


def topology(root: Path, siblings: list[str]) -> Path:
    for cpu, text in enumerate(siblings):
        path = root / f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"
        path.parent.mkdir(parents=True)
        path.write_text(f"{text}\n")
    return root


def test_hardware_threads_of_one_core_count_once(tmp_path):
    root = topology(tmp_path, ["0,4", "1,5", "2,6", "3,7"] * 2)
    assert physical_cores(set(range(8)), root) == 4
    assert physical_cores({0, 4}, root) == 1
    assert physical_cores({0, 1, 4}, root) == 2
    assert physical_cores({0, 1, 9}, tmp_path / "nothing") == 3


@given(st.integers(1, 300), st.none() | st.floats(0.1, 300), st.integers(1, 300))
def test_threads_are_at_least_one_and_all_ranks_fit(count, quota, ranks):
    threads = Room(count, quota, ranks).threads
    room = count if quota is None else min(count, quota)
    assert threads >= 1
    assert threads == 1 or threads * ranks <= room


@pytest.mark.parametrize(
    ("environment", "ranks"),
    [
        ({}, 1),
        ({"MPI_LOCALNRANKS": "4"}, 4),
        ({"OMPI_COMM_WORLD_LOCAL_SIZE": "2"}, 2),
        ({"LOCAL_WORLD_SIZE": "8", "PMI_LOCAL_SIZE": "3"}, 8),
        ({"MPI_LOCALNRANKS": "many"}, 1),
        ({"SLURM_PROCID": "5", "SLURM_STEP_NUM_TASKS": "7", "SLURM_NODEID": "3",
          "SLURM_STEP_TASKS_PER_NODE": "2(x3),1"}, 1),
        ({"SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "7", "SLURM_NODEID": "1",
          "SLURM_STEP_TASKS_PER_NODE": "2(x3),1"}, 2),
        ({"SLURM_PROCID": "0", "SLURM_STEP_TASKS_PER_NODE": "64"}, 1),  # a batch script, which is no task
    ],
)  # fmt: skip
def test_launchers_say_how_many_ranks_are_here(environment, ranks):
    assert local_ranks(environment) == ranks


@pytest.mark.parametrize(
    ("whole", "mine", "ranks", "more", "share"),
    [
        (64, 64, 4, {}, 4),  # not bound: all share
        (64, 16, 4, {}, 1),  # each bound to its part
        (64, 32, 4, {}, 2),  # bound to sockets
        (64, 1, 2, {}, 1),  # bound to single cores, with room left
        (64, 8, 2, {"SLURM_CPUS_ON_NODE": "8"}, 2),  # a step of 8 CPUs on a machine of 64
        (4, 4, 1, {}, 1),
    ],
)
def test_ranks_that_a_launcher_has_bound_do_not_share(monkeypatch, whole, mine, ranks, more, share):
    monkeypatch.setattr(cores.os, "sched_getaffinity", lambda pid: set(range(whole)))
    assert sharing(set(range(mine)), {"MPI_LOCALNRANKS": str(ranks), **more}) == share


def test_a_process_takes_what_it_may_use(monkeypatch, tmp_path):
    monkeypatch.setattr(cores.os, "sched_getaffinity", lambda pid: set(range(8)))
    root = topology(tmp_path, ["0,4", "1,5", "2,6", "3,7"] * 2)
    assert room_here({}, root).threads == 4
    assert room_here({"MPI_LOCALNRANKS": "2"}, root).threads == 2
    assert room_here({"MPI_LOCALNRANKS": "16"}, root).threads == 1
    srun = {"SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "8", "SLURM_STEP_TASKS_PER_NODE": "8"}
    assert room_here(srun | {"SLURM_CPUS_PER_TASK": "3"}, root).threads == 3
    files = {
        "proc/self/cgroup": "0::/\n",
        "proc/self/mountinfo": "1 0 0:1 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n",
        "sys/fs/cgroup/cpu.max": "250000 100000\n",
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    assert room_here({}, root).threads == 2
    assert str(room_here({"MPI_LOCALNRANKS": "2"}, root)) == (
        "4 cores that it may use, a quota of 2.5 CPUs, 2 ranks that share them"
    )


def test_a_number_that_is_given_is_taken():
    assert threads_given({"threads": "3"}) == ({"threads": "3"}, None)
    values, room = threads_given({"threads": None, "seed": 1})
    assert values == {"threads": room.threads, "seed": 1}


class Ranks(SingleEngine):
    """Rank 0 of several, of which another has found fewer cores."""

    size = 2

    def gather(self, value, label):
        return [value, 2]


def test_all_ranks_take_the_least_that_one_has_found_and_say_it(capsys):
    settings = threads_for_all(TrainSettings(threads=6), Ranks(), Room(6, None, 1))
    assert settings.threads == 2
    assert capsys.readouterr().out.startswith("2 threads per rank (6 cores that it may use; --threads says another")


def test_the_default_of_the_settings_is_what_it_was():
    """A campaign says how many; its hashes stay."""
    assert TrainSettings().threads == 1
    assert TrainSettings().fingerprint() == TrainSettings(foreign_limit=0.5).fingerprint()


def test_ranks_on_gpus_have_chosen_theirs_before_they_speak(monkeypatch):
    """NCCL starts on the current GPU, which is the first one for everybody until then."""
    order = []

    class Speaking(SingleEngine):
        def gather(self, value, label):
            order.append("speak")
            return [value, value]

    monkeypatch.setattr("bnn.device.select_gpu", lambda device, engine: order.append(device))
    threads_for_all(TrainSettings(threads=2, device="cuda"), Speaking(), Room(2, None, 1))
    assert order == ["cuda", "speak"]


def test_a_run_by_hand_goes_on_with_the_threads_of_its_checkpoint(tmp_path):
    mine = TrainSettings(threads=6)
    assert threads_of_checkpoint(mine, tmp_path) is None
    for number, settings in enumerate((TrainSettings(threads=8), TrainSettings(threads=8, seed=9))):
        folder = tmp_path / f"run-{number}"
        file = folder / CHECKPOINT / "step-4" / MARKER
        file.parent.mkdir(parents=True)
        file.write_text(CheckpointMarker(step=4, ranks=1, hash=settings.fingerprint(), baseline="").model_dump_json())
    assert threads_of_checkpoint(mine, tmp_path / "run-0") == 8
    assert threads_of_checkpoint(mine, tmp_path / "run-1") is None


def test_training_names_the_option_that_is_wrong_as_the_other_commands_do(tmp_path: Path) -> None:
    done = CliRunner().invoke(cli, ["train", "--epochs", "x", "--out", str(tmp_path / "cell")])
    assert str(done.exception).startswith("--epochs: Input should be a valid integer")
