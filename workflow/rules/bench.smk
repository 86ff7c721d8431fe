# Of what has been measured; no target but peer_comparison measures anything for it.
rule bench_tables:
    input:
        benchmarks,
    output:
        table_files(BENCH_TABLES),
    log:
        LAYOUT.log("bench_tables"),
    localrule: True
    params:
        results=LAYOUT.results,
        plan=LAYOUT.plan,
        asked=DRIVER.digest,
        source=sources.of_tables(),
        measuring=measuring_lock,
    script:
        "../scripts/tables.py"
