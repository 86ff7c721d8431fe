# Pruning of a trained posterior, level by level: one job per posterior and sweep.
PRUNING_FOLDER = str(
    LAYOUT.root / "prune/{dataset}/{model}/{kind}/nodes={nodes}/batch={batch}/variant={variant}/repeat={repeat}/{sweep}"
)


rule prune:
    input:
        job=after_script("prune"),
        trained=after_trained,
        data=ancient(job_data),
    output:
        f"{PRUNING_FOLDER}/{PRUNING_SUMMARY}",
    log:
        LAYOUT.log("prune/{dataset}_{model}_{kind}_n{nodes}_b{batch}_{variant}_r{repeat}_{sweep}"),
    wildcard_constraints:
        kind="bnn",
        nodes=r"\d+",
        batch=r"\d+",
        repeat=r"\d+",
        sweep="[a-z-]+",
    threads: workflow.cores
    resources:
        exclusive=1,
    params:
        fingerprint=after_fingerprint("prune"),
    shell:
        "bash {input.job:q} 2>&1 | tee {log:q}"


rule pruning_tables:
    input:
        pruned,
        plan=LAYOUT.plan,
    output:
        table_files(PRUNING_TABLES),
    log:
        LAYOUT.log("pruning_tables"),
    localrule: True
    params:
        results=LAYOUT.results,
        source=sources.of_tables(),
        measuring=measuring_lock,
    script:
        "../scripts/tables.py"
