/* Plays conversations against threads and store and keeps their model; see traffic.h. */
#include "bench/traffic.h"

#include "bench/content.h"
#include "bench/folder.h"
#include "bench/local.h"

#include "base/bytes.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    STEPS_MAX = 40,
    TURNS_MAX = 16,
    ID_BYTES = 24,
    TOMBSTONES = 1024,
    /* A lane leaves alone who shares a place with another that is being erased; such a thread is
     * asked for again after ten seconds. */
    ASK_AGAIN_MS = 11 * 1000,
    ASKS_MAX = 2,
    SECOND_MS = 1000,
    MINUTE_MS = 60 * SECOND_MS,
    HOUR_MS = 60 * MINUTE_MS,
};

struct conversation {
    uint64_t number; /* its id */
    uint64_t due_ms; /* of its next turn */
    uint64_t used_ms;
    uint32_t turns_left; /* 0: it has not begun; its first turn begins another */
    uint32_t length;
    bool own_last;             /* the last step was appended here, and not before a fork */
    uint64_t steps[STEPS_MAX]; /* each gives its content, see content.h */
};

struct left {
    uint64_t number;
    uint64_t used_ms;
};

struct traffic {
    struct traffic_settings settings;
    struct clock_driven clock;
    struct clock_driven wall;
    struct local local;
    uint64_t random;
    uint64_t start_ms;
    uint64_t stop_ms; /* the next */
    uint64_t number;  /* the last that was given */
    bool leaving;
    struct conversation *conversations;
    struct left *left; /* oldest first; from left_first on they are not known to be gone */
    size_t left_first;
    size_t left_count;
    struct traffic_counts counts;
    uint8_t *pool; /* see content.h */
};

static uint64_t now_ms(const struct traffic *traffic)
{
    return atomic_load_explicit(&traffic->clock.now_ms, memory_order_relaxed);
}

static uint64_t below(struct traffic *traffic, uint64_t limit)
{
    return content_random(&traffic->random) % limit;
}

static bool open_local(struct traffic *traffic)
{
    const struct traffic_settings *settings = &traffic->settings;
    struct local_settings local = {
        .directory = settings->directory,
        .memory_bytes = settings->memory_bytes,
        .disk_bytes = UINT64_C(10) << 30,
        .ttl_ms = settings->ttl_ms,
        .retention_ms = settings->retention_ms,
        .tombstones = TOMBSTONES,
        .clock = &traffic->clock.clock,
        .wall = &traffic->wall.clock,
    };
    return local_open(&traffic->local, &local);
}

static bool fail(const struct conversation *conversation, const char *what, const char *why)
{
    fprintf(stderr, "thread %" PRIu64 ": %s: %s\n", conversation->number, what, why);
    return false;
}

/* ---- Operations ---- */

static struct bytes id_of(uint64_t number, char text[ID_BYTES])
{
    int size = snprintf(text, ID_BYTES, "t%" PRIu64, number);
    return bytes_of(text, (size_t)size);
}

static struct bytes key_of(uint64_t step, char text[ID_BYTES])
{
    int size = snprintf(text, ID_BYTES, "r%" PRIu64, step);
    return bytes_of(text, (size_t)size);
}

static bool has_all(struct traffic *traffic, const struct conversation *conversation,
                    const struct thread_replay_result *result)
{
    static uint8_t expected[CONTENT_BYTES_MAX];
    if (result->state != THREAD_COMPLETE || result->begin != 0 ||
        result->end != conversation->length) {
        return false;
    }
    for (uint32_t at = 0; at < conversation->length; at++) {
        enum reason missing;
        const struct step *step = thread_replay_step(traffic->local.lane, result, at, &missing);
        if (step == NULL) {
            return false;
        }
        struct step_view view;
        step_view(step, &view);
        uint32_t bytes = content_make(traffic->pool, conversation->steps[at], expected);
        if (view.payload_bytes != bytes || memcmp(view.payload.data, expected, bytes) != 0) {
            return false;
        }
    }
    return true;
}

