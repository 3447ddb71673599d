/*
 * Workload scale: what an operation costs the server when it holds ten thousand threads, and when
 * it holds a thousand times as many. Owns the servers while it runs.
 *
 * One set of servers stays at the least count while another grows from count to count. At each, a
 * round of a side appends threads and forgets them again, some times over, and replays any of the
 * many at random, on the small server and on the large one right after; both are measured in the
 * server's CPU time. So growth, large over small, is of two figures of the same moment: the speed
 * of a shared machine changes more within a minute than what is measured here.
 */
#include "bench/workload.h"

#include "bench/stock.h"
#include "bench/load.h"
#include "bench/progress.h"
#include "bench/sides.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

enum {
    VALUE_BYTES = 64,
    IN_FLIGHT = 16,
    TTL_S = 3600,
    ROUNDS = 5,
    ROUNDS_QUICK = 3,
    APPENDS = 10000, /* at once: no more than the least count */
    PASSES = 5,
    REPLAYS = 100000,
    COUNTS = 4,
    COUNTS_QUICK = 3,
    OPS = 2,
};

static const char name[] = "scale";
static const uint32_t counts[COUNTS] = {10000, 100000, 1000000, 10000000};
static const char *const op_names[OPS] = {"append", "replay"};

struct scale_server {
    struct side *side;
    struct load *load;
};

struct scale_side {
    struct scale_server small;
    struct scale_server large;
    struct samples small_ns[OPS]; /* beside the largest */
    struct samples large_ns[OPS][COUNTS];
    struct samples growth[OPS][COUNTS];
};

struct scale {
    const struct options *options;
    struct report *report;
    struct sides small;
    struct sides large;
    struct scale_side side[SIDES_MAX];
    struct protocol_values many;
    struct protocol_values more; /* appended and forgotten */
    unsigned rounds;
    unsigned used; /* of the counts */
};

static bool run_job(const struct scale_server *server, const struct protocol_values *values,
                    load_next_fn *next, void *context, uint64_t count, double *cpu_ns)
{
    struct load_result result;
    struct load_job job = {.values = values, .next = next, .context = context, .count = count};
    if (!load_run(server->load, &job, &result)) {
        stock_complain(name, result.error);
        return false;
    }
    *cpu_ns = result.server_cpu_ns;
    return true;
}

static bool measure(struct scale *scale, const struct scale_server *server, uint32_t threads,
                    double cost_ns[OPS])
{
    double cpu_ns;
    cost_ns[0] = 0;
    for (unsigned pass = 0; pass < PASSES; pass++) {
        struct load_each append = {.op = PROTOCOL_APPEND, .end = APPENDS};
        struct load_each forget = {.op = PROTOCOL_FORGET, .end = APPENDS};
        scale->more.series++;
        if (!run_job(server, &scale->more, load_each, &append, APPENDS, &cpu_ns)) {
            return false;
        }
        cost_ns[0] += cpu_ns / PASSES;
        if (!run_job(server, &scale->more, load_each, &forget, APPENDS, &cpu_ns)) {
            return false;
        }
    }
    struct load_any any = {.threads = threads, .state = scale->more.series};
    return run_job(server, &scale->many, load_any, &any, REPLAYS, &cost_ns[1]);
}

static bool grow(struct scale *scale, const struct scale_server *server, uint32_t begin,
                 uint32_t end)
{
    struct stock stock = {.values = &scale->many, .begin = begin, .end = end, .steps = 1};
    struct load_result result;
    progress_show("scale: %s grows to %" PRIu32 " threads", server->side->name, end);
    return stock_run(name, server->side, &stock, &result);
}

/* The first round warms up. */
static bool run_round(struct scale *scale, unsigned at, unsigned round)
{
    for (unsigned turn = 0; turn < scale->large.count; turn++) {
        struct scale_side *side = &scale->side[sides_turn(&scale->large, round, turn)];
        double small_ns[OPS];
        double large_ns[OPS];
        if (!measure(scale, &side->small, counts[0], small_ns) ||
            !measure(scale, &side->large, counts[at], large_ns)) {
            return false;
        }
        for (unsigned op = 0; round > 0 && op < OPS; op++) {
            if (at == scale->used - 1) {
                samples_add(&side->small_ns[op], small_ns[op]);
            }
            samples_add(&side->large_ns[op][at], large_ns[op]);
            samples_add(&side->growth[op][at], large_ns[op] / small_ns[op]);
        }
    }
    return true;
}

static bool run_count(struct scale *scale, unsigned at)
{
    for (unsigned i = 0; i < scale->large.count; i++) {
        if (!grow(scale, &scale->side[i].large, at == 1 ? 0 : counts[at - 1], counts[at])) {
            return false;
        }
    }
    for (unsigned round = 0; round <= scale->rounds; round++) {
        progress_show("scale: %" PRIu32 " threads, round %u of %u", counts[at], round,
                      scale->rounds);
        if (!run_round(scale, at, round)) {
            return false;
        }
    }
    return true;
}

