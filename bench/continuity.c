/*
 * How many follow-up turns of real conversations find their whole reasoning history: with memory
 * alone, and with the disk behind it. Threads and store are the server's own; time is driven.
 *
 * A turn first replays its thread, as a worker would, then leaves its trace if it thought. A
 * *follow-up* has a turn that thought before it; it is complete when every trace before it came
 * back byte for byte, judged by what was put in, never by what the reply says of itself.
 */
#include "bench/folder.h"
#include "bench/progress.h"
#include "bench/trace.h"
#include "bench/workload.h"
#include "store/store.h"
#include "thread/operations.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
    TTL_MS = 5 * 60 * 1000,
    RETENTION_MS = 24 * 3600 * 1000,
    TICK_MS = 30 * 1000, /* between two looks at everything */
    TRIES_MAX = 200000,  /* of one operation that is put back */
    LAG_BYTES = 64 << 20,
    THINKING_BYTES_MAX = 1 << 20,
};

static const char trace_default[] = "../shared/data/workload-claudecode-dev.jsonl.gz";

struct continuity {
    const struct trace *trace;
    struct clock_driven clock;
    struct clock_driven wall;
    struct store *store; /* NULL: memory only */
    struct threads *threads;
    struct lane *lane;
    uint64_t tended_ms;
    size_t *next;     /* of each thread: its next turn */
    uint64_t *due_ms; /* and when that comes */
    uint64_t follow_ups;
    uint64_t complete;
    uint64_t from_disk;
    uint64_t demotions;
};

/* Words, so that it compresses about as reasoning does; the same for the same turn. */
static uint32_t make_trace(uint8_t *text, const struct trace_turn *turn, size_t number)
{
    static const char *const words[] = {"the ",  "so ",      "check ",  "function ", "returns ",
                                        "that ", "because ", "let me ", "value ",    "is "};
    uint64_t state = (number + 1) * UINT64_C(0x9E3779B97F4A7C15);
    uint32_t at = 0;
    while (at < turn->thinking_bytes) {
        state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        char number_text[16];
        const char *word = words[(state >> 33) % (sizeof words / sizeof *words)];
        if ((state >> 50) % 4 == 0) {
            snprintf(number_text, sizeof number_text, "%u ", (unsigned)(state >> 40) & 0xffff);
            word = number_text;
        }
        for (; *word && at < turn->thinking_bytes; word++) {
            text[at++] = (uint8_t)*word;
        }
    }
    return at;
}

/* ---- The two systems ---- */

static bool system_open(struct continuity *run, uint64_t memory_bytes, const char *directory)
{
    clock_driven_init(&run->clock, 1000000);
    clock_driven_init(&run->wall, UINT64_C(1700000000000));
    struct threads_settings settings = {
        .memory_bytes = memory_bytes,
        .ttl_ms = TTL_MS,
        .frame_max_bytes = 64 << 20,
        .tombstones = 65536,
        .lanes_max = 1,
        .clock = &run->clock.clock,
    };
    if (directory != NULL) {
        struct store_refusal refusal;
        struct store_settings store = {
            .directory = directory,
            .disk_bytes = UINT64_C(10) << 30,
            .lag_max_bytes = LAG_BYTES,
            .tombstones = 65536,
            .pool = 1,
            .compression = STORE_COMPRESSION_ZSTD,
            .wall = &run->wall.clock,
            .clock = &run->clock.clock,
        };
        run->store = store_open(&store, &refusal);
        if (run->store == NULL) {
            fprintf(stderr, "rethread-bench: continuity: %s\n", refusal.text);
            return false;
        }
        settings.tier = store_tier(run->store);
        settings.wall = &run->wall.clock;
        settings.hash_secret = store_secret(run->store);
        settings.retention_ms = RETENTION_MS;
    }
    run->threads = threads_create(&settings);
    run->lane = run->threads != NULL ? lane_open(run->threads, 0, 1) : NULL;
    if (run->lane == NULL) {
        fputs("rethread-bench: no memory\n", stderr);
        return false;
    }
    lane_online(run->lane);
    lane_read_clock(run->lane);
    return true;
}

static void system_close(struct continuity *run)
{
    if (run->lane != NULL) {
        uint64_t values[METRIC_COUNT];
        threads_metrics(run->lane, values);
        run->demotions = values[METRIC_DEMOTIONS];
        lane_offline(run->lane);
        lane_close(run->lane);
    }
    if (run->threads != NULL) {
        threads_destroy(run->threads);
    }
    if (run->store != NULL) {
        store_close(run->store);
    }
}

static void tend(struct continuity *run)
{
    lane_tend(run->lane);
    lane_offline(run->lane);
    lane_online(run->lane);
    lane_read_clock(run->lane);
}

