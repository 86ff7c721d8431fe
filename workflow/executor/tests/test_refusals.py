"""What schedulers say when they refuse a submission, literally, and whether that passes."""

from __future__ import annotations

import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snakemake_executor_plugin_batch_script.schedulers.base import (
    LimitError,
    RefusedError,
    UnclearError,
    UnreachableError,
)
from snakemake_executor_plugin_batch_script.schedulers.commands import TIMEOUT, Answer, run, submitted
from snakemake_executor_plugin_batch_script.schedulers.refusals import Kind, classify

FAILED = "sbatch: error: Batch job submission failed: "
FAULT = "component error: XMLRPC failure <Fault 1003: {!r}> in queue-manager.add_jobs\n"
POLICY = FAILED + "Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)"

# Words after "Batch job submission failed: ", by errors of slurm_errno.c; after "qsub: ", by those of pbs_messages.c
SLURM = {
    Kind.FINAL: (
        "Invalid partition name specified", "No partition specified or system default partition",
        "Access/permission denied", "User's group not permitted to use this partition",
        "Requested nodes not in this partition", "More processors requested than permitted",
        "Node count specification invalid", "Job size specification needs to be provided", "Job script not specified",
        "Pathname of a file, directory or other parameter too long", "Requested node configuration is not available",
        "Invalid node name specified", "Task distribution specification invalid", "Task count specification invalid",
        "Invalid feature specification", "Memory required by task is not available",
        "Invalid account or account/partition combination specified", "Invalid qos specification",
        "Invalid wckey specification", "Invalid license specification",
        "Requested time limit is invalid (missing or exceeds some limit)", "Access denied to requested reservation",
        "Requested reservation is invalid", "Invalid time specified", "Requires more ports than can be reserved",
        "Job cannot be submitted without the current working directory specified.", "CPU count specification invalid",
        "Circular job dependency", "Job dependency problem", "Invalid generic resource (gres) specification",
        "Invalid job array specification", "Burst Buffer permission denied", "Burst Buffer request invalid",
        "Invalid mcs_label specified", "Duplicate generic resource (gres) specification",
        "Job --batch option is invalid or not a subset of --constraint", "X11 forwarding not available",
        "Invalid Trackable RESource (TRES) specification", "Invalid --nice value",
        "Invalid GRES specification (with and without type identification)",
        "Requested GRES option unsupported by configured SelectType plugin",
        "Invalid time-min specification (exceeds job's time or other limits)", "Invalid container id specified",
        "Multiple partition job request not supported when a partition is set in the association",
        "Cannot request more threads per core than the job allocation", "Invalid preferred feature specification",
        "Time limit specification required, but not provided",
    ),
    Kind.LIMIT: (
        "Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)",
        "MaxJobCount limit reached", "Burst Buffer resource limit exceeded",
    ),
    Kind.DISTURBANCE: (
        "Unexpected message received", "Communication connection failure", "Message send failure",
        "Message receive failure", "Communication shutdown failure", "I/O stream version number error",
        "Protocol authentication error", "Insane message length", "Connection rejected by handler",
        "Connection timed out writing", "Process is shutting down and closing all communications",
        "Unable to contact slurm controller (connect failure)", "Rate limit exceeded, please retry momentarily",
        "Rate limit exceeded, please retry later", "Requested nodes are busy",
        "I/O error writing script/environment to file", "Error generating job credential",
        "Slurm backup controller in standby mode", "Controller is in standby mode, try a different controller",
        "Required ports are in use", "Slurm internal error, contact system administrator",
        "Header lengths are longer than data received", "Socket timed out on send/recv operation",
        "Zero Bytes were transmitted or received", "Invalid authentication credential",
        "Authentication credential expired", "Unable to connect to database",
        "Database connection reference is invalid", "Resource temporarily unavailable",
    ),
    Kind.UNKNOWN: (
        "Unspecified error", "Invalid user id", "Invalid group id", "System submissions disabled",
        "Partition in DOWN state", "Required partition not available (inactive or drain)",
        "Required node not available (down, drained or reserved)", "Requested reservation not usable now",
        "Requested partition configuration not available now", "Licenses currently unavailable",
        "Requested operation is presently disabled", "Incompatible versions of client and server code",
        "Requested account has breached requested QOS usage threshold", "Unable to resolve user ID to user name",
    ),
}  # fmt: skip
PBS = {
    Kind.FINAL: (
        "Undefined attribute ", "Cannot set attribute, read only or insufficient permission  Priority",
        "Unauthorized Request ", "Illegal attribute or resource value", "Unknown queue", "Unknown node ",
        "Access to queue is denied", "Job name is too long", "Queue name too long", "Unknown resource: gpus",
        "Job violates queue and/or server resource limits",
        "Job exceeds queue resource limits", "No default queue specified", "Invalid Account",
        "Job rejected by all possible destinations", "Resource limit exceeds allowable", "Invalid Job Dependency",
        "Duplicate entry in list ", "Bad time specification(s)", "node(s) specification error",
        "Unknown Reservation Id", "too late for reservation", "Array job exceeds server or queue size limit",
        'Resource invalid in "select" specification: ncpu',
        '"-lresource=" cannot be used with "select" or "place", resource is: ncpus',
        "Cannot be used with select or place", 'Cannot have "place" without "select"',
        "duplicated resource within a section of a select specification, resource is: ncpus",
        "attribute value is out of range walltime", "jobscript size exceeded the jobscript_max_size",
        "illegal -l value\nusage: qsub [-a date_time] ...", "illegally formed destination: a@b@c",
        "directive error: -Z", "script file:: No such file or directory", "script not a file", "unmatched \"",
        "Account_Name is required to be set.", "Resource: filesystems is required to be set.",
        "Invalid filesystem identifiers gila", "No active allocation found for project bnn and resource polaris",
        "Invalid account string",
    ),
    Kind.LIMIT: (
        "would exceed queue debug's per-user limit of jobs in 'Q' state", "would exceed queue debug's per-user limit",
        "Maximum number of jobs already in queue", "Maximum number of jobs already in queue debug",
        "Maximum number of jobs already in complex", "would exceed complex's per-project limit",
        "would exceed queue prod's per-group limit", "Maximum number of jobs for user me already in queue debug",
        "Maximum number of jobs for project a b already in complex",
        "Maximum number of jobs in 'Q' state already in queue workq",
        "Maximum number of jobs in 'Q' state for user me already in queue debug",
        "would exceed limit on resource ncpus in queue workq", "would exceed limit on resource nodect in complex",
        "would exceed per-user limit on resource ncpus in queue workq for jobs in 'Q' state",
        "would exceed user me's limit on resource ncpus in complex",
        "Maximum number of jobs already in queue MSG=total number of current user's jobs exceeds the queue limit: "
        "user me@login, queue batch",
    ),
    Kind.DISTURBANCE: (
        "Server connection table full", "PBS server internal error", "System error: Cannot allocate memory",
        "Invalid credential", "Expired credential", "Batch protocol error", "No free connections",
        "Request not allowed: Server shutting down", "Resource temporarily unavailable", "Resource busy",
        "Failed to save job/resv, refer server logs for details", "cannot connect to server pbs (errno=111)",
        "cannot connect to server pbs (errno=15008)", "out of memory", "internal reservation-system error",
        "Server could not connect to MOM", "End of File",
    ),
    Kind.UNKNOWN: (
        "Queue is not enabled", "Access from host not allowed, or unknown host", "Bad UID for job execution",
        "Bad GID for job execution", "hook rejected request", "Error (15999) submitting job", "PBS license is invalid",
        "Floating License unavailable", "request rejected as filter could not be applied",
    ),
}  # fmt: skip
OTHERS = [
    ("sbatch", f"sbatch: error: QOSMaxSubmitJobPerUserLimit\n{POLICY}", Kind.LIMIT),
    ("sbatch", "sbatch: error: QOSMaxSubmitJobPerUserLimit", Kind.LIMIT),
    ("sbatch", f"sbatch: error: AssocMaxSubmitJobLimit\n{POLICY}", Kind.LIMIT),
    ("sbatch", f"sbatch: error: AssocGrpSubmitJobsLimit\n{POLICY}", Kind.LIMIT),
    ("sbatch", f"sbatch: error: QOSMaxWallDurationPerJobLimit\n{POLICY}", Kind.FINAL),
    ("sbatch", f"sbatch: error: AssocMaxNodePerJobLimit\n{POLICY}", Kind.FINAL),
    ("sbatch", f"sbatch: error: QOSMinCpuNotSatisfied\n{POLICY}", Kind.FINAL),
    ("sbatch", "sbatch: error: Slurm temporarily unable to accept job, sleeping and retrying", Kind.DISTURBANCE),
    ("sbatch", "sbatch: error: Slurm job queue full, sleeping and retrying\n" + FAILED + "MaxJobCount limit reached",
     Kind.LIMIT),
    ("sbatch", "sbatch: error: invalid partition specified: x\n" + FAILED + "Invalid partition name specified",
     Kind.FINAL),
    ("sbatch", "sbatch: unrecognized option '--nodse=2'\nTry \"sbatch --help\" for more information", Kind.FINAL),
    ("sbatch", "sbatch: option '--time' requires an argument", Kind.FINAL),
    ("sbatch", "sbatch: error: Invalid --time specification: 1:2:3:4:5", Kind.FINAL),
    ("sbatch", "sbatch: error: invalid number of nodes (-N 3-2)", Kind.FINAL),
    ("sbatch", "sbatch: error: Unable to open file job.sh", Kind.UNKNOWN),
    ("sbatch", "sbatch: error: Unable to open file job.sh: No such file or directory", Kind.FINAL),
    ("sbatch", "sbatch: error: Unable to open file job.sh: Stale file handle", Kind.UNKNOWN),
    ("qsub", "qsub: script file:: Stale file handle", Kind.UNKNOWN),
    ("qsub", "qsub: script file:: Input/output error", Kind.UNKNOWN),
    ("qsub", "qsub: script file:: Permission denied", Kind.FINAL),
    ("qsub", "qsub: script file:: Is a directory", Kind.FINAL),
    ("sbatch", "sbatch: error: This does not look like a batch script.  The first\nsbatch: error: line must start",
     Kind.FINAL),
    ("sbatch", "sbatch: error: Batch script contains DOS line breaks (\\r\\n)", Kind.FINAL),
    ("sbatch", "sbatch: error: Batch script is empty!", Kind.FINAL),
    ("sbatch", "sbatch: error: cli_filter plugin terminated with error", Kind.UNKNOWN),
    ("sbatch", "sbatch: error: Munge encode failed: Failed to access \"/run/munge\"", Kind.DISTURBANCE),
    ("qsub", "Connection refused\nqsub: cannot connect to server pbs (errno=111)", Kind.DISTURBANCE),
    ("qsub", "Connection timed out\nqsub: cannot connect to server pbs (errno=110)", Kind.DISTURBANCE),
    # Cobalt: the client's own words, and the queue manager's in an XML-RPC fault
    ("qsub", "component error: Failed to connect to queue-manager: 'x:cn:queue-manager'\n", Kind.DISTURBANCE),
    ("qsub", "component error: XMLRPC failure timed out in queue-manager.add_jobs\n", Kind.DISTURBANCE),
    ("qsub", FAULT.format("an unexpected exception"), Kind.DISTURBANCE),
    ("qsub", FAULT.format("Queue 'nowhere' does not exist"), Kind.FINAL),
    ("qsub", FAULT.format("trying to add job to non-existent queue 'nowhere'"), Kind.FINAL),
    ("qsub", FAULT.format("Walltime greater than the 'debug' queue max walltime of 01:00:00\n"), Kind.FINAL),
    ("qsub", FAULT.format("Walltime less than the 'default' queue min walltime of 00:30:00\n"), Kind.FINAL),
    ("qsub", FAULT.format("You are not allowed to submit to the 'R.x' queue (group restriction)\n"), Kind.FINAL),
    ("qsub", FAULT.format("The limit of 20 jobs per user in the 'default' queue has been reached\n"), Kind.LIMIT),
    ("qsub", FAULT.format("The limit of 90.0 node hours per user in the 'default' queue has been reached\n"),
     Kind.LIMIT),
    ("qsub", FAULT.format("Job requested 9000 nodes.  Maximum permitted size is 4392"), Kind.FINAL),
    ("qsub", FAULT.format("mcdram x not valid must be one of: flat, cache"), Kind.FINAL),
    ("qsub", FAULT.format("The 'default' queue is draining"), Kind.DISTURBANCE),
    ("qsub", "'time' not provided\n", Kind.FINAL),
    ("qsub", "command /home/me/a.sh not found, or is not a file\n", Kind.FINAL),
    ("qsub", "command /home/me/a.sh is not executable\n", Kind.FINAL),
    ("qsub", "directory /nowhere does not exist\n", Kind.FINAL),
    ("qsub", "invalid time specification: x\n", Kind.FINAL),
    ("qsub", "Usage: qsub.py [options] <executable>\n\nqsub.py: error: no such option: --x\n", Kind.FINAL),
    ("qsub", "Project 'x' is not valid\n", Kind.FINAL),
    ("qsub", "Filter failure: please contact Administrator: 1: /soft/filters/allocation\n", Kind.UNKNOWN),
    ("qsub", FAULT.format("Queue 'maintenance' does not exist"), Kind.FINAL),
    # sites
    ("qsub", "qsub: Users are not allowed to submit jobs during maintenance", Kind.UNKNOWN),
    ("qsub", "qsub: You are not permitted to run until the maintenance ends", Kind.UNKNOWN),
    ("qsub", "qsub: Not allowed to submit to queue prod at this time", Kind.UNKNOWN),
    ("sbatch", "sbatch: error: Access/permission denied: logins are temporarily restricted", Kind.UNKNOWN),
    ("sbatch", "sbatch: error: account x is currently not authorized to use partition y", Kind.UNKNOWN),
    ("qsub", "qsub: You are not allowed to submit to queue prod", Kind.FINAL),
    ("qsub", "qsub: project database not found", Kind.DISTURBANCE),
    ("qsub", "qsub: project bnn not found", Kind.FINAL),
    ("qsub", "qsub: You have too many queued jobs, come back later", Kind.LIMIT),
    ("qsub", "qsub: closed for maintenance", Kind.UNKNOWN),
    ("qsub", "", Kind.UNKNOWN),
]  # fmt: skip
KNOWN = [
    *(("sbatch", FAILED + words, kind) for kind, texts in SLURM.items() for words in texts),
    *(("qsub", f"qsub: {words}", kind) for kind, texts in PBS.items() for words in texts),
    *OTHERS,
]
# lines that a shell or a site prints before any command
NOISE = st.lists(
    st.sampled_from(
        ("Welcome to login3!", "", "* Invalid accounts are purged on Mondays, limit of 20 jobs per user *",
         "module: command not found", "Maintenance: connection refused on Tuesday", "\x1b[31mUnknown queue\x1b[0m!")
    ),
    max_size=4,
)  # fmt: skip


