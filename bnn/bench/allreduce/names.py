"""What MPICH calls its algorithms of allreduce. Loads nothing."""

# MPICH's choice of algorithm for a communicator's allreduce (its CVARs, `mpivars`): the variable and its values.
ALGORITHM = "MPIR_CVAR_ALLREDUCE_INTRA_ALGORITHM"
ALGORITHMS = ("recursive_doubling", "reduce_scatter_allgather", "ring", "tree", "smp")
# The layer below would choose by itself; only without it the choice above is asked (MPICH's CH4 device).
BELOW = {"MPIR_CVAR_DEVICE_COLLECTIVES": "none"}
