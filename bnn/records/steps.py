"""steps.parquet: one row per optimizer step and rank."""

from bnn.records.columns import Column, TableSchema

STEPS = TableSchema(
    name="steps",
    version=3,  # 1: `seconds` ended with the parameter update; 2: waiting was not split, a step's end not dated
    oldest=1,
    columns=(
        Column("attempt", "int32", "", "attempt of the job that made this row, from 1"),
        Column("step", "int64", "", "optimizer step since the start of training, from 0"),
        Column("epoch", "int32", "", "epoch this step belongs to, from 0"),
        Column("phase", "string", "", "warmup or steady (the first steps of every attempt are warm-up)"),
        Column("engine", "string", "", "what reduced the gradients: horovod, torch or single"),
        Column("implementation", "string", "", "what ran: bnn-<estimator> (-torch: no kernels) or CNN baseline"),
        Column("rank", "int32", "", "rank that measured this row"),
        Column("ranks", "int32", "", "number of ranks"),
        Column("started_at", "float64", "s", "start of the step on this rank's clock, seconds since 1970"),
        Column(
            "ended_at", "float64", "s", "its end on this rank's clock, seconds since 1970; null: not measured (GPU)"
        ),
        Column("samples", "int64", "samples", "training examples this rank processed in the step"),
        Column("seconds", "float64", "s", "wall time on this rank from the start of the step to that of the next"),
        Column("seconds_data", "float64", "s", "of these: fetching the batch"),
        Column("seconds_forward", "float64", "s", "of these: noise, forward pass and loss"),
        Column("seconds_backward", "float64", "s", "of these: backward pass (overlaps the gradient exchange)"),
        Column("seconds_exchange", "float64", "s", "of these: waiting for gradients after the backward pass"),
        Column("seconds_late", "float64", "s", "of waiting: until the last rank had all gradients; null: not measured"),
        Column(
            "seconds_reduction", "float64", "s", "of waiting: from then until averages were there; null: not measured"
        ),
        Column("seconds_negotiation", "float64", "s", "of the reduction: ranks agreed on it; null: not measured"),
        Column("seconds_transfer", "float64", "s", "of the reduction: gradients travelled; null: not measured"),
        Column(
            "seconds_hidden", "float64", "s", "gradients travelled while the backward pass went on; null: not measured"
        ),
        Column("late_rank", "int32", "", "rank whose last gradients came last of all; null: not measured"),
        Column("seconds_optimizer", "float64", "s", "of `seconds`: the parameter update"),
        Column(
            "seconds_between",
            "float64",
            "s",
            "of `seconds`: the rest, until the next step; null: not counted (version 1)",
        ),
        Column("seconds_injected", "float64", "s", "of `seconds`: what an experiment made this rank lose on purpose"),
        Column("loss", "float64", "nats", "mean negative log likelihood + beta * KL / N on this rank's batch"),
        Column("nll", "float64", "nats", "mean negative log likelihood of this rank's batch, one draw"),
        Column("kl", "float64", "nats", "KL(posterior || prior), summed over all weights; 0 for a CNN"),
        Column("beta", "float64", "", "weight of the KL term in this step"),
        Column("accuracy", "float64", "fraction", "training accuracy on this rank's batch, one draw"),
        Column("accuracy_running", "float64", "fraction", "mean of `accuracy` since step 0, never reset (the paper's)"),
    ),
)
