"""Run a scheduler's command: as a list of arguments, with a time limit, away from the terminal's Ctrl-C."""

from __future__ import annotations

import os
import pwd
import re
import signal
import subprocess
import tempfile
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from snakemake_executor_plugin_batch_script.schedulers.base import (
    LimitError,
    RefusedError,
    UnclearError,
    UnreachableError,
)
from snakemake_executor_plugin_batch_script.schedulers.environment import for_query, for_submission
from snakemake_executor_plugin_batch_script.schedulers.refusals import (
    OF_ALL_QUEUES,
    OF_WAITING_JOBS,
    Kind,
    classify,
    passes,
)

TIMEOUT = 60.0  # seconds that a command of a scheduler may take
# sbatch tries again by itself, for 1 + 2 + ... + 15 s, before it says that a queue is full (Slurm, src/sbatch/sbatch.c)
SUBMISSION_TIMEOUT = 180.0


@dataclass(frozen=True)
class Answer:
    """Exit code and output of a command that ended by itself."""

    program: str
    code: int
    out: str
    err: str

    @property
    def transient(self) -> bool:
        """Whether the command failed because the scheduler could not be reached (beside errors, output is data)."""
        return self.code != 0 and passes(self.err if self.err.strip() else self.out)

    @property
    def words(self) -> str:
        """What the command said, in one line."""
        lines = [line.strip() for line in (self.err or self.out).splitlines() if line.strip()]
        return shorten("; ".join(dict.fromkeys(lines))) or f"{self.program} ended with exit code {self.code}"

    def unreachable(self) -> UnreachableError:
        """The error for an answer that is of no use."""
        return UnreachableError(self._named())

    def refusal(self) -> Exception:
        """The error for a submission that failed."""
        words = self.words
        match classify(self.program, f"{self.err}\n{self.out}"):
            case Kind.FINAL:
                return RefusedError(words)
            case Kind.LIMIT:
                everywhere, waiting = (words_.search(words) is not None for words_ in (OF_ALL_QUEUES, OF_WAITING_JOBS))
                return LimitError(words, everywhere, waiting)
            case Kind.DISTURBANCE:
                return self.unreachable()
        return UnclearError(self._named())

    def _named(self) -> str:
        """Its words, with the command's name before them."""
        said = self.words
        return said if said.startswith(self.program) else f"{self.program}: {said}"


def shorten(text: str, limit: int = 300) -> str:
    return text if len(text) <= limit else text[: limit - 3] + "..."


def run(command: Sequence[str], timeout: float | None = None, query: bool = True) -> Answer:
    """Run a command for at most `timeout` seconds (default: TIMEOUT, for what is no query SUBMISSION_TIMEOUT).

    A `query` speaks plain English whatever the user's settings, which a submission must not (the job may inherit its
    environment). Raises UnreachableError on a time-out, and when the command cannot be started.
    """
    program = command[0]
    if timeout is None:
        timeout = TIMEOUT if query else SUBMISSION_TIMEOUT
    # Files, not pipes: whatever a command leaves behind in the background cannot keep us waiting.
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        try:
            # a session of its own: Ctrl-C at the terminal must not cut a submission in two
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True,
                env=for_query(os.environ) if query else for_submission(os.environ),
            )  # fmt: skip
        except OSError as error:
            raise UnreachableError(f"{program}: {error.strerror or error}") from None
        try:
            code = process.wait(timeout)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise UnreachableError(f"{program}: no answer in {timeout:g} seconds") from None
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode(errors="replace"))
    return Answer(program, code, *texts)


def submitted(command: Sequence[str], form: str, named: Callable[[], Collection[str]]) -> str:
    """Submit; returns the job's id, which is alone in its line and has the `form` (one group).

    Messages before and after it may hold numbers as well: of several, the one is right that `named` has, which gives
    the ids of the user's jobs of this name by the queue. Of ids and bare numbers, only ids count.

    Raises RefusedError or LimitError with the scheduler's words, UnclearError with words that are not known, and
    UnreachableError for an answer that does not tell the id.
    """
    answer = run(command, query=False)
    if answer.code != 0:
        raise answer.refusal()
    ids = list(dict.fromkeys(re.findall(form, answer.out, re.MULTILINE)))
    ids = [job for job in ids if not job.isdigit()] or ids
    if len(ids) > 1:
        queued = set(named())
        ids = [job for job in ids if job in queued]
        if len(ids) != 1:
            raise UnreachableError(
                f"{answer.program}: which number is the job's cannot be told ({shorten(answer.out)!r})"
            )
    if not ids:
        raise answer.unreachable()
    return str(ids[0])


def user() -> str:
    """Whose jobs these are; the number where the user has no name."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())
