/* Per-thread counters; counters.h says how they work. */
#include "counters.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#define NAME(name) "MPI_" #name,
const char *const routine_names[ROUTINE_COUNT] = {ROUTINES(NAME)};
const char *const operator_names[OPERATOR_COUNT] = {"", OPERATORS(NAME) "other"};
const char *const datatype_names[DATATYPE_COUNT] = {"", DATATYPES(NAME) "other"};

/* A thread meets some dozens of keys; a power of two well above that keeps the search to one or two steps. */
enum { CELLS = 2048, USED = 1u << 30 };
_Static_assert(ROUTINE_COUNT <= 128 && OPERATOR_COUNT <= 16 && DATATYPE_COUNT <= 16, "a key's fields are too narrow");

struct cell {
    _Atomic uint32_t key; /* 0: free */
    _Atomic int64_t calls, bytes, nanoseconds;
};
struct table {
    struct table *next;
    struct cell cells[CELLS];
};

static _Atomic(struct table *) tables;
static __thread struct table *mine __attribute__((tls_model("initial-exec")));
static _Atomic int64_t lost;

static _Atomic unsigned current_phase;
static pthread_mutex_t phase_lock = PTHREAD_MUTEX_INITIALIZER;
static int64_t phase_began, phase_spent[PHASE_COUNT];
static int phases_run;

int64_t bin_low(unsigned bin) { return bin < 2 ? (int64_t)bin : ((int64_t)1 << (bin - 2)) + 1; }
int64_t bin_high(unsigned bin) { return bin == 0 ? 0 : (int64_t)1 << (bin - 1); }

static struct table *own_table(void) {
    struct table *table = calloc(1, sizeof *table);
    if (!table) return NULL;
    table->next = atomic_load_explicit(&tables, memory_order_relaxed);
    while (!atomic_compare_exchange_weak_explicit(&tables, &table->next, table, memory_order_release,
                                                  memory_order_relaxed)) {
    }
    return mine = table;
}

static void add(_Atomic int64_t *counter, int64_t value) {
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + value, memory_order_relaxed);
}

static struct cell *find(struct table *table, uint32_t key) {
    unsigned start = (key * 2654435761u) >> 21; /* the upper 11 bits: CELLS is 2^11 */
    for (unsigned i = 0; i < CELLS; i++) {
        struct cell *cell = &table->cells[(start + i) % CELLS];
        uint32_t found = atomic_load_explicit(&cell->key, memory_order_relaxed);
        if (found == 0) atomic_store_explicit(&cell->key, key, memory_order_release);
        if (found == 0 || found == key) return cell;
    }
    return NULL;
}

unsigned phase_now(void) { return atomic_load_explicit(&current_phase, memory_order_relaxed); }

void record(unsigned phase, unsigned routine, unsigned op, unsigned type, int64_t bytes, int64_t nanoseconds) {
    uint32_t key = USED | phase << 21 | routine << 14 | op << 10 | type << 6 | bin_of(bytes);
    struct table *table = mine ? mine : own_table();
    struct cell *cell = table ? find(table, key) : NULL;
    if (!cell) {
        atomic_fetch_add_explicit(&lost, 1, memory_order_relaxed);
        return;
    }
    add(&cell->calls, 1);
    add(&cell->bytes, bytes > 0 ? bytes : 0);
    add(&cell->nanoseconds, nanoseconds);
}

/* Of the first calls; later ones are counted and not dated. Phases 1 and 2 are training: bnn.records.mpi.PHASES. */
enum { DATED = 65536, FIRST_TRAINING = 1, LAST_TRAINING = 2 };
static _Atomic int64_t dates[DATED][2];
static _Atomic size_t dated;

void keep_dates(unsigned phase, int64_t start, int64_t end) {
    if (phase < FIRST_TRAINING || phase > LAST_TRAINING) return;
    size_t place = atomic_fetch_add_explicit(&dated, 1, memory_order_relaxed);
    if (place >= DATED) return;
    atomic_store_explicit(&dates[place][0], start, memory_order_relaxed);
    atomic_store_explicit(&dates[place][1], end, memory_order_release);
}

