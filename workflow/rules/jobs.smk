# Records that were asked for by name and are as the plan asks: left as they are.
if NAMED:

    rule as_planned:
        output:
            update(NAMED),
        localrule: True
        shell:
            ":"


# The jobs: a rule for each kind, which runs the scripts of those that have no record as the plan asks (a record that is
# so is a file that no rule makes, see campaign.run.targets). Only the record is declared: what else a job keeps (log,
# checkpoints) is never deleted by Snakemake. Scripts are written when jobs start, hence no inputs of theirs.
for kind in KINDS:

    rule:
        name:
            kind.rule()
        input:
            unpack(job_inputs(kind)),
        output:
            WANTED.pattern(kind),
        log:
            LAYOUT.log(kind.LOG),
        resources:
            batch_script=of_job(kind, lambda job: str(job.script(LAYOUT))),
            batch_digest=of_job(kind, DRIVER.script_digest),
            batch_order=of_job(kind, lambda job: DRIVER.order[job.name]),
            nodes=of_job(kind, lambda job: job.placement.machines),
            tasks=of_job(kind, lambda job: job.placement.ranks),
            runtime=of_job(kind, lambda job: job.allocation.minutes if job.allocation else None),
        params:
            fingerprint=of_job(kind, lambda job: job.fingerprint),
        shell:
            "bash {resources.batch_script:q} 2>&1 | tee {log:q}"
