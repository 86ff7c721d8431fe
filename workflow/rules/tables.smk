# Tidy tables from the records of all cells: everything that is drawn or reported is computed from these.
rule tables:
    input:
        measured,
    output:
        table_files(CELL_TABLES),
    log:
        LAYOUT.log("tables"),
    localrule: True
    conda:
        ENVIRONMENT
    params:
        results=LAYOUT.results,
        plan=LAYOUT.plan,
        asked=DRIVER.digest,
    script:
        "../scripts/tables.py"
