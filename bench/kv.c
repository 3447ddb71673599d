/*
 * Workload kv: one-step threads, appended and replayed, against a key-value server's SET and GET
 * that slides the lifetime. Owns the servers while it runs.
 *
 * A round of a side: append fresh keys, replay them at random, forget them (not measured, so that
 * memory is used again as it would be by lasting traffic). All sides get the same keys and values.
 */
#include "bench/workload.h"

#include "bench/load.h"
#include "bench/progress.h"
#include "bench/sides.h"

#include "base/random.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    CONNECTIONS = 50,
    TTL_S = 300,
    POOL_BYTES = 256 * 1024,
    VALUE_BYTES_MAX = 64 * 1024,
    STORED_BYTES_MAX = 384 << 20, /* of values, at once */
    PROBE_COUNT = 4000,
    COUNT_MIN = 4000,
    COUNT_MAX = 2000000,
    ROUNDS = 5,
    ROUNDS_QUICK = 3,
    SIZE_TEXT_BYTES = 32,
};

struct kv_case {
    uint32_t value_bytes;
    unsigned in_flight;
    bool is_quick;
};

static const struct kv_case cases[] = {
    {64, 1, false},   {64, 16, false},   {64, 64, false},   {1024, 1, true},    {1024, 16, true},
    {1024, 64, true}, {16384, 1, false}, {16384, 16, true}, {16384, 64, false},
};

enum { MEASURED = 2 };
static const enum protocol_op measured[MEASURED] = {PROTOCOL_APPEND, PROTOCOL_REPLAY};
static const char *const measured_names[MEASURED] = {"append", "replay"};

struct kv_side {
    struct side *side;
    struct load *load;
    struct samples rate[MEASURED];
    struct samples cpu_ns[MEASURED];
};

struct kv {
    const struct options *options;
    struct report *report;
    struct sides sides;
    struct kv_side side[SIDES_MAX]; /* as in `sides` */
    struct protocol_values values;
    uint32_t thread_count; /* of a round */
    uint64_t replay_count; /* likewise */
};

static bool run_job(struct kv *kv, struct kv_side *side, enum protocol_op op,
                    struct load_result *result)
{
    struct load_each each = {.op = op, .end = kv->thread_count};
    struct load_any any = {.threads = kv->thread_count, .state = kv->values.series};
    bool replays = op == PROTOCOL_REPLAY;
    struct load_job job = {
        .values = &kv->values,
        .next = replays ? load_any : load_each,
        .context = replays ? (void *)&any : (void *)&each,
        .count = replays ? kv->replay_count : kv->thread_count,
    };
    if (load_run(side->load, &job, result)) {
        return true;
    }
    progress_clear();
    fprintf(stderr, "rethread-bench: kv: %s\n", result->error);
    return false;
}

static bool run_side(struct kv *kv, struct kv_side *side)
{
    struct load_result result;
    for (unsigned i = 0; i < MEASURED; i++) {
        if (!run_job(kv, side, measured[i], &result)) {
            return false;
        }
        samples_add(&side->rate[i], result.requests_per_second);
        if (side->side->server.pid > 0) {
            samples_add(&side->cpu_ns[i], result.server_cpu_ns);
        }
    }
    return run_job(kv, side, PROTOCOL_FORGET, &result);
}

static bool run_round(struct kv *kv, unsigned round)
{
    kv->values.series++;
    for (unsigned at = 0; at < kv->sides.count; at++) {
        if (!run_side(kv, &kv->side[sides_turn(&kv->sides, round, at)])) {
            return false;
        }
    }
    return true;
}

static uint64_t clamp(double count, uint64_t min, uint64_t max)
{
    return count < (double)min ? min : count > (double)max ? max : (uint64_t)count;
}

static double mean_rate(const struct kv *kv, unsigned op)
{
    double sum = 0;
    for (unsigned i = 0; i < kv->sides.count; i++) {
        sum += kv->side[i].rate[op].value[0];
    }
    return sum / kv->sides.count;
}

static void forget_samples(struct kv *kv)
{
    for (unsigned i = 0; i < kv->sides.count; i++) {
        memset(kv->side[i].rate, 0, sizeof kv->side[i].rate);
        memset(kv->side[i].cpu_ns, 0, sizeof kv->side[i].cpu_ns);
    }
}

/* Warms all up, twice, and chooses how many requests make a round of some length. */
static bool calibrate(struct kv *kv, const struct kv_case *kv_case)
{
    uint64_t stored_max = STORED_BYTES_MAX / kv_case->value_bytes;
    double seconds = kv->options->quick ? 0.3 : 1.0;
    kv->replay_count = kv->options->count != 0 ? kv->options->count : PROBE_COUNT;
    kv->thread_count = (uint32_t)kv->replay_count;
    for (unsigned i = 0; i < 2; i++) {
        forget_samples(kv);
        if (!run_round(kv, 0)) {
            return false;
        }
        if (kv->options->count == 0) {
            uint64_t max = stored_max < COUNT_MAX ? stored_max : COUNT_MAX;
            kv->thread_count = (uint32_t)clamp(mean_rate(kv, 0) * seconds, COUNT_MIN, max);
            kv->replay_count = clamp(mean_rate(kv, 1) * seconds, COUNT_MIN, COUNT_MAX);
        }
    }
    forget_samples(kv);
    return true;
}

