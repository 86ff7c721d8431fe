"""What a refused submission means, by the scheduler's words: final, a limit, a disturbance, or not known.

Only what is known to be final fails a job. Sources of the words: Slurm's src/common/slurm_errno.c and src/sbatch,
job_state_reason.c for the names of limits; OpenPBS's src/lib/Liblog/pbs_messages.c and src/cmds/qsub.c, and
svr_movejob.c for what its own routing tries again; Cobalt's src/lib/Components/cqm.py and src/clients/POSIX/qsub.py;
Argonne's user guides for its hooks.
"""

from __future__ import annotations

import re
from enum import StrEnum


class Kind(StrEnum):
    """What becomes of a submission that was refused.

    FINAL: the same job will never be taken. LIMIT: there are too many jobs (or nodes) of somebody at the moment; it was
    not taken. DISTURBANCE: the scheduler is away or confused; whether it took the job is not known. UNKNOWN: words that
    are none of these, or could be several: waiting is right until nothing else can be expected.
    """

    FINAL = "final"
    LIMIT = "limit"
    DISTURBANCE = "disturbance"
    UNKNOWN = "unknown"


def _any(*patterns: str) -> re.Pattern[str]:
    return re.compile("|".join(f"(?:{pattern})" for pattern in patterns), re.IGNORECASE | re.MULTILINE)


# What makes a script that cannot be opened a lost cause, in the same line, in strerror's words; a file system that
# hiccups does not ("Stale file handle", "Input/output error"), nor does a reason that is not told (sbatch)
UNREADABLE = r"[^\n]*\b(?:no such file|permission denied|is a directory|not a directory)"
# Limits of one job, beside those that count jobs: (slurm) QOSMaxWallDurationPerJobLimit, AssocMaxCpuPerJobLimit, ...
OF_ONE_JOB = r"\b(?:QOS|Assoc)(?:Max\w*PerJob(?:Limit)?|Max\w*PerNode(?:Limit)?|Min\w*)\b"

FINAL = _any(
    OF_ONE_JOB,
    # Any scheduler: something that is asked for is wrong
    r"\b(?:invalid|illegal|unknown|unrecogni[sz]ed|no such|nonexistent|non-existent|undefined|unsupported)\W+"
    r"(?:\w+\W+){0,2}"
    r"(?:option|account|project|allocation|queue|partition|reservation|qos|wckey|walltime|directive|feature|gres|tres|"
    r"constraint|filesystem|attribute|resource|license|node count|time limit)s?\b",
    r"\b(?:account|project|allocation|queue|partition|reservation)\b(?:(?!database)[^.;\n]){0,60}"
    r"\b(?:does not exist|is not valid|is invalid|not found|has expired|is expired)\b",
    r"\bno (?:active |valid )?(?:allocation|account|project)\b",
    r"\bnot (?:allowed|permitted|authori[sz]ed) to (?:submit|use|charge|run)\b",
    r"\bis required to be set\b",
    # Slurm
    r"no partition specified or system default",
    r"access/permission denied",
    r"group not permitted to use this partition",
    r"requested nodes not in this partition",
    r"more processors requested than permitted",
    r"node count specification invalid",
    r"cpu count specification invalid",
    r"task count specification invalid",
    r"task distribution specification invalid",
    r"job size specification needs to be provided",
    r"job script not specified",
    r"pathname of a file, directory or other parameter too long",
    # passes on clusters whose nodes come and go, but a wrong number of nodes is far more common, and must not wait
    r"requested node configuration is not available",
    r"invalid node name",
    r"memory required by task is not available",
    r"(?:requested time limit|requested reservation) is invalid",
    r"access denied to requested reservation",
    r"invalid time specified",
    r"requires more ports than can be reserved",
    r"cannot be submitted without the current working directory",
    r"job dependency problem|circular job dependency",
    r"invalid job array specification",
    r"burst buffer (?:permission denied|request invalid)",
    r"invalid mcs_label",
    r"duplicate generic resource|invalid generic resource|invalid trackable resource",
    r"job --batch option is invalid",
    r"x11 forwarding not available",
    r"multiple knl numa",
    r"requested gres option unsupported",
    r"invalid --nice value|invalid time-min specification",
    r"environment is missing in job",
    r"multiple partition job request not supported",
    r"invalid preferred feature|invalid container id|invalid extra constraints",
    r"cannot request more threads per core",
    r"time limit specification required",
    r"requested operation not supported on this system",
    # sbatch itself
    r"(?:invalid|unrecogni[sz]ed|unknown) option|option '?-\S+ (?:requires an argument|is ambiguous|doesn't allow)",
    r"invalid (?:number of|--\S+ specification|numeric value|directive)",
    r"unable to open file\b" + UNREADABLE,
    r"does not look like a batch script|batch script (?:is empty|contains)|scripts that contain a null",
    r"cannot specify both|not permitted with",
    r"--\S+ is not valid",
    # PBS
    r"cannot set attribute, read only or insufficient permission",
    r"unauthorized request",  # of a queue's lists of users and groups; authentication says "Invalid credential"
    r"illegal attribute or resource value|attribute value is out of range",
    r"access to queue is denied",
    r"job (?:violates|exceeds) queue (?:and/or server )?resource limits",
    r"resource limit exceeds allowable",
    r"no default queue specified",
    r"job rejected by all possible destinations",  # what passes, PBS's own routing tries again
    r"invalid job dependency|duplicate entry in list|duplicated resource",
    r"name is too long|queue name too long",
    r"mutually exclusive values",
    r"array job exceeds server or queue size limit",
    r"resource invalid in \"?select|cannot be used with \"?select|cannot have \"place\" without",
    r"cannot have \"max_walltime\"|\"min_walltime\" (?:can not|and)",
    r"bad time specification|node\(s\) specification error",
    r"unknown reservation|too late for reservation",
    r"jobscript (?:max )?size exceed",
    r"unknown node\b",
    r"illegal -\w+ value|illegally formed|directive error|script not a file|\bunmatched ['\"]",
    r"script file:" + UNREADABLE,
    r"^\s*usage:",
    # Cobalt
    r"walltime (?:greater|less) than the",
    r"walltime or node count is (?:greater|less)",
    r"job requested \d+ nodes",
    r"not valid must be one of|mode '?\S+ (?:is not supported|not valid)",
    r"'\w+' not provided|no required options provided|no executable or script specified",
    r"command .* (?:not found, or is not a file|is not executable)",
    r"(?:file|directory|dir) \S+ (?:not found, or|does not exist|is not a directory)",
    r"invalid time specification|node count out of realistic range|non-positive or non-integer",
    r"improperly formatted|invalid umask|invalid geometry|no such option",
)

