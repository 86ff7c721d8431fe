# Data sets: downloaded, generated or found where they were staged, once, before any job that reads them.
rule data:
    output:
        LAYOUT.root / "data" / "{key}.json",
    log:
        LAYOUT.log("data-{key}"),
    localrule: True
    params:
        name=data_name,
        options=data_options,
        folder=data_folder,
        sharing=sharing_words,
    shell:
        "{params.sharing:q} bnn data prepare {params.name:q} --options {params.options:q} --data-dir {params.folder:q}"
        " --record {output:q} > {log:q} 2>&1"
