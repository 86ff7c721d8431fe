/* How long MPI calls take: prints ns per MPI_Comm_rank and per 8-byte MPI_Allreduce of one rank, least of 5 rounds. */
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static double now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return 1e9 * (double)now.tv_sec + (double)now.tv_nsec;
}

int main(int argc, char **argv) {
    int times = argc > 1 ? atoi(argv[1]) : 1000000, rank;
    long long value = 1;
    double least[2] = {1e300, 1e300};
    MPI_Init(&argc, &argv);
    for (int round = 0; round < 5; round++) {
        double start = now_ns();
        for (int i = 0; i < times; i++) MPI_Comm_rank(MPI_COMM_SELF, &rank);
        double middle = now_ns();
        for (int i = 0; i < times; i++)
            MPI_Allreduce(MPI_IN_PLACE, &value, 1, MPI_LONG_LONG_INT, MPI_BAND, MPI_COMM_SELF);
        double end = now_ns();
        if ((middle - start) / times < least[0]) least[0] = (middle - start) / times;
        if ((end - middle) / times < least[1]) least[1] = (end - middle) / times;
    }
    printf("%.2f %.2f\n", least[0], least[1]);
    MPI_Finalize();
    return 0;
}
