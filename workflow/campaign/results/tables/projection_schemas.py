"""Tables of what was projected, never measured: steps at numbers of nodes that were not run, and what follows."""

from __future__ import annotations

from bnn.records.columns import Column, TableSchema

# What a step loses on its way from the smallest scale: column of its seconds, and in words.
LOSSES = {
    "inflation": "compute inflation (caches, memory bandwidth, shared cores)",
    "straggler": "waiting for the late rank",
    "negotiation": "negotiation and cycle time",
    "latency": "latency of messages",
    "bandwidth": "bandwidth of links",
}
FAMILY = (
    Column("site", "string", "", "site of the cells that it starts from"),
    Column("dataset", "string", "", "data set"),
    Column("model", "string", "", "network"),
    Column("kind", "string", "", "bnn or cnn"),
    Column("batch_size", "int64", "samples", "training examples per rank and step"),
    Column("variant", "string", "", "named variant of the settings"),
    Column("implementation", "string", "", "bnn-<estimator> or the CNN baseline's name"),
)
SOURCE = Column("source", "string", "", "'projected:' and what it rests on, a fabric's facts or a measured curve")
ASSUMED = Column("assumed", "string", "", "what was assumed or left out, separated by '; '")

EFFICIENCY_PROJECTION = TableSchema(
    name="efficiency_projection",
    version=1,
    columns=(
        *FAMILY,
        Column("nodes", "int64", "nodes", "number of nodes that this is projected to"),
        Column("ranks", "int64", "ranks", "ranks of all nodes, as many per node as were measured"),
        SOURCE,
        Column("step_seconds", "float64", "s", "wall time of a step (median); empty where it is refused"),
        Column("low", "float64", "s", "lower end of its 95% prediction interval; empty where none can be estimated"),
        Column("high", "float64", "s", "upper end of its 95% prediction interval; empty where none can be estimated"),
        Column("model_seconds", "float64", "s", "the same by the model alone: the sum of its parts below"),
        Column("range_low", "float64", "s", "by the model, at the best ends of what is assumed: no interval"),
        Column("range_high", "float64", "s", "by the model, at the worst ends of what is assumed: no interval"),
        Column("throughput", "float64", "samples/s", "training examples of all ranks / step_seconds"),
        Column("efficiency", "float64", "", "T1/(N TN) to the smallest measured scale, by step_seconds"),
        Column("efficiency_low", "float64", "", "lower end of its 95% prediction interval"),
        Column("efficiency_high", "float64", "", "upper end of its 95% prediction interval"),
        Column("work", "float64", "s per step", "part: input, passes, update and between steps at the smallest scale"),
        *(Column(name, "float64", "s per step", f"part: {words}") for name, words in LOSSES.items()),
        Column("hidden", "float64", "s per step", "messages behind the backward pass: beside the parts, never lost"),
        Column("limit", "string", "", f"the largest loss: one of {', '.join(LOSSES)}; empty where nothing is lost"),
        Column("verdict", "string", "", "'inside the model', or why it is not (docs/projection.md)"),
        ASSUMED,
    ),
)
PROJECTION_LIMITS = TableSchema(
    name="projection_limits",
    version=1,
    columns=(
        *FAMILY,
        SOURCE,
        Column("target_efficiency", "float64", "", "efficiency that is asked for, to the smallest measured scale"),
        Column("change", "string", "", "what would be done about the limit; empty: nothing, as it was measured"),
        Column("nodes", "int64", "nodes", "the most nodes that meet the target, by the model; empty: not known"),
        Column("at_least", "bool", "", "whether no more nodes were asked for: the limit is beyond"),
        Column("worst_nodes", "int64", "nodes", "the same at the worst ends of what is assumed; empty: not known"),
        Column("best_nodes", "int64", "nodes", "the same at the best ends of what is assumed; empty: not known"),
        Column("efficiency", "float64", "", "at the limit"),
        Column("limit", "string", "", f"the largest loss one node beyond it: one of {', '.join(LOSSES)}; empty: none"),
        Column("reason", "string", "", "why there is no limit, or what ends the projection there"),
    ),
)
PROJECTION_CLAIMS = TableSchema(
    name="projection_claims",
    version=2,
    columns=(
        Column("id", "string", "", "claim of the ledger that prints the number"),
        Column("statement", "string", "", "the claim in our words"),
        Column("scale", "string", "", "scale on which the number is printed, and the projected ones stand here"),
        Column("unit", "string", "", "unit of these numbers on that scale; empty: a bare number"),
        Column("paper", "float64", "scale", "the printed number"),
        *FAMILY,
        Column("nodes", "int64", "nodes", "number of nodes that the claim is of"),
        Column("claim_batch_size", "int64", "samples", "batch size that the claim is of; passes in proportion to it"),
        SOURCE,
        Column("projected", "float64", "scale", "by the model, from cells of this site; empty: see the reason"),
        Column("range_low", "float64", "scale", "at the best or the worst ends of what is assumed: no interval"),
        Column("range_high", "float64", "scale", "at the other ends of what is assumed: no interval"),
        Column("error", "float64", "", "projected / printed - 1"),
        ASSUMED,
        Column("reason", "string", "", "why nothing was projected"),
    ),
)
PROJECTION_TABLES: dict[str, TableSchema] = {
    schema.name: schema for schema in (EFFICIENCY_PROJECTION, PROJECTION_LIMITS, PROJECTION_CLAIMS)
}
