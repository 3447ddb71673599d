/*
 * Workload expiry: how soon after their deadline threads give back their memory, and whether those
 * that live feel it. Owns the servers while it runs.
 *
 * A round of a side appends a million threads whose deadlines all lie within about one second, some
 * seconds ahead. While these live, a few thousand threads with a short life come and go: the lag is
 * from their first deadline until the server accounts for none of them. Then others are read at a
 * fixed rate, first in quiet, then from the second in which the million goes until their memory is
 * reusable.
 */
#include "bench/workload.h"

#include "bench/stock.h"
#include "bench/gauge.h"
#include "bench/load.h"
#include "bench/progress.h"
#include "bench/sides.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    KEYS = 1000000,
    VALUE_BYTES = 64,
    READ_KEYS = 20000,
    READ_RATE = 20000, /* per second */
    READ_TTL_S = 3600,
    SHORT_KEYS = 4000,
    SHORT_TTL_S = 1,
    CHUNK = 20000, /* appended with one ttl */
    FIRST_RATE = 300000,
    ROUNDS = 5,
    ROUNDS_QUICK = 2,
    ROUNDS_QUICK_PEER = 1,
    TRIES = 3,
    LOOK_MS = 5,
    WATCH_MS = 20,
    EMPTY_WAIT_S = 60, /* between rounds */
    LAG_WAIT_S = 3,    /* behind the deadline; then it is as if they had gone */
    GONE_WAIT_S = 5,   /* likewise, of the million */
    IN_FLIGHT = 64,
};

#define QUIET_S 1.5
#define LAG_S   2.5 /* what the short ones take, more or less */

static const char name[] = "expiry";

struct expiry_side {
    struct side *side;
    struct gauge gauge;
    struct load *load;          /* of the reads */
    struct gauge_reading empty; /* but for what is read */
    double fill_rate;
    bool gave_up; /* once at least, GONE_WAIT_S was over */
    struct samples lag_ms;
    struct samples reclaim_s;
    struct samples quiet_us;
    struct samples read_us;
};

struct expiry {
    const struct options *options;
    struct report *report;
    struct sides sides;
    struct expiry_side side[SIDES_MAX];
    struct protocol_values readers; /* what is read, the same all the time */
    uint32_t keys;
    uint64_t next_series;
};

static struct protocol_values fresh(struct expiry *expiry, uint32_t ttl_s)
{
    struct protocol_values values = expiry->readers;
    values.series = expiry->next_series++;
    values.ttl_s = ttl_s;
    return values;
}

static bool look(struct expiry_side *side, struct gauge_reading *reading)
{
    if (!gauge_read(&side->gauge, reading)) {
        stock_complain(name, side->gauge.error);
        return false;
    }
    return true;
}

static bool complain_early(const struct expiry_side *side, const struct gauge_reading *before,
                           const struct gauge_reading *now)
{
    char text[160];
    snprintf(text, sizeof text,
             "%s: threads went before their deadline: it holds %" PRIu64 ", and held %" PRIu64
             " without them",
             side->side->name, now->keys, before->keys);
    stock_complain(name, text);
    return false;
}

/* ---- The lag of a few among many ---------------------------------------------------------------
 */

/* Whether the server is back at what it held before. */
static bool is_back(const struct gauge_reading *before, const struct gauge_reading *now)
{
    return now->keys <= before->keys && now->held_bytes <= before->held_bytes;
}

static bool measure_lag(struct expiry *expiry, struct expiry_side *side)
{
    struct protocol_values values = fresh(expiry, SHORT_TTL_S);
    struct stock stock = {.values = &values, .end = SHORT_KEYS, .steps = 1};
    struct load_result result;
    struct gauge_reading before;
    struct gauge_reading now;
    if (!look(side, &before)) {
        return false;
    }
    double begun_s = stock_now_s();
    if (!stock_run(name, side->side, &stock, &result)) {
        return false;
    }
    double first_s = begun_s + SHORT_TTL_S;
    double give_up_s = stock_now_s() + SHORT_TTL_S + LAG_WAIT_S;
    double now_s;
    do {
        stock_sleep_ms(LOOK_MS);
        if (!look(side, &now)) {
            return false;
        }
        now_s = stock_now_s();
    } while (!is_back(&before, &now) && now_s < give_up_s);
    if (now_s < first_s && side->gauge.kind != GAUGE_MEMCACHED) {
        return complain_early(side, &before, &now);
    }
    side->gave_up |= !is_back(&before, &now);
    samples_add(&side->lag_ms, fmax(0, now_s - first_s) * 1e3);
    return true;
}

