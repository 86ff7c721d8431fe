/* Times MPI_Allreduce over the first ranks of a job, for bnn.bench.allreduce.mpi, which loads this library.
 *
 * Every function returns 0, or MPI's error code. All ranks call the same functions in the same order; those that are
 * not in the group sleep until it is done, so that they do not take its cores. */
#include <mpi.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>

#define TRY(call)                                                                                                     \
    do {                                                                                                              \
        int code_ = (call);                                                                                           \
        if (code_ != MPI_SUCCESS) return code_;                                                                       \
    } while (0)

static MPI_Comm group = MPI_COMM_NULL;

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static int settle(MPI_Request *request) {
    int done = 0;
    const struct timespec pause = {0, 200 * 1000};
    for (;;) {
        TRY(MPI_Test(request, &done, MPI_STATUS_IGNORE));
        if (done) return MPI_SUCCESS;
        nanosleep(&pause, NULL);
    }
}

/* The largest value of all ranks, on all of them: as a rank of the group or as one that has only waited. */
static int largest(double mine, double *all) {
    MPI_Request request;
    TRY(MPI_Iallreduce(&mine, all, 1, MPI_DOUBLE, MPI_MAX, MPI_COMM_WORLD, &request));
    return settle(&request);
}

__attribute__((visibility("default"))) int bnn_allreduce_start(int *rank, int *size) {
    int provided;
    TRY(MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &provided)); /* a thread computes beside, and calls nothing */
    TRY(MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN));
    TRY(MPI_Comm_rank(MPI_COMM_WORLD, rank));
    return MPI_Comm_size(MPI_COMM_WORLD, size);
}

/* The library's name for itself, and of every rank the name of its host; `hosts` has MPI_MAX_PROCESSOR_NAME each. */
__attribute__((visibility("default"))) int bnn_allreduce_facts(char *library, int room, char *hosts, int host_room) {
    char text[MPI_MAX_LIBRARY_VERSION_STRING], host[MPI_MAX_PROCESSOR_NAME] = "";
    int length;
    if (host_room != MPI_MAX_PROCESSOR_NAME) return MPI_ERR_ARG;
    TRY(MPI_Get_library_version(text, &length));
    strncpy(library, text, (size_t)room - 1);
    library[room - 1] = '\0';
    TRY(MPI_Get_processor_name(host, &length));
    return MPI_Allgather(host, host_room, MPI_CHAR, hosts, host_room, MPI_CHAR, MPI_COMM_WORLD);
}

__attribute__((visibility("default"))) int bnn_allreduce_host_room(void) { return MPI_MAX_PROCESSOR_NAME; }

/* The value of a control variable of this MPI as it is in force; MPI_T's error code where there is none of this name. */
__attribute__((visibility("default"))) int bnn_allreduce_choice(const char *name, int *value) {
    int provided, index, count;
    MPI_T_cvar_handle handle;
    TRY(MPI_T_init_thread(MPI_THREAD_SINGLE, &provided));
    int code = MPI_T_cvar_get_index(name, &index);
    if (code == MPI_SUCCESS) code = MPI_T_cvar_handle_alloc(index, NULL, &handle, &count);
    if (code == MPI_SUCCESS) {
        code = count == 1 ? MPI_T_cvar_read(handle, value) : MPI_ERR_COUNT;
        MPI_T_cvar_handle_free(&handle);
    }
    MPI_T_finalize();
    return code;
}

/* Make the group of the first `ranks` ranks. */
__attribute__((visibility("default"))) int bnn_allreduce_group(int ranks) {
    int rank;
    if (group != MPI_COMM_NULL) TRY(MPI_Comm_free(&group));
    TRY(MPI_Comm_rank(MPI_COMM_WORLD, &rank));
    return MPI_Comm_split(MPI_COMM_WORLD, rank < ranks ? 0 : MPI_UNDEFINED, rank, &group);
}

