"""A tiny Slurm in the folder FAKE_SLURM: sbatch, squeue, scontrol and scancel, by the name this is called with.

sbatch runs the script at once in the background, under a keeper that notes how it ended. A file `down` in the folder
makes all commands fail as they do when the controller is away; `refuse` holds words to refuse submissions with.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

FOLDER = Path(os.environ["FAKE_SLURM"])


def keep(job: str, script: str) -> None:
    """Run the script and write down its end: exit code and signal."""
    child = subprocess.Popen(["bash", script], start_new_session=True)
    note(job, "pid", str(child.pid))
    code = child.wait()
    how = f"{max(code, 0)}:{max(-code, 0)}"
    note(
        job,
        "end",
        f"{'CANCELLED' if (FOLDER / f'{job}.cancel').exists() else 'COMPLETED' if code == 0 else 'FAILED'} {how}",
    )


def note(job: str, what: str, text: str) -> None:
    new = FOLDER / f"{job}.{what}.new"
    new.write_text(text)
    new.rename(FOLDER / f"{job}.{what}")


def jobs() -> list[str]:
    return sorted((path.stem for path in FOLDER.glob("*.name")), key=int)


def name(job: str) -> str:
    return (FOLDER / f"{job}.name").read_text()


def sbatch(words: list[str]) -> None:
    assert words[:2] == ["--parsable", "-J"]
    if (FOLDER / "refuse").exists():
        sys.exit("sbatch: error: Batch job submission failed: " + (FOLDER / "refuse").read_text())
    job = str(len(jobs()) + 1)
    note(job, "name", words[2])
    subprocess.Popen([sys.executable, "-IS", __file__, "keep", job, words[3]], stdin=subprocess.DEVNULL,
                     stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)  # fmt: skip
    print(job)


def squeue(words: list[str]) -> None:
    for job in jobs():
        if not (FOLDER / f"{job}.end").exists():
            print(f"{job}|{name(job)}|RUNNING|2026-05-01T10:00:00|None")


def scontrol(words: list[str]) -> None:
    job = words[-1]
    if job not in jobs():
        sys.exit("slurm_load_jobs error: Invalid job id specified")
    end = FOLDER / f"{job}.end"
    state, code = end.read_text().split() if end.exists() else ("RUNNING", "0:0")
    print(f"JobId={job} JobName={name(job)} JobState={state} Reason=None ExitCode={code} TimeLimit=01:00:00")


def scancel(words: list[str]) -> None:
    for job in words:
        note(job, "cancel", "")
        os.killpg(int((FOLDER / f"{job}.pid").read_text()), signal.SIGTERM)


def main(program: str, words: list[str]) -> None:
    with (FOLDER / "commands").open("a") as file:
        file.write(" ".join([program, *words]) + "\n")
    if (FOLDER / "down").exists():
        sys.exit("slurm_load_jobs error: Unable to contact slurm controller (connect failure)")
    {"sbatch": sbatch, "squeue": squeue, "scontrol": scontrol, "scancel": scancel}[program](words)


if __name__ == "__main__":
    if sys.argv[1] == "keep":
        keep(sys.argv[2], sys.argv[3])
    else:
        main(sys.argv[1], sys.argv[2:])