/* ---- All in one second -------------------------------------------------------------------------
 */

struct deadlines {
    double from_s; /* they begin here, as planned */
    double last_s;
};

/*
 * Appends the keys in chunks, each with a ttl that ends within the second that begins at from_s.
 * False in *in_time: it took so long that the second has come.
 */
static bool fill_to_go(struct expiry *expiry, struct expiry_side *side, struct deadlines *deadlines,
                       bool *in_time)
{
    struct protocol_values values = fresh(expiry, READ_TTL_S);
    double begun_s = stock_now_s();
    *in_time = true;
    deadlines->last_s = deadlines->from_s;
    uint32_t at = 0;
    for (; at < expiry->keys && *in_time; at += CHUNK) {
        uint32_t end = expiry->keys - at < CHUNK ? expiry->keys : at + CHUNK;
        struct stock stock = {.values = &values, .begin = at, .end = end, .steps = 1};
        struct load_result result;
        double left_s = deadlines->from_s - stock_now_s();
        *in_time = left_s > SHORT_TTL_S;
        values.ttl_s = *in_time ? (uint32_t)ceil(left_s) : SHORT_TTL_S;
        if (!stock_run(name, side->side, &stock, &result)) {
            return false;
        }
        deadlines->last_s = fmax(deadlines->last_s, stock_now_s() + values.ttl_s);
    }
    side->fill_rate = at / (stock_now_s() - begun_s);
    *in_time = *in_time && deadlines->from_s - stock_now_s() > LAG_S + QUIET_S;
    return true;
}

struct watching {
    struct expiry_side *side;
    struct gauge_reading before; /* without them */
    struct gauge_reading full;
    struct load_any any;
    double until_s; /* reads end here, unless all is reclaimed sooner */
    bool ends_early;
    double reclaimed_s; /* 0: not yet */
    bool failed;
};

/* All but a hundredth of what they added is gone. */
static bool is_reclaimed(const struct watching *watching, const struct gauge_reading *now)
{
    const struct gauge_reading *before = &watching->before;
    const struct gauge_reading *full = &watching->full;
    uint64_t keys = full->keys - before->keys;
    uint64_t bytes =
        full->held_bytes > before->held_bytes ? full->held_bytes - before->held_bytes : 0;
    return now->keys <= before->keys + keys / 100 &&
           now->held_bytes <= before->held_bytes + bytes / 100;
}

static void watch(void *context, double seconds_since_start)
{
    struct watching *watching = context;
    struct gauge_reading now;
    bool taken = false;
    (void)seconds_since_start;
    if (watching->failed || !gauge_poll(&watching->side->gauge, &now, &taken)) {
        watching->failed = true;
        return;
    }
    if (taken && watching->reclaimed_s == 0 && is_reclaimed(watching, &now)) {
        watching->reclaimed_s = stock_now_s();
    }
}

static bool next_read(void *context, unsigned connection, struct protocol_item *item)
{
    struct watching *watching = context;
    if (watching->failed || (watching->ends_early && watching->reclaimed_s != 0)) {
        return false;
    }
    return load_any(&watching->any, connection, item);
}

/* Reads at the fixed rate for a time; *p999_us is of these. */
static bool read_for(struct expiry *expiry, struct watching *watching, double seconds,
                     double *p999_us)
{
    static struct hist hist;
    hist_clear(&hist);
    watching->any = (struct load_any){.threads = READ_KEYS, .state = expiry->next_series};
    struct load_job job = {
        .values = &expiry->readers,
        .next = next_read,
        .context = watching,
        .seconds = seconds,
        .rate = READ_RATE,
        .hist_ns = &hist,
        .watch = watch,
        .watch_context = watching,
        .watch_ms = WATCH_MS,
    };
    struct load_result result;
    if (!load_run(watching->side->load, &job, &result) || watching->failed) {
        stock_complain(name, watching->failed ? watching->side->gauge.error : result.error);
        return false;
    }
    *p999_us = (double)hist_percentile(&hist, 0.999) / 1e3;
    return true;
}

static void wait_until(double at_s)
{
    double left_s = at_s - stock_now_s();
    if (left_s > 0) {
        stock_sleep_ms((unsigned)(left_s * 1e3));
    }
}