/* Sums buffers of rank + 1 and leaves zeros; `wrong` becomes 1 on all ranks where a number of any rank is not the sum. */
__attribute__((visibility("default"))) int bnn_allreduce_check(float *buffer, int count, double *wrong) {
    double mine = 0;
    if (group != MPI_COMM_NULL) {
        int rank, size;
        TRY(MPI_Comm_rank(group, &rank));
        TRY(MPI_Comm_size(group, &size));
        for (int i = 0; i < count; i++) buffer[i] = (float)(rank + 1);
        TRY(MPI_Allreduce(MPI_IN_PLACE, buffer, count, MPI_FLOAT, MPI_SUM, group));
        const float sum = (float)size * (float)(size + 1) / 2;
        for (int i = 0; i < count; i++) mine = buffer[i] == sum ? mine : 1;
        memset(buffer, 0, sizeof(float) * (size_t)count);
    }
    return largest(mine, wrong);
}

/* Seconds per allreduce in place, `calls` one after the other from a barrier on: those of the slowest rank. */
__attribute__((visibility("default"))) int bnn_allreduce_time(float *buffer, int count, int calls, double *seconds) {
    double mine = 0;
    if (group != MPI_COMM_NULL) {
        TRY(MPI_Barrier(group));
        const double start = now();
        for (int i = 0; i < calls; i++) TRY(MPI_Allreduce(MPI_IN_PLACE, buffer, count, MPI_FLOAT, MPI_SUM, group));
        mine = (now() - start) / calls;
    }
    return largest(mine, seconds);
}

/* What a thread of a rank computes until it is told to stop: how often, and in how many seconds. It needs no memory but
 * its core's own. */
struct work {
    atomic_int stop;
    double units, seconds;
    float values[512];
};

static void *compute(void *given) {
    struct work *work = given;
    const double start = now();
    while (!atomic_load_explicit(&work->stop, memory_order_relaxed)) {
        for (int times = 0; times < 8; times++)
            for (int i = 0; i < 512; i++) work->values[i] = work->values[i] * 0.999f + 0.001f;
        work->units += 1;
    }
    work->seconds = now() - start;
    return NULL;
}

/* Start computing; MPI's code for an internal error where there can be no thread. */
static int begin(struct work *work, pthread_t *thread) {
    atomic_store(&work->stop, 0);
    work->units = 0;
    return pthread_create(thread, NULL, compute, work) ? MPI_ERR_INTERN : MPI_SUCCESS;
}

/* End it: units per second. */
static double end(struct work *work, pthread_t thread) {
    atomic_store(&work->stop, 1);
    pthread_join(thread, NULL);
    return work->units / work->seconds;
}

/* What computing keeps of its speed beside allreduces: a thread of every rank of the group computes for `alone` seconds,
 * and then while `calls` allreduces are made. The least share of any rank. */
__attribute__((visibility("default"))) int bnn_allreduce_beside(
    float *buffer, int count, int calls, double alone, double *left) {
    double mine = -1e30;
    if (group != MPI_COMM_NULL) {
        struct work work = {0};
        pthread_t thread;
        const struct timespec pause = {(time_t)alone, (long)(1e9 * (alone - (double)(time_t)alone))};
        TRY(MPI_Barrier(group));
        TRY(begin(&work, &thread));
        nanosleep(&pause, NULL);
        const double by_itself = end(&work, thread);
        TRY(MPI_Barrier(group));
        TRY(begin(&work, &thread));
        for (int i = 0; i < calls; i++) {
            const int code = MPI_Allreduce(MPI_IN_PLACE, buffer, count, MPI_FLOAT, MPI_SUM, group);
            if (code != MPI_SUCCESS) {
                end(&work, thread);
                return code;
            }
        }
        mine = -end(&work, thread) / by_itself;
    }
    double all;
    TRY(largest(mine, &all));
    *left = -all;
    return MPI_SUCCESS;
}

__attribute__((visibility("default"))) int bnn_allreduce_stop(void) {
    if (group != MPI_COMM_NULL) TRY(MPI_Comm_free(&group));
    return MPI_Finalize();
}
