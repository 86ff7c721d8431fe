# Tables of the predictions from trained posteriors.
rule inference_tables:
    input:
        inferred,
    output:
        table_files(INFERENCE_TABLES),
    log:
        LAYOUT.log("inference_tables"),
    localrule: True
    params:
        results=LAYOUT.results,
        plan=LAYOUT.plan,
        asked=DRIVER.digest,
        source=sources.of_tables(),
        measuring=measuring_lock,
    script:
        "../scripts/tables.py"
