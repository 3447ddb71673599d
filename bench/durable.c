/*
 * Workload durable: appends that are acknowledged from disk, steps with all their keys, beside
 * Redis with the same keys and appendfsync always, and beside a raw loop of write and fdatasync on
 * a file that was written before. Owns the servers, their folders and that file while it runs.
 *
 * A round of a side appends new threads for a time, closed loop, then once more while others are
 * read at a fixed rate. After each it waits until what was put off is on disk too, so that what
 * comes next has the machine to itself. *Settled* figures count that wait, and its work, in: they
 * are what the server can keep up for good. The raw loop writes batches of the size that rethread's
 * log has just had, so its rate is what the disk gives to whoever batches like that.
 */
#include "bench/workload.h"

#include "bench/stock.h"
#include "bench/folder.h"
#include "bench/gauge.h"
#include "bench/load.h"
#include "bench/progress.h"
#include "bench/sides.h"

#include "base/random.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    VALUE_BYTES = 1024,
    CONNECTIONS = 64,
    TTL_S = 3600,
    READ_KEYS = 10000,
    READ_CONNECTIONS = 16,
    READ_IN_FLIGHT = 64,
    READ_RATE = 5000,
    ROUNDS = 5,
    ROUNDS_QUICK = 3,
    CASES = 2,
    RAW_FILE_BYTES = 64 << 20,
    RAW_PART_BYTES = 1 << 20,
    RAW_BATCH_BYTES_MAX = 32 << 20,
    SETTLE_LOOK_MS = 20,
    SETTLE_LOOKS_MAX = 1500,
};

#define MEASURE_S       3.0
#define MEASURE_S_QUICK 0.6
#define RAW_S           1.5
#define RAW_S_QUICK     0.4
#define WARM_S          0.5

static const char name[] = "durable";
static const unsigned in_flights[CASES] = {1, 16};

struct durable_side {
    struct side *side;
    struct gauge gauge;
    struct load *writes;
    struct load *reads;
    struct samples rate;
    struct samples cpu_ns;
    struct samples settled_rate; /* with what was put off */
    struct samples settled_cpu_ns;
    struct samples flush_us; /* of a batch: its write and its fdatasync */
    struct samples read_us;
};

struct durable {
    const struct options *options;
    struct report *report;
    struct sides sides;
    struct durable_side side[SIDES_MAX];
    struct protocol_values readers;
    struct protocol_values written; /* a series of its own for each measurement */
    double seconds;
    struct folder folder;
    char data[PATH_MAX + 8];      /* rethread's, in it */
    char peer_data[PATH_MAX + 8]; /* Redis's */
    int raw_fd;
    uint64_t raw_at;
    uint8_t *raw_bytes;
    struct samples raw_rate;
    struct samples raw_us; /* of a batch */
    struct samples batch_changes;
    struct samples batch_bytes;
};

/* ---- The raw loop ------------------------------------------------------------------------------
 */

static bool fail_raw(const char *call)
{
    char text[160];
    snprintf(text, sizeof text, "the file of the raw loop: %s: %s", call, strerror(errno));
    stock_complain(name, text);
    return false;
}

static bool write_all(struct durable *durable, size_t size)
{
    if (durable->raw_at + size > RAW_FILE_BYTES) {
        durable->raw_at = 0;
    }
    for (size_t done = 0; done < size;) {
        ssize_t got = pwrite(durable->raw_fd, durable->raw_bytes + done, size - done,
                             (off_t)(durable->raw_at + done));
        if (got <= 0) {
            return fail_raw("pwrite");
        }
        done += (size_t)got;
    }
    durable->raw_at += size;
    return true;
}

static bool open_raw(struct durable *durable)
{
    char path[PATH_MAX + 8];
    snprintf(path, sizeof path, "%s/raw", durable->folder.name);
    durable->raw_bytes = malloc(RAW_BATCH_BYTES_MAX);
    if (durable->raw_bytes == NULL) {
        stock_complain(name, "no memory");
        return false;
    }
    random_fill(durable->raw_bytes, RAW_BATCH_BYTES_MAX);
    durable->raw_fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (durable->raw_fd < 0 || posix_fallocate(durable->raw_fd, 0, RAW_FILE_BYTES) != 0) {
        return fail_raw("open");
    }
    for (size_t at = 0; at < RAW_FILE_BYTES; at += RAW_PART_BYTES) {
        if (!write_all(durable, RAW_PART_BYTES)) {
            return false;
        }
    }
    durable->raw_at = 0;
    return fsync(durable->raw_fd) == 0 || fail_raw("fsync");
}

