/*
 * Workload kv: one-step threads, appended and replayed, against a key-value server's SET and GET
 * that slides the lifetime. Owns the servers while it runs.
 *
 * A round of a side: append fresh keys, replay them at random, forget them (not measured, so that
 * memory is used again as it would be by lasting traffic). All sides get the same keys and values.
 *
 * With the disk tier on, what an append costs later, on its way from the log into the tree, is
 * counted to it: the clock is read when the server has come to rest.
 */
#include "bench/kv.h"

#include "bench/folder.h"
#include "bench/progress.h"
#include "bench/workload.h"

#include "base/random.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    TTL_S = 300,
    POOL_BYTES = 256 * 1024,
    STORED_BYTES_MAX = 384 << 20,     /* of values, at once */
    STORED_BYTES_MAX_DISK = 96 << 20, /* likewise */
    PROBE_COUNT = 4000,
    COUNT_MIN = 4000,
    COUNT_MAX = 2000000,
    ROUNDS = 5,
    ROUNDS_QUICK = 6, /* short ones */
    PROBES = 2,
};

static const double round_s = 0.8; /* of each of the two operations */
static const double round_quick_s = 0.1;

struct kv_case {
    uint32_t value_bytes;
    unsigned in_flight;
    enum kv_run { FULL, PASS, QUICK } shortest; /* run that it is part of; PASS: `all --quick` */
};

static const struct kv_case cases[] = {
    {64, 1, FULL},      {64, 16, FULL},    {64, 64, FULL},   {1024, 1, QUICK},  {1024, 16, QUICK},
    {1024, 64, QUICK},  {4096, 1, FULL},   {4096, 16, FULL}, {4096, 64, FULL},  {16384, 1, FULL},
    {16384, 16, QUICK}, {16384, 64, FULL}, {65536, 1, FULL}, {65536, 16, PASS}, {65536, 64, FULL},
};

enum { MEASURED = 2 };
static const enum protocol_op measured[MEASURED] = {PROTOCOL_APPEND, PROTOCOL_REPLAY};
static const char *const measured_names[MEASURED] = {"append", "replay"};

/* A side in one case. */
struct kv_side {
    const struct server *server;
    struct load *load;
    struct samples rate[MEASURED];
    struct samples cpu_ns[MEASURED];
};

struct kv_work {
    struct kv *kv;
    struct kv_side side[SIDES_MAX]; /* as in kv->sides */
    uint32_t threads;               /* of a round */
    uint64_t replays;               /* likewise */
};

/* ---- What kv_latency.c needs as well --------------------------------------------------------- */

struct load *kv_open_load(const struct kv *kv, unsigned side, uint32_t value_bytes,
                          unsigned in_flight)
{
    const struct load_shape shape = {.connections = KV_CONNECTIONS,
                                     .in_flight = in_flight,
                                     .request_bytes_max = value_bytes,
                                     .reply_bytes_max = value_bytes,
                                     .steps_max = 1};
    const struct side *opened = &kv->sides.side[side];
    struct load_result result = {.count = 0};
    struct load *load = load_open(opened->protocol, &opened->server, &shape, result.error);
    if (load == NULL) {
        (void)kv_fail(&result);
    }
    return load;
}

bool kv_fail(const struct load_result *result)
{
    progress_clear();
    fprintf(stderr, "rethread-bench: kv: %s\n", result->error);
    return false;
}

bool kv_run(const struct kv *kv, struct load *load, enum protocol_op op, uint32_t threads,
            uint64_t count, struct load_result *result)
{
    struct load_each each = {.op = op, .end = threads};
    struct load_any any = {.threads = threads, .state = kv->values.series};
    bool replays = op == PROTOCOL_REPLAY;
    struct load_job job = {
        .values = &kv->values,
        .next = replays ? load_any : load_each,
        .context = replays ? (void *)&any : (void *)&each,
        .count = count,
    };
    if (!load_run(load, &job, result)) {
        return kv_fail(result);
    }
    if (result->count != count) {
        snprintf(result->error, sizeof result->error, "%" PRIu64 " requests of %" PRIu64 " made",
                 result->count, count);
        return kv_fail(result);
    }
    return true;
}

void kv_set_params(const struct kv *kv, struct report_row *row, const struct report_param *first,
                   unsigned count)
{
    const uint64_t loops = kv->options->loops != 0 ? kv->options->loops : 1;
    const struct report_param same[] = {{"connections", NULL, KV_CONNECTIONS},
                                        {"data", kv->values.retained ? "disk" : "none", 0},
                                        {"loops", NULL, loops}};
    memcpy(row->params, first, count * sizeof *first);
    memcpy(row->params + count, same, sizeof same);
}