static bool measure_going(struct expiry *expiry, struct expiry_side *side,
                          const struct deadlines *deadlines, const struct gauge_reading *before)
{
    struct watching watching = {.side = side, .before = *before};
    double quiet_us;
    double read_us;
    if (!look(side, &watching.full) || !read_for(expiry, &watching, QUIET_S, &quiet_us)) {
        return false;
    }
    if (watching.full.keys < before->keys + expiry->keys) {
        return complain_early(side, before, &watching.full);
    }
    wait_until(deadlines->from_s);
    watching.reclaimed_s = 0;
    watching.ends_early = true;
    double longest_s = deadlines->last_s + GONE_WAIT_S - stock_now_s();
    if (!read_for(expiry, &watching, longest_s, &read_us)) {
        return false;
    }
    side->gave_up |= watching.reclaimed_s == 0;
    double reclaimed_s = watching.reclaimed_s != 0 ? watching.reclaimed_s : stock_now_s();
    samples_add(&side->reclaim_s, fmax(0, reclaimed_s - deadlines->last_s));
    samples_add(&side->quiet_us, quiet_us);
    samples_add(&side->read_us, read_us);
    return true;
}

/* What is left of the round before must not go while this one is measured. */
static bool wait_empty(struct expiry_side *side, struct gauge_reading *now)
{
    double until_s = stock_now_s() + EMPTY_WAIT_S;
    do {
        if (!look(side, now)) {
            return false;
        }
        if (is_back(&side->empty, now)) {
            return true;
        }
        stock_sleep_ms(LOOK_MS);
    } while (stock_now_s() < until_s);
    return true; /* then it is with what it keeps */
}

static bool run_round(struct expiry *expiry, struct expiry_side *side, const char *label)
{
    bool in_time = false;
    for (unsigned attempt = 1; attempt <= TRIES; attempt++) {
        struct gauge_reading before;
        progress_show("expiry: %s, %s: waiting for what was there to go", label, side->side->name);
        if (!wait_empty(side, &before)) {
            return false;
        }
        progress_show("expiry: %s, %s: appending %" PRIu32 " threads", label, side->side->name,
                      expiry->keys);
        double takes_s = expiry->keys / side->fill_rate * (1 + attempt * 0.3);
        struct deadlines deadlines = {.from_s = stock_now_s() + takes_s + LAG_S + QUIET_S + 0.5};
        if (!fill_to_go(expiry, side, &deadlines, &in_time)) {
            return false;
        }
        if (!in_time) {
            wait_until(deadlines.last_s + GONE_WAIT_S);
            continue;
        }
        progress_show("expiry: %s, %s: among these, a few that go", label, side->side->name);
        if (!measure_lag(expiry, side)) {
            return false;
        }
        progress_show("expiry: %s, %s: all go", label, side->side->name);
        return measure_going(expiry, side, &deadlines, &before);
    }
    stock_complain(name, "this machine is too busy: appends took longer than the threads lived");
    return false;
}

/* ---- Beginning and end -------------------------------------------------------------------------
 */

static bool open_side(struct expiry *expiry, struct expiry_side *side)
{
    struct stock stock = {.values = &expiry->readers, .end = READ_KEYS, .steps = 1};
    struct load_result result;
    struct load_shape shape = {.connections = STOCK_CONNECTIONS,
                               .in_flight = IN_FLIGHT,
                               .request_bytes_max = 0,
                               .reply_bytes_max = VALUE_BYTES,
                               .steps_max = 1};
    if (!gauge_open(&side->gauge, gauge_kind_of(side->side->name), &side->side->server)) {
        stock_complain(name, side->gauge.error);
        return false;
    }
    if (!stock_run(name, side->side, &stock, &result) || !look(side, &side->empty)) {
        return false;
    }
    /* A guess: the first million also touches its memory for the first time. */
    side->fill_rate = fmin(result.requests_per_second / 2, FIRST_RATE);
    side->load = load_open(side->side->protocol, &side->side->server, &shape, result.error);
    if (side->load == NULL) {
        stock_complain(name, result.error);
    }
    return side->load != NULL;
}

