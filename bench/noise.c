/*
 * Workload noise: replays of 1 KiB threads at a fixed rate that is easy for both servers (a share
 * of the peer's greatest), alone and then while another client pulls threads of 10 MB one after
 * the other. What counts is how much later the small answers come. Owns the servers while it runs.
 *
 * In real time where that can be had (urgent.h): else the machine's scheduler is what p99.9 tells
 * of.
 *
 * One event loop does both, so that no scheduler is between them; it looks at what small replies
 * have come after at most 64 KiB of a long one, which is judged as it comes (load.c). Redis keeps a
 * long thread as a list of ten elements of 1 MB: as one string of 10 MB it was ten times worse (p50
 * 11 ms for 1 ms, measured on two cores), since nothing goes out while that is copied.
 */
#include "bench/workload.h"

#include "bench/load.h"
#include "bench/progress.h"
#include "bench/sides.h"
#include "bench/urgent.h"

#include "base/random.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    CONNECTIONS = 50,
    TTL_S = 300,
    POOL_BYTES = 256 * 1024,
    SMALL_BYTES = 1024,
    SMALL_THREADS = 20000,
    LONG_BYTES = 1000 * 1000,
    LONG_STEPS = 10,
    LONG_THREADS = 8,
    ROUNDS = 5,
    ROUNDS_QUICK = 3,
    PROBE_COUNT = 60000,
    RATE_PERCENT = 20,
};

enum { P50, P99, P999, LATENCIES };
static const double shares[LATENCIES] = {0.5, 0.99, 0.999};
static const char *const share_names[LATENCIES] = {"p50", "p99", "p99.9"};
static const char *const quiet_names[LATENCIES] = {"quiet_p50", "quiet_p99", "quiet_p99.9"};

struct noise_side {
    struct side *side;
    const struct protocol *long_protocol;
    struct load *small;
    struct load *pulls;
    double greatest_rate;
    struct samples quiet_us[LATENCIES];
    struct samples noise_us[LATENCIES];
    struct samples pulled; /* MB a second */
    struct hist quiet_hist_ns;
    struct hist noise_hist_ns;
};

struct noise {
    const struct options *options;
    struct report *report;
    struct sides sides;
    struct noise_side side[SIDES_MAX];
    struct protocol_values small;
    struct protocol_values pulls;
    uint32_t loops;
    uint64_t draws;
};

/* ---- What is asked next
 * -------------------------------------------------------------------------- */

struct long_threads {
    enum protocol_op op;
    uint32_t thread;
    uint32_t step;
    bool ends; /* after the last thread; else from the start again */
};

static bool next_long(void *context, unsigned connection, struct protocol_item *item)
{
    struct long_threads *at = context;
    (void)connection;
    if (at->thread == LONG_THREADS) {
        if (at->ends) {
            return false;
        }
        at->thread = 0;
    }
    *item = (struct protocol_item){
        .op = at->op, .thread = at->thread, .step = at->step, .steps = LONG_STEPS};
    if (at->op == PROTOCOL_APPEND && ++at->step < LONG_STEPS) {
        return true;
    }
    at->step = 0;
    at->thread++;
    return true;
}

/* ---- Running
 * ------------------------------------------------------------------------------------- */

static bool complain(const char *error)
{
    progress_clear();
    fprintf(stderr, "rethread-bench: noise: %s\n", error);
    return false;
}

static bool run_job(struct load *load, const struct load_job *job, struct load_result *result)
{
    return load_run(load, job, result) || complain(result->error);
}

static bool change_small(const struct noise *noise, struct noise_side *side, enum protocol_op op)
{
    struct load_result result;
    struct load_each each = {.op = op, .end = SMALL_THREADS};
    const struct load_job job = {.values = &noise->small, .next = load_each, .context = &each};
    return run_job(side->small, &job, &result);
}

static bool change_long(const struct noise *noise, struct noise_side *side, enum protocol_op op)
{
    struct load_result result;
    struct long_threads at = {.op = op, .ends = true};
    const struct load_job job = {.values = &noise->pulls, .next = next_long, .context = &at};
    return run_job(side->pulls, &job, &result);
}

static bool find_rate(struct noise *noise, struct noise_side *side)
{
    struct load_result result;
    struct load_any any = {.threads = SMALL_THREADS, .state = 1};
    const struct load_job job = {
        .values = &noise->small, .next = load_any, .context = &any, .count = PROBE_COUNT};
    if (!run_job(side->small, &job, &result)) {
        return false;
    }
    side->greatest_rate = result.requests_per_second;
    return true;
}

static void add_samples(struct samples samples[LATENCIES], struct hist *all,
                        const struct hist *hist_ns)
{
    for (unsigned i = 0; i < LATENCIES; i++) {
        samples_add(&samples[i], (double)hist_percentile(hist_ns, shares[i]) / 1000);
    }
    hist_add(all, hist_ns);
}

