# Methods side by side: costs from the cells, what they buy from the predictions.
rule methods_table:
    input:
        measured,
        inferred,
    output:
        table_files(METHOD_TABLES),
    log:
        LAYOUT.log("methods_table"),
    localrule: True
    params:
        results=LAYOUT.results,
        plan=LAYOUT.plan,
        asked=DRIVER.digest,
        source=sources.of_tables(),
        measuring=measuring_lock,
    script:
        "../scripts/tables.py"