static bool run_rounds(struct expiry *expiry)
{
    bool quick = expiry->options->quick;
    unsigned rounds = expiry->options->rounds != 0 ? (unsigned)expiry->options->rounds
                      : quick                      ? ROUNDS_QUICK
                                                   : ROUNDS;
    unsigned peer_rounds = quick && expiry->options->rounds == 0 ? ROUNDS_QUICK_PEER : rounds;
    for (unsigned i = 0; i < expiry->sides.count; i++) {
        if (!open_side(expiry, &expiry->side[i])) {
            return false;
        }
    }
    for (unsigned round = 0; round < rounds; round++) {
        char label[32];
        snprintf(label, sizeof label, "round %u of %u", round + 1, rounds);
        for (unsigned at = 0; at < expiry->sides.count; at++) {
            unsigned i = sides_turn(&expiry->sides, round, at);
            if ((i == 0 || round < peer_rounds) && !run_round(expiry, &expiry->side[i], label)) {
                return false;
            }
        }
    }
    return true;
}

struct kind_of_row {
    const char *metric;
    const char *unit;
    const char *what;
    size_t offset;
};

static void add_rows(struct expiry *expiry)
{
    static const struct kind_of_row kinds[] = {
        {"lag", "ms", "lag of a few among many", offsetof(struct expiry_side, lag_ms)},
        {"reclaim", "s", "reusable after the last", offsetof(struct expiry_side, reclaim_s)},
        {"read_p99.9", "us", "reads meanwhile", offsetof(struct expiry_side, read_us)},
    };
    struct report_row row = {
        .bench = name,
        .params = {{"keys", NULL, expiry->keys}, {"reads_per_second", NULL, READ_RATE}},
    };
    const struct expiry_side *ours = &expiry->side[0];
    for (unsigned k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        const struct kind_of_row *kind = &kinds[k];
        row.metric = kind->metric;
        row.unit = kind->unit;
        snprintf(row.what, sizeof row.what, "%" PRIu32 " keys: %s", expiry->keys, kind->what);
        row.ours = summary_of((const struct samples *)((const char *)ours + kind->offset));
        for (unsigned i = 1; i < expiry->sides.count; i++) {
            row.peer = expiry->side[i].side->name;
            row.theirs =
                summary_of((const struct samples *)((const char *)&expiry->side[i] + kind->offset));
            report_add(expiry->report, &row);
        }
        if (expiry->sides.count == 1) {
            row.peer = NULL;
            row.theirs = (struct summary){.count = 0};
            report_add(expiry->report, &row);
        }
    }
    row.peer = "quiet"; /* itself, before they go */
    row.theirs = summary_of(&ours->quiet_us);
    report_add(expiry->report, &row);
}

static void add_notes(struct expiry *expiry)
{
    for (unsigned i = 0; i < expiry->sides.count; i++) {
        if (expiry->side[i].gave_up) {
            char note[160];
            snprintf(note, sizeof note,
                     "expiry: %s had not given back all of it %d s (the lag) or %d s after the "
                     "deadline, and was waited for no longer: its figure is at least that.",
                     expiry->side[i].side->name, LAG_WAIT_S, GONE_WAIT_S);
            report_note(expiry->report, note);
        }
    }
}

static bool run(const struct options *options, struct report *report)
{
    struct expiry *expiry = calloc(1, sizeof *expiry);
    if (expiry == NULL) {
        fputs("rethread-bench: no memory\n", stderr);
        return false;
    }
    expiry->options = options;
    expiry->report = report;
    expiry->keys = options->count != 0 ? (uint32_t)options->count : KEYS;
    struct sides_wanted wanted = {.peers =
                                      options->quick ? SIDES_REDIS : SIDES_REDIS | SIDES_MEMCACHED};
    bool opened = stock_values(&expiry->readers, VALUE_BYTES, READ_TTL_S) &&
                  sides_open(&expiry->sides, options, report, &wanted);
    bool good = opened;
    if (opened) {
        expiry->readers.value_bytes = VALUE_BYTES;
        expiry->readers.ttl_sent = true;
        expiry->next_series = expiry->readers.series + 1;
        for (unsigned i = 0; i < expiry->sides.count; i++) {
            expiry->side[i].side = &expiry->sides.side[i];
        }
        good = run_rounds(expiry);
        if (good) {
            add_rows(expiry);
            add_notes(expiry);
        }
        for (unsigned i = 0; i < expiry->sides.count; i++) {
            load_close(expiry->side[i].load);
            gauge_close(&expiry->side[i].gauge);
        }
        sides_close(&expiry->sides);
    }
    progress_clear();
    stock_values_free(&expiry->readers);
    free(expiry);
    return good;
}

const struct workload workload_expiry = {
    .name = name,
    .help = "threads past their deadline: when their memory comes back, what reads feel of it",
    .run = run,
};
