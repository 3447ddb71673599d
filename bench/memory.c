/*
 * Workload memory: how much memory the servers' processes take beyond what they were given to keep,
 * and beyond what they say they take. Owns the servers while it runs.
 *
 * Threads: a fresh server each time; its resident memory, less what it had empty, for each thread,
 * less the bytes of its name and steps. Churn: threads of 64 B to 64 KiB, one in its place for each
 * that is forgotten, at random, until ten times the live bytes have gone through.
 */
#include "bench/workload.h"

#include "bench/stock.h"
#include "bench/gauge.h"
#include "bench/load.h"
#include "bench/progress.h"
#include "bench/sides.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    TTL_S = 3600,
    ROUNDS = 5,
    ROUNDS_QUICK = 1, /* it hardly varies */
    SETTLE_MS = 1000,
    STEP_BYTES_MIN = 64,
    STEP_BYTES_MAX = 256,
    CHURN_BYTES_MIN = 64,
    CHURN_BYTES_MAX = 64 * 1024,
    CHURN_LIVE = 56000, /* threads, some 512 MiB */
    CHURN_LIVE_QUICK = 28000,
    CHURN_TIMES = 10,
    CHURN_IN_FLIGHT = 16,
    CHURN_AGE = 2 * STOCK_CONNECTIONS * CHURN_IN_FLIGHT, /* then an append has been answered */
};

static const char name[] = "memory";

struct memory_case {
    uint32_t threads;
    uint32_t threads_quick;
    uint32_t steps;
    uint32_t step_bytes; /* 0: mixed */
    unsigned peers;
    const char *what;
};

static const struct memory_case cases[] = {
    {1000000, 1000000, 1, 1024, SIDES_REDIS | SIDES_MEMCACHED, "threads of 1 KiB"},
    {100000, 25000, 32, 0, SIDES_REDIS_LISTS, "threads of 32 steps, 64 to 256 B"},
};

struct memory {
    const struct options *options;
    struct report *report;
    struct protocol_values values;
    unsigned rounds;
};

/* By thread and step, the same in each round. */
static uint32_t mixed_step_bytes(const void *shape, uint32_t thread, uint32_t step)
{
    (void)shape;
    uint64_t number = protocol_mix((uint64_t)thread << 32 | (step + 1));
    return STEP_BYTES_MIN + (uint32_t)(number % (STEP_BYTES_MAX - STEP_BYTES_MIN + 1));
}

/* As many threads between 64 and 128 bytes as between 32 and 64 KiB. */
static uint32_t churn_bytes(const void *shape, uint32_t thread, uint32_t step)
{
    (void)shape;
    (void)step;
    double share = (double)(protocol_mix((uint64_t)thread + 1) >> 11) / 0x1p53;
    double times = (double)CHURN_BYTES_MAX / CHURN_BYTES_MIN;
    return (uint32_t)(CHURN_BYTES_MIN * pow(times, share));
}

static bool read_gauge(const struct side *side, struct gauge_reading *reading)
{
    struct gauge gauge = {.fd = 0};
    bool good =
        gauge_open(&gauge, gauge_kind_of(side->name), &side->server) && gauge_read(&gauge, reading);
    if (!good) {
        stock_complain(name, gauge.error);
    }
    gauge_close(&gauge);
    return good;
}

/* ---- Bytes of a thread -------------------------------------------------------------------------
 */

static double given_bytes(const struct stock *stock)
{
    double sum = 0;
    for (uint32_t thread = stock->begin; thread < stock->end; thread++) {
        sum += PROTOCOL_NAME_BYTES;
        for (uint32_t step = 0; step < stock->steps; step++) {
            sum += protocol_step_bytes(stock->values, thread, step);
        }
    }
    return sum;
}

static bool fill_and_weigh(const struct side *side, const struct stock *stock, double *bytes)
{
    struct load_result result;
    struct gauge_reading reading;
    double empty = (double)gauge_resident_bytes(&side->server);
    if (!stock_run(name, side, stock, &result) || !read_gauge(side, &reading)) {
        return false;
    }
    if (reading.keys != stock->end - stock->begin) {
        stock_complain(name, "the server does not hold what it was given");
        return false;
    }
    stock_sleep_ms(SETTLE_MS);
    double full = (double)gauge_resident_bytes(&side->server);
    *bytes = (full - empty - given_bytes(stock)) / (stock->end - stock->begin);
    return true;
}

