/*
 * Latencies of replays in an open loop, at shares of the peer's own greatest rate; see kv.h.
 *
 * That rate is Redis's where it is there, with one request in flight on each connection: more
 * than one at once is what clients do that do not care for latency.
 */
#include "bench/kv.h"

#include "bench/hist.h"
#include "bench/progress.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    VALUE_BYTES = 1024,
    THREADS = 50000,
    IN_FLIGHT = 16, /* on one connection, when the server falls behind */
    RATE_PROBES = 3,
    ROUNDS = 15, /* many short ones: the median is what nothing else on the machine disturbed */
    ROUNDS_QUICK = 9,
    SHARES = 4,
};

static const double probe_s = 0.3;
static const double round_s = 1;
static const double round_quick_s = 0.25;

static const struct {
    unsigned percent;
    bool is_quick;
} rates[] = {{50, true}, {80, false}};

static const double shares[SHARES] = {0.5, 0.99, 0.999, 0.9999};
static const char *const share_names[SHARES] = {"p50", "p99", "p99.9", "p99.99"};

struct latency_side {
    struct load *load;
    struct samples us[SHARES];
    struct hist all_ns; /* of all rounds */
};

struct latency {
    struct kv *kv;
    uint32_t threads;
    double greatest;     /* requests per second */
    const char *whose;   /* that rate is */
    struct hist *now_ns; /* of one run */
    struct latency_side *side[SIDES_MAX];
};

/* The side whose rate counts: Redis, or the first peer, or rethread alone. */
static unsigned yardstick(const struct sides *sides)
{
    for (unsigned i = 1; i < sides->count; i++) {
        if (strcmp(sides->side[i].name, "redis") == 0) {
            return i;
        }
    }
    return sides->count > 1 ? 1 : 0;
}

static bool find_greatest(struct latency *latency)
{
    const struct kv *kv = latency->kv;
    unsigned which = yardstick(&kv->sides);
    struct load *load = kv_open_load(kv, which, VALUE_BYTES, 1);
    bool good = load != NULL;
    struct load_any any = {.threads = latency->threads};
    const struct load_job job = {.values = &kv->values,
                                 .next = load_any,
                                 .context = &any,
                                 .count = kv->options->count,
                                 .seconds = probe_s};
    latency->whose = kv->sides.side[which].name;
    for (unsigned i = 0; good && i < RATE_PROBES; i++) {
        struct load_result result;
        good = load_run(load, &job, &result) || kv_fail(&result);
        if (good && result.requests_per_second > latency->greatest) {
            latency->greatest = result.requests_per_second;
        }
    }
    load_close(load);
    return good;
}

static bool run_side(struct latency *latency, unsigned which, double rate)
{
    const struct kv *kv = latency->kv;
    struct latency_side *side = latency->side[which];
    struct load_any any = {.threads = latency->threads, .state = kv->values.series};
    struct load_job job = {.values = &kv->values,
                           .next = load_any,
                           .context = &any,
                           .rate = rate,
                           .count = kv->options->count,
                           .seconds = kv->options->quick ? round_quick_s : round_s,
                           .hist_ns = latency->now_ns};
    struct load_result result;
    hist_clear(latency->now_ns);
    if (!load_run(side->load, &job, &result)) {
        return kv_fail(&result);
    }
    for (unsigned i = 0; i < SHARES; i++) {
        samples_add(&side->us[i], (double)hist_percentile(latency->now_ns, shares[i]) / 1000);
    }
    hist_add(&side->all_ns, latency->now_ns);
    return true;
}

/* `peer` NULL: rethread alone. */
static void add_rows(const struct latency *latency, unsigned percent, const char *name,
                     const struct latency_side *peer)
{
    const struct kv *kv = latency->kv;
    const struct latency_side *ours = latency->side[0];
    struct report_row row = {.bench = "kv", .peer = name, .unit = "us"};
    const struct report_param params[] = {
        {"op", "replay", 0}, {"size_bytes", NULL, VALUE_BYTES}, {"rate_percent", NULL, percent}};
    kv_set_params(kv, &row, params, sizeof params / sizeof *params);
    char size[KV_SIZE_TEXT_BYTES];
    kv_put_size(VALUE_BYTES, size);
    snprintf(row.what, sizeof row.what, "replay %s, %u%% of what %s can do: %.0f k/s", size,
             percent, latency->whose, latency->greatest * percent / 100 / 1000);
    for (unsigned i = 0; i < SHARES; i++) {
        row.metric = share_names[i];
        row.ours = summary_of(&ours->us[i]);
        row.theirs = peer != NULL ? summary_of(&peer->us[i]) : (struct summary){.count = 0};
        report_add(kv->report, &row);
    }
}

