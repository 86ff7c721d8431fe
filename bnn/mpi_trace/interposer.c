/* PMPI interposer: preloaded into a rank (LD_PRELOAD) it counts and times MPI calls and writes mpi_profile.<job>.<rank>
 *
 * Bytes are this rank's contribution, as mpitrace counts them: what it sends (to all, for routines that address every
 * rank), what a receive delivered (a non-blocking one: the room it offered), 0 for routines that only wait or ask.
 * Seconds are those inside the MPI library. All ranks must be preloaded: they compare themselves in MPI_Finalize.
 *
 * Not counted: one-sided and neighbourhood communication, MPI-IO, persistent and partitioned requests, matched probes,
 * Alltoallw, making and freeing communicators, the large-count (_c) and Fortran bindings, and whatever does not go
 * through MPI (NCCL). bnn.records.mpi.NOT_MEASURED says so to readers. */
/* The library is built with hidden symbols, lest it stand in for other libraries' functions; MPI's own are shown. */
#pragma GCC visibility push(default)
#include <mpi.h>
#pragma GCC visibility pop
#include <stddef.h>

#include "counters.h"
#include "report.h"

#define TIMED(ROUTINE, OP, TYPE, BYTES, CALL)                                                                        \
    unsigned phase_ = phase_now();                                                                                   \
    int64_t start_ = clock_ns();                                                                                     \
    int result_ = (CALL);                                                                                            \
    int64_t spent_ = clock_ns() - start_;                                                                            \
    record(phase_, R_##ROUTINE, OP, TYPE, BYTES, spent_);                                                            \
    return result_
#define QUIET(ROUTINE, CALL) TIMED(ROUTINE, O_NONE, T_NONE, 0, CALL)

/* The same of a reduction that every rank gets the result of; when it went on is kept, too, unless it only compares
 * bits, as ranks do that agree on something. */
#define TIMED_AND_DATED(ROUTINE, OP, TYPE, BYTES, CALL)                                                              \
    unsigned phase_ = phase_now(), op_ = (OP);                                                                       \
    int64_t start_ = clock_ns();                                                                                     \
    int result_ = (CALL);                                                                                            \
    int64_t end_ = clock_ns();                                                                                       \
    record(phase_, R_##ROUTINE, op_, TYPE, BYTES, end_ - start_);                                                    \
    if (op_ != O_BAND && op_ != O_BOR && op_ != O_BXOR) keep_dates(phase_, start_, end_);                            \
    return result_

/* Operators and types are addresses in some MPI libraries, so that no switch can tell them apart. The first ones tested
 * are those that Horovod uses. */
static unsigned op_class(MPI_Op op) {
    if (op == MPI_SUM) return O_SUM;
    if (op == MPI_BAND) return O_BAND;
    if (op == MPI_BOR) return O_BOR;
#define TEST_OPERATOR(name) \
    if (op == MPI_##name) return O_##name;
    OPERATORS(TEST_OPERATOR)
    return O_OTHER;
}

static unsigned type_class(MPI_Datatype type) {
    if (type == MPI_FLOAT) return T_FLOAT;
#define TEST_DATATYPE(name) \
    if (type == MPI_##name) return T_##name;
    DATATYPES(TEST_DATATYPE)
    return T_OTHER;
}

static int64_t bytes_of(int64_t count, MPI_Datatype type) {
    int each = 0;
    if (count > 0) PMPI_Type_size(type, &each);
    return count * each;
}

static int64_t sum_of(const int counts[], int number) {
    int64_t sum = 0;
    for (int i = 0; i < number; i++) sum += counts[i];
    return sum;
}

static int rank_in(MPI_Comm comm) {
    int rank = 0;
    PMPI_Comm_rank(comm, &rank);
    return rank;
}

/* How many ranks a call that addresses every rank reaches. */
static int peers(MPI_Comm comm) {
    int inter = 0, number = 0;
    PMPI_Comm_test_inter(comm, &inter);
    if (inter) PMPI_Comm_remote_size(comm, &number);
    else PMPI_Comm_size(comm, &number);
    return number;
}

static int64_t received(const MPI_Status *status, MPI_Datatype type) {
    int count = 0;
    PMPI_Get_count(status, type, &count);
    return count == MPI_UNDEFINED ? 0 : bytes_of(count, type);
}

/* Between two groups of ranks (intercommunicators), those that take no part give no valid counts and types. */
#define IF_USED(root, bytes) ((root) == MPI_PROC_NULL ? 0 : (bytes))
#define IF_ONE_OF_MANY(root, bytes) ((root) == MPI_PROC_NULL || (root) == MPI_ROOT ? 0 : (bytes))

int MPI_Init(int *argc, char ***argv) {
    int result = PMPI_Init(argc, argv);
    if (result == MPI_SUCCESS) begin_report(rank_in(MPI_COMM_WORLD), peers(MPI_COMM_WORLD));
    return result;
}

int MPI_Init_thread(int *argc, char ***argv, int wanted, int *provided) {
    int result = PMPI_Init_thread(argc, argv, wanted, provided);
    if (result == MPI_SUCCESS) begin_report(rank_in(MPI_COMM_WORLD), peers(MPI_COMM_WORLD));
    return result;
}

int MPI_Finalize(void) {
    write_report(1);
    return PMPI_Finalize();
}

/* A process that exits without MPI_Finalize still leaves what it counted; one that is killed does not. */
__attribute__((destructor)) static void at_exit(void) { write_report(0); }

int MPI_Comm_rank(MPI_Comm comm, int *rank) { QUIET(Comm_rank, PMPI_Comm_rank(comm, rank)); }
int MPI_Comm_size(MPI_Comm comm, int *size) { QUIET(Comm_size, PMPI_Comm_size(comm, size)); }
int MPI_Barrier(MPI_Comm comm) { QUIET(Barrier, PMPI_Barrier(comm)); }
int MPI_Ibarrier(MPI_Comm comm, MPI_Request *request) { QUIET(Ibarrier, PMPI_Ibarrier(comm, request)); }
int MPI_Wait(MPI_Request *request, MPI_Status *status) { QUIET(Wait, PMPI_Wait(request, status)); }
int MPI_Waitall(int n, MPI_Request r[], MPI_Status s[]) { QUIET(Waitall, PMPI_Waitall(n, r, s)); }
int MPI_Waitany(int n, MPI_Request r[], int *i, MPI_Status *s) { QUIET(Waitany, PMPI_Waitany(n, r, i, s)); }
int MPI_Waitsome(int n, MPI_Request r[], int *m, int i[], MPI_Status s[]) {
    QUIET(Waitsome, PMPI_Waitsome(n, r, m, i, s));
}
int MPI_Test(MPI_Request *request, int *flag, MPI_Status *status) { QUIET(Test, PMPI_Test(request, flag, status)); }
int MPI_Testall(int n, MPI_Request r[], int *flag, MPI_Status s[]) { QUIET(Testall, PMPI_Testall(n, r, flag, s)); }
int MPI_Testany(int n, MPI_Request r[], int *i, int *flag, MPI_Status *s) {
    QUIET(Testany, PMPI_Testany(n, r, i, flag, s));
}
int MPI_Testsome(int n, MPI_Request r[], int *m, int i[], MPI_Status s[]) {
    QUIET(Testsome, PMPI_Testsome(n, r, m, i, s));
}
int MPI_Probe(int source, int tag, MPI_Comm comm, MPI_Status *status) {
    QUIET(Probe, PMPI_Probe(source, tag, comm, status));
}
int MPI_Iprobe(int source, int tag, MPI_Comm comm, int *flag, MPI_Status *status) {
    QUIET(Iprobe, PMPI_Iprobe(source, tag, comm, flag, status));
}

#define SEND(NAME)                                                                                                   \
    int MPI_##NAME(const void *buf, int count, MPI_Datatype type, int to, int tag, MPI_Comm comm) {                  \
        TIMED(NAME, O_NONE, type_class(type), bytes_of(count, type), PMPI_##NAME(buf, count, type, to, tag, comm));  \
    }
SEND(Send)
SEND(Ssend)
SEND(Bsend)
SEND(Rsend)

#define ISEND(NAME)                                                                                                  \
    int MPI_##NAME(const void *buf, int count, MPI_Datatype type, int to, int tag, MPI_Comm comm, MPI_Request *r) {  \
        TIMED(NAME, O_NONE, type_class(type), bytes_of(count, type),                                                 \
              PMPI_##NAME(buf, count, type, to, tag, comm, r));                                                      \
    }
ISEND(Isend)
ISEND(Issend)
ISEND(Ibsend)
ISEND(Irsend)

int MPI_Recv(void *buf, int count, MPI_Datatype type, int from, int tag, MPI_Comm comm, MPI_Status *status) {
    MPI_Status own;
    MPI_Status *used = status == MPI_STATUS_IGNORE ? &own : status;
    TIMED(Recv, O_NONE, type_class(type), received(used, type), PMPI_Recv(buf, count, type, from, tag, comm, used));
}
int MPI_Irecv(void *buf, int count, MPI_Datatype type, int from, int tag, MPI_Comm comm, MPI_Request *request) {
    TIMED(Irecv, O_NONE, type_class(type), bytes_of(count, type),
          PMPI_Irecv(buf, count, type, from, tag, comm, request));
}
int MPI_Sendrecv(const void *send, int n, MPI_Datatype type, int to, int stag, void *recv, int m, MPI_Datatype rtype,
                 int from, int rtag, MPI_Comm comm, MPI_Status *status) {
    TIMED(Sendrecv, O_NONE, type_class(type), bytes_of(n, type),
          PMPI_Sendrecv(send, n, type, to, stag, recv, m, rtype, from, rtag, comm, status));
}
int MPI_Sendrecv_replace(void *buf, int n, MPI_Datatype type, int to, int stag, int from, int rtag, MPI_Comm comm,
                         MPI_Status *status) {
    TIMED(Sendrecv_replace, O_NONE, type_class(type), bytes_of(n, type),
          PMPI_Sendrecv_replace(buf, n, type, to, stag, from, rtag, comm, status));
}

/* Every collective, blocking and not: REQUEST is what a non-blocking one takes besides, PASS how it is passed on. */
#define REQUEST , MPI_Request *request
#define PASS , request
#define NOTHING

#define BCAST(NAME, EXTRA, GIVE)                                                                                     \
    int MPI_##NAME(void *buf, int n, MPI_Datatype type, int root, MPI_Comm comm EXTRA) {                             \
        TIMED(NAME, O_NONE, type_class(type), IF_USED(root, bytes_of(n, type)),                                      \
              PMPI_##NAME(buf, n, type, root, comm GIVE));                                                           \
    }
BCAST(Bcast, NOTHING, NOTHING)
BCAST(Ibcast, REQUEST, PASS)

#define REDUCE(NAME, EXTRA, GIVE)                                                                                    \
    int MPI_##NAME(const void *send, void *recv, int n, MPI_Datatype type, MPI_Op op, int root,                      \
                   MPI_Comm comm EXTRA) {                                                                            \
        TIMED(NAME, op_class(op), type_class(type), IF_USED(root, bytes_of(n, type)),                                \
              PMPI_##NAME(send, recv, n, type, op, root, comm GIVE));                                                \
    }
REDUCE(Reduce, NOTHING, NOTHING)
REDUCE(Ireduce, REQUEST, PASS)

#define ALLREDUCE(NAME, EXTRA, GIVE)                                                                                 \
    int MPI_##NAME(const void *send, void *recv, int n, MPI_Datatype type, MPI_Op op, MPI_Comm comm EXTRA) {         \
        TIMED(NAME, op_class(op), type_class(type), bytes_of(n, type),                                               \
              PMPI_##NAME(send, recv, n, type, op, comm GIVE));                                                      \
    }
int MPI_Allreduce(const void *send, void *recv, int n, MPI_Datatype type, MPI_Op op, MPI_Comm comm) {
    TIMED_AND_DATED(Allreduce, op_class(op), type_class(type), bytes_of(n, type),
                    PMPI_Allreduce(send, recv, n, type, op, comm));
}
ALLREDUCE(Scan, NOTHING, NOTHING)
ALLREDUCE(Exscan, NOTHING, NOTHING)
ALLREDUCE(Iallreduce, REQUEST, PASS)

#define REDUCE_SCATTER(NAME, EXTRA, GIVE)                                                                            \
    int MPI_##NAME(const void *send, void *recv, const int counts[], MPI_Datatype type, MPI_Op op,                   \
                   MPI_Comm comm EXTRA) {                                                                            \
        TIMED(NAME, op_class(op), type_class(type), bytes_of(sum_of(counts, peers(comm)), type),                     \
              PMPI_##NAME(send, recv, counts, type, op, comm GIVE));                                                 \
    }
REDUCE_SCATTER(Reduce_scatter, NOTHING, NOTHING)
REDUCE_SCATTER(Ireduce_scatter, REQUEST, PASS)

#define REDUCE_SCATTER_BLOCK(NAME, EXTRA, GIVE)                                                                      \
    int MPI_##NAME(const void *send, void *recv, int n, MPI_Datatype type, MPI_Op op, MPI_Comm comm EXTRA) {         \
        TIMED(NAME, op_class(op), type_class(type), bytes_of((int64_t)n * peers(comm), type),                        \
              PMPI_##NAME(send, recv, n, type, op, comm GIVE));                                                      \
    }
REDUCE_SCATTER_BLOCK(Reduce_scatter_block, NOTHING, NOTHING)
REDUCE_SCATTER_BLOCK(Ireduce_scatter_block, REQUEST, PASS)

/* In place, a rank's own part lies in the receive buffer and the send arguments mean nothing. */
#define GATHER(NAME, EXTRA, GIVE)                                                                                    \
    int MPI_##NAME(const void *send, int n, MPI_Datatype type, void *recv, int m, MPI_Datatype rtype, int root,      \
                   MPI_Comm comm EXTRA) {                                                                            \
        int inside = send == MPI_IN_PLACE;                                                                           \
        TIMED(NAME, O_NONE, type_class(inside ? rtype : type),                                                       \
              IF_ONE_OF_MANY(root, inside ? bytes_of(m, rtype) : bytes_of(n, type)),                                 \
              PMPI_##NAME(send, n, type, recv, m, rtype, root, comm GIVE));                                          \
    }
GATHER(Gather, NOTHING, NOTHING)
GATHER(Igather, REQUEST, PASS)

#define GATHERV(NAME, EXTRA, GIVE)                                                                                   \
    int MPI_##NAME(const void *send, int n, MPI_Datatype type, void *recv, const int counts[], const int starts[],   \
                   MPI_Datatype rtype, int root, MPI_Comm comm EXTRA) {                                              \
        int inside = send == MPI_IN_PLACE;                                                                           \
        TIMED(NAME, O_NONE, type_class(inside ? rtype : type),                                                       \
              IF_ONE_OF_MANY(root, inside ? bytes_of(counts[rank_in(comm)], rtype) : bytes_of(n, type)),             \
              PMPI_##NAME(send, n, type, recv, counts, starts, rtype, root, comm GIVE));                             \
    }
GATHERV(Gatherv, NOTHING, NOTHING)
GATHERV(Igatherv, REQUEST, PASS)

#define ALLGATHER(NAME, EXTRA, GIVE)                                                                                 \
    int MPI_##NAME(const void *send, int n, MPI_Datatype type, void *recv, int m, MPI_Datatype rtype,                \
                   MPI_Comm comm EXTRA) {                                                                            \
        int inside = send == MPI_IN_PLACE;                                                                           \
        TIMED(NAME, O_NONE, type_class(inside ? rtype : type), inside ? bytes_of(m, rtype) : bytes_of(n, type),      \
              PMPI_##NAME(send, n, type, recv, m, rtype, comm GIVE));                                                \
    }
ALLGATHER(Allgather, NOTHING, NOTHING)
ALLGATHER(Iallgather, REQUEST, PASS)

#define ALLGATHERV(NAME, EXTRA, GIVE)                                                                                \
    int MPI_##NAME(const void *send, int n, MPI_Datatype type, void *recv, const int counts[], const int starts[],   \
                   MPI_Datatype rtype, MPI_Comm comm EXTRA) {                                                        \
        int inside = send == MPI_IN_PLACE;                                                                           \
        TIMED(NAME, O_NONE, type_class(inside ? rtype : type),                                                       \
              inside ? bytes_of(counts[rank_in(comm)], rtype) : bytes_of(n, type),                                   \
              PMPI_##NAME(send, n, type, recv, counts, starts, rtype, comm GIVE));                                   \
    }
ALLGATHERV(Allgatherv, NOTHING, NOTHING)
ALLGATHERV(Iallgatherv, REQUEST, PASS)

/* Scatters: what this rank gets; only a root that keeps its part in place states no receive count. */
#define SCATTER(NAME, EXTRA, GIVE)                                                                                   \
    int MPI_##NAME(const void *send, int n, MPI_Datatype type, void *recv, int m, MPI_Datatype rtype, int root,      \
                   MPI_Comm comm EXTRA) {                                                                            \
        int inside = recv == MPI_IN_PLACE;                                                                           \
        TIMED(NAME, O_NONE, type_class(inside ? type : rtype),                                                       \
              IF_ONE_OF_MANY(root, inside ? bytes_of(n, type) : bytes_of(m, rtype)),                                 \
              PMPI_##NAME(send, n, type, recv, m, rtype, root, comm GIVE));                                          \
    }
SCATTER(Scatter, NOTHING, NOTHING)
SCATTER(Iscatter, REQUEST, PASS)

#define SCATTERV(NAME, EXTRA, GIVE)                                                                                  \
    int MPI_##NAME(const void *send, const int counts[], const int starts[], MPI_Datatype type, void *recv, int m,   \
                   MPI_Datatype rtype, int root, MPI_Comm comm EXTRA) {                                              \
        int inside = recv == MPI_IN_PLACE;                                                                           \
        TIMED(NAME, O_NONE, type_class(inside ? type : rtype),                                                       \
              IF_ONE_OF_MANY(root, inside ? bytes_of(counts[rank_in(comm)], type) : bytes_of(m, rtype)),             \
              PMPI_##NAME(send, counts, starts, type, recv, m, rtype, root, comm GIVE));                             \
    }
SCATTERV(Scatterv, NOTHING, NOTHING)
SCATTERV(Iscatterv, REQUEST, PASS)

#define ALLTOALL(NAME, EXTRA, GIVE)                                                                                  \
    int MPI_##NAME(const void *send, int n, MPI_Datatype type, void *recv, int m, MPI_Datatype rtype,                \
                   MPI_Comm comm EXTRA) {                                                                            \
        int inside = send == MPI_IN_PLACE;                                                                           \
        TIMED(NAME, O_NONE, type_class(inside ? rtype : type),                                                       \
              bytes_of((int64_t)peers(comm) * (inside ? m : n), inside ? rtype : type),                              \
              PMPI_##NAME(send, n, type, recv, m, rtype, comm GIVE));                                                \
    }
ALLTOALL(Alltoall, NOTHING, NOTHING)
ALLTOALL(Ialltoall, REQUEST, PASS)

#define ALLTOALLV(NAME, EXTRA, GIVE)                                                                                 \
    int MPI_##NAME(const void *send, const int counts[], const int starts[], MPI_Datatype type, void *recv,          \
                   const int rcounts[], const int rstarts[], MPI_Datatype rtype, MPI_Comm comm EXTRA) {              \
        int inside = send == MPI_IN_PLACE;                                                                           \
        TIMED(NAME, O_NONE, type_class(inside ? rtype : type),                                                       \
              bytes_of(sum_of(inside ? rcounts : counts, peers(comm)), inside ? rtype : type),                       \
              PMPI_##NAME(send, counts, starts, type, recv, rcounts, rstarts, rtype, comm GIVE));                    \
    }
ALLTOALLV(Alltoallv, NOTHING, NOTHING)
ALLTOALLV(Ialltoallv, REQUEST, PASS)
