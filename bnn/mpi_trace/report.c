/* Writes a rank's profile: mpitrace's text form for people and their tools, tab-separated values for Parquet. */
#define _GNU_SOURCE
#include "report.h"

#include <errno.h>
#include <limits.h>
#include <mpi.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "counters.h"

enum { HOST = 64, FIELDS = sizeof(struct usage) / sizeof(double) };
static const char rule71[] = "-----------------------------------------------------------------------\n";
static const char rule65[] = "-----------------------------------------------------------------\n";

static int rank, size, process;
static int64_t began;
static struct rusage at_start;
static atomic_flag written = ATOMIC_FLAG_INIT;

/* What the ranks tell each other; `all` and `hosts` are NULL when they could not. */
struct world {
    struct usage mine, *all;
    char *hosts;
    int least, median, most, largest, longest; /* ranks by communication, memory, elapsed time */
};

void begin_report(int my_rank, int ranks) {
    rank = my_rank, size = ranks, process = (int)getpid();
    began = clock_ns();
    getrusage(RUSAGE_SELF, &at_start);
    start_phases();
}

static double seconds_between(struct timeval from, struct timeval to) {
    return (double)(to.tv_sec - from.tv_sec) + 1e-6 * (double)(to.tv_usec - from.tv_usec);
}

static struct usage usage_now(const struct count *counts, size_t number) {
    struct rusage now;
    struct usage usage = {0};
    getrusage(RUSAGE_SELF, &now);
    for (size_t i = 0; i < number; i++) usage.communication += 1e-9 * (double)counts[i].nanoseconds;
    usage.elapsed = 1e-9 * (double)(clock_ns() - began);
    usage.user = seconds_between(at_start.ru_utime, now.ru_utime);
    usage.system = seconds_between(at_start.ru_stime, now.ru_stime);
    usage.memory = (double)now.ru_maxrss / 1024;
    usage.switches = (double)(now.ru_nvcsw + now.ru_nivcsw);
    return usage;
}

