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
    conda:
        ENVIRONMENT
    params:
        results=LAYOUT.results,
    script:
        "../scripts/tables.py"
