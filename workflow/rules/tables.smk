# Tidy tables from the records of all cells: everything that is drawn or reported is computed from these.
rule tables:
    input:
        measured,
    output:
        table_files(CELL_TABLES),
    log:
        LAYOUT.log("tables"),
    localrule: True
    params:
        results=LAYOUT.results,
        plan=LAYOUT.plan,
        asked=DRIVER.digest,
        source=sources.of_tables(),
        measuring=measuring_lock,
    script:
        "../scripts/tables.py"
