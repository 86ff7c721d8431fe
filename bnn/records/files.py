"""Names of the files in a cell's folder: the only place where they are spelled."""

CELL = "cell.json"
JOB_LOG = "job.log"
STEPS_FILE = "steps.parquet"
PROVENANCE = "provenance.json"
POSTERIOR = "posterior"
SUMMARY = "summary.json"
CHECKPOINT = ".checkpoint"
LOCK = ".lock"


def staging(attempt: int) -> str:
    """Folder in which attempt number `attempt` collects its records before they are renamed into place."""
    return f".partial-{attempt}"