# Beside these words, in the same line, nothing is final: "You are not allowed to submit jobs during maintenance".
FOR_A_WHILE = re.compile(r"\b(?:maintenance|until|at this time|at the moment|currently|temporar\w+)\b", re.IGNORECASE)
NAME = re.compile(r"(['\"])[\w.-]+\1")  # a queue may well be called 'maintenance'

LIMIT = _any(
    # Slurm: (QOS|Assoc)(Grp|Max)..., MaxJobCount, and the sentence that stands for all of them
    r"\b(?:QOS|Assoc)(?:Grp|Max)\w+",
    r"\bMax(?:Submit)?Jobs?(?:Count|PerUser|PerAccount)?\b",
    r"violates accounting/qos policy",
    r"job queue full",
    r"burst buffer resource limit exceeded",
    # PBS
    r"maximum number of jobs\b.{0,80}\balready in",
    r"would exceed .{0,80}\blimit\b",
    r"exceeds the (?:queue|server|user)\S* (?:job )?limit",  # TORQUE
    # Cobalt
    r"limit of \S+ (?:jobs|node hours)\b",
    r"max(?:imum)? ?user ?jobs|max total running jobs",
    # hooks and filters of sites
    r"too many (?:\w+ ){0,2}jobs",
    r"(?:maximum|max\.?|limit)\w*(?: number)? of (?:\d+ )?(?:\w+ ){0,2}jobs?\b",
    r"\bjobs? (?:submit|submission|count) limit",
)

# Nothing else in such an answer counts: there was nobody to judge the job.
AWAY = _any(
    r"(?:cannot|could not|failed to|unable to|can't) (?:connect|contact|reach|find an address|takeover)",
    r"communication (?:connection |shutdown )?failure|connect(?:ion)? failure",
    r"connection (?:closed|refused|reset|rejected|forced closed|timed out|table full)",
    r"bad gateway|broken pipe|service unavailable",
    r"network is unreachable|no route to host|name or service not known|temporary failure in name resolution",
    r"no free connections",
    r"in standby mode|shutting down",
    r"timed out|time-out",
    r"zero bytes were transmitted|end of (?:file|message)",
)

DISTURBANCE = _any(
    r"authentication|munge|credential",
    r"component error|xmlrpc failure",
    r"database|something internally wrong",
    r"header lengths are longer|insane message length|unexpected message received",
    r"message (?:send|receive) failure|missing socket|unable to process (?:incoming|outgoing)|would block",
    r"i/o error|no space left|disk quota|out of memory|cannot allocate memory",
    r"internal (?:server )?error|internal reservation-system error|system error",
    r"protocol error|stream version number",
    r"rate limit exceeded",
    r"(?:requested nodes are|resource|node is) busy|resource temporarily unavailable|required ports are in use",
    r"temporarily (?:unavailable|unable|disabled)",
    r"failed to save job",
    r"try again|retry(?:ing)?\b",
)

OF_ALL_QUEUES = _any(r"\bcomplex\b", r"MaxJobCount", r"\bAssoc\w+", r"job queue full")
OF_WAITING_JOBS = re.compile(r"in 'Q' state", re.IGNORECASE)  # (pbs) running ones do not count


def classify(program: str, text: str) -> Kind:
    """The kind of a refusal by all that the command said.

    What comes before the command's own first line ("qsub: ...") is of the shell or the site, and is not looked at.
    """
    lines = text.splitlines()
    own = next((i for i, line in enumerate(lines) if line.lstrip().startswith(f"{program}: ")), 0)
    said = "\n".join(lines[own:])
    lasting = "\n".join("" if FOR_A_WHILE.search(NAME.sub("", line)) else line for line in lines[own:])
    kinds = (
        (Kind.DISTURBANCE, AWAY, said), (Kind.FINAL, FINAL, lasting), (Kind.LIMIT, LIMIT, said),
        (Kind.DISTURBANCE, DISTURBANCE, said),
    )  # fmt: skip
    return next((kind for kind, words, where in kinds if words.search(where)), Kind.UNKNOWN)


def passes(text: str) -> bool:
    """Whether an answer, to whatever was asked, says that the scheduler is away or confused."""
    return any(words.search(text) for words in (AWAY, DISTURBANCE))
