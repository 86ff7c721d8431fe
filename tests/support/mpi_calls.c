/* Calls every routine that the interposer counts a known number of times, on two ranks, some from several threads. */
#include <mpi.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

int bnn_mpi_trace_phase(int phase) __attribute__((weak));

static int rank;
static MPI_Comm world;

static void *ask(void *unused) {
    int size;
    (void)unused;
    for (int i = 0; i < 50000; i++) MPI_Comm_size(world, &size);
    return NULL;
}

int main(int argc, char **argv) {
    int provided, index, flag, done, indices[2], size;
    int counts[2] = {1, 2}, starts[2] = {0, 1};
    float a[8] = {0}, b[8] = {0};
    long long bits = 5;
    MPI_Request r, two[2];
    MPI_Op own;
    pthread_t threads[4];
    MPI_Init_thread(&argc, &argv, MPI_THREAD_MULTIPLE, &provided);
    world = MPI_COMM_WORLD;
    MPI_Comm_rank(world, &rank);
    int other = 1 - rank;

    for (int i = 0; i < 4; i++) pthread_create(&threads[i], NULL, ask, NULL);
    for (int i = 0; i < 4; i++) pthread_join(threads[i], NULL);

    if (bnn_mpi_trace_phase) bnn_mpi_trace_phase(2);
    for (int i = 0; i < 7; i++) MPI_Allreduce(MPI_IN_PLACE, &bits, 1, MPI_LONG_LONG_INT, MPI_BAND, world);
    for (int i = 0; i < 5; i++) MPI_Allreduce(a, b, 8, MPI_FLOAT, MPI_SUM, world);
    MPI_Op_create((MPI_User_function *)(void (*)(void))abort, 1, &own);
    MPI_Allreduce(a, b, 0, MPI_FLOAT, own, world);
    MPI_Op_free(&own);
    if (bnn_mpi_trace_phase) bnn_mpi_trace_phase(3);

    if (rank == 0) {
        MPI_Send(a, 3, MPI_FLOAT, other, 0, world);
        MPI_Ssend(a, 3, MPI_FLOAT, other, 0, world);
        MPI_Isend(a, 3, MPI_FLOAT, other, 0, world, &r);
        MPI_Wait(&r, MPI_STATUS_IGNORE);
    } else {
        MPI_Probe(0, 0, world, MPI_STATUS_IGNORE);
        MPI_Recv(b, 8, MPI_FLOAT, 0, 0, world, MPI_STATUS_IGNORE);
        MPI_Recv(b, 8, MPI_FLOAT, 0, 0, world, MPI_STATUS_IGNORE);
        MPI_Irecv(b, 8, MPI_FLOAT, 0, 0, world, &r);
        MPI_Wait(&r, MPI_STATUS_IGNORE);
    }
    MPI_Iprobe(other, 9, world, &flag, MPI_STATUS_IGNORE);
    MPI_Sendrecv(a, 2, MPI_FLOAT, other, 1, b, 2, MPI_FLOAT, other, 1, world, MPI_STATUS_IGNORE);
    MPI_Sendrecv_replace(a, 2, MPI_FLOAT, other, 1, other, 1, world, MPI_STATUS_IGNORE);
    for (int i = 0; i < 2; i++) two[i] = MPI_REQUEST_NULL;
    MPI_Waitall(2, two, MPI_STATUSES_IGNORE);
    MPI_Waitany(2, two, &index, MPI_STATUS_IGNORE);
    MPI_Waitsome(2, two, &done, indices, MPI_STATUSES_IGNORE);
    MPI_Test(&two[0], &flag, MPI_STATUS_IGNORE);
    MPI_Testall(2, two, &flag, MPI_STATUSES_IGNORE);
    MPI_Testany(2, two, &index, &flag, MPI_STATUS_IGNORE);
    MPI_Testsome(2, two, &done, indices, MPI_STATUSES_IGNORE);

    MPI_Barrier(world);
    MPI_Bcast(a, 4, MPI_FLOAT, 0, world);
    MPI_Bcast(&bits, 8, MPI_BYTE, 0, world);
    MPI_Reduce(a, b, 4, MPI_FLOAT, MPI_MAX, 0, world);
    MPI_Scan(a, b, 4, MPI_FLOAT, MPI_SUM, world);
    MPI_Exscan(a, b, 4, MPI_FLOAT, MPI_SUM, world);
    MPI_Reduce_scatter(a, b, counts, MPI_FLOAT, MPI_SUM, world);
    MPI_Reduce_scatter_block(a, b, 2, MPI_FLOAT, MPI_SUM, world);
    MPI_Gather(rank ? a : MPI_IN_PLACE, 3, MPI_FLOAT, b, 3, MPI_FLOAT, 0, world);
    MPI_Gatherv(a, counts[rank], MPI_FLOAT, b, counts, starts, MPI_FLOAT, 0, world);
    MPI_Scatter(a, 3, MPI_FLOAT, rank ? b : MPI_IN_PLACE, 3, MPI_FLOAT, 0, world);
    MPI_Scatterv(a, counts, starts, MPI_FLOAT, b, counts[rank], MPI_FLOAT, 0, world);
    MPI_Allgather(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, b, 3, MPI_FLOAT, world);
    MPI_Allgatherv(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, b, counts, starts, MPI_FLOAT, world);
    MPI_Alltoall(a, 2, MPI_FLOAT, b, 2, MPI_FLOAT, world);
    counts[0] = counts[1] = 1;
    MPI_Alltoallv(a, counts, starts, MPI_FLOAT, b, counts, starts, MPI_FLOAT, world);

    MPI_Request q[12];
    int n = 0;
    float c[12][8] = {{0}};
    MPI_Ibarrier(world, &q[n++]);
    MPI_Ibcast(c[0], 4, MPI_FLOAT, 0, world, &q[n++]);
    MPI_Ireduce(a, c[1], 4, MPI_FLOAT, MPI_SUM, 0, world, &q[n++]);
    MPI_Iallreduce(a, c[2], 4, MPI_FLOAT, MPI_SUM, world, &q[n++]);
    MPI_Ireduce_scatter(a, c[3], counts, MPI_FLOAT, MPI_SUM, world, &q[n++]);
    MPI_Ireduce_scatter_block(a, c[4], 2, MPI_FLOAT, MPI_SUM, world, &q[n++]);
    MPI_Igather(a, 3, MPI_FLOAT, c[5], 3, MPI_FLOAT, 0, world, &q[n++]);
    MPI_Igatherv(a, 1, MPI_FLOAT, c[6], counts, starts, MPI_FLOAT, 0, world, &q[n++]);
    MPI_Iscatter(a, 3, MPI_FLOAT, c[7], 3, MPI_FLOAT, 0, world, &q[n++]);
    MPI_Iallgather(a, 3, MPI_FLOAT, c[8], 3, MPI_FLOAT, world, &q[n++]);
    MPI_Iallgatherv(a, 1, MPI_FLOAT, c[9], counts, starts, MPI_FLOAT, world, &q[n++]);
    MPI_Ialltoall(a, 2, MPI_FLOAT, c[10], 2, MPI_FLOAT, world, &q[n++]);
    MPI_Waitall(n, q, MPI_STATUSES_IGNORE);

    MPI_Comm_size(world, &size);
    if (argc > 1 && !strcmp(argv[1], "exit")) exit(3); /* without MPI_Finalize */
    MPI_Finalize();
    return 0;
}