/* The servers that this case wants, started for this round alone. */
static bool open_sides(struct memory *memory, struct sides *sides, unsigned peers)
{
    struct sides_wanted wanted = {.peers = peers, .ttl_s = TTL_S};
    memory->values.series++;
    return sides_open(sides, memory->options, memory->report, &wanted);
}

static void add_rows(struct memory *memory, struct report_row *row, const struct sides *sides,
                     const struct samples samples[SIDES_MAX])
{
    row->bench = name;
    row->ours = summary_of(&samples[0]);
    for (unsigned i = 1; i < sides->count; i++) {
        row->peer = sides->side[i].name;
        row->theirs = summary_of(&samples[i]);
        report_add(memory->report, row);
    }
    if (sides->count == 1) {
        report_add(memory->report, row);
    }
}

/* What one side of a round does; a sample, or false after a message. */
typedef bool side_fn(struct memory *memory, const struct side *side, const void *what,
                     double *sample);

static bool run_rounds(struct memory *memory, unsigned peers, side_fn *run_side, const void *what,
                       struct report_row *row)
{
    struct samples samples[SIDES_MAX] = {{.count = 0}};
    struct sides sides = {.count = 0};
    bool good = true;
    for (unsigned round = 0; good && round < memory->rounds; round++) {
        if (!open_sides(memory, &sides, peers)) {
            return false;
        }
        unsigned count = sides.count;
        for (unsigned at = 0; good && at < count; at++) {
            unsigned i = sides_turn(&sides, round, at);
            double sample;
            if (sides.side[i].server.pid <= 0) {
                stock_complain(name, "a server whose process is unknown cannot be weighed");
                good = false;
                break;
            }
            progress_show("memory: round %u of %u, %s: %s", round + 1, memory->rounds, row->what,
                          sides.side[i].name);
            good = run_side(memory, &sides.side[i], what, &sample);
            if (good) {
                samples_add(&samples[i], sample);
            }
        }
        sides_close(&sides);
        sides.count = count;
    }
    if (good) {
        add_rows(memory, row, &sides, samples);
    }
    return good;
}

static bool weigh_side(struct memory *memory, const struct side *side, const void *what,
                       double *sample)
{
    const struct memory_case *memory_case = what;
    struct stock stock = {
        .values = &memory->values,
        .end = memory->options->quick ? memory_case->threads_quick : memory_case->threads,
        .steps = memory_case->steps,
    };
    return fill_and_weigh(side, &stock, sample);
}

static bool run_case(struct memory *memory, const struct memory_case *memory_case)
{
    uint32_t threads = memory->options->quick ? memory_case->threads_quick : memory_case->threads;
    struct report_row row = {
        .params = {{"threads", NULL, threads}, {"steps", NULL, memory_case->steps}},
        .metric = "bytes_per_thread",
        .unit = "bytes",
    };
    snprintf(row.what, sizeof row.what, "%" PRIu32 " %s", threads, memory_case->what);
    memory->values.value_bytes = memory_case->step_bytes;
    memory->values.size_of = memory_case->step_bytes == 0 ? mixed_step_bytes : NULL;
    return run_rounds(memory, memory_case->peers, weigh_side, memory_case, &row);
}

/* ---- Churn -------------------------------------------------------------------------------------
 */

struct churn {
    uint32_t *slots; /* the threads that live */
    uint32_t count;
    uint32_t next; /* thread */
    uint32_t end;
    uint32_t free_slot; /* whose thread was forgotten last */
    bool forgot;
    uint64_t state;
};