static unsigned parts_of(const struct noise *noise)
{
    return urgent_parts(noise->options->quick ? 1.5 : 4);
}

static bool run_quiet(const struct noise *noise, struct noise_side *side,
                      const struct load_job *job, struct hist *hist_ns)
{
    struct load_result result;
    hist_clear(hist_ns);
    for (unsigned part = 0; part < parts_of(noise); part++) {
        urgent_rest();
        if (!run_job(side->small, job, &result)) {
            return false;
        }
    }
    add_samples(side->quiet_us, &side->quiet_hist_ns, hist_ns);
    return true;
}

static bool run_noisy(struct noise *noise, struct noise_side *side, const struct load_job *job,
                      struct hist *hist_ns)
{
    struct load_result result;
    struct load_result pulled;
    struct long_threads at = {.op = PROTOCOL_REPLAY};
    const struct load_job pulls = {.values = &noise->pulls, .next = next_long, .context = &at};
    double per_second = 0;
    hist_clear(hist_ns);
    for (unsigned part = 0; part < parts_of(noise); part++) {
        urgent_rest();
        if (!load_run_beside(side->small, job, &result, side->pulls, &pulls, &pulled)) {
            return complain(result.error[0] != '\0' ? result.error : pulled.error);
        }
        per_second += pulled.requests_per_second / parts_of(noise);
    }
    add_samples(side->noise_us, &side->noise_hist_ns, hist_ns);
    samples_add(&side->pulled, per_second * LONG_STEPS * LONG_BYTES / 1e6);
    return true;
}

static bool run_side(struct noise *noise, struct noise_side *side, double rate)
{
    struct hist *hist_ns = malloc(sizeof *hist_ns);
    if (hist_ns == NULL) {
        return complain("no memory");
    }
    struct load_any any = {.threads = SMALL_THREADS, .state = noise->draws++ << 32};
    const struct load_job job = {.values = &noise->small,
                                 .next = load_any,
                                 .context = &any,
                                 .rate = rate,
                                 .seconds = URGENT_PART_S,
                                 .hist_ns = hist_ns};
    bool good =
        change_small(noise, side, PROTOCOL_APPEND) && change_long(noise, side, PROTOCOL_APPEND) &&
        run_quiet(noise, side, &job, hist_ns) && run_noisy(noise, side, &job, hist_ns) &&
        change_long(noise, side, PROTOCOL_FORGET) && change_small(noise, side, PROTOCOL_FORGET);
    free(hist_ns);
    return good;
}

/* The rate is a share of the first peer's greatest; of ours, when we are alone. */
static bool find_rates(struct noise *noise, double *rate)
{
    for (unsigned i = 0; i < noise->sides.count; i++) {
        struct noise_side *side = &noise->side[i];
        if (!change_small(noise, side, PROTOCOL_APPEND) || !find_rate(noise, side) ||
            !find_rate(noise, side) || !change_small(noise, side, PROTOCOL_FORGET)) {
            return false;
        }
    }
    *rate = noise->side[noise->sides.count > 1].greatest_rate * RATE_PERCENT / 100;
    return true;
}

static bool run_rounds(struct noise *noise, unsigned rounds)
{
    double rate;
    progress_show("noise: warming up");
    if (!find_rates(noise, &rate)) {
        return false;
    }
    for (unsigned round = 0; round < rounds; round++) {
        noise->small.series++;
        noise->pulls.series++;
        for (unsigned at = 0; at < noise->sides.count; at++) {
            struct noise_side *side = &noise->side[sides_turn(&noise->sides, round, at)];
            progress_show("noise: %s, round %u of %u", side->side->name, round + 1, rounds);
            if (!run_side(noise, side, rate)) {
                return false;
            }
        }
    }
    return true;
}

/* ---- Telling
 * ------------------------------------------------------------------------------------- */

static void add_row(struct noise *noise, struct report_row *row, const struct samples *ours,
                    const struct samples *theirs)
{
    row->ours = summary_of(ours);
    row->theirs = theirs != NULL ? summary_of(theirs) : (struct summary){.count = 0};
    report_add(noise->report, row);
}

