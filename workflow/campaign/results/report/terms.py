"""What the page's words mean: shown where a word is pointed at or reached by keyboard, and listed at the end."""

from __future__ import annotations

TERMS = {
    "N": "The number of nodes. The batch size is per rank and stays fixed as N grows. The paper calls its scaling "
    "weak; "
    "with a fixed number of epochs the total work is fixed, so it is strong scaling in total work.",
    "steady throughput": "Samples divided by seconds after the warm-up steps, within one attempt. A step lasts from "
    "its "
    "start to the next one's, and as long as its slowest rank; evaluations and checkpoints are in none.",
    "the paper's throughput": "The mean over all steps, warm-up included, of samples divided by rank 0's step time.",
    "scaling efficiency": "T1 / (N TN) against the same cell on one node. T is the time of an epoch from steady "
    "throughput (the headline) or the whole run with its start-up (the paper's), the latter only where both sides "
    "completed the same epochs. Without a baseline there is no value.",
    "error bars": "The standard deviation over steady steps, as in the paper, whose bars also contain start-up steps.",
    "interval": "95% over repeats: with fewer than 6 repeats a t-interval on the logarithm and every repeat is drawn; "
    "otherwise that of the median by order statistics. docs/intervals.md has their coverage by simulation. Ratios and "
    "efficiencies pair repeats that ran side by side.",
    "OK": "Nothing is known against the cell.",
    "WARN": "Counted and marked: step times vary, warm-up not settled, resumed, uncommitted changes, degenerate "
    "posterior, or more than a stated share of the CPUs taken by other programs, the hypervisor or a quota, memory "
    "short, "
    "processors slowed down for heat.",
    "INVALID": "Marked and never counted: unequal steps, non-finite loss, mixed hardware, a missing rank, records of "
    "other settings.",
    "MISSING": "Planned, not finished.",
    "published": "What the paper prints. It stands in columns of its own and in no series. Its training accuracy was a "
    "running mean since step 1 of one noisy draw per batch.",
    "efficiencies": "Of the POP project, of steady steps: load balance x communication efficiency = parallel "
    "efficiency; "
    "x computation scaling against the same cell on one node = global efficiency.",
    "claim": "Judged by where the 95% interval of what was measured here lies: within what is printed, its rounding "
    "and "
    "the claim's margin (agrees; a claim of other hardware holds here), beyond it (differs, does not hold here), or "
    "across "
    "an edge (undecided). Numbers are on the paper's scale.",
    "not tested": "Nothing was measured here that could judge the claim.",
}