static enum status ask_replay(struct traffic *traffic, const struct wire_request *request,
                              struct thread_replay_result *result)
{
    struct wire_error error;
    enum status status;
    unsigned tries = 0;
    do {
        status = thread_replay(traffic->local.lane, request, result, &error);
    } while (local_try_again(&traffic->local, status, &tries));
    return status;
}

static bool replay(struct traffic *traffic, struct conversation *conversation)
{
    char id[ID_BYTES], key[ID_BYTES];
    struct wire_request request = {.method = WIRE_METHOD_REPLAY};
    struct thread_replay_result result;
    bool by_key = conversation->own_last && below(traffic, 8) == 0;
    if (by_key) {
        request.given = UINT64_C(1) << WIRE_FIELD_response_id;
        request.response_id = key_of(conversation->steps[conversation->length - 1], key);
    } else {
        request.given = UINT64_C(1) << WIRE_FIELD_thread;
        request.thread = id_of(conversation->number, id);
    }
    enum status status = ask_replay(traffic, &request, &result);
    if (status != STATUS_OK) {
        return fail(conversation, "replay", status_code(status));
    }
    if (!has_all(traffic, conversation, &result)) {
        return fail(conversation, by_key ? "replay by key" : "replay", "not what was put in");
    }
    traffic->counts.replays++;
    traffic->counts.replays_by_key += by_key;
    traffic->counts.replays_from_disk += result.from_disk;
    conversation->used_ms = now_ms(traffic);
    return true;
}

static bool append(struct traffic *traffic, struct conversation *conversation)
{
    static uint8_t content[CONTENT_BYTES_MAX];
    char id[ID_BYTES], key[ID_BYTES];
    uint64_t step = content_random(&traffic->random);
    uint32_t bytes = content_make(traffic->pool, step, content);
    struct wire_request request = {.method = WIRE_METHOD_APPEND,
                                   .given = UINT64_C(1) << WIRE_FIELD_thread |
                                            UINT64_C(1) << WIRE_FIELD_response_id,
                                   .thread = id_of(conversation->number, id),
                                   .response_id = key_of(step, key),
                                   .payload_count = 1,
                                   .payload_bytes = bytes,
                                   .payloads = {bytes_of(content, bytes)}};
    struct thread_append_result result;
    struct wire_error error;
    enum status status;
    unsigned tries = 0;
    do {
        status = thread_append(traffic->local.lane, &request, &result, &error);
    } while (local_try_again(&traffic->local, status, &tries));
    if (status != STATUS_OK) {
        return fail(conversation, "append", status_code(status));
    }
    if (result.step != conversation->length || result.created != (conversation->length == 0)) {
        return fail(conversation, "append", "not where it belongs");
    }
    conversation->steps[conversation->length++] = step;
    conversation->own_last = true;
    conversation->used_ms = now_ms(traffic);
    traffic->counts.appends++;
    traffic->counts.append_bytes += bytes;
    return true;
}

static bool rewind_some(struct traffic *traffic, struct conversation *conversation)
{
    char id[ID_BYTES];
    uint32_t to = (uint32_t)below(traffic, conversation->length);
    struct wire_request request = {.method = WIRE_METHOD_REWIND,
                                   .given = UINT64_C(1) << WIRE_FIELD_thread | UINT64_C(1)
                                                                                   << WIRE_FIELD_to,
                                   .thread = id_of(conversation->number, id),
                                   .to = to};
    struct thread_rewind_result result;
    struct wire_error error;
    enum status status;
    unsigned tries = 0;
    do {
        status = thread_rewind(traffic->local.lane, &request, &result, &error);
    } while (local_try_again(&traffic->local, status, &tries));
    if (status != STATUS_OK || result.dropped != conversation->length - to - 1) {
        return fail(conversation, "rewind", status_code(status));
    }
    conversation->own_last = conversation->own_last && to + 1 == conversation->length;
    conversation->length = to + 1;
    conversation->used_ms = now_ms(traffic);
    traffic->counts.rewinds++;
    return true;
}

