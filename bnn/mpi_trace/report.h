/* The profile of this rank as files. */
#ifndef BNN_MPI_TRACE_REPORT_H
#define BNN_MPI_TRACE_REPORT_H

/* Of this process, from MPI_Init on: seconds, except memory in MiB. */
struct usage {
    double communication, elapsed, user, system, memory, switches;
};

/* Remember rank and start; called once, right after MPI has started. */
void begin_report(int rank, int size);

/* Write `mpi_profile.<job>.<rank>` (mpitrace's text form) and `mpi_profile.<job>.<rank>.tsv` into BNN_MPI_TRACE_DIR.
 * `collective`: called from MPI_Finalize, so that ranks can compare; otherwise the process ends without it and no MPI
 * routine may be called. Only the first call of the process that started MPI writes. */
void write_report(int collective);

#endif
