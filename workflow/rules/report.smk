# One self-contained page for people.
rule report:
    input:
        tables=table_files(OF_REPORT),
        figures=[LAYOUT.figure(name, "svg") for name in AVAILABLE],
    output:
        html=LAYOUT.report,
    log:
        LAYOUT.log("report"),
    localrule: True
    params:
        plan=LAYOUT.plan,
        asked=DRIVER.digest,
        source=sources.of_report(),
        measuring=measuring_lock,
    script:
        "../scripts/report.py"
