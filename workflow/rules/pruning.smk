# Tables of pruning, level by level.
rule pruning_tables:
    input:
        pruned,
    output:
        table_files(PRUNING_TABLES),
    log:
        LAYOUT.log("pruning_tables"),
    localrule: True
    params:
        results=LAYOUT.results,
        plan=LAYOUT.plan,
        asked=DRIVER.digest,
        source=sources.of_tables(),
        measuring=measuring_lock,
    script:
        "../scripts/tables.py"
