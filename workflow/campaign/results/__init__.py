"""From records to tables, figures and the report; MPI profiles."""