/* The fork goes on as a conversation of its own, in a place that has none. */
static bool fork_one(struct traffic *traffic, const struct conversation *from)
{
    struct conversation *to = &traffic->conversations[below(traffic, traffic->settings.at_once)];
    if (to->turns_left > 0) {
        return true;
    }
    char id[ID_BYTES], from_id[ID_BYTES];
    uint32_t at = (uint32_t)below(traffic, from->length);
    struct wire_request request = {.method = WIRE_METHOD_FORK,
                                   .given = UINT64_C(1) << WIRE_FIELD_thread |
                                            UINT64_C(1) << WIRE_FIELD_from |
                                            UINT64_C(1) << WIRE_FIELD_at,
                                   .thread = id_of(++traffic->number, id),
                                   .from = id_of(from->number, from_id),
                                   .at = at};
    struct thread_fork_result result;
    struct wire_error error;
    enum status status;
    unsigned tries = 0;
    do {
        status = thread_fork(traffic->local.lane, &request, &result, &error);
    } while (local_try_again(&traffic->local, status, &tries));
    if (status != STATUS_OK) {
        return fail(from, "fork", status_code(status));
    }
    *to = (struct conversation){.number = traffic->number,
                                .due_ms = now_ms(traffic) + 1 + below(traffic, 2 * MINUTE_MS),
                                .used_ms = now_ms(traffic),
                                .turns_left = 1 + (uint32_t)below(traffic, TURNS_MAX),
                                .length = at + 1};
    memcpy(to->steps, from->steps, (at + 1) * sizeof *to->steps);
    traffic->counts.forks++;
    return true;
}

/* A thread whose retention is over: a miss that says so. */
static bool replay_gone(struct traffic *traffic, uint64_t number)
{
    char id[ID_BYTES];
    struct conversation gone = {.number = number};
    struct wire_request request = {.method = WIRE_METHOD_REPLAY,
                                   .given = UINT64_C(1) << WIRE_FIELD_thread,
                                   .thread = id_of(number, id)};
    struct thread_replay_result result;
    enum status status = ask_replay(traffic, &request, &result);
    if (status != STATUS_OK || result.state != THREAD_MISS || result.reason != REASON_EXPIRED) {
        return fail(&gone, "replay past the retention", "not a miss that says expired");
    }
    traffic->counts.replays_gone++;
    return true;
}

/* ---- Turns ---- */

static uint64_t pause_ms(struct traffic *traffic)
{
    uint64_t kind = below(traffic, 100);
    if (kind < 70) {
        return 2 * SECOND_MS + below(traffic, 2 * MINUTE_MS);
    }
    uint64_t ttl_ms = traffic->settings.ttl_ms;
    uint64_t most_ms = kind < 95 ? 3 * ttl_ms : traffic->settings.retention_ms * 5 / 6;
    return ttl_ms + below(traffic, most_ms - ttl_ms);
}

/* At night who was left is not followed by another so soon. */
static uint64_t rest_ms(struct traffic *traffic)
{
    uint64_t hour =
        (traffic->settings.start_of_day_ms + now_ms(traffic) - traffic->start_ms) / HOUR_MS % 24;
    return below(traffic, hour < 7 ? 3 * HOUR_MS : 10 * MINUTE_MS);
}

