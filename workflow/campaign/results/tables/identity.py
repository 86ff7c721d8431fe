"""The columns that say which cell, or which point, a row of a derived table is of."""

from __future__ import annotations

from bnn.records.columns import Column

POINT = (
    Column("site", "string", "", "site on which the cell ran"),
    Column("dataset", "string", "", "data set"),
    Column("model", "string", "", "network"),
    Column("kind", "string", "", "bnn or cnn"),
    Column("nodes", "int64", "nodes", "number of nodes"),
    Column("batch_size", "int64", "samples", "training examples per rank and step"),
    Column("variant", "string", "", "named variant of the settings"),
)
IDENTITY = (*POINT, Column("repeat", "int64", "", "repeat, from 1"))
LABELS = (
    Column("study", "string", "", "study of the campaign file that asked for it"),
    Column("roles", "string", "", "what it serves, separated by commas: scaling, accuracy, large-batch, pruning"),
    Column("implementation", "string", "", "bnn-<estimator> or the CNN baseline's name"),
    Column("engine", "string", "", "what reduced the gradients"),
    Column("ranks", "int64", "ranks", "number of ranks"),
    Column("synthetic", "bool", "", "whether the images are made up (for throughput only)"),
    Column("width", "float64", "", "factor on every hidden layer's channels; 1 is the paper's model"),
    Column("rho_init", "float64", "", "mean of the start of rho; sigma = softplus(rho)"),
)