/* Batches per second. */
static bool run_raw(struct durable *durable, size_t batch_bytes, double *rate)
{
    double begun_s = stock_now_s();
    double until_s = begun_s + (durable->options->quick ? RAW_S_QUICK : RAW_S);
    unsigned batches = 0;
    double now_s;
    do {
        if (!write_all(durable, batch_bytes)) {
            return false;
        }
        if (fdatasync(durable->raw_fd) != 0) {
            return fail_raw("fdatasync");
        }
        batches++;
        now_s = stock_now_s();
    } while (now_s < until_s);
    *rate = batches / (now_s - begun_s);
    return true;
}

/* ---- The servers -------------------------------------------------------------------------------
 */

static bool look(struct durable_side *side, struct gauge_reading *reading)
{
    if (!gauge_read(&side->gauge, reading)) {
        stock_complain(name, side->gauge.error);
        return false;
    }
    return true;
}

/* Until the server has brought to disk what it may put off. */
static bool settle(struct durable_side *side)
{
    struct gauge_reading reading;
    for (unsigned i = 0; i < SETTLE_LOOKS_MAX; i++) {
        if (!look(side, &reading)) {
            return false;
        }
        if (reading.disk_lag_bytes == 0) {
            return true;
        }
        stock_sleep_ms(SETTLE_LOOK_MS);
    }
    stock_complain(name, "the tree does not come up with the log");
    return false;
}

static struct load_job append_job(struct durable *durable, struct load_each *each, double seconds)
{
    durable->written.series++;
    *each = (struct load_each){.op = PROTOCOL_APPEND, .end = UINT32_MAX};
    return (struct load_job){
        .values = &durable->written, .next = load_each, .context = each, .seconds = seconds};
}

static bool append_for(struct durable *durable, struct durable_side *side, double seconds,
                       struct load_result *result)
{
    struct load_each each;
    struct load_job job = append_job(durable, &each, seconds);
    if (!load_run(side->writes, &job, result)) {
        stock_complain(name, result->error);
        return false;
    }
    return true;
}

static bool read_beside(struct durable *durable, struct durable_side *side, double *p999_us)
{
    static struct hist hist;
    struct load_each each;
    struct load_any any = {.threads = READ_KEYS, .state = durable->written.series};
    struct load_job writes = append_job(durable, &each, 0);
    struct load_job reads = {.values = &durable->readers,
                             .next = load_any,
                             .context = &any,
                             .seconds = durable->seconds,
                             .rate = READ_RATE,
                             .hist_ns = &hist};
    struct load_result result;
    struct load_result write_result;
    hist_clear(&hist);
    if (!load_run_beside(side->reads, &reads, &result, side->writes, &writes, &write_result)) {
        stock_complain(name, result.error[0] != '\0' ? result.error : write_result.error);
        return false;
    }
    *p999_us = (double)hist_percentile(&hist, 0.999) / 1e3;
    return true;
}

/* What rethread's log did between two looks, and the same by the raw loop. */
static bool compare_raw(struct durable *durable, const struct gauge_reading *before,
                        const struct gauge_reading *after)
{
    uint64_t batches = after->disk_batches - before->disk_batches;
    if (batches == 0 || after->disk_batch_bytes == 0) {
        stock_complain(name, "the server wrote nothing to its log");
        return false;
    }
    double changes = (double)(after->disk_changes - before->disk_changes) / (double)batches;
    size_t bytes = after->disk_batch_bytes < RAW_BATCH_BYTES_MAX ? after->disk_batch_bytes
                                                                 : RAW_BATCH_BYTES_MAX;
    double rate;
    if (!run_raw(durable, bytes, &rate)) {
        return false;
    }
    samples_add(&durable->raw_rate, rate * changes);
    samples_add(&durable->raw_us, 1e6 / rate);
    samples_add(&durable->side[0].flush_us, (double)after->disk_flush_us);
    samples_add(&durable->batch_changes, changes);
    samples_add(&durable->batch_bytes, (double)bytes);
    return true;
}