void kv_put_size(uint32_t bytes, char text[KV_SIZE_TEXT_BYTES])
{
    if (bytes >= 1024) {
        snprintf(text, KV_SIZE_TEXT_BYTES, "%u KiB", bytes / 1024);
    } else {
        snprintf(text, KV_SIZE_TEXT_BYTES, "%u B", bytes);
    }
}

/* ---- Rounds ---------------------------------------------------------------------------------- */

static bool measure(struct kv_work *work, struct kv_side *side, unsigned i)
{
    const struct kv *kv = work->kv;
    uint64_t count = measured[i] == PROTOCOL_REPLAY ? work->replays : work->threads;
    bool settles = kv->values.retained && side == &work->side[0];
    uint64_t before_ns = settles ? server_settled_cpu_ns(side->server) : 0;
    struct load_result result;
    if (!kv_run(kv, side->load, measured[i], work->threads, count, &result)) {
        return false;
    }
    if (settles) {
        uint64_t used_ns = server_settled_cpu_ns(side->server) - before_ns;
        result.server_cpu_ns = (double)used_ns / (double)count;
    }
    samples_add(&side->rate[i], result.requests_per_second);
    if (side->server->pid > 0) {
        samples_add(&side->cpu_ns[i], result.server_cpu_ns);
    }
    return true;
}

static bool run_side(struct kv_work *work, struct kv_side *side)
{
    for (unsigned i = 0; i < MEASURED; i++) {
        if (!measure(work, side, i)) {
            return false;
        }
    }
    struct load_result result;
    return kv_run(work->kv, side->load, PROTOCOL_FORGET, work->threads, work->threads, &result);
}

static bool run_round(struct kv_work *work, unsigned round)
{
    const struct sides *sides = &work->kv->sides;
    work->kv->values.series++;
    for (unsigned at = 0; at < sides->count; at++) {
        if (!run_side(work, &work->side[sides_turn(sides, round, at)])) {
            return false;
        }
    }
    return true;
}

static void forget_samples(struct kv_work *work)
{
    for (unsigned i = 0; i < work->kv->sides.count; i++) {
        memset(work->side[i].rate, 0, sizeof work->side[i].rate);
        memset(work->side[i].cpu_ns, 0, sizeof work->side[i].cpu_ns);
    }
}

/* How many requests to each side take so long on average. */
static uint64_t count_for(const struct kv_work *work, unsigned op, double seconds, uint64_t max)
{
    double each_s = 0;
    for (unsigned i = 0; i < work->kv->sides.count; i++) {
        each_s += 1 / work->side[i].rate[op].value[0];
    }
    double count = seconds * work->kv->sides.count / each_s;
    uint64_t least = COUNT_MIN < max ? COUNT_MIN : max;
    return count < (double)least ? least : count > (double)max ? max : (uint64_t)count;
}

/* Warms all up, the second time longer, and chooses how many requests make a round. */
static bool calibrate(struct kv_work *work, const struct kv_case *kv_case)
{
    const struct kv *kv = work->kv;
    uint64_t stored = kv->values.retained ? STORED_BYTES_MAX_DISK : STORED_BYTES_MAX;
    uint64_t stored_max = stored / kv_case->value_bytes;
    uint64_t threads_max = stored_max < COUNT_MAX ? stored_max : COUNT_MAX;
    double seconds = kv->options->quick ? round_quick_s : round_s;
    uint64_t probe = PROBE_COUNT < threads_max ? PROBE_COUNT : threads_max;
    work->replays = kv->options->count != 0 ? kv->options->count : probe;
    work->threads = (uint32_t)work->replays;
    for (unsigned i = 0; i < PROBES; i++) {
        forget_samples(work);
        if (!run_round(work, i)) {
            return false;
        }
        if (kv->options->count == 0) {
            double share = i + 1 < PROBES ? 0.3 : 1;
            work->threads = (uint32_t)count_for(work, 0, share * seconds, threads_max);
            work->replays = count_for(work, 1, share * seconds, COUNT_MAX);
        }
    }
    forget_samples(work);
    return true;
}

/* ---- Rows ------------------------------------------------------------------------------------ */

static struct summary in_thousands(const struct samples *samples)
{
    struct summary summary = summary_of(samples);
    summary.median /= 1000;
    summary.min /= 1000;
    summary.max /= 1000;
    return summary;
}