/* `peer` NULL: measured alone. */
static void add_rows(struct noise *noise, const struct noise_side *peer)
{
    const struct noise_side *ours = &noise->side[0];
    struct report_row row = {
        .bench = "noise",
        .peer = peer != NULL ? peer->side->name : NULL,
        .params = {{"size_bytes", NULL, SMALL_BYTES},
                   {"rate_percent", NULL, RATE_PERCENT},
                   {"connections", NULL, CONNECTIONS},
                   {"pulled_bytes", NULL, (uint64_t)LONG_STEPS * LONG_BYTES},
                   {"loops", NULL, noise->loops}},
        .unit = "us",
    };
    for (unsigned i = 0; i < LATENCIES; i++) {
        row.metric = share_names[i];
        snprintf(row.what, sizeof row.what, "replay 1 KiB, another pulls 10 MB threads");
        add_row(noise, &row, &ours->noise_us[i], peer != NULL ? &peer->noise_us[i] : NULL);
        row.metric = quiet_names[i];
        snprintf(row.what, sizeof row.what, "replay 1 KiB, nobody else");
        add_row(noise, &row, &ours->quiet_us[i], peer != NULL ? &peer->quiet_us[i] : NULL);
    }
    row.metric = "pulled";
    row.unit = "MB/s";
    row.more_is_better = true;
    snprintf(row.what, sizeof row.what, "what the other pulls meanwhile");
    add_row(noise, &row, &ours->pulled, peer != NULL ? &peer->pulled : NULL);
}

static void tell(struct noise *noise)
{
    add_rows(noise, noise->sides.count > 1 ? &noise->side[1] : NULL);
    for (unsigned i = 2; i < noise->sides.count; i++) {
        add_rows(noise, &noise->side[i]);
    }
    for (unsigned i = 0; i < noise->sides.count; i++) {
        const struct noise_side *side = &noise->side[i];
        report_latency(noise->report, "noise", "latency beside 10 MB pulls", side->side->name,
                       &side->noise_hist_ns);
        report_latency(noise->report, "noise", "latency without pulls", side->side->name,
                       &side->quiet_hist_ns);
    }
}

/* ---- Setting up
 * ---------------------------------------------------------------------------------- */

static bool open_loads(struct noise *noise)
{
    const struct load_shape small = {.connections = CONNECTIONS,
                                     .in_flight = 16, /* so that none waits to be sent */
                                     .request_bytes_max = SMALL_BYTES,
                                     .reply_bytes_max = SMALL_BYTES,
                                     .steps_max = 1};
    const struct load_shape pulls = {.connections = 1,
                                     .in_flight = 1,
                                     .request_bytes_max = LONG_BYTES,
                                     .reply_bytes_max = (size_t)LONG_STEPS * LONG_BYTES,
                                     .steps_max = LONG_STEPS};
    for (unsigned i = 0; i < noise->sides.count; i++) {
        char error[LOAD_ERROR_BYTES];
        struct noise_side *side = &noise->side[i];
        side->side = &noise->sides.side[i];
        side->long_protocol = i == 0 ? &protocol_rethread : &protocol_redis_lists;
        side->small = load_open(side->side->protocol, &side->side->server, &small, error);
        if (side->small == NULL) {
            return complain(error);
        }
        side->pulls = load_open(side->long_protocol, &side->side->server, &pulls, error);
        if (side->pulls == NULL) {
            return complain(error);
        }
    }
    return true;
}

static bool measure(struct noise *noise)
{
    const struct sides_wanted wanted = {.peers = SIDES_REDIS, .ttl_s = TTL_S};
    unsigned rounds = noise->options->quick ? ROUNDS_QUICK : ROUNDS;
    if (noise->options->rounds != 0) {
        rounds = (unsigned)noise->options->rounds;
    }
    if (!sides_open(&noise->sides, noise->options, noise->report, &wanted)) {
        return false;
    }
    bool good = open_loads(noise);
    if (good) {
        urgent_begin(&noise->sides, noise->report);
        good = run_rounds(noise, rounds);
        urgent_end(&noise->sides);
    }
    progress_clear();
    if (good) {
        tell(noise);
    }
    for (unsigned i = 0; i < noise->sides.count; i++) {
        load_close(noise->side[i].pulls);
        load_close(noise->side[i].small);
    }
    sides_close(&noise->sides);
    return good;
}

static bool run(const struct options *options, struct report *report)
{
    struct noise *noise = calloc(1, sizeof *noise);
    uint8_t *pool = malloc(POOL_BYTES + LONG_BYTES);
    if (noise == NULL || pool == NULL) {
        free(pool);
        free(noise);
        return complain("no memory");
    }
    random_fill(pool, POOL_BYTES + LONG_BYTES);
    *noise = (struct noise){
        .options = options,
        .report = report,
        .loops = options->loops != 0 ? (uint32_t)options->loops : 1,
        .small = {.pool = pool,
                  .pool_bytes = POOL_BYTES,
                  .ttl_s = TTL_S,
                  .value_bytes = SMALL_BYTES},
    };
    random_fill(&noise->small.series, sizeof noise->small.series);
    noise->pulls = noise->small;
    noise->pulls.value_bytes = LONG_BYTES;
    noise->pulls.series = ~noise->small.series;
    bool good = measure(noise);
    free(noise);
    free(pool);
    return good;
}

const struct workload workload_noise = {
    .name = "noise",
    .help = "small replays while another client pulls 10 MB threads, against redis",
    .run = run,
};
