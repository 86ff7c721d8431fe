# Tables of the predictions from trained posteriors.
rule inference_tables:
    input:
        inferred,
    output:
        table_files(INFERENCE_TABLES),
    log:
        LAYOUT.log("inference_tables"),
    localrule: True
    conda:
        ENVIRONMENT
    params:
        results=LAYOUT.results,
        plan=LAYOUT.plan,
        asked=DRIVER.digest,
    script:
        "../scripts/tables.py"