/* `peer` NULL: rethread alone. */
static void add_rows(const struct kv_work *work, const struct kv_case *kv_case, unsigned op,
                     const char *name, const struct kv_side *peer)
{
    static const struct kv_side none = {.load = NULL};
    const struct kv_side *ours = &work->side[0];
    const struct kv_side *theirs = peer != NULL ? peer : &none;
    struct report_row row = {.bench = "kv", .peer = name};
    const struct report_param params[] = {{"op", measured_names[op], 0},
                                          {"size_bytes", NULL, kv_case->value_bytes},
                                          {"in_flight", NULL, kv_case->in_flight}};
    kv_set_params(work->kv, &row, params, sizeof params / sizeof *params);
    char size[KV_SIZE_TEXT_BYTES];
    kv_put_size(kv_case->value_bytes, size);
    snprintf(row.what, sizeof row.what, "%s %s, %u in flight%s", measured_names[op], size,
             kv_case->in_flight, work->kv->values.retained ? ", on disk" : "");
    row.metric = "server_cpu_per_op";
    row.unit = "ns";
    row.ours = summary_of(&ours->cpu_ns[op]);
    row.theirs = summary_of(&theirs->cpu_ns[op]);
    report_add(work->kv->report, &row);
    row.metric = "throughput";
    row.unit = "thousand/s";
    row.more_is_better = true;
    row.ours = in_thousands(&ours->rate[op]);
    row.theirs = in_thousands(&theirs->rate[op]);
    report_add(work->kv->report, &row);
}

static void add_all_rows(const struct kv_work *work, const struct kv_case *kv_case)
{
    const struct sides *sides = &work->kv->sides;
    for (unsigned op = 0; op < MEASURED; op++) {
        if (sides->count == 1) {
            add_rows(work, kv_case, op, NULL, NULL);
        }
        for (unsigned i = 1; i < sides->count; i++) {
            add_rows(work, kv_case, op, sides->side[i].name, &work->side[i]);
        }
    }
}

/* ---- The workload ---------------------------------------------------------------------------- */

static bool run_case(struct kv *kv, const struct kv_case *kv_case)
{
    struct kv_work work = {.kv = kv};
    char size[KV_SIZE_TEXT_BYTES];
    kv_put_size(kv_case->value_bytes, size);
    kv->values.value_bytes = kv_case->value_bytes;
    bool good = true;
    for (unsigned i = 0; i < kv->sides.count; i++) {
        work.side[i].server = &kv->sides.side[i].server;
        work.side[i].load =
            good ? kv_open_load(kv, i, kv_case->value_bytes, kv_case->in_flight) : NULL;
        good = work.side[i].load != NULL;
    }
    progress_show("kv: %s, %u in flight: warming up", size, kv_case->in_flight);
    good = good && calibrate(&work, kv_case);
    for (unsigned round = 0; good && round < kv->rounds; round++) {
        progress_show("kv: %s, %u in flight: round %u of %u", size, kv_case->in_flight, round + 1,
                      kv->rounds);
        good = run_round(&work, round);
    }
    if (good) {
        add_all_rows(&work, kv_case);
    }
    for (unsigned i = 0; i < kv->sides.count; i++) {
        load_close(work.side[i].load);
    }
    progress_clear();
    return good;
}

static bool run_all(struct kv *kv, const char *data)
{
    const struct sides_wanted wanted = {
        .peers = SIDES_REDIS | SIDES_MEMCACHED, .ttl_s = TTL_S, .data = data};
    if (!sides_open(&kv->sides, kv->options, kv->report, &wanted)) {
        return false;
    }
    bool good = true;
    enum kv_run now = !kv->options->quick ? FULL : options_is_pass(kv->options) ? PASS : QUICK;
    for (unsigned i = 0; good && i < sizeof cases / sizeof *cases; i++) {
        good = cases[i].shortest < now || run_case(kv, &cases[i]);
    }
    good = good && kv_measure_latency(kv);
    sides_close(&kv->sides);
    return good;
}

static bool run(const struct options *options, struct report *report)
{
    struct kv kv = {.options = options,
                    .report = report,
                    .rounds = options->rounds != 0 ? (unsigned)options->rounds
                              : options->quick     ? (unsigned)ROUNDS_QUICK
                                                   : (unsigned)ROUNDS};
    struct folder folder = {.guard = 0};
    bool on_disk = options->data != NULL && strcmp(options->data, "none") != 0;
    if (on_disk && !folder_make(&folder, options->data)) {
        return false;
    }
    uint8_t *pool = malloc(POOL_BYTES + KV_VALUE_BYTES_MAX);
    if (pool == NULL) {
        fprintf(stderr, "rethread-bench: no memory\n");
        folder_end(&folder);
        return false;
    }
    random_fill(pool, POOL_BYTES + KV_VALUE_BYTES_MAX);
    random_fill(&kv.values.series, sizeof kv.values.series);
    kv.values.pool = pool;
    kv.values.pool_bytes = POOL_BYTES;
    kv.values.ttl_s = TTL_S;
    kv.values.retained = on_disk;
    if (on_disk) {
        report_note(report, "kv with the disk tier on: rethread puts every step on disk as well; "
                            "its peers keep theirs in memory only.");
    }
    bool good = run_all(&kv, on_disk ? folder.name : NULL);
    free(pool);
    folder_end(&folder);
    return good;
}

const struct workload workload_kv = {
    .name = "kv",
    .help = "append and replay of one-step threads, against redis and memcached",
    .run = run,
};