/* A name as one word of letters, digits, '-' and '_': it becomes part of file names and tables. */
static void clean(char *word) {
    word[strcspn(word, ".")] = 0;
    for (char *c = word; *c; c++)
        if (!strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_", *c)) *c = '_';
    if (!*word) strcpy(word, "_");
}

/* The scheduler's number for the job; where there is none, that of the process that started rank 0. */
static void job_name(char name[HOST], int collective) {
    static const char *const variables[] = {"BNN_MPI_TRACE_JOBID", "COBALT_JOBID", "PBS_JOBID", "SLURM_JOB_ID"};
    int parent = (int)getppid();
    if (collective) PMPI_Bcast(&parent, 1, MPI_INT, 0, MPI_COMM_WORLD);
    snprintf(name, HOST, "%d", parent);
    for (size_t i = 0; i < sizeof variables / sizeof *variables; i++) {
        const char *value = getenv(variables[i]);
        if (value && *value) {
            snprintf(name, HOST, "%s", value);
            break;
        }
    }
    clean(name);
}

static const struct usage *sorting;
static int by_communication(const void *left, const void *right) {
    double a = sorting[*(const int *)left].communication, b = sorting[*(const int *)right].communication;
    return a < b ? -1 : a > b;
}

static void compare_ranks(struct world *world) {
    char mine[HOST] = "";
    int *order = malloc((size_t)size * sizeof *order);
    struct usage *all = calloc((size_t)size, sizeof *all);
    char *hosts = calloc((size_t)size, HOST);
    int enough = order && all && hosts, everywhere = 0;
    PMPI_Allreduce(&enough, &everywhere, 1, MPI_INT, MPI_MIN, MPI_COMM_WORLD);
    if (everywhere) {
        gethostname(mine, HOST - 1);
        clean(mine);
        PMPI_Allgather(&world->mine, FIELDS, MPI_DOUBLE, all, FIELDS, MPI_DOUBLE, MPI_COMM_WORLD);
        PMPI_Allgather(mine, HOST, MPI_CHAR, hosts, HOST, MPI_CHAR, MPI_COMM_WORLD);
        for (int i = 0; i < size; i++) {
            order[i] = i;
            if (all[i].memory > all[world->largest].memory) world->largest = i;
            if (all[i].elapsed > all[world->longest].elapsed) world->longest = i;
        }
        sorting = all;
        qsort(order, (size_t)size, sizeof *order, by_communication);
        world->least = order[0], world->median = order[(size - 1) / 2], world->most = order[size - 1];
        world->all = all, world->hosts = hosts;
    }
    free(order);
}

/* What one call costs more for being counted: two clock readings, the message's size, finding its counter. */
static void rehearsal(void) {
    int bytes = 0;
    unsigned phase = phase_now();
    int64_t start = clock_ns();
    PMPI_Type_size(MPI_FLOAT, &bytes);
    record(phase, R_Allreduce, O_SUM, T_FLOAT, bytes, clock_ns() - start);
}

static void write_bins(FILE *file, const struct count *counts, size_t number, unsigned routine) {
    struct count bins[BIN_COUNT] = {{0}};
    for (size_t i = 0; i < number; i++)
        if (counts[i].routine == routine) {
            struct count *bin = &bins[counts[i].bin < 3 ? 3 : counts[i].bin]; /* mpitrace's first bin ends at 4 bytes */
            bin->calls += counts[i].calls, bin->bytes += counts[i].bytes, bin->nanoseconds += counts[i].nanoseconds;
        }
    fprintf(file, "%-22s    #calls    avg. bytes      time(sec)\n", routine_names[routine]);
    for (int i = 0; i < BIN_COUNT; i++)
        if (bins[i].calls)
            fprintf(file, "%32lld   %11.1f   %12.3f\n", (long long)bins[i].calls,
                    (double)bins[i].bytes / (double)bins[i].calls, 1e-9 * (double)bins[i].nanoseconds);
    fputc('\n', file);
}

static void write_text(FILE *file, const struct world *world, const struct count *counts, size_t number) {
    struct count sums[ROUTINE_COUNT] = {{0}};
    for (size_t i = 0; i < number; i++) {
        struct count *sum = &sums[counts[i].routine];
        sum->calls += counts[i].calls, sum->bytes += counts[i].bytes, sum->nanoseconds += counts[i].nanoseconds;
    }
    fprintf(file, "Data for MPI rank %d of %d:\n", rank, size);
    fprintf(file, world->all ? "Times and statistics from MPI_Init() to MPI_Finalize().\n"
                             : "Times and statistics from MPI_Init() to exit without MPI_Finalize().\n");
    fprintf(file, "%sMPI Routine                        #calls     avg. bytes      time(sec)\n%s", rule71, rule71);
    for (unsigned i = 0; i < ROUTINE_COUNT; i++)
        if (sums[i].calls)
            fprintf(file, "%-26s %14lld   %12.1f   %12.3f\n", routine_names[i], (long long)sums[i].calls,
                    (double)sums[i].bytes / (double)sums[i].calls, 1e-9 * (double)sums[i].nanoseconds);
    fputs(rule65, file);
    const char *said = "MPI task %d of %d had the %s communication time.\n";
    if (world->all && rank == world->least) fprintf(file, said, rank, size, "minimum");
    if (world->all && rank == world->most) fprintf(file, said, rank, size, "maximum");
    if (world->all && rank == world->median) fprintf(file, said, rank, size, "median");
    fprintf(file, "total communication time = %.3f seconds.\n", world->mine.communication);
    fprintf(file, "total elapsed time       = %.3f seconds.\n", world->mine.elapsed);
    fprintf(file, "user cpu time            = %.3f seconds.\n", world->mine.user);
    fprintf(file, "system time              = %.3f seconds.\n", world->mine.system);
    fprintf(file, "max resident set size    = %.3f MiB.\n\n", world->mine.memory);
    if (world->all) {
        const struct usage *large = &world->all[world->largest], *longest = &world->all[world->longest];
        fprintf(file, "Rank %d reported the largest memory utilization : %.2f MiB\n", world->largest, large->memory);
        fprintf(file, "Rank %d reported the largest elapsed time : %.2f sec\n\n", world->longest, longest->elapsed);
    }
    fprintf(file, "%sMessage size distributions:\n\n", rule65);
    for (unsigned i = 0; i < ROUTINE_COUNT; i++)
        if (sums[i].bytes) write_bins(file, counts, number, i);
    if (rank != 0 || !world->all) return;
    fprintf(file, "%s\nCommunication summary for all tasks:\n\n", rule65);
    const int ranks[] = {world->least, world->median, world->most};
    const char *const names[] = {"minimum", "median ", "maximum"};
    for (int i = 0; i < 3; i++)
        fprintf(file, "  %s communication time = %.3f sec for task %d\n", names[i],
                world->all[ranks[i]].communication, ranks[i]);
    fprintf(file, "\n\nMPI timing summary for all ranks:\n"
                  "taskid           hostname    comm(s)  elapsed(s)     user(s)   system(s)   size(MiB)    switches\n");
    for (int i = 0; i < size; i++) {
        const struct usage *u = &world->all[i];
        fprintf(file, "%6d %18s %10.2f %11.2f %11.2f %11.2f %11.2f %11.0f\n", i, world->hosts + (size_t)i * HOST,
                u->communication, u->elapsed, u->user, u->system, u->memory, u->switches);
    }
}

static void write_table(FILE *file, const char *job, int collective, const double seconds[PHASE_COUNT],
                        const struct count *counts, size_t number) {
    fprintf(file, "bnn_mpi_trace\t1\njob\t%s\nrank\t%d\nsize\t%d\nfinalized\t%d\nlost\t%lld\n", job, rank, size,
            collective, (long long)lost_calls());
    fprintf(file, "overhead_ns\t%.1f\n", collective ? rehearse(rehearsal, 20000) : -1.0);
    for (int i = 0; i < PHASE_COUNT; i++) fprintf(file, "phase\t%d\t%.9f\n", i, seconds[i]);
    for (size_t i = 0; i < number; i++) {
        const struct count *c = &counts[i];
        fprintf(file, "calls\t%u\t%s\t%s\t%s\t%lld\t%lld\t%lld\t%lld\t%lld\n", c->phase, routine_names[c->routine],
                operator_names[c->op], datatype_names[c->type], (long long)bin_low(c->bin), (long long)bin_high(c->bin),
                (long long)c->calls, (long long)c->bytes, (long long)c->nanoseconds);
    }
    fprintf(file, "end\t%zu\n", number);
}

static void complain(const char *path) {
    fprintf(stderr, "bnn_mpi_trace: rank %d: cannot write %s: %s\n", rank, path, strerror(errno));
}

static void make_folders(const char *path) {
    char part[PATH_MAX];
    snprintf(part, sizeof part, "%s", path);
    for (char *c = part + 1; *c; c++)
        if (*c == '/') {
            *c = 0;
            mkdir(part, 0777);
            *c = '/';
        }
    mkdir(part, 0777); /* that it is not there shows when a file is opened in it */
}

static FILE *open_aside(const char *path, char aside[PATH_MAX]) {
    if (snprintf(aside, PATH_MAX, "%s.part", path) >= PATH_MAX) return errno = ENAMETOOLONG, NULL;
    return fopen(aside, "w");
}

static int close_and_rename(FILE *file, const char *aside, const char *path) {
    int failed = ferror(file);
    failed |= fclose(file);
    return failed || rename(aside, path);
}

void write_report(int collective) {
    if (process != (int)getpid() || atomic_flag_test_and_set(&written)) return;
    const char *folder = getenv("BNN_MPI_TRACE_DIR");
    char job[HOST], path[PATH_MAX - 16], aside[PATH_MAX];
    double phases[PHASE_COUNT];
    size_t number = 0;
    phase_seconds(phases);
    struct count *counts = all_counts(&number);
    struct world world = {.mine = usage_now(counts, number)};
    job_name(job, collective);
    if (collective) compare_ranks(&world);
    folder = folder && *folder ? folder : ".";
    make_folders(folder);

    int length = snprintf(path, sizeof path, "%s/mpi_profile.%s.%d", folder, job, rank);
    errno = length < (int)sizeof path - 4 ? ENOMEM : ENAMETOOLONG;
    FILE *file = counts && length < (int)sizeof path - 4 ? open_aside(path, aside) : NULL;
    if (file) write_text(file, &world, counts, number);
    if (!file || close_and_rename(file, aside, path)) complain(path);
    if (file) {
        strcpy(path + length, ".tsv");
        file = open_aside(path, aside);
        if (file) write_table(file, job, collective, phases, counts, number);
        if (!file || close_and_rename(file, aside, path)) complain(path);
    }
    free(counts);
    free(world.all);
    free(world.hosts);
}
