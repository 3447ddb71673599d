/*
 * How many follow-up turns of conversations find their whole reasoning: by ttl, with memory alone
 * and with the disk behind it; by memory, beside Redis with the same memory; and how long a replay
 * from disk takes. See continuity_play.h, continuity_redis.h, cold.h.
 */
#include "bench/cold.h"
#include "bench/continuity_play.h"
#include "bench/continuity_redis.h"
#include "bench/folder.h"
#include "bench/sides.h"
#include "bench/workload.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { TTL_S = 300, DAY_S = 24 * 3600 };

#define MIB (UINT64_C(1) << 20)

static const char trace_default[] = "../shared/data/workload-claudecode-dev.jsonl.gz";

struct ttl_case {
    uint32_t ttl_s;
    bool is_quick;
};

static const struct ttl_case ttls[] = {
    {60, false}, {300, true}, {900, false}, {3600, true}, {DAY_S, false}};

struct memory_case {
    uint64_t bytes;
    bool is_quick;
};

static const struct memory_case memories[] = {{16 * MIB, true},   {32 * MIB, false},
                                              {64 * MIB, true},   {128 * MIB, false},
                                              {256 * MIB, false}, {1024 * MIB, false}};

enum { TTLS = sizeof ttls / sizeof *ttls, MEMORIES = sizeof memories / sizeof *memories };

struct continuity {
    const struct options *options;
    struct report *report;
    struct trace trace;
    const char *name; /* of the workload */
};

static struct summary share_of(const struct continuity_counts *counts)
{
    struct samples samples = {0};
    samples_add(&samples, (double)counts->complete / (double)counts->follow_ups);
    return summary_of(&samples);
}

/* What is played; nothing else of it is set. */
static bool play(const struct continuity *continuity, uint64_t memory_bytes, uint32_t ttl_s,
                 bool has_disk, struct continuity_counts *counts)
{
    char label[64];
    snprintf(label, sizeof label, "ttl %" PRIu32 " s, %" PRIu64 " MiB, %s", ttl_s,
             memory_bytes / MIB, has_disk ? "two tiers" : "memory only");
    struct continuity_case played = {.trace = &continuity->trace,
                                     .memory_bytes = memory_bytes,
                                     .ttl_ms = ttl_s * UINT64_C(1000),
                                     .retention_ms = DAY_S * UINT64_C(1000),
                                     .label = label};
    if (played.retention_ms < played.ttl_ms) {
        played.retention_ms = played.ttl_ms;
    }
    if (!has_disk) {
        return continuity_play(&played, counts);
    }
    struct folder folder;
    if (!folder_make(&folder, NULL)) {
        return false;
    }
    played.directory = folder.name;
    bool good = continuity_play(&played, counts);
    folder_end(&folder);
    return good;
}

static void add_row(struct continuity *continuity, const char *by, const char *peer,
                    uint64_t memory_bytes, uint32_t ttl_s, const struct continuity_counts *ours,
                    const struct continuity_counts *theirs)
{
    struct report_row row = {
        .bench = "continuity",
        .peer = peer,
        .params = {{.name = "by", .text = by},
                   {.name = "ttl_s", .number = ttl_s},
                   {.name = "memory_bytes", .number = memory_bytes},
                   {.name = "workload", .text = continuity->name},
                   {.name = "follow_ups", .number = ours->follow_ups},
                   {.name = "replays_from_disk", .number = ours->from_disk}},
        .metric = "complete",
        .unit = "share",
        .more_is_better = true,
        .ours = share_of(ours),
    };
    if (theirs != NULL) {
        row.theirs = share_of(theirs);
    }
    snprintf(row.what, sizeof row.what,
             "%" PRIu64 " follow-ups, ttl %" PRIu32 " s, memory %" PRIu64 "M", ours->follow_ups,
             ttl_s, memory_bytes / MIB);
    report_add(continuity->report, &row);
}

static bool by_ttl(struct continuity *continuity)
{
    uint64_t memory_bytes =
        continuity->options->memory_bytes != 0 ? continuity->options->memory_bytes : 1024 * MIB;
    for (unsigned i = 0; i < TTLS; i++) {
        struct continuity_counts ours;
        struct continuity_counts alone;
        if (continuity->options->quick && !ttls[i].is_quick) {
            continue;
        }
        if (!play(continuity, memory_bytes, ttls[i].ttl_s, false, &alone) ||
            !play(continuity, memory_bytes, ttls[i].ttl_s, true, &ours)) {
            return false;
        }
        add_row(continuity, "ttl", "memory-only", memory_bytes, ttls[i].ttl_s, &ours, &alone);
    }
    return true;
}

/* False: something went wrong. Without a Redis of our own there are no sizes: trace stays NULL. */
static bool measure_redis(const struct continuity *continuity, struct continuity_redis *redis)
{
    struct sides sides;
    struct sides_wanted wanted = {.peers = SIDES_REDIS};
    *redis = (struct continuity_redis){.trace = NULL};
    if (!sides_open(&sides, continuity->options, continuity->report, &wanted)) {
        return false;
    }
    bool good = true;
    for (unsigned i = 1; good && i < sides.count; i++) {
        if (sides.side[i].server.started && strcmp(sides.side[i].name, "redis") == 0) {
            good = continuity_redis_measure(redis, &continuity->trace, &sides.side[i].server);
        }
    }
    sides_close(&sides);
    return good;
}

static bool by_memory(struct continuity *continuity)
{
    struct continuity_redis redis;
    if (!measure_redis(continuity, &redis)) {
        return false;
    }
    bool good = true;
    for (unsigned i = 0; good && i < MEMORIES; i++) {
        struct continuity_counts ours;
        struct continuity_counts theirs;
        uint64_t bytes = memories[i].bytes;
        if (continuity->options->quick && !memories[i].is_quick) {
            continue;
        }
        bool has_redis = redis.trace != NULL;
        good =
            play(continuity, bytes, TTL_S, true, &ours) &&
            (!has_redis || continuity_redis_play(&redis, bytes, DAY_S * UINT64_C(1000), &theirs));
        if (good) {
            add_row(continuity, "memory", has_redis ? "redis" : NULL, bytes, TTL_S, &ours,
                    has_redis ? &theirs : NULL);
        }
    }
    continuity_redis_free(&redis);
    return good;
}

static bool open_trace(struct continuity *continuity)
{
    const char *file = continuity->options->trace;
    if (file == NULL && access(trace_default, R_OK) == 0) {
        file = trace_default;
    }
    const char *base = file != NULL ? strrchr(file, '/') : NULL;
    continuity->name = base != NULL ? base + 1 : file != NULL ? file : "made up";
    if (file == NULL) {
        report_note(continuity->report,
                    "continuity: conversations were made up by the measured distributions of "
                    "coding agents (--workload FILE plays others).");
    }
    return (file != NULL ? trace_read(&continuity->trace, file) : trace_make(&continuity->trace)) &&
           trace_think(&continuity->trace);
}

static bool run(const struct options *options, struct report *report)
{
    struct continuity continuity = {.options = options, .report = report};
    bool good = open_trace(&continuity) && by_ttl(&continuity) && by_memory(&continuity) &&
                cold_measure(options, report);
    trace_free(&continuity.trace);
    return good;
}

const struct workload workload_continuity = {
    .name = "continuity",
    .help = "follow-up turns that find their whole reasoning, by ttl and by memory; cold replays",
    .run = run,
};
