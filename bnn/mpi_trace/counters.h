/* Counters of MPI calls: who owns them, and how they are read.
 *
 * Every thread counts into a table of its own, so that counting takes no lock and no atomic read-modify-write: Horovod
 * calls MPI from its background thread while the program's main thread may call it too. Only the owner writes a table.
 * The thread that writes the profile reads all tables, hence the relaxed atomics: it sees each counter whole. Tables
 * are linked into a list by compare-and-swap when a thread first calls MPI, and outlive their thread. */
#ifndef BNN_MPI_TRACE_COUNTERS_H
#define BNN_MPI_TRACE_COUNTERS_H

#include <stddef.h>
#include <stdint.h>
#include <time.h>

/* In the order in which a profile lists them. */
#define ROUTINES(X)                                                                                                  \
    X(Comm_rank) X(Comm_size)                                                                                        \
    X(Send) X(Ssend) X(Bsend) X(Rsend) X(Isend) X(Issend) X(Ibsend) X(Irsend) X(Recv) X(Irecv)                       \
    X(Sendrecv) X(Sendrecv_replace) X(Probe) X(Iprobe)                                                               \
    X(Wait) X(Waitall) X(Waitany) X(Waitsome) X(Test) X(Testall) X(Testany) X(Testsome)                              \
    X(Barrier) X(Bcast) X(Reduce) X(Allreduce) X(Scan) X(Exscan) X(Reduce_scatter) X(Reduce_scatter_block)           \
    X(Gather) X(Gatherv) X(Scatter) X(Scatterv) X(Allgather) X(Allgatherv) X(Alltoall) X(Alltoallv)                  \
    X(Ibarrier) X(Ibcast) X(Ireduce) X(Iallreduce) X(Ireduce_scatter) X(Ireduce_scatter_block)                       \
    X(Igather) X(Igatherv) X(Iscatter) X(Iscatterv) X(Iallgather) X(Iallgatherv) X(Ialltoall) X(Ialltoallv)

/* User-defined operators and types count as `other`. */
#define OPERATORS(X) X(SUM) X(PROD) X(MAX) X(MIN) X(BAND) X(BOR) X(BXOR) X(LAND) X(LOR) X(LXOR) X(MAXLOC) X(MINLOC)
#define DATATYPES(X)                                                                                                 \
    X(BYTE) X(CHAR) X(INT) X(LONG_LONG_INT) X(INT8_T) X(UINT8_T) X(INT32_T) X(INT64_T) X(FLOAT) X(DOUBLE) X(C_BOOL)

#define ENUM_ROUTINE(name) R_##name,
#define ENUM_OPERATOR(name) O_##name,
#define ENUM_DATATYPE(name) T_##name,
enum { ROUTINES(ENUM_ROUTINE) ROUTINE_COUNT };
enum { O_NONE, OPERATORS(ENUM_OPERATOR) O_OTHER, OPERATOR_COUNT };
enum { T_NONE, DATATYPES(ENUM_DATATYPE) T_OTHER, DATATYPE_COUNT };

enum { PHASE_COUNT = 8, BIN_COUNT = 64 };

extern const char *const routine_names[ROUTINE_COUNT];
extern const char *const operator_names[OPERATOR_COUNT];
extern const char *const datatype_names[DATATYPE_COUNT];

/* What was counted under one key, summed over threads. */
struct count {
    unsigned phase, routine, op, type, bin;
    int64_t calls, bytes, nanoseconds;
};

static inline int64_t clock_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* Bin 0 holds messages of 0 bytes, bin b > 0 those of (2^(b-2), 2^(b-1)] bytes: 1, 2, 3-4, 5-8, ... */
static inline unsigned bin_of(int64_t bytes) {
    return bytes <= 0 ? 0 : bytes == 1 ? 1 : 65 - (unsigned)__builtin_clzll((unsigned long long)bytes - 1);
}
int64_t bin_low(unsigned bin);
int64_t bin_high(unsigned bin);

/* The phase of calls that start now. Any thread. */
unsigned phase_now(void);
/* Count one call of `routine`. Any thread. */
void record(unsigned phase, unsigned routine, unsigned op, unsigned type, int64_t bytes, int64_t nanoseconds);

/* Keep when a call that carried data began and ended, by clock_ns, if it belongs to training steps. Any thread. */
void keep_dates(unsigned phase, int64_t start, int64_t end);

/* The clock of phases starts (phase 0); to be called once. */
void start_phases(void);
/* Seconds spent in each phase so far. */
void phase_seconds(double seconds[PHASE_COUNT]);

/* All counts in the order of (phase, routine, op, type, bin), in memory from malloc, or NULL without memory. */
struct count *all_counts(size_t *number);
/* Calls that could not be counted for want of memory. */
int64_t lost_calls(void);

/* Run `body` so many times, counting into a table that is thrown away. Returns ns per run, or -1 without memory. */
double rehearse(void (*body)(void), int times);

#endif
