# Predictions of a trained posterior by Monte-Carlo draws: one job per posterior, of which the script is rendered.
INFERENCE_FOLDER = str(
    LAYOUT.root / "infer/{dataset}/{model}/{kind}/nodes={nodes}/batch={batch}/variant={variant}/repeat={repeat}"
)


rule infer:
    input:
        job=after_script("infer"),
        trained=after_trained,
        data=ancient(job_data),
    output:
        f"{INFERENCE_FOLDER}/{INFERENCE}",
    log:
        LAYOUT.log("infer/{dataset}_{model}_{kind}_n{nodes}_b{batch}_{variant}_r{repeat}"),
    wildcard_constraints:
        kind="bnn",
        nodes=r"\d+",
        batch=r"\d+",
        repeat=r"\d+",
    threads: workflow.cores
    resources:
        exclusive=1,
    params:
        fingerprint=after_fingerprint("infer"),
    shell:
        "bash {input.job:q} 2>&1 | tee {log:q}"


rule inference_tables:
    input:
        inferred,
        plan=LAYOUT.plan,
    output:
        table_files(INFERENCE_TABLES),
    log:
        LAYOUT.log("inference_tables"),
    localrule: True
    params:
        results=LAYOUT.results,
        source=sources.of_tables(),
        measuring=measuring_lock,
    script:
        "../scripts/tables.py"
