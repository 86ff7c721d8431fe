# One self-contained page for people.
rule report:
    input:
        plan=LAYOUT.plan,
        tables=table_files(TABLES),
        figures=[LAYOUT.figure(name, "svg") for name in AVAILABLE],
    output:
        html=LAYOUT.report,
    log:
        LAYOUT.log("report"),
    localrule: True
    params:
        source=sources.of_report(),
        measuring=measuring_lock,
    script:
        "../scripts/report.py"
