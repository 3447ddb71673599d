/* Stat and list: looking at threads without using them. */
#include "thread/cursor.h"
#include "thread/graveyard.h"
#include "thread/lookup.h"
#include "thread/operations.h"

enum { LIST_DEFAULT = 100, LIST_RECORDS_AT_ONCE = 16384 };

static uint64_t idle_ms(const struct lane *lane, const struct thread *thread, uint64_t word)
{
    /* Relaxed: the deadline is the last use plus the ttl, so the ttl tells when that was. */
    uint64_t ttl_ms = atomic_load_explicit(&thread->ttl_ms, memory_order_relaxed);
    uint64_t left_ms = life_remaining_ms(word, lane->now_ms);
    return ttl_ms > left_ms ? ttl_ms - left_ms : 0;
}

static uint64_t age_ms(const struct lane *lane, const struct thread *thread)
{
    /* Another lane may have created it by a later reading of the clock than ours. */
    return lane->now_ms > thread->created_ms ? lane->now_ms - thread->created_ms : 0;
}

enum status thread_stat(struct lane *lane, const struct wire_request *request,
                        struct thread_stat_result *result, struct wire_error *error)
{
    (void)error;
    struct lookup found = lookup_thread(lane, request->thread);
    if (!found.thread) {
        *result = (struct thread_stat_result){
            .state = THREAD_MISS, .reason = found.reason, .version = found.version};
        if (found.reason == REASON_NEVER_SEEN) {
            result->vouch_ms = graveyard_vouch_ms(lane);
        }
        return STATUS_OK;
    }
    struct snapshot now = spine_snapshot(lane, found.thread);
    uint64_t word = life_load(found.thread);
    *result = (struct thread_stat_result){
        .state = now.spine->lost > 0 ? THREAD_PARTIAL : THREAD_COMPLETE,
        .version = now.version,
        .step_count = now.length,
        /* Relaxed: totals beside the snapshot, exact when nobody appends. */
        .payload_bytes = atomic_load_explicit(&now.spine->payload_bytes, memory_order_relaxed),
        .tokens = atomic_load_explicit(&now.spine->tokens, memory_order_relaxed),
        .age_ms = age_ms(lane, found.thread),
        .idle_ms = idle_ms(lane, found.thread, word),
        .expires_in_ms = life_remaining_ms(word, lane->now_ms),
    };
    return STATUS_OK;
}

/* ---- list ---- */

struct listing {
    struct lane *lane;
    struct bytes starts_with;
    unsigned limit;
    struct thread_list_result *result;
};

static bool visit_listed(void *context, struct index_record *record)
{
    struct listing *listing = context;
    struct thread_list_result *result = listing->result;
    struct lane *lane = listing->lane;
    if (record->kind != RECORD_THREAD) {
        return true;
    }
    struct thread *thread = (struct thread *)record;
    uint64_t word = life_load(thread);
    if (life_judge(word, lane->now_ms) != LIFE_ALIVE || thread->tenant != LOOKUP_TENANT ||
        !bytes_start_with(thread_id(thread), listing->starts_with)) {
        return true;
    }
    struct snapshot now = spine_snapshot(lane, thread);
    result->listed[result->count++] = (struct thread_listed){
        .id = thread_id(thread),
        .version = now.version,
        /* Relaxed: as in stat. */
        .payload_bytes = atomic_load_explicit(&now.spine->payload_bytes, memory_order_relaxed),
        .idle_ms = idle_ms(lane, thread, word),
    };
    return result->count < listing->limit;
}

static unsigned page_limit(const struct wire_request *request)
{
    if (!wire_given(request, WIRE_FIELD_limit)) {
        return LIST_DEFAULT;
    }
    return request->limit < THREAD_LIST_MAX ? (unsigned)request->limit : THREAD_LIST_MAX;
}

enum status thread_list(struct lane *lane, const struct wire_request *request,
                        struct thread_list_result *result, struct wire_error *error)
{
    struct index_scan scan = {0};
    struct listing listing = {
        .lane = lane,
        .starts_with = request->starts_with,
        .limit = page_limit(request),
        .result = result,
    };
    assert(listing.limit > 0 && listing.limit <= THREAD_LIST_MAX);
    result->count = 0;
    if (request->cursor.size > 0 && !cursor_open(lane->threads, request->cursor, &scan)) {
        return wire_fail(error, STATUS_BAD_REQUEST, "cursor",
                         "cursor is not one that list returned; start without it");
    }
    result->more =
        !index_scan(lane->threads->index, &scan, LIST_RECORDS_AT_ONCE, visit_listed, &listing);
    cursor_seal(lane->threads, &scan, result->cursor);
    return STATUS_OK;
}
