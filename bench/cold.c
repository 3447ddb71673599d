/* Fills, restarts, replays each thread once; see cold.h. Owns its folder and the server. */
#include "bench/cold.h"

#include "bench/ask.h"
#include "bench/fill.h"
#include "bench/folder.h"
#include "bench/hist.h"
#include "bench/progress.h"
#include "bench/sides.h"

#include "base/random.h"

#include <dirent.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum {
    POOL_BYTES = 1 << 20,
    STEPS_MAX = 120,
    STEP_BYTES_MAX = 16 * 1024,
    THREADS = 4000,
    THREADS_QUICK = 1000,
    ROUNDS = 5,
    ROUNDS_QUICK = 3,
    MEMORY_BYTES = 512 << 20,
    RESTART_S = 300, /* ttl */
};

struct cold {
    const struct options *options;
    struct report *report;
    struct protocol_values values;
    struct folder folder;
    uint32_t threads;
    uint32_t *order;
};

/* Bytes of a step that coding agents think, by shares of such steps. */
static uint32_t size_of(const void *shape, uint32_t thread, uint32_t step)
{
    static const double shares[] = {0, 0.5, 0.9, 0.99, 1};
    static const double bytes[] = {80, 1072, 4060, 15600, STEP_BYTES_MAX};
    (void)shape;
    uint64_t random = protocol_mix(thread * UINT64_C(1000003) + step);
    double share = (double)(random >> 11) / (double)(UINT64_C(1) << 53);
    unsigned at = 0;
    while (shares[at + 1] < share) {
        at++;
    }
    double part = (share - shares[at]) / (shares[at + 1] - shares[at]);
    return (uint32_t)(bytes[at] * pow(bytes[at + 1] / bytes[at], part));
}

static uint32_t steps_of(const void *shape, uint32_t thread)
{
    (void)shape;
    uint64_t random = protocol_mix(thread + UINT64_C(77777));
    double share = (double)(random >> 11) / (double)(UINT64_C(1) << 53);
    return 1 + (uint32_t)((STEPS_MAX - 1) * share * share * share);
}

/* Out of the page cache; what a server has mapped stays, so none may run. */
static void drop_files(const char *directory)
{
    DIR *files = opendir(directory);
    const struct dirent *entry;
    while (files != NULL && (entry = readdir(files)) != NULL) {
        int fd = openat(dirfd(files), entry->d_name, O_RDONLY | O_CLOEXEC);
        if (fd >= 0) {
            (void)fdatasync(fd);
            (void)posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
            close(fd);
        }
    }
    if (files != NULL) {
        closedir(files);
    }
}

static uint64_t now_ns(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static void shuffle(struct cold *cold)
{
    for (uint32_t i = 0; i < cold->threads; i++) {
        uint32_t other;
        random_fill(&other, sizeof other);
        other %= i + 1;
        cold->order[i] = cold->order[other];
        cold->order[other] = i;
    }
}

static bool replay_all(struct cold *cold, const struct server *server, struct hist *hist)
{
    struct ask ask;
    size_t reply_max = (size_t)STEPS_MAX * (STEP_BYTES_MAX + PROTOCOL_SLACK_BYTES);
    if (!ask_open(&ask, &protocol_rethread, server, reply_max)) {
        return false;
    }
    shuffle(cold);
    enum ask_answer answer = ASK_RIGHT;
    for (uint32_t i = 0; answer == ASK_RIGHT && i < cold->threads; i++) {
        struct protocol_item item = {.op = PROTOCOL_REPLAY,
                                     .thread = cold->order[i],
                                     .steps = steps_of(NULL, cold->order[i])};
        uint64_t begin_ns = now_ns();
        answer = ask_replays(&ask, &cold->values, &item, 1);
        hist_record(hist, now_ns() - begin_ns);
    }
    ask_close(&ask);
    if (answer != ASK_RIGHT) {
        fputs("rethread-bench: continuity: a replay from disk is not what was put in\n", stderr);
    }
    return answer == ASK_RIGHT;
}

/* A server of its own on the directory, for one pass over all threads. */
static bool run_round(struct cold *cold, bool is_dropped, struct hist *hist)
{
    struct options options = *cold->options;
    options.server = NULL; /* one that was started elsewhere cannot be restarted */
    options.peer = "none";
    struct sides_wanted wanted = {.data = cold->folder.name, .memory = "1G", .ttl_s = RESTART_S};
    struct sides sides;
    if (is_dropped) {
        drop_files(cold->folder.name);
    }
    if (!sides_open(&sides, &options, cold->report, &wanted)) {
        return false;
    }
    bool good = replay_all(cold, &sides.side[0].server, hist);
    sides_close(&sides);
    return good;
}

static bool run_rounds(struct cold *cold, bool is_dropped)
{
    static struct hist all;
    static struct hist one;
    struct samples p99_ms = {.count = 0};
    unsigned rounds = cold->options->quick ? ROUNDS_QUICK : ROUNDS;
    rounds = cold->options->rounds != 0 ? (unsigned)cold->options->rounds : rounds;
    hist_clear(&all);
    for (unsigned round = 0; round < rounds; round++) {
        progress_show("continuity: replays from disk, round %u of %u", round + 1, rounds);
        hist_clear(&one);
        if (!run_round(cold, is_dropped, &one)) {
            return false;
        }
        samples_add(&p99_ms, (double)hist_percentile(&one, 0.99) / 1e6);
        hist_add(&all, &one);
    }
    const char *cache = is_dropped ? "files not in the page cache" : "files in the page cache";
    struct report_row row = {
        .bench = "continuity",
        .params = {{.name = "threads", .number = cold->threads},
                   {.name = "page_cache", .text = is_dropped ? "dropped" : "kept"}},
        .metric = "cold_p99",
        .unit = "ms",
        .ours = summary_of(&p99_ms),
    };
    snprintf(row.what, sizeof row.what, "replay from disk after a restart, %s", cache);
    report_add(cold->report, &row);
    report_latency(cold->report, "continuity", "latency of replays from disk", cache, &all);
    return true;
}

bool cold_measure(const struct options *options, struct report *report)
{
    struct cold cold = {
        .options = options,
        .report = report,
        .values = {.pool_bytes = POOL_BYTES, .ttl_s = RESTART_S, .size_of = size_of},
        .threads = options->quick ? THREADS_QUICK : THREADS,
    };
    if (options->count != 0) {
        cold.threads = (uint32_t)(options->count < THREADS ? options->count : THREADS);
    }
    uint8_t *pool = malloc(POOL_BYTES + STEP_BYTES_MAX);
    cold.order = calloc(cold.threads, sizeof *cold.order);
    bool good = pool != NULL && cold.order != NULL && folder_make(&cold.folder, options->data);
    if (good) {
        random_fill(pool, POOL_BYTES + STEP_BYTES_MAX);
        random_fill(&cold.values.series, sizeof cold.values.series);
        cold.values.pool = pool;
        struct fill fill = {.bench = "continuity",
                            .directory = cold.folder.name,
                            .values = &cold.values,
                            .memory_bytes = MEMORY_BYTES,
                            .end = cold.threads,
                            .steps_of = steps_of};
        good = fill_directory(&fill) && run_rounds(&cold, true) && run_rounds(&cold, false);
    }
    progress_clear();
    folder_end(&cold.folder);
    free(cold.order);
    free(pool);
    return good;
}