/* Put back: what it waits for is the work of other operating-system threads, in real time. */
static void tend_and_wait(struct continuity *run, unsigned tries)
{
    tend(run);
    if (tries > 4) {
        nanosleep(&(struct timespec){.tv_nsec = 20000}, NULL);
    }
}

static void advance_to(struct continuity *run, uint64_t at_ms)
{
    for (;;) {
        uint64_t now_ms = clock_read_ms(&run->clock.clock);
        uint64_t step_ms = at_ms - now_ms < TICK_MS ? at_ms - now_ms : TICK_MS;
        clock_driven_advance(&run->clock, step_ms);
        clock_driven_advance(&run->wall, step_ms);
        now_ms += step_ms;
        lane_read_clock(run->lane);
        if (now_ms - run->tended_ms >= TICK_MS) {
            run->tended_ms = now_ms;
            if (run->store != NULL) {
                store_settle(run->store);
            }
            tend(run);
            lane_tend_fully(run->lane);
        }
        if (now_ms == at_ms) {
            return;
        }
    }
}

/* ---- One turn ---- */

static struct bytes thread_of(const struct continuity *run, const struct trace_turn *turn)
{
    const char *id = run->trace->ids[turn->thread];
    return bytes_of(id, strlen(id));
}

/* Whether the replay has the trace of every turn in begin..end-1 that thought, and nothing else. */
static bool has_all(const struct continuity *run, const struct thread_replay_result *result,
                    size_t begin, size_t end)
{
    static uint8_t expected[THINKING_BYTES_MAX];
    uint32_t position = 0;
    for (size_t at = begin; at < end; at++) {
        const struct trace_turn *turn = &run->trace->turns[at];
        if (turn->thinking_bytes == 0) {
            continue;
        }
        enum reason missing;
        const struct step *step =
            result->state != THREAD_MISS && position >= result->begin && position < result->end
                ? thread_replay_step(run->lane, result, position, &missing)
                : NULL;
        if (step == NULL) {
            return false;
        }
        struct step_view view;
        step_view(step, &view);
        uint32_t bytes = make_trace(expected, turn, at);
        if (view.payload_bytes != bytes || memcmp(view.payload.data, expected, bytes) != 0) {
            return false;
        }
        position++;
    }
    return position == result->end;
}

static bool replay(struct continuity *run, size_t begin, size_t at)
{
    struct wire_request request = {.method = WIRE_METHOD_REPLAY,
                                   .given = UINT64_C(1) << WIRE_FIELD_thread,
                                   .thread = thread_of(run, &run->trace->turns[at])};
    struct thread_replay_result result;
    struct wire_error error;
    enum status status = STATUS_AGAIN;
    for (unsigned tries = 0; tries < TRIES_MAX; tries++) {
        status = thread_replay(run->lane, &request, &result, &error);
        if (status != STATUS_AGAIN) {
            break;
        }
        tend_and_wait(run, tries);
    }
    if (status != STATUS_OK) {
        fprintf(stderr, "rethread-bench: continuity: a replay failed: %s\n", status_code(status));
        return false;
    }
    size_t first = begin;
    while (first < at && run->trace->turns[first].thinking_bytes == 0) {
        first++;
    }
    if (first < at) {
        run->follow_ups++;
        run->complete += has_all(run, &result, first, at);
        run->from_disk += result.state != THREAD_MISS && result.from_disk;
    }
    return true;
}

static bool append(struct continuity *run, size_t at)
{
    static uint8_t text[THINKING_BYTES_MAX];
    const struct trace_turn *turn = &run->trace->turns[at];
    uint32_t bytes = make_trace(text, turn, at);
    struct wire_request request = {.method = WIRE_METHOD_APPEND,
                                   .given = UINT64_C(1) << WIRE_FIELD_thread,
                                   .thread = thread_of(run, turn),
                                   .payload_count = 1,
                                   .payload_bytes = bytes,
                                   .payloads = {bytes_of(text, bytes)}};
    struct thread_append_result result;
    struct wire_error error;
    enum status status = STATUS_AGAIN;
    for (unsigned tries = 0; tries < TRIES_MAX && status == STATUS_AGAIN; tries++) {
        status = thread_append(run->lane, &request, &result, &error);
        if (status == STATUS_AGAIN) {
            tend_and_wait(run, tries);
        }
    }
    if (status != STATUS_OK) {
        fprintf(stderr, "rethread-bench: continuity: an append failed: %s\n", status_code(status));
        return false;
    }
    return true;
}

/* ---- All turns, in order of time ---- */

