"""What schedulers' commands find in their environment: nothing of a job that the driver itself runs in."""

from __future__ import annotations

from collections.abc import Mapping

# Settings of the client commands, and those of srun that Slurm itself sets in no job (sbatch(1), srun(1)).
SLURM_SETTINGS = {
    "SLURM_CLUSTERS", "SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_DEBUG_FLAGS", "SLURM_EXIT_ERROR", "SLURM_JWT",
    "SLURM_KILL_BAD_EXIT", "SLURM_MPI_TYPE", "SLURM_SACK_SOCKET", "SLURM_STEP_KILLED_MSG_NODE_ID", "SLURM_TIME_FORMAT",
    "SLURM_WAIT",
}  # fmt: skip
COBALT_SETTINGS = {"COBALT_CONFIG_FILES", "COBALT_RUNTIME_CONFIG"}
SETTINGS = SLURM_SETTINGS | COBALT_SETTINGS
# Any key of pbs.conf may come from the environment as PBS_* (openpbs, pbs_loadconf.c): only what a job has goes.
PBS_OF_JOBS = {
    "PBS_ENVIRONMENT", "PBS_JOBCOOKIE", "PBS_JOBDIR", "PBS_JOBID", "PBS_JOBNAME", "PBS_MOMPORT", "PBS_NODEFILE",
    "PBS_NODENUM", "PBS_QUEUE", "PBS_TASKNUM",
}  # fmt: skip
OF_JOBS = ("SLURM_", "SRUN_", "PBS_O_", "PBS_ARRAY_", "COBALT_", "PMI_", "PMIX_", "PALS_", "SBATCH_CPU_BIND",
           "SBATCH_MEM_BIND")  # fmt: skip
JOB_IDS = ("SLURM_JOB_ID", "SLURM_JOBID", "PBS_JOBID", "COBALT_JOBID")  # one of them is set in each job
# sbatch takes these before what the script says: its log would be elsewhere, it would be several jobs, or sbatch would
# wait for the job's end.
AGAINST_SCRIPTS = {"SBATCH_ARRAY_INX", "SBATCH_ERROR", "SBATCH_JOB_NAME", "SBATCH_OUTPUT", "SBATCH_WAIT"}
# They filter or reformat what queries print, or let them ask somewhere else.
OF_QUERIES = ("SQUEUE_", "SACCT_", "SCONTROL_", "SCANCEL_")


def for_submission(variables: Mapping[str, str]) -> dict[str, str]:
    """The environment of a submission, which a job may inherit.

    In a job, SLURM_*, COBALT_* and some PBS_* (and what launchers tell ranks) speak of that job: srun in the new job
    would take its SLURM_MEM_PER_CPU or SLURM_NTASKS_PER_NODE for its own. All go but settings of the commands. Outside
    of a job they are the user's own (SLURM_CPU_BIND, SLURM_HINT, PMI_NO_FORK, ...) and stay.
    SBATCH_* are the user's own defaults (SBATCH_ACCOUNT, ...) and stay, but for those that overrule what this plugin
    relies on in a script: its output files, its being one job, and sbatch's coming back at once.
    """
    in_job = any(key in variables for key in JOB_IDS)
    return {
        key: value for key, value in variables.items() if key not in AGAINST_SCRIPTS and not (in_job and _of_a_job(key))
    }


def _of_a_job(key: str) -> bool:
    return key in PBS_OF_JOBS or (key.startswith(OF_JOBS) and key not in SETTINGS)


def for_query(variables: Mapping[str, str]) -> dict[str, str]:
    """The environment of a query: plain English, nothing that filters, reformats or redirects."""
    kept = {key: value for key, value in for_submission(variables).items() if not key.startswith(OF_QUERIES)}
    kept.pop("SLURM_CLUSTERS", None)  # clusters are named in the commands
    return kept | {"LC_ALL": "C", "SLURM_TIME_FORMAT": "standard"}
