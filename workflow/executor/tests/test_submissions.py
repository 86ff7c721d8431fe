"""What a submission is given and what is understood of its answer: environment, ids, clusters, file names."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snakemake_executor_plugin_batch_script.schedulers import cobalt, pbs, slurm
from snakemake_executor_plugin_batch_script.schedulers.base import (
    Ended,
    Live,
    Outcome,
    RefusedError,
    State,
    UnreachableError,
)
from snakemake_executor_plugin_batch_script.schedulers.commands import run
from snakemake_executor_plugin_batch_script.schedulers.environment import for_query, for_submission

NAME = "c-0123456789ab"
OUTER = {
    "SLURM_JOB_ID": "1", "SLURM_NNODES": "4", "SLURM_CPUS_PER_TASK": "7", "SLURM_MEM_PER_CPU": "1000",
    "SLURM_NTASKS_PER_NODE": "3", "SRUN_CPUS_PER_TASK": "7", "SBATCH_MEM_BIND": "local", "PMI_RANK": "0",
    "PBS_JOBID": "1.s", "PBS_NODEFILE": "/x", "COBALT_JOBID": "1", "COBALT_PARTNAME": "3",
}  # fmt: skip
OWN = {
    "SLURM_CONF": "/etc/x", "SLURM_SACK_SOCKET": "/run/s", "SBATCH_ACCOUNT": "us", "PBS_DEFAULT": "s",
    "PBS_BATCH_SERVICE_PORT": "15101", "PBS_AUTH_METHOD": "munge", "PBS_LEAF_NAME": "n", "PBS_TMPDIR": "/t",
    "COBALT_CONFIG_FILES": "/c", "HOME": "/h",
}  # fmt: skip


def programs(folder: Path, **scripts: str) -> None:
    for name, text in scripts.items():
        path = folder / name
        path.write_text(f"#!/bin/bash\n{text}\n")
        path.chmod(0o755)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    (tmp_path / "job.sh").write_text("#!/bin/bash\n")
    return tmp_path


def test_nothing_of_an_outer_job_is_handed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    more = {"SBATCH_OUTPUT": "/else", "SBATCH_ARRAY_INX": "1-9", "SBATCH_WAIT": "1"}
    assert for_submission(OUTER | OWN | more) == OWN
    assert "SQUEUE_STATES" not in for_query({"SQUEUE_STATES": "PD", "SLURM_CLUSTERS": "x"} | OWN)
    for key, value in (OUTER | OWN).items():
        monkeypatch.setenv(key, value)
    for query in (False, True):
        seen = dict(line.partition("=")[::2] for line in run(["env"], query=query).out.splitlines())
        assert not OUTER.keys() & seen.keys()
        assert {key: seen.get(key) for key in OWN} == OWN


@pytest.mark.parametrize("job", ["SLURM_JOB_ID", "SLURM_JOBID", "PBS_JOBID", "COBALT_JOBID"])
def test_outside_of_a_job_the_users_own_settings_stay(job: str) -> None:
    own = {"SLURM_CPU_BIND": "cores", "SLURM_HINT": "nomultithread", "PMI_NO_FORK": "1", "SBATCH_MEM_BIND": "local"}
    assert for_submission(own | OWN | {"SBATCH_OUTPUT": "/else"}) == own | OWN
    assert for_submission(own | OWN | {job: "1"}) == OWN


@given(st.text("abc 0123456789-:;.|\n", max_size=40))
def test_file_names_of_any_text_are_as_slurm_has_them(text: str) -> None:
    doubled = f"/x/{text}%3A%j%%".replace("%", "%%")
    assert slurm.file_name(doubled, "12", NAME) == Path(f"/x/{text}%3A%j%%")


def test_file_names() -> None:
    def name(given: str, job: str = "12") -> str:
        return str(slurm.file_name(given, job, NAME))

    assert name("/x/mine%%3Atiny.log") == "/x/mine%3Atiny.log"
    assert name("/x/mine%3Atiny.log") == "/x/mine012tiny.log"
    assert name("o-%j-%A-%x.%%j") == f"o-12-12-{NAME}.%j"
    assert name("%20j") == "0000000012"
    assert name(r"/x/\%j") == "/x/%j"
    assert slurm.file_name("o-%j", "", "") is slurm.file_name("o-%N", "12", "") is None
    assert slurm.file_name("/x/100%%", "", "") == Path("/x/100%")


NOISE = st.lists(st.sampled_from(["Welcome", "maintenance on 2024-11-28", "quota: 12345 of 99999", ""]), max_size=3)


@given(before=NOISE, after=NOISE)
def test_an_id_between_words(tmp_path_factory: pytest.TempPathFactory, before: list[str], after: list[str]) -> None:
    folder = tmp_path_factory.mktemp("words")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
        for command, told, scheduler in (
            ("qsub", "77.server", pbs.Pbs()), ("sbatch", "77;beta", slurm.Slurm()), ("qsub", "77", cobalt.Cobalt())
        ):  # fmt: skip
            (folder / "answer").write_text("\n".join([*before, told, *after]) + "\n")
            programs(folder, **{command: f"cat {folder}/answer"})
            assert scheduler.submit(folder / "job.sh", NAME) == told


@pytest.mark.parametrize("answer", ["77\\n20241128\\n12345", "20241128\\n77", "12345\\n77\\n20241128"])
def test_of_several_numbers_the_queue_tells_the_id(folder: Path, answer: str) -> None:
    programs(
        folder,
        sbatch=f"printf '{answer}\\n'",
        squeue=f"echo '77|{NAME}|PENDING|N/A|None'; echo '12345|other|PENDING|N/A|None'",
        qsub=f"printf '{answer}\\n'", qstat=f"echo '77 {NAME} queued'; echo '12345 other queued'",
    )  # fmt: skip
    assert slurm.Slurm().submit(folder / "job.sh", NAME) == "77"
    assert cobalt.Cobalt().submit(folder / "job.sh", NAME) == "77"
    programs(folder, squeue="exit 0", qstat="exit 0")
    for scheduler in (slurm.Slurm(), cobalt.Cobalt()):
        with pytest.raises(UnreachableError, match="cannot be told"):
            scheduler.submit(folder / "job.sh", NAME)


def test_an_id_with_a_server_is_told_from_a_number(folder: Path) -> None:
    programs(folder, qsub="printf '77.server\\n20241128\\n'")
    assert pbs.Pbs().submit(folder / "job.sh", NAME) == "77.server"


def test_a_job_at_another_cluster(folder: Path) -> None:
    (folder / "job.sh").write_text("#!/bin/bash\n#SBATCH --clusters=beta\n")
    here = f"""echo "$(basename $0) $*" >> {folder}/asked"""
    beta = '[[ $* == *"-M beta"* ]] || exit 0'
    programs(
        folder,
        sbatch="echo '123;beta'",
        squeue=f"{here}; {beta}; echo 'CLUSTER: beta'; echo '123|{NAME}|RUNNING|N/A|None'"
        "; echo '12_[1-4]|x|PENDING|N/A|'",
        scontrol=f"{here}; {beta}; echo 'JobId=123 JobName={NAME} JobState=FAILED Reason=x ExitCode=3:0'",
        scancel=here,
    )  # fmt: skip
    scheduler = slurm.Slurm()
    job = scheduler.submit(folder / "job.sh", NAME)
    assert job == "123;beta"
    ours = Live("123;beta", NAME, State.RUNNING, "None")
    assert scheduler.live([job], names=False) == [ours, Live("12_[1-4];beta", "x", State.QUEUED, "")]
    told = scheduler.ended({job: folder / "job.sh"})[job]
    assert isinstance(told, Ended)
    assert (told.outcome, told.exit_code) == (Outcome.FAILED, 3)
    scheduler.cancel([job, "5"])
    lines = (folder / "asked").read_text().splitlines()
    assert "scontrol -M beta --oneliner show job 123" in lines
    assert lines[-2:] == ["scancel 5", "scancel -M beta 123"]
    # an earlier driver's, found by name
    again = slurm.Slurm()
    again.know(folder / "job.sh")
    assert ours in again.live([], names=True)


def test_our_own_cluster_by_name_shows_a_job_once(folder: Path) -> None:
    programs(folder, squeue=f"echo '123|{NAME}|RUNNING|N/A|None'")
    assert [live.job for live in slurm.Slurm().live(["123;alpha"], names=True)] == ["123;alpha"]
    assert [live.job for live in slurm.Slurm().live(["123", "9;alpha"], names=True)] == ["123"]


@pytest.mark.parametrize("variable", ["", "SBATCH_CLUSTERS", "SLURM_CLUSTERS"])
@pytest.mark.parametrize("named", ["all", "ALL", "beta,all"])
def test_all_clusters_are_no_cluster(folder: Path, monkeypatch: pytest.MonkeyPatch, variable: str, named: str) -> None:
    for key in ("SBATCH_CLUSTERS", "SLURM_CLUSTERS"):
        monkeypatch.delenv(key, raising=False)
    if variable:
        monkeypatch.setenv(variable, named)
    else:
        (folder / "job.sh").write_text(f"#!/bin/bash\n#SBATCH --clusters={named}\n")
    programs(folder, sbatch=f"touch {folder}/asked; echo 123", squeue=f'echo "123|{NAME}|RUNNING|N/A|None"')
    scheduler = slurm.Slurm()
    scheduler.know(folder / "job.sh")
    assert not any(live.job.lower().endswith(";all") for live in scheduler.live([], names=True))
    with pytest.raises(RefusedError, match="is all"):
        scheduler.submit(folder / "job.sh", NAME)
    assert not (folder / "asked").exists()