/* Copies the dates of up to `room` calls into `pairs` (start, end; nanoseconds). Returns how many there are to copy. */
__attribute__((visibility("default"))) size_t bnn_mpi_trace_dates(int64_t (*pairs)[2], size_t room);
size_t bnn_mpi_trace_dates(int64_t (*pairs)[2], size_t room) {
    size_t there = atomic_load_explicit(&dated, memory_order_acquire), count = there < DATED ? there : DATED;
    for (size_t i = 0; i < count && i < room; i++) {
        pairs[i][1] = atomic_load_explicit(&dates[i][1], memory_order_acquire);
        pairs[i][0] = atomic_load_explicit(&dates[i][0], memory_order_relaxed);
    }
    return count;
}

int64_t lost_calls(void) { return atomic_load_explicit(&lost, memory_order_relaxed); }

static int by_key(const void *left, const void *right) {
    const struct count *a = left, *b = right;
    if (a->phase != b->phase) return a->phase < b->phase ? -1 : 1;
    if (a->routine != b->routine) return a->routine < b->routine ? -1 : 1;
    if (a->op != b->op) return a->op < b->op ? -1 : 1;
    if (a->type != b->type) return a->type < b->type ? -1 : 1;
    return a->bin < b->bin ? -1 : a->bin > b->bin;
}

struct count *all_counts(size_t *number) {
    struct table *first = atomic_load_explicit(&tables, memory_order_acquire);
    size_t room = 0, used = 0, merged = 0;
    for (struct table *table = first; table; table = table->next) room += CELLS;
    struct count *counts = malloc((room ? room : 1) * sizeof *counts);
    if (!counts) return NULL;
    for (struct table *table = first; table; table = table->next)
        for (struct cell *cell = table->cells; cell < table->cells + CELLS; cell++) {
            uint32_t key = atomic_load_explicit(&cell->key, memory_order_acquire);
            int64_t calls = atomic_load_explicit(&cell->calls, memory_order_relaxed);
            if (key && calls)
                counts[used++] = (struct count){
                    key >> 21 & 7, key >> 14 & 127, key >> 10 & 15, key >> 6 & 15, key & 63, calls,
                    atomic_load_explicit(&cell->bytes, memory_order_relaxed),
                    atomic_load_explicit(&cell->nanoseconds, memory_order_relaxed),
                };
        }
    qsort(counts, used, sizeof *counts, by_key);
    for (size_t i = 0; i < used; i++)
        if (merged && by_key(&counts[merged - 1], &counts[i]) == 0) {
            counts[merged - 1].calls += counts[i].calls;
            counts[merged - 1].bytes += counts[i].bytes;
            counts[merged - 1].nanoseconds += counts[i].nanoseconds;
        } else {
            counts[merged++] = counts[i];
        }
    *number = merged;
    return counts;
}

void start_phases(void) {
    pthread_mutex_lock(&phase_lock);
    phase_began = clock_ns();
    phases_run = 1;
    pthread_mutex_unlock(&phase_lock);
}

/* Calls that start from now on count under `phase` (0 to 7). Returns the phase before, or -1 for a wrong number. */
__attribute__((visibility("default"))) int bnn_mpi_trace_phase(int phase);
int bnn_mpi_trace_phase(int phase) {
    if (phase < 0 || phase >= PHASE_COUNT) return -1;
    pthread_mutex_lock(&phase_lock);
    int64_t now = clock_ns();
    unsigned before = atomic_exchange(&current_phase, (unsigned)phase);
    if (phases_run) phase_spent[before] += now - phase_began;
    phase_began = now;
    pthread_mutex_unlock(&phase_lock);
    return (int)before;
}

void phase_seconds(double seconds[PHASE_COUNT]) {
    pthread_mutex_lock(&phase_lock);
    for (int i = 0; i < PHASE_COUNT; i++) seconds[i] = 1e-9 * (double)phase_spent[i];
    if (phases_run) seconds[atomic_load(&current_phase)] += 1e-9 * (double)(clock_ns() - phase_began);
    pthread_mutex_unlock(&phase_lock);
}

double rehearse(void (*body)(void), int times) {
    struct table *scratch = calloc(1, sizeof *scratch), *saved = mine;
    if (!scratch) return -1;
    mine = scratch;
    int64_t began = clock_ns();
    for (int i = 0; i < times; i++) body();
    double each = (double)(clock_ns() - began) / times;
    mine = saved;
    free(scratch);
    return each;
}