static void add_all_rows(struct latency *latency, unsigned percent)
{
    const struct sides *sides = &latency->kv->sides;
    if (sides->count == 1) {
        add_rows(latency, percent, NULL, NULL);
    }
    char plot[REPORT_CURVE_BYTES];
    snprintf(plot, sizeof plot, "latency at %u%%", percent);
    for (unsigned i = 0; i < sides->count; i++) {
        if (i > 0) {
            add_rows(latency, percent, sides->side[i].name, latency->side[i]);
        }
        report_latency(latency->kv->report, "kv", plot, sides->side[i].name,
                       &latency->side[i]->all_ns);
    }
}

static bool measure_rate(struct latency *latency, unsigned percent)
{
    const struct sides *sides = &latency->kv->sides;
    const struct options *options = latency->kv->options;
    unsigned rounds = options->rounds != 0 ? (unsigned)options->rounds
                      : options->quick     ? (unsigned)ROUNDS_QUICK
                                           : (unsigned)ROUNDS;
    double rate = latency->greatest * percent / 100;
    for (unsigned round = 0; round < rounds; round++) {
        progress_show("kv: latency at %.0f k/s: round %u of %u", rate / 1000, round + 1, rounds);
        for (unsigned at = 0; at < sides->count; at++) {
            if (!run_side(latency, sides_turn(sides, round, at), rate)) {
                return false;
            }
        }
    }
    add_all_rows(latency, percent);
    return true;
}

static void clear_samples(struct latency *latency)
{
    for (unsigned i = 0; i < latency->kv->sides.count; i++) {
        memset(latency->side[i]->us, 0, sizeof latency->side[i]->us);
        hist_clear(&latency->side[i]->all_ns);
    }
}

static bool fill(struct latency *latency, unsigned which)
{
    const struct kv *kv = latency->kv;
    struct latency_side *side = latency->side[which];
    struct load_result result;
    side->load = kv_open_load(kv, which, VALUE_BYTES, IN_FLIGHT);
    return side->load != NULL &&
           kv_run(kv, side->load, PROTOCOL_APPEND, latency->threads, latency->threads, &result) &&
           kv_run(kv, side->load, PROTOCOL_REPLAY, latency->threads, latency->threads, &result);
}

static bool measure(struct latency *latency)
{
    const struct kv *kv = latency->kv;
    progress_show("kv: latency: warming up");
    for (unsigned i = 0; i < kv->sides.count; i++) {
        if (!fill(latency, i)) {
            return false;
        }
    }
    bool good = find_greatest(latency);
    for (unsigned i = 0; good && i < sizeof rates / sizeof *rates; i++) {
        clear_samples(latency);
        good =
            (kv->options->quick && !rates[i].is_quick) || measure_rate(latency, rates[i].percent);
    }
    return good;
}

bool kv_measure_latency(struct kv *kv)
{
    struct latency latency = {
        .kv = kv,
        .threads = kv->options->count != 0 ? (uint32_t)kv->options->count : THREADS,
        .now_ns = malloc(sizeof *latency.now_ns),
    };
    kv->values.value_bytes = VALUE_BYTES;
    kv->values.series++;
    bool good = latency.now_ns != NULL;
    for (unsigned i = 0; i < kv->sides.count; i++) {
        latency.side[i] = calloc(1, sizeof *latency.side[i]);
        good = good && latency.side[i] != NULL;
    }
    if (!good) {
        fprintf(stderr, "rethread-bench: no memory\n");
    }
    good = good && measure(&latency);
    for (unsigned i = 0; i < kv->sides.count; i++) {
        if (latency.side[i] != NULL) {
            load_close(latency.side[i]->load);
        }
        free(latency.side[i]);
    }
    free(latency.now_ns);
    progress_clear();
    return good;
}