static bool leave(struct traffic *traffic, struct conversation *conversation)
{
    if (traffic->left_count % 4096 == 0) {
        size_t size = (traffic->left_count + 4096) * sizeof *traffic->left;
        struct left *left = realloc(traffic->left, size);
        if (left == NULL) {
            return fail(conversation, "leaving", "no memory");
        }
        traffic->left = left;
    }
    /* Oldest first, also when a fork was left that was not used since. */
    size_t at = traffic->left_count++;
    for (; at > traffic->left_first && traffic->left[at - 1].used_ms > conversation->used_ms;
         at--) {
        traffic->left[at] = traffic->left[at - 1];
    }
    traffic->left[at] = (struct left){conversation->number, conversation->used_ms};
    conversation->turns_left = 0;
    conversation->due_ms = now_ms(traffic) + 1 + rest_ms(traffic);
    return true;
}

static bool take_turn(struct traffic *traffic, struct conversation *conversation)
{
    if (conversation->turns_left == 0) {
        *conversation = (struct conversation){
            .number = ++traffic->number,
            .turns_left = 1 + (uint32_t)below(traffic, TURNS_MAX),
        };
    } else if (!replay(traffic, conversation) ||
               (below(traffic, 16) == 0 && !rewind_some(traffic, conversation)) ||
               (below(traffic, 8) == 0 && !fork_one(traffic, conversation))) {
        return false;
    }
    if (!append(traffic, conversation)) {
        return false;
    }
    local_tend(&traffic->local);
    if (--conversation->turns_left == 0 || conversation->length == STEPS_MAX) {
        return leave(traffic, conversation);
    }
    conversation->due_ms = now_ms(traffic) + pause_ms(traffic);
    return true;
}

static struct conversation *earliest(const struct traffic *traffic)
{
    struct conversation *found = traffic->conversations;
    for (uint32_t i = 1; i < traffic->settings.at_once; i++) {
        struct conversation *conversation = &traffic->conversations[i];
        found = conversation->due_ms < found->due_ms ? conversation : found;
    }
    return found;
}

static void advance_to(struct traffic *traffic, uint64_t at_ms)
{
    uint64_t by_ms = at_ms > now_ms(traffic) ? at_ms - now_ms(traffic) : 0;
    clock_driven_advance(&traffic->clock, by_ms);
    clock_driven_advance(&traffic->wall, by_ms);
    lane_read_clock(traffic->local.lane);
}

/* ---- Stops ---- */

static bool is_over(const struct traffic *traffic, const struct left *left, uint64_t since_ms)
{
    return left->used_ms + traffic->settings.retention_ms + since_ms <= now_ms(traffic);
}

static uint64_t read_us(clockid_t clock)
{
    struct timespec time;
    clock_gettime(clock, &time);
    return (uint64_t)time.tv_sec * 1000000 + (uint64_t)time.tv_nsec / 1000;
}

/* Replays some of those that are gone. */
static bool judge_gone(struct traffic *traffic)
{
    while (traffic->left_first < traffic->left_count) {
        const struct left *left = &traffic->left[traffic->left_first];
        if (!is_over(traffic, left, TRAFFIC_ERASE_MS)) {
            break;
        }
        if (below(traffic, 8) == 0 && !replay_gone(traffic, left->number)) {
            return false;
        }
        traffic->left_first++;
    }
    return true;
}

static void count_threads(const struct traffic *traffic, struct traffic_look *look)
{
    look->threads_least = look->threads_most = 0;
    for (size_t i = traffic->left_first; i < traffic->left_count; i++) {
        look->threads_least += !is_over(traffic, &traffic->left[i], 0);
        look->threads_most += !is_over(traffic, &traffic->left[i], TRAFFIC_ERASE_MS);
    }
    for (uint32_t i = 0; i < traffic->settings.at_once; i++) {
        look->threads_least += traffic->conversations[i].turns_left > 0;
        look->threads_most += traffic->conversations[i].turns_left > 0;
    }
}

