"""What schedulers' commands find in their environment: nothing of the job that the driver itself may run in."""

from __future__ import annotations

from collections.abc import Mapping

# Settings of the client commands, and those of srun that Slurm itself sets in no job (sbatch(1), srun(1)).
SLURM_SETTINGS = {
    "SLURM_CLUSTERS", "SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_DEBUG_FLAGS", "SLURM_EXIT_ERROR", "SLURM_JWT",
    "SLURM_KILL_BAD_EXIT", "SLURM_MPI_TYPE", "SLURM_STEP_KILLED_MSG_NODE_ID", "SLURM_TIME_FORMAT", "SLURM_WAIT",
}  # fmt: skip
PBS_SETTINGS = {
    "PBS_CONF_FILE", "PBS_DEFAULT", "PBS_DPREFIX", "PBS_EXEC", "PBS_HOME", "PBS_PRIMARY", "PBS_SECONDARY", "PBS_SERVER",
}  # fmt: skip
COBALT_SETTINGS = {"COBALT_CONFIG_FILES", "COBALT_RUNTIME_CONFIG"}
OF_JOBS = ("SLURM_", "SRUN_", "PBS_", "COBALT_", "PMI_", "PMIX_", "PALS_")
SETTINGS = SLURM_SETTINGS | PBS_SETTINGS | COBALT_SETTINGS
# sbatch takes these before what the script says: its log would be elsewhere, it would be several jobs, or sbatch would
# wait for the job's end. (The last two are set in a job.)
AGAINST_SCRIPTS = {"SBATCH_ARRAY_INX", "SBATCH_ERROR", "SBATCH_JOB_NAME", "SBATCH_OUTPUT", "SBATCH_WAIT"}
OF_SBATCH = ("SBATCH_CPU_BIND", "SBATCH_MEM_BIND")
# They filter or reformat what queries print, or let them ask somewhere else.
OF_QUERIES = ("SQUEUE_", "SACCT_", "SCONTROL_", "SCANCEL_")


def for_submission(variables: Mapping[str, str]) -> dict[str, str]:
    """The environment of a submission, which a job may inherit.

    SLURM_*, PBS_* and COBALT_* (and what launchers tell ranks) speak of the job that the driver runs in: srun in the
    new job would take its SLURM_MEM_PER_CPU or SLURM_NTASKS_PER_NODE for its own. All go but settings of the commands.
    SBATCH_* are the user's own defaults (SBATCH_ACCOUNT, ...) and stay, but for those that overrule what this plugin
    relies on in a script: its output files, its being one job, and sbatch's coming back at once.
    """
    return {
        key: value
        for key, value in variables.items()
        if (key in SETTINGS or not key.startswith(OF_JOBS))
        and key not in AGAINST_SCRIPTS
        and not key.startswith(OF_SBATCH)
    }


def for_query(variables: Mapping[str, str]) -> dict[str, str]:
    """The environment of a query: plain English, nothing that filters, reformats or redirects."""
    kept = {key: value for key, value in for_submission(variables).items() if not key.startswith(OF_QUERIES)}
    kept.pop("SLURM_CLUSTERS", None)  # clusters are named in the commands
    return kept | {"LC_ALL": "C", "SLURM_TIME_FORMAT": "standard"}
