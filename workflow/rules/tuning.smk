# Settings that were tried, each combination against the stated one.
rule tuning_table:
    input:
        measured,
    output:
        table_files(TUNING_TABLES),
    log:
        LAYOUT.log("tuning_table"),
    localrule: True
    params:
        results=LAYOUT.results,
        plan=LAYOUT.plan,
        asked=DRIVER.digest,
        source=sources.of_tables(),
        measuring=measuring_lock,
    script:
        "../scripts/tables.py"