static void look_around(struct traffic *traffic, struct traffic_look *look)
{
    local_settle(
        &traffic->local); /* what was due is submitted, what the sweep has to say as well */
    local_settle(&traffic->local); /* and has come through */
    uint64_t values[METRIC_COUNT];
    threads_metrics(traffic->local.lane, values);
    traffic->counts.demotions = values[METRIC_DEMOTIONS];
    look->memory_bytes = values[METRIC_USED_BYTES];
    look->live_bytes = values[METRIC_DISK_LIVE_BYTES];
    look->disk_threads = values[METRIC_DISK_THREADS];
    look->disk_records = values[METRIC_DISK_RECORDS];
    look->disk_tombstones = values[METRIC_DISK_TOMBSTONES];
    count_threads(traffic, look);
}

static bool stop(struct traffic *traffic, struct traffic_look *look)
{
    *look = (struct traffic_look){0};
    uint64_t wall_us = read_us(CLOCK_MONOTONIC);
    uint64_t cpu_us = read_us(CLOCK_PROCESS_CPUTIME_ID);
    store_settle(traffic->local.store);
    look->batch_us = read_us(CLOCK_MONOTONIC) - wall_us;
    look->batch_cpu_us = read_us(CLOCK_PROCESS_CPUTIME_ID) - cpu_us;
    look_around(traffic, look);
    for (unsigned i = 0; i < ASKS_MAX && look->disk_threads > look->threads_most; i++) {
        advance_to(traffic, now_ms(traffic) + ASK_AGAIN_MS);
        store_settle(traffic->local.store);
        look_around(traffic, look);
    }
    look->tree_bytes = folder_bytes(traffic->settings.directory, "tree.mdb");
    look->tree_bytes -= folder_bytes(traffic->settings.directory, "tree.mdb-");
    look->log_bytes = folder_bytes(traffic->settings.directory, "log-");
    return judge_gone(traffic);
}

bool traffic_play(struct traffic *traffic, struct traffic_look *look)
{
    while (!traffic->leaving) {
        struct conversation *conversation = earliest(traffic);
        if (conversation->due_ms >= traffic->stop_ms) {
            break;
        }
        advance_to(traffic, conversation->due_ms);
        if (!take_turn(traffic, conversation)) {
            return false;
        }
    }
    advance_to(traffic, traffic->stop_ms);
    traffic->stop_ms += traffic->settings.stop_ms;
    return stop(traffic, look);
}

void traffic_leave(struct traffic *traffic)
{
    for (uint32_t i = 0; i < traffic->settings.at_once; i++) {
        if (traffic->conversations[i].turns_left > 0) {
            leave(traffic, &traffic->conversations[i]);
        }
    }
    traffic->leaving = true;
}

void traffic_count(struct traffic *traffic, struct traffic_counts *counts)
{
    *counts = traffic->counts;
}

struct traffic *traffic_start(const struct traffic_settings *settings)
{
    assert(settings->at_once > 0 && settings->stop_ms > 0);
    struct traffic *traffic = calloc(1, sizeof *traffic);
    if (traffic == NULL) {
        return NULL;
    }
    traffic->settings = *settings;
    traffic->random = settings->seed;
    clock_driven_init(&traffic->clock, 1000000);
    clock_driven_init(&traffic->wall, UINT64_C(1700000000000));
    traffic->start_ms = now_ms(traffic);
    traffic->stop_ms = traffic->start_ms + settings->stop_ms;
    traffic->pool = content_pool(settings->seed);
    traffic->conversations = calloc(settings->at_once, sizeof *traffic->conversations);
    if (traffic->pool == NULL || traffic->conversations == NULL || !open_local(traffic)) {
        traffic_end(traffic);
        return NULL;
    }
    for (uint32_t i = 0; i < settings->at_once; i++) {
        traffic->conversations[i].due_ms = traffic->start_ms + below(traffic, 10 * MINUTE_MS);
    }
    return traffic;
}

void traffic_end(struct traffic *traffic)
{
    local_close(&traffic->local);
    free(traffic->left);
    free(traffic->conversations);
    free(traffic->pool);
    free(traffic);
}