@pytest.mark.parametrize(("program", "words", "kind"), KNOWN)
def test_known_words(program: str, words: str, kind: Kind) -> None:
    assert classify(program, words) is kind


@given(st.sampled_from([known for known in KNOWN if known[1].startswith(f"{known[0]}: ")]), NOISE)
def test_what_a_site_prints_before_changes_nothing(known: tuple[str, str, Kind], noise: list[str]) -> None:
    program, words, kind = known
    assert classify(program, "\n".join([*noise, words, ""])) is kind


@given(st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\r"), max_size=200))
def test_words_that_nobody_knows_never_fail_a_job(words: str) -> None:
    """Without any letter of the alphabet, no word can be known."""
    unknown = "".join("#" if character.isascii() and character.isalpha() else character for character in words)
    assert classify("qsub", f"qsub: {unknown}") is Kind.UNKNOWN


@pytest.mark.parametrize(
    ("said", "error", "everywhere", "waiting_only"),
    [
        ("qsub: Unknown queue", RefusedError, None, None),
        ("qsub: would exceed queue debug's per-user limit of jobs in 'Q' state", LimitError, False, True),
        ("qsub: would exceed complex's per-user limit", LimitError, True, False),
        ("sbatch: error: AssocMaxSubmitJobLimit", LimitError, True, False),
        ("sbatch: error: QOSMaxSubmitJobPerUserLimit", LimitError, False, False),
        ("qsub: Server connection table full", UnreachableError, None, None),
        ("qsub: come back tomorrow", UnclearError, None, None),
    ],
)
def test_what_a_submission_raises(
    said: str, error: type[Exception], everywhere: bool | None, waiting_only: bool | None
) -> None:
    with pytest.raises(error) as raised:
        submitted(["bash", "-c", 'printf "%s\\n" "$1" >&2; exit 1', "x", said], r"^(\d+)$", list)
    assert type(raised.value) is error
    assert said in str(raised.value)
    if isinstance(raised.value, LimitError):
        assert (raised.value.everywhere, raised.value.waiting_only) == (everywhere, waiting_only)


def test_a_submission_may_take_as_long_as_sbatch_tries_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """120 s: a full queue must not look like a scheduler that is silent."""
    waited: list[float | None] = []

    class Process(subprocess.Popen[bytes]):
        def wait(self, timeout: float | None = None) -> int:
            waited.append(timeout)
            return super().wait(timeout)

    monkeypatch.setattr(subprocess, "Popen", Process)
    assert submitted(["echo", "12"], r"^(\d+)$", list) == "12"
    run(["true"])
    submission, query = (timeout for timeout in waited if timeout is not None)
    assert submission > sum(range(1, 16)) + 30
    assert query == TIMEOUT


def test_what_a_listing_holds_is_no_error_of_the_listing() -> None:
    """One of the jobs asked for is unknown; somebody else's comment speaks of a connection."""
    told = Answer("qstat", 153, '{"Jobs": {"1.x": {"comment": "connection refused"}}}', "qstat: Unknown Job Id 2.x")
    assert not told.transient
    assert Answer("qstat", 1, "connection refused", "").transient
