"""Emulated schedulers that really run job scripts: Cobalt, PBS Pro and Slurm, with faults on demand.

How it works
    `control.Emulator(kind, folder)` writes `folder/bin` with the commands of one kind (`qsub`, `qstat`, `qdel` and
    `aprun`, or `qselect` and `mpiexec`; `sbatch`, `squeue`, `scontrol`, `scancel`). `.env()` puts that folder first on
    PATH. The commands keep the state in files below EMULATOR_HOME: `jobs/<number>.json` of live jobs, `done/` of the
    history, `requests/` of deletions, `settings.json`, `events.jsonl`. One process per EMULATOR_HOME, `server.py`,
    starts, watches and ends the jobs: the first submission starts it, and it ends by itself once no job is left.

Files
    core.py       state, settings and faults, submission; what all commands share
    server.py     the server: slots, start, walltime, deletion, faults of running jobs
    processes.py  which processes belong to a job, and how they are ended
    cobalt.py, pbs.py, slurm.py   each kind's commands, job environment, files and words
    pbs_record.py what PBS keeps of a job
    foreign.py    other users' records in PBS's listings
    launchers.py  aprun (Cray) and mpiexec (PALS): check the options, start ranks by MPICH's own mpiexec
    control.py    for tests: Emulator(kind, folder)

Settings (`Emulator.set(...)`, read at each command and at each step of the server)
    nodes               nodes of the emulated machine (8)
    queues              {name: {"max_walltime_s": seconds, "max_nodes": nodes}}
    accounts            names that may be charged, or null for all
    time_scale          real seconds per second of walltime (1.0); smaller to see a walltime end soon
    grace_s             seconds between SIGTERM and SIGKILL (1.0)
    starting_s, exiting_s   how long a job is seen as starting (0) and exiting (0.05)
    history             whether PBS and Slurm remember ended jobs (true)
    requeue             whether PBS and Slurm queue a job again whose node died (false), under its old id
    empty_table         whether Cobalt's qstat prints its header when it has no job to show (true)
    notice              a line that a site's submission filter prints before the id (Cobalt)
    foreign             live jobs of other users in unrestricted listings (0)
    foreign_records     texts of other users' records in PBS's unrestricted JSON, as they are (none; see foreign.NASTY)
    max_jobs            jobs that a user may have in a queue, a number or {queue: number} (any)
    max_waiting         the same of jobs that do not run yet
    walltime_status     Exit_status of PBS jobs that exceed their walltime: -29, or null for 256 + the signal (null)
    login_shell         what runs PBS scripts without -S (/bin/bash)
    cluster, clusters   Slurm: where jobs without --clusters go ("local"), and the others

Faults
    down                true: commands fail as without a server; a number: they hang so many seconds first
    slow                seconds that every command takes longer
    down_until          the same until this time (seconds since 1970)
    down_commands       only these commands are down
    refuse              submission is refused with this text
    disturb             {"rate", "texts", "taken", "seed"}: submissions fail with one of the texts at this rate; this
                        share of them queues the job all the same
    submit_lost         N: the next N submissions queue the job and then fail with a time-out
    slow_qsub           seconds between queueing the job and printing its id
    flap, flap_seed     probability that a listing leaves out a live job
    queue_delay         seconds that a job stays queued at least
    hold                true or a list of names: jobs are held; released when it is taken back
    vanish              the job ends, leaves no verdict and is unknown; its processes are killed
    node_fail           a node of the job dies
    kill_signal         the job's processes receive a signal (9)
    oom                 the kernel's memory killer ends the job's processes
    launch_fail         the job ends before the first line of its script
    The last five take N (the next N jobs), a list of job names (each used once), or a dictionary with "count" or
    "jobs", "after" (seconds since the start, 0) and "signal".
"""