static bool run_side(struct durable *durable, struct durable_side *side)
{
    struct gauge_reading before;
    struct gauge_reading after;
    struct load_result result;
    double p999_us;
    if (!look(side, &before)) {
        return false;
    }
    uint64_t cpu_ns = server_cpu_ns(&side->side->server);
    double begun_s = stock_now_s();
    if (!append_for(durable, side, durable->seconds, &result) || !look(side, &after) ||
        !settle(side)) {
        return false;
    }
    double settled_s = stock_now_s() - begun_s;
    cpu_ns = server_cpu_ns(&side->side->server) - cpu_ns;
    /* At once: what the disk gives varies from second to second. */
    if (side->gauge.kind == GAUGE_RETHREAD && !compare_raw(durable, &before, &after)) {
        return false;
    }
    if (!read_beside(durable, side, &p999_us) || !settle(side)) {
        return false;
    }
    samples_add(&side->rate, result.requests_per_second / 1e3);
    samples_add(&side->settled_rate, (double)result.count / settled_s / 1e3);
    samples_add(&side->read_us, p999_us);
    if (side->side->server.pid > 0) {
        samples_add(&side->cpu_ns, result.server_cpu_ns);
        samples_add(&side->settled_cpu_ns, (double)cpu_ns / (double)result.count);
    }
    return true;
}

/* ---- Cases -------------------------------------------------------------------------------------
 */

static void add_row(struct durable *durable, struct report_row *row, const char *peer,
                    const struct samples *ours, const struct samples *theirs, double scale)
{
    const struct samples none = {.count = 0};
    row->bench = name;
    row->peer = peer;
    row->ours = summary_of(ours);
    row->theirs = summary_of(theirs != NULL ? theirs : &none);
    row->theirs.median *= scale;
    row->theirs.min *= scale;
    row->theirs.max *= scale;
    report_add(durable->report, row);
}

static void add_rows(struct durable *durable, unsigned in_flight)
{
    const struct durable_side *ours = &durable->side[0];
    const struct durable_side *peer = durable->sides.count > 1 ? &durable->side[1] : NULL;
    const char *peer_name = peer != NULL ? peer->side->name : NULL;
    struct report_row row = {
        .params = {{"connections", NULL, CONNECTIONS}, {"in_flight", NULL, in_flight}},
        .metric = "throughput",
        .unit = "thousand/s",
        .more_is_better = true,
    };
    snprintf(row.what, sizeof row.what, "append, %d connections, %u in flight", CONNECTIONS,
             in_flight);
    add_row(durable, &row, peer_name, &ours->rate, peer != NULL ? &peer->rate : NULL, 1);
    add_row(durable, &row, "fdatasync", &ours->rate, &durable->raw_rate, 1e-3);
    row.metric = "settled_throughput";
    add_row(durable, &row, peer_name, &ours->settled_rate,
            peer != NULL ? &peer->settled_rate : NULL, 1);
    row.more_is_better = false;
    row.metric = "server_cpu_per_op";
    row.unit = "ns";
    add_row(durable, &row, peer_name, &ours->cpu_ns, peer != NULL ? &peer->cpu_ns : NULL, 1);
    row.metric = "settled_server_cpu_per_op";
    add_row(durable, &row, peer_name, &ours->settled_cpu_ns,
            peer != NULL ? &peer->settled_cpu_ns : NULL, 1);
    row.metric = "batch_time";
    row.unit = "us";
    add_row(durable, &row, "fdatasync", &ours->flush_us, &durable->raw_us, 1);
    row.metric = "records_per_batch";
    row.unit = "records";
    add_row(durable, &row, NULL, &durable->batch_changes, NULL, 1);
    row.metric = "batch_bytes";
    row.unit = "bytes";
    add_row(durable, &row, NULL, &durable->batch_bytes, NULL, 1);
    row.metric = "read_p99.9";
    row.unit = "us";
    snprintf(row.what, sizeof row.what, "%d reads/s beside appends, %u in flight", READ_RATE,
             in_flight);
    add_row(durable, &row, peer_name, &ours->read_us, peer != NULL ? &peer->read_us : NULL, 1);
}

static bool open_writes(struct durable_side *side, unsigned in_flight)
{
    char error[LOAD_ERROR_BYTES];
    struct load_shape shape = {.connections = CONNECTIONS,
                               .in_flight = in_flight,
                               .request_bytes_max = VALUE_BYTES,
                               .reply_bytes_max = VALUE_BYTES,
                               .steps_max = 1};
    load_close(side->writes);
    side->writes = load_open(side->side->protocol, &side->side->server, &shape, error);
    if (side->writes == NULL) {
        stock_complain(name, error);
    }
    return side->writes != NULL;
}

