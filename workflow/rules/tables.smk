# Tidy tables from the records of all cells: everything that is drawn or reported is computed from these.
rule tables:
    input:
        measured,
        plan=LAYOUT.plan,
    output:
        table_files(CELL_TABLES),
    log:
        LAYOUT.log("tables"),
    localrule: True
    params:
        results=LAYOUT.results,
        source=sources.of_tables(),
        measuring=measuring_lock,
    script:
        "../scripts/tables.py"