/* The thread whose next turn comes first; thread_count: none is left. */
static uint32_t earliest(const struct continuity *run)
{
    uint32_t found = run->trace->thread_count;
    for (uint32_t t = 0; t < run->trace->thread_count; t++) {
        if (run->due_ms[t] != UINT64_MAX &&
            (found == run->trace->thread_count || run->due_ms[t] < run->due_ms[found])) {
            found = t;
        }
    }
    return found;
}

static bool play(struct continuity *run, const size_t *begins, const char *label)
{
    const struct trace *trace = run->trace;
    uint64_t start_ms = clock_read_ms(&run->clock.clock);
    for (uint32_t t = 0; t < trace->thread_count; t++) {
        run->next[t] = begins[t];
        run->due_ms[t] = start_ms;
    }
    run->tended_ms = start_ms;
    for (size_t done = 0; done < trace->turn_count; done++) {
        uint32_t t = earliest(run);
        size_t at = run->next[t]++;
        if (done % 1000 == 0) {
            progress_show("continuity: %s: turn %zu of %zu", label, done, trace->turn_count);
        }
        advance_to(run, run->due_ms[t]);
        if (!replay(run, begins[t], at) ||
            (trace->turns[at].thinking_bytes > 0 && !append(run, at))) {
            return false;
        }
        tend(run);
        run->due_ms[t] = run->next[t] < begins[t + 1]
                             ? run->due_ms[t] + trace->turns[run->next[t]].idle_before_ms
                             : UINT64_MAX;
    }
    return true;
}

static size_t *find_begins(const struct trace *trace)
{
    size_t *begins = calloc(trace->thread_count + 1, sizeof *begins);
    for (size_t at = 0; begins != NULL && at < trace->turn_count; at++) {
        begins[trace->turns[at].thread + 1] = at + 1;
    }
    return begins;
}

static bool run_one(struct continuity *run, const struct trace *trace, uint64_t memory_bytes,
                    const char *directory, const char *label)
{
    *run = (struct continuity){.trace = trace};
    size_t *begins = find_begins(trace);
    run->next = calloc(trace->thread_count, sizeof *run->next);
    run->due_ms = calloc(trace->thread_count, sizeof *run->due_ms);
    bool good = begins != NULL && run->next != NULL && run->due_ms != NULL &&
                system_open(run, memory_bytes, directory) && play(run, begins, label);
    system_close(run);
    progress_clear();
    free(run->due_ms);
    free(run->next);
    free(begins);
    return good;
}

static struct summary share_of(const struct continuity *run)
{
    struct samples samples = {0};
    samples_add(&samples, (double)run->complete / (double)run->follow_ups);
    return summary_of(&samples);
}

static bool compare(const struct trace *trace, uint64_t memory_bytes, const char *name,
                    struct report *report)
{
    char directory[] = "/tmp/rethread-continuity-XXXXXX";
    struct continuity memory_only;
    struct continuity tiers;
    if (mkdtemp(directory) == NULL) {
        perror("rethread-bench: mkdtemp");
        return false;
    }
    bool good = run_one(&memory_only, trace, memory_bytes, NULL, "memory only") &&
                run_one(&tiers, trace, memory_bytes, directory, "two tiers");
    folder_remove(directory);
    if (!good) {
        return false;
    }
    struct report_row row = {
        .bench = "continuity",
        .peer = "memory-only",
        .params = {{.name = "workload", .text = name},
                   {.name = "memory_bytes", .number = memory_bytes},
                   {.name = "follow_ups", .number = tiers.follow_ups},
                   {.name = "replays_from_disk", .number = tiers.from_disk}},
        .metric = "complete_follow_ups",
        .unit = "share",
        .more_is_better = true,
        .ours = share_of(&tiers),
        .theirs = share_of(&memory_only),
    };
    snprintf(row.what, sizeof row.what, "%" PRIu64 " follow-ups, ttl 5m, memory %" PRIu64 "M",
             tiers.follow_ups, memory_bytes >> 20);
    report_add(report, &row);
    return true;
}

static bool run(const struct options *options, struct report *report)
{
    const char *name = options->trace != NULL ? options->trace : trace_default;
    struct trace trace;
    if (options->trace == NULL && access(name, R_OK) != 0) {
        report_note(report, "continuity: no workload given (--workload FILE), so it was left out");
        return true;
    }
    if (!trace_read(&trace, name)) {
        return false;
    }
    const char *base = strrchr(name, '/');
    uint64_t memory_bytes = options->memory_bytes != 0 ? options->memory_bytes : UINT64_C(1) << 30;
    bool good = compare(&trace, memory_bytes, base != NULL ? base + 1 : name, report);
    trace_free(&trace);
    return good;
}

const struct workload workload_continuity = {
    .name = "continuity",
    .help = "follow-up turns that find their whole reasoning: two tiers beside memory only",
    .run = run,
};
