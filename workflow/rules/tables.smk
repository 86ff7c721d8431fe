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


# What these cells come to on networks that they did not run on: projected, and apart from all that was measured.
rule projected:
    input:
        measured,
        ledger=LEDGER,
    output:
        table_files(PROJECTION_TABLES),
    log:
        LAYOUT.log("projected"),
    localrule: True
    params:
        results=LAYOUT.results,
        plan=LAYOUT.plan,
        asked=DRIVER.digest,
        source=sources.of_projection(),
        measuring=measuring_lock,
    script:
        "../scripts/projection.py"


# What the paper claims, each claim judged by these tables.
rule claims:
    input:
        tables=table_files(CLAIMED),
        others=ancient(other_tables(CLAIMED)),
        ledger=LEDGER,
    output:
        LAYOUT.table("claims"),
    log:
        LAYOUT.log("claims"),
    localrule: True
    params:
        source=sources.of_claims(),
        others=[other.fingerprint for other in OTHERS],
        measuring=measuring_lock,
    script:
        "../scripts/claims.py"