/* ---- Rows --------------------------------------------------------------------------------------
 */

/* One row of an operation; `offset` is of its samples in a side. */
static void add(struct scale *scale, unsigned op, uint32_t threads, const char *metric,
                const char *unit, size_t offset)
{
    const char *ours = (const char *)&scale->side[0];
    const char *theirs = (const char *)&scale->side[1];
    struct report_row row = {
        .bench = name,
        .params = {{"op", op_names[op], 0}, {"threads", NULL, threads}},
        .metric = metric,
        .unit = unit,
        .ours = summary_of((const struct samples *)(ours + offset)),
    };
    snprintf(row.what, sizeof row.what, "%s among %" PRIu32 " threads", op_names[op], threads);
    if (scale->large.count > 1) {
        row.peer = scale->large.side[1].name;
        row.theirs = summary_of((const struct samples *)(theirs + offset));
    }
    report_add(scale->report, &row);
}

static void add_rows(struct scale *scale, unsigned op)
{
    add(scale, op, counts[0], "server_cpu_per_op", "ns", offsetof(struct scale_side, small_ns[op]));
    for (unsigned at = 1; at < scale->used; at++) {
        add(scale, op, counts[at], "server_cpu_per_op", "ns",
            offsetof(struct scale_side, large_ns[op][at]));
    }
    for (unsigned at = 1; at < scale->used; at++) {
        add(scale, op, counts[at], "growth", "x", offsetof(struct scale_side, growth[op][at]));
    }
}

/* ---- Beginning and end -------------------------------------------------------------------------
 */

static bool open_server(struct scale_server *server, struct side *side)
{
    char error[LOAD_ERROR_BYTES];
    struct load_shape shape = {.connections = STOCK_CONNECTIONS,
                               .in_flight = IN_FLIGHT,
                               .request_bytes_max = VALUE_BYTES,
                               .reply_bytes_max = VALUE_BYTES,
                               .steps_max = 1};
    server->side = side;
    server->load = load_open(side->protocol, &side->server, &shape, error);
    if (server->load == NULL) {
        stock_complain(name, error);
    }
    return server->load != NULL;
}

static bool run_counts(struct scale *scale)
{
    for (unsigned i = 0; i < scale->large.count; i++) {
        if (!open_server(&scale->side[i].small, &scale->small.side[i]) ||
            !open_server(&scale->side[i].large, &scale->large.side[i]) ||
            !grow(scale, &scale->side[i].small, 0, counts[0])) {
            return false;
        }
    }
    for (unsigned at = 1; at < scale->used; at++) {
        if (!run_count(scale, at)) {
            return false;
        }
    }
    for (unsigned op = 0; op < OPS; op++) {
        add_rows(scale, op);
    }
    return true;
}

static bool open_all(struct scale *scale)
{
    const struct options *options = scale->options;
    struct sides_wanted wanted = {.peers = SIDES_REDIS, .ttl_s = TTL_S};
    if (options->server != NULL || (options->peer != NULL && strchr(options->peer, ':') != NULL)) {
        stock_complain(name, "it takes two servers of each kind: they cannot be attached to");
        return false;
    }
    if (!sides_open(&scale->small, options, scale->report, &wanted)) {
        return false;
    }
    if (!sides_open(&scale->large, options, scale->report, &wanted)) {
        sides_close(&scale->small);
        return false;
    }
    return true;
}

static void close_all(struct scale *scale)
{
    for (unsigned i = 0; i < scale->large.count; i++) {
        load_close(scale->side[i].small.load);
        load_close(scale->side[i].large.load);
    }
    sides_close(&scale->large);
    sides_close(&scale->small);
}

static bool run(const struct options *options, struct report *report)
{
    static struct scale scale;
    scale = (struct scale){.options = options, .report = report};
    scale.used = options->quick ? COUNTS_QUICK : COUNTS;
    scale.rounds = options->rounds != 0 ? (unsigned)options->rounds
                   : options->quick     ? ROUNDS_QUICK
                                        : ROUNDS;
    bool opened = stock_values(&scale.many, VALUE_BYTES, TTL_S) && open_all(&scale);
    bool good = opened;
    if (opened) {
        scale.many.value_bytes = VALUE_BYTES;
        scale.more = scale.many;
        good = run_counts(&scale);
        close_all(&scale);
    }
    progress_clear();
    stock_values_free(&scale.many);
    return good;
}

const struct workload workload_scale = {
    .name = name,
    .help = "cost of an operation from ten thousand threads to ten million",
    .run = run,
};
