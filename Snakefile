# Snakemake runs the campaign: snakemake --profile profiles/<site> [TARGET] [--config campaign=FILE results=FOLDER]
from snakemake.utils import min_version

min_version("9.27")


report: "workflow/report/workflow.rst"


include: "workflow/rules/common.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/jobs.smk"
include: "workflow/rules/inference.smk"
include: "workflow/rules/methods.smk"
include: "workflow/rules/tuning.smk"
include: "workflow/rules/pruning.smk"
include: "workflow/rules/bench.smk"
include: "workflow/rules/tables.smk"
include: "workflow/rules/figures.smk"
include: "workflow/rules/report.smk"


# Every figure that this site can have, and the report.
rule all_figures:
    default_target: True
    input:
        measured,  # so that a cell whose folder was deleted runs again
        inferred,
        pruned,
        figure_files(AVAILABLE),
        LAYOUT.table("claims"),
        LAYOUT.report,
    localrule: True


# Throughput, scaling, time to accuracy and large batches, over the nodes of a CPU site.
rule cpu_scaling:
    input:
        measured,
        figure_files(SCALING),
    localrule: True


# The same over GPUs.
rule gpu_scaling:
    input:
        gpu_figures,
    localrule: True


# Training steps of our implementations and the peers, side by side; and the report of what has been measured so far.
rule peer_comparison:
    input:
        benchmarks,
        compared,
    localrule: True


# Pruning at the paper's full size, where a site has no time for it in all_figures; goes on where it was stopped.
rule pruning_full:
    input:
        full_pruning,
    localrule: True


# What each method costs and buys, measured side by side; goes on where it was stopped.
rule methods:
    input:
        methods_compared,
    localrule: True


# Training time to an accuracy as in figure 3c, on photographs; goes on where it was stopped.
rule time_to_accuracy:
    input:
        timed_to_accuracy,
    localrule: True


# Every combination of the settings that the campaign tries; goes on where it was stopped.
rule tuning:
    input:
        tuned,
    localrule: True


# Cells, node-hours and scripts; runs nothing.
rule plan:
    log:
        LAYOUT.log("plan"),
    localrule: True
    params:
        profile=DRIVER.campaign.site.origin,
        campaign=DRIVER.campaign.origin,
        results=LAYOUT.results,
    shell:
        "campaign plan --profile {params.profile:q} --campaign {params.campaign:q} --results {params.results:q}"
        " | tee {log:q}"


onstart:
    start_driver()


onsuccess:
    announce_report()


onerror:
    print(f"failed cells are named above; what has been measured so far: snakemake --profile {PROFILE} report")
