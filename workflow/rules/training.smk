# One job per cell: the rendered script, which takes locks, starts the ranks and judges by the summary. Only the
# summary is declared: what else a run keeps (log, checkpoints) is never deleted by Snakemake.
TRAINING_FOLDER = str(
    LAYOUT.root / "cells/{dataset}/{model}/{kind}/nodes={nodes}/batch={batch}/variant={variant}/repeat={repeat}"
)


rule train:
    input:
        job=ancient(job_script),
        settings=job_settings,
        data=ancient(job_data),
    output:
        f"{TRAINING_FOLDER}/{SUMMARY}",
    log:
        LAYOUT.log("train/{dataset}_{model}_{kind}_n{nodes}_b{batch}_{variant}_r{repeat}"),
    wildcard_constraints:
        kind="bnn|cnn",
        nodes=r"\d+",
        batch=r"\d+",
        repeat=r"\d+",
    priority: job_priority
    threads: workflow.cores
    resources:
        exclusive=1,
    params:
        fingerprint=job_fingerprint,
    shell:
        "bash {input.job:q} 2>&1 | tee {log:q}"
