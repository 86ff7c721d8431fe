# One job per benchmark: the rendered script, which takes the site's measuring lock as a training job does, so that
# nothing is measured beside it. The peers' environment is set up by the job when it is needed.
BENCH_RECORD = str(LAYOUT.bench("{model}", "{batch}"))


rule bench:
    input:
        job=ancient(bench_script),
    output:
        BENCH_RECORD,
    log:
        LAYOUT.log("bench/{model}_b{batch}"),
    wildcard_constraints:
        batch=r"\d+",
    threads: workflow.cores
    resources:
        exclusive=1,
    params:
        fingerprint=bench_fingerprint,
    shell:
        "bash {input.job:q} 2>&1 | tee {log:q}"


# Of what has been measured; no target but peer_comparison measures anything for it.
rule bench_tables:
    input:
        benchmarks,
        plan=LAYOUT.plan,
    output:
        table_files(BENCH_TABLES),
    log:
        LAYOUT.log("bench_tables"),
    localrule: True
    params:
        results=LAYOUT.results,
        source=sources.of_tables(),
        measuring=measuring_lock,
    script:
        "../scripts/tables.py"
