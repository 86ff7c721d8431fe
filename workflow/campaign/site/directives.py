"""A site's own directives (scheduler.options): read as the scheduler reads them, refused where they are the product's.

A directive that is set twice is whichever the scheduler takes, and one that sends a job's output, name or id elsewhere
loses the job. The options are those of Slurm's sbatch (src/common/slurm_opt.c), OpenPBS's qsub (its manual, qsub(1B))
and Cobalt's qsub; long ones may be shortened, as getopt_long and Python's optparse allow.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field

from bnn.errors import UserError

NAME = "the workflow names jobs to find them again"
OUTPUT = "the workflow reads the output where it has told the scheduler to write it"
QUEUE, ACCOUNT, TIME = "use scheduler.queues", "use scheduler.account", "use scheduler.walltimes"
NODES = "a cell's nodes and the site's nodes_per_machine, ranks_per_node and threads say it"
ARRAY = "each job is one script of one cell"
AGAIN = "the workflow submits a job that failed again by itself"
FOLDER = "scripts go to the project's folder by themselves"
ANSWER = "the workflow needs the id that the command prints, at once"
HELD = "the workflow would wait for ever for a job that is held"
SCRIPT = "the job is the rendered script, run by bash"
SHARED = "jobs are measured: each has its nodes to itself"
ALL_CLUSTERS = "a job is at one cluster, and is asked for and cancelled there: name it"
LIMIT = "scripts are told a minute before their limit"


@dataclass(frozen=True)
class Dialect:
    """Options of one command: `refused` ones with the reason, by their long names; `short` letters' long names.

    `values` are the letters that take a value; `passing` are options whose names begin a refused one's; `long`: whether
    there are names of several letters at all.
    """

    command: str
    refused: dict[str, str]
    short: dict[str, str] = field(default_factory=dict)
    values: str = ""
    passing: frozenset[str] = frozenset()
    long: bool = True


SLURM = Dialect(
    "sbatch",
    {
        "job-name": NAME, "output": OUTPUT, "error": OUTPUT, "array": ARRAY, "nodes": NODES, "ntasks": NODES,
        "ntasks-per-node": NODES, "ntasks-per-core": NODES, "ntasks-per-socket": NODES, "ntasks-per-gpu": NODES,
        "tasks-per-node": NODES,
        "cpus-per-task": NODES, "gpus-per-node": "hardware.gpus_per_node and the cells say it", "exclusive": SHARED,
        "oversubscribe": SHARED, "share": SHARED, "time": TIME, "time-min": TIME, "partition": QUEUE,
        "account": ACCOUNT, "requeue": AGAIN, "no-requeue": AGAIN, "parsable": ANSWER, "quiet": ANSWER,
        "test-only": ANSWER, "wait": ANSWER, "help": ANSWER, "usage": ANSWER, "version": ANSWER, "chdir": FOLDER,
        "workdir": FOLDER, "wrap": SCRIPT, "hold": HELD, "signal": LIMIT,
    },
    {
        "J": "job-name", "o": "output", "e": "error", "a": "array", "N": "nodes", "n": "ntasks", "c": "cpus-per-task",
        "s": "oversubscribe", "t": "time", "p": "partition", "A": "account", "Q": "quiet", "W": "wait", "h": "help",
        "u": "usage", "V": "version", "D": "chdir", "H": "hold",
    },
    "aAbBcCdDeFGiJLmMnNopqStwx",
    frozenset({"gpus"}),
)  # fmt: skip
PBS = Dialect(
    "qsub",
    {
        "N": NAME, "o": OUTPUT, "e": OUTPUT, "j": OUTPUT, "R": OUTPUT, "J": ARRAY, "q": QUEUE, "A": ACCOUNT, "r": AGAIN,
        "h": HELD, "I": ANSWER, "X": ANSWER, "G": ANSWER, "f": ANSWER, "z": ANSWER, "S": SCRIPT, "C": SCRIPT,
    },
    values="aAcCeJjklmMNopPqrRSuvW",
    long=False,
)  # fmt: skip
PBS_RESOURCES = {
    "select": "a cell's nodes and scheduler.select say it", "place": SHARED, "walltime": TIME, "min_walltime": TIME,
    "max_walltime": TIME, "nodes": NODES, "nodect": NODES, "ncpus": NODES, "mpiprocs": NODES, "mpiproc": NODES,
}  # fmt: skip
PBS_ATTRIBUTES = {"block": ANSWER, "sandbox": FOLDER, "pwd": FOLDER}
COBALT = Dialect(
    "qsub",
    {
        "outputprefix": OUTPUT, "output": OUTPUT, "error": OUTPUT, "debuglog": OUTPUT, "jobname": NAME,
        "nodecount": NODES, "proccount": NODES, "mode": SCRIPT, "time": TIME, "queue": QUEUE, "project": ACCOUNT,
        "cwd": FOLDER, "held": HELD, "interactive": ANSWER, "help": ANSWER, "version": ANSWER,
    },
    {
        "O": "outputprefix", "o": "output", "e": "error", "n": "nodecount", "t": "time", "q": "queue", "A": "project",
        "h": "held", "I": "interactive",
    },
    "OoentqAMKiD",
)  # fmt: skip
DIALECTS = {"slurm": SLURM, "pbs": PBS, "cobalt": COBALT}


def check_options(kind: str, options: tuple[str, ...], origin: str) -> None:
    """Raises UserError naming the entry, and what to use instead, where one is not the site's to set.

    Also for text that does not stay one line of directives, and for what is no option.
    """
    for index, entry in enumerate(options):
        where = f"{origin}[{index}]"
        if kind == "none":
            raise UserError(f"{where}: kind none has no directives")
        for option, value in _options(DIALECTS[kind], _words(entry, where), where):
            if reason := _reason(kind, option, value):
                name = f"-{option}" if len(option) == 1 else f"--{option}"
                shown = name if not value or name in entry else f"{entry} ({name})"
                raise UserError(f"{where}: {shown} is not the site's to set: {reason}")


def _words(entry: str, where: str) -> list[str]:
    if not re.fullmatch(r"[\x20-\x7e]+", entry):
        raise UserError(f"{where}: {entry!r}: a directive is one line of plain characters")
    try:
        words = shlex.split(entry)
        kept = shlex.split(entry, comments=True)
    except ValueError as error:
        raise UserError(f"{where}: {entry}: {str(error).lower()}") from None
    if not words:
        raise UserError(f"{where}: an empty directive")
    if words != kept:
        raise UserError(f"{where}: {entry}: schedulers take what follows # for a comment: leave it out")
    return words


def _options(dialect: Dialect, words: list[str], where: str) -> Iterator[tuple[str, str]]:
    """Pairs of an option and its value, as far as it has one; options by their long names if they have one."""
    open_value = False  # the word before was an option whose value may be this one
    waiting = ""  # a letter whose value must be this word
    for word, following in zip(words, [*words[1:], ""], strict=True):
        if waiting:
            yield waiting, word
            waiting, open_value = "", False
        elif word.startswith("--") and len(word) > 2:
            if not dialect.long:
                raise UserError(f"{where}: {word}: the options of {dialect.command} have one letter")
            name, equals, value = word[2:].partition("=")
            yield _whole(dialect, name), value if equals or following.startswith("-") else following
            open_value = not equals
        elif word.startswith("-") and word not in ("-", "--"):
            letters = word[1:]
            open_value = False
            while letters:
                letter, letters = letters[0], letters[1:]
                name = dialect.short.get(letter, letter)
                if letter in dialect.values:
                    if letters:
                        yield name, letters
                    else:
                        waiting = name
                    break
                yield name, ""
                open_value = True
        elif open_value:
            open_value = False
        else:
            raise UserError(f"{where}: {word!r} is no option of {dialect.command}")
    if waiting:
        yield waiting, ""


def _whole(dialect: Dialect, name: str) -> str:
    """A long option's name, also if it is shortened; of several refused ones the first."""
    if name in dialect.refused or name in dialect.passing:
        return name
    return next((known for known in dialect.refused if known.startswith(name)), name)


def _reason(kind: str, option: str, value: str) -> str:
    """Why an option is refused; empty for one that is the site's to set."""
    if kind == "slurm" and (option == "M" or (len(option) > 1 and "clusters".startswith(option))):
        # sbatch takes "all" for each cluster (slurmdb_get_info_cluster); an id "123;all" would be anybody's 123
        return ALL_CLUSTERS if "all" in re.split(r"[,\s]+", value.lower()) else ""
    if kind != "pbs":
        return DIALECTS[kind].refused.get(option, "")
    if option in ("l", "W"):
        known = PBS_RESOURCES if option == "l" else PBS_ATTRIBUTES
        keys = [part.partition("=")[0].strip().lower() for part in value.split(",")]
        return next((f"{key}: {known[key]}" for key in keys if key in known), "")
    if option == "k" and "d" not in value and set(value) & set("oe"):
        return OUTPUT  # -k oe keeps the output on the node; -k doe writes it where -o says
    return PBS.refused.get(option, "")
