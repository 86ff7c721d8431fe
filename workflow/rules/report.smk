# One self-contained page for people, and the pages to which it leads.
rule report:
    input:
        tables=table_files(OF_REPORT),
        figures=[LAYOUT.figure(name, "svg") for name in AVAILABLE],
    output:
        html=LAYOUT.report,
        pages=directory(LAYOUT.report_pages),
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
