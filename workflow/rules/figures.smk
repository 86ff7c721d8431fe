# One rule per figure, each with the tables that it reads.
for name in AVAILABLE:

    rule:
        name:
            catalogue.FIGURES[name].rule
        input:
            tables=table_files(catalogue.FIGURES[name].tables),
            others=ancient(other_files(name)),
        output:
            svg=report(
                LAYOUT.figure(name, "svg"),
                caption=f"../report/{name}.rst",
                category=catalogue.FIGURES[name].category,
                labels={"figure": name, "shows": catalogue.FIGURES[name].title, "format": "SVG"},
            ),
            png=LAYOUT.figure(name, "png"),
        log:
            LAYOUT.log(name),
        localrule: True
        params:
            figure=name,
            plan=LAYOUT.plan,
            asked=DRIVER.digest,
            others=other_contents(name),
            source=sources.of_figure(name),
            measuring=measuring_lock,
        script:
            "../scripts/draw.py"