static struct summary in_thousands(const struct samples *samples)
{
    struct summary summary = summary_of(samples);
    summary.median /= 1000;
    summary.min /= 1000;
    summary.max /= 1000;
    return summary;
}

static void put_size(size_t bytes, char text[SIZE_TEXT_BYTES])
{
    if (bytes >= 1024) {
        snprintf(text, SIZE_TEXT_BYTES, "%zu KiB", bytes / 1024);
    } else {
        snprintf(text, SIZE_TEXT_BYTES, "%zu B", bytes);
    }
}

static void add_rows(struct kv *kv, const struct kv_case *kv_case, const struct kv_side *peer)
{
    const struct kv_side *ours = &kv->side[0];
    for (unsigned i = 0; i < MEASURED; i++) {
        struct report_row row = {
            .bench = "kv",
            .peer = peer != NULL ? peer->side->name : NULL,
            .params = {{"op", measured_names[i], 0},
                       {"size_bytes", NULL, kv_case->value_bytes},
                       {"in_flight", NULL, kv_case->in_flight},
                       {"connections", NULL, CONNECTIONS},
                       {"data", "none", 0},
                       {"loops", NULL, 1}},
        };
        char size[SIZE_TEXT_BYTES];
        put_size(kv_case->value_bytes, size);
        snprintf(row.what, sizeof row.what, "%s %s, %u in flight", measured_names[i], size,
                 kv_case->in_flight);
        row.metric = "server_cpu_per_op";
        row.unit = "ns";
        row.ours = summary_of(&ours->cpu_ns[i]);
        row.theirs = peer != NULL ? summary_of(&peer->cpu_ns[i]) : (struct summary){.count = 0};
        report_add(kv->report, &row);
        row.metric = "throughput";
        row.unit = "thousand/s";
        row.more_is_better = true;
        row.ours = in_thousands(&ours->rate[i]);
        row.theirs = peer != NULL ? in_thousands(&peer->rate[i]) : (struct summary){.count = 0};
        report_add(kv->report, &row);
    }
}

static bool open_load(struct kv_side *side, const struct kv_case *kv_case)
{
    const struct load_shape shape = {.connections = CONNECTIONS,
                                     .in_flight = kv_case->in_flight,
                                     .request_bytes_max = kv_case->value_bytes,
                                     .reply_bytes_max = kv_case->value_bytes,
                                     .steps_max = 1};
    char error[LOAD_ERROR_BYTES];
    side->load = load_open(side->side->protocol, &side->side->server, &shape, error);
    if (side->load == NULL) {
        progress_clear();
        fprintf(stderr, "rethread-bench: kv: %s\n", error);
    }
    return side->load != NULL;
}

static bool run_case(struct kv *kv, const struct kv_case *kv_case)
{
    unsigned rounds = kv->options->quick ? ROUNDS_QUICK : ROUNDS;
    if (kv->options->rounds != 0) {
        rounds = (unsigned)kv->options->rounds;
    }
    kv->values.value_bytes = kv_case->value_bytes;
    bool good = true;
    for (unsigned i = 0; i < kv->sides.count; i++) {
        kv->side[i] = (struct kv_side){.side = &kv->sides.side[i]};
        good = good && open_load(&kv->side[i], kv_case);
    }
    progress_show("kv: %u bytes, %u in flight: warming up", kv_case->value_bytes,
                  kv_case->in_flight);
    good = good && calibrate(kv, kv_case);
    for (unsigned round = 0; good && round < rounds; round++) {
        progress_show("kv: %u bytes, %u in flight: round %u of %u", kv_case->value_bytes,
                      kv_case->in_flight, round + 1, rounds);
        good = run_round(kv, round);
    }
    if (good) {
        add_rows(kv, kv_case, kv->sides.count > 1 ? &kv->side[1] : NULL);
        for (unsigned i = 2; i < kv->sides.count; i++) {
            add_rows(kv, kv_case, &kv->side[i]);
        }
    }
    for (unsigned i = 0; i < kv->sides.count; i++) {
        load_close(kv->side[i].load);
    }
    progress_clear();
    return good;
}

static bool run(const struct options *options, struct report *report)
{
    struct kv kv = {.options = options, .report = report};
    uint8_t *pool = malloc(POOL_BYTES + VALUE_BYTES_MAX);
    if (pool == NULL) {
        fprintf(stderr, "rethread-bench: no memory\n");
        return false;
    }
    random_fill(pool, POOL_BYTES + VALUE_BYTES_MAX);
    random_fill(&kv.values.series, sizeof kv.values.series);
    kv.values.pool = pool;
    kv.values.pool_bytes = POOL_BYTES;
    kv.values.ttl_s = TTL_S;
    const struct sides_wanted wanted = {.peers = SIDES_REDIS, .ttl_s = TTL_S};
    bool good = sides_open(&kv.sides, options, report, &wanted);
    if (good) {
        for (unsigned i = 0; good && i < sizeof cases / sizeof *cases; i++) {
            good = (options->quick && !cases[i].is_quick) || run_case(&kv, &cases[i]);
        }
        sides_close(&kv.sides);
    }
    free(pool);
    return good;
}

const struct workload workload_kv = {
    .name = "kv",
    .help = "append and replay of one-step threads, against redis and memcached",
    .run = run,
};