static bool churn_next(void *context, unsigned connection, struct protocol_item *item)
{
    struct churn *churn = context;
    (void)connection;
    if (churn->forgot) {
        churn->forgot = false;
        churn->slots[churn->free_slot] = churn->next;
        *item = (struct protocol_item){.op = PROTOCOL_APPEND, .thread = churn->next++};
        return true;
    }
    if (churn->next >= churn->end) {
        return false;
    }
    /* Not one whose append may still be on its way. */
    do {
        churn->free_slot = (uint32_t)(protocol_mix(++churn->state) % churn->count);
    } while (churn->slots[churn->free_slot] + CHURN_AGE > churn->next);
    churn->forgot = true;
    *item = (struct protocol_item){.op = PROTOCOL_FORGET, .thread = churn->slots[churn->free_slot]};
    return true;
}

static bool run_churn(struct memory *memory, const struct side *side, struct churn *churn)
{
    struct load_shape shape = {.connections = STOCK_CONNECTIONS,
                               .in_flight = CHURN_IN_FLIGHT,
                               .request_bytes_max = CHURN_BYTES_MAX,
                               .reply_bytes_max = PROTOCOL_SLACK_BYTES,
                               .steps_max = 1};
    struct load_job job = {.values = &memory->values, .next = churn_next, .context = churn};
    struct load_result result = {.count = 0};
    struct load *load = load_open(side->protocol, &side->server, &shape, result.error);
    bool good = load != NULL && load_run(load, &job, &result);
    load_close(load);
    if (!good) {
        stock_complain(name, result.error);
    }
    return good;
}

/* Resident memory over what the server accounts for. */
static bool churn_side(struct memory *memory, const struct side *side, const void *what,
                       double *sample)
{
    const uint32_t live = *(const uint32_t *)what;
    assert(live > 2 * CHURN_AGE);
    struct churn churn = {.slots = malloc(live * sizeof *churn.slots),
                          .count = live,
                          .next = live,
                          .end = live + CHURN_TIMES * live,
                          .state = memory->values.series};
    if (churn.slots == NULL) {
        stock_complain(name, "no memory");
        return false;
    }
    for (uint32_t i = 0; i < live; i++) {
        churn.slots[i] = i;
    }
    struct stock stock = {.values = &memory->values, .end = live, .steps = 1};
    struct load_result result;
    struct gauge_reading reading = {.keys = 0};
    bool good = stock_run(name, side, &stock, &result) && run_churn(memory, side, &churn);
    free(churn.slots);
    stock_sleep_ms(SETTLE_MS);
    good = good && read_gauge(side, &reading);
    if (good && reading.keys != live) {
        stock_complain(name, "the server does not hold what it was given");
        return false;
    }
    *sample = (double)gauge_resident_bytes(&side->server) /
              (double)(reading.accounted_bytes + reading.stock_bytes);
    return good;
}

static bool run_churns(struct memory *memory)
{
    const uint32_t live = memory->options->quick ? CHURN_LIVE_QUICK : CHURN_LIVE;
    struct report_row row = {
        .params = {{"threads", NULL, live}, {"churn", NULL, CHURN_TIMES}},
        .metric = "resident_share",
        .unit = "x",
    };
    snprintf(row.what, sizeof row.what, "%" PRIu32 " threads of 64 B to 64 KiB, changed %d times",
             live, CHURN_TIMES);
    memory->values.size_of = churn_bytes;
    return run_rounds(memory, SIDES_REDIS | SIDES_MEMCACHED, churn_side, &live, &row);
}

static bool run(const struct options *options, struct report *report)
{
    struct memory memory = {.options = options, .report = report};
    memory.rounds = options->rounds != 0 ? (unsigned)options->rounds
                    : options->quick     ? ROUNDS_QUICK
                                         : ROUNDS;
    bool good = stock_values(&memory.values, CHURN_BYTES_MAX, TTL_S);
    for (unsigned i = 0; good && i < sizeof cases / sizeof *cases; i++) {
        good = run_case(&memory, &cases[i]);
    }
    good = good && run_churns(&memory);
    progress_clear();
    stock_values_free(&memory.values);
    return good;
}

const struct workload workload_memory = {
    .name = name,
    .help = "what threads take in memory beyond their bytes, and after churn",
    .run = run,
};