static bool run_case(struct durable *durable, unsigned in_flight)
{
    unsigned rounds = durable->options->rounds != 0 ? (unsigned)durable->options->rounds
                      : durable->options->quick     ? ROUNDS_QUICK
                                                    : ROUNDS;
    struct load_result result;
    progress_show("durable: %u in flight: warming up", in_flight);
    durable->raw_rate = durable->raw_us = (struct samples){0};
    durable->batch_changes = durable->batch_bytes = (struct samples){0};
    for (unsigned i = 0; i < durable->sides.count; i++) {
        struct durable_side *side = &durable->side[i];
        side->rate = side->cpu_ns = side->read_us = (struct samples){0};
        side->settled_rate = side->settled_cpu_ns = side->flush_us = (struct samples){0};
        if (!open_writes(side, in_flight) || !append_for(durable, side, WARM_S, &result) ||
            !settle(side)) {
            return false;
        }
    }
    for (unsigned round = 0; round < rounds; round++) {
        for (unsigned at = 0; at < durable->sides.count; at++) {
            unsigned i = sides_turn(&durable->sides, round, at);
            progress_show("durable: %u in flight, round %u of %u: %s", in_flight, round + 1, rounds,
                          durable->side[i].side->name);
            if (!run_side(durable, &durable->side[i])) {
                return false;
            }
        }
    }
    add_rows(durable, in_flight);
    return true;
}

/* ---- Beginning and end -------------------------------------------------------------------------
 */

static bool open_side(struct durable *durable, struct durable_side *side)
{
    struct stock stock = {.values = &durable->readers, .end = READ_KEYS, .steps = 1};
    struct load_result result;
    struct load_shape shape = {.connections = READ_CONNECTIONS,
                               .in_flight = READ_IN_FLIGHT,
                               .request_bytes_max = VALUE_BYTES,
                               .reply_bytes_max = VALUE_BYTES,
                               .steps_max = 1};
    if (!gauge_open(&side->gauge, gauge_kind_of(side->side->name), &side->side->server)) {
        stock_complain(name, side->gauge.error);
        return false;
    }
    if (!stock_run(name, side->side, &stock, &result)) {
        return false;
    }
    side->reads = load_open(side->side->protocol, &side->side->server, &shape, result.error);
    if (side->reads == NULL) {
        stock_complain(name, result.error);
    }
    return side->reads != NULL;
}

static bool run_cases(struct durable *durable)
{
    durable->readers.value_bytes = VALUE_BYTES;
    durable->readers.retained = true;
    durable->readers.keyed = true;
    durable->written = durable->readers;
    durable->written.durable = true;
    for (unsigned i = 0; i < durable->sides.count; i++) {
        durable->side[i].side = &durable->sides.side[i];
        if (!open_side(durable, &durable->side[i])) {
            return false;
        }
    }
    for (unsigned i = 0; i < CASES; i++) {
        if (!run_case(durable, in_flights[i])) {
            return false;
        }
    }
    return true;
}

static bool make_folders(struct durable *durable)
{
    if (!folder_make(&durable->folder, durable->options->data)) {
        return false;
    }
    snprintf(durable->data, sizeof durable->data, "%s/ours", durable->folder.name);
    snprintf(durable->peer_data, sizeof durable->peer_data, "%s/theirs", durable->folder.name);
    if (mkdir(durable->data, 0700) != 0 || mkdir(durable->peer_data, 0700) != 0) {
        stock_complain(name, strerror(errno));
        return false;
    }
    return true;
}

static bool run_all(struct durable *durable)
{
    if (!make_folders(durable) || !open_raw(durable) ||
        !stock_values(&durable->readers, VALUE_BYTES, TTL_S)) {
        return false;
    }
    struct sides_wanted wanted = {.peers = SIDES_REDIS_LISTS,
                                  .data = durable->data,
                                  .peer_data = durable->peer_data,
                                  .ttl_s = TTL_S};
    if (!sides_open(&durable->sides, durable->options, durable->report, &wanted)) {
        return false;
    }
    bool good = run_cases(durable);
    for (unsigned i = 0; i < durable->sides.count; i++) {
        load_close(durable->side[i].writes);
        load_close(durable->side[i].reads);
        gauge_close(&durable->side[i].gauge);
    }
    sides_close(&durable->sides);
    return good;
}

static bool run(const struct options *options, struct report *report)
{
    struct durable *durable = calloc(1, sizeof *durable);
    if (durable == NULL) {
        fputs("rethread-bench: no memory\n", stderr);
        return false;
    }
    durable->options = options;
    durable->report = report;
    durable->raw_fd = -1;
    durable->seconds = options->quick ? MEASURE_S_QUICK : MEASURE_S;
    bool good = run_all(durable);
    progress_clear();
    if (durable->raw_fd >= 0) {
        close(durable->raw_fd);
    }
    folder_end(&durable->folder);
    stock_values_free(&durable->readers);
    free(durable->raw_bytes);
    free(durable);
    return good;
}

const struct workload workload_durable = {
    .name = name,
    .help = "appends acknowledged from disk, beside appendfsync always and raw fdatasync",
    .run = run,
};
