/* What is common to all operations: hints before, and the last word after. */
#include "thread/operations.h"

#include "thread/cold.h"
#include "thread/lookup.h"

/* What a lookup reads of a thread's record: its fixed part, and most IDs. */
enum {
    RECORD_PREFETCH_BYTES = sizeof(struct thread) + 24,
    PREFETCH_LINE_BYTES = 64,
};

/* The name a request will look up first; false when it has none. */
static bool first_name(const struct wire_request *request, enum record_kind *kind, struct bytes *id)
{
    *kind = RECORD_THREAD;
    *id = request->thread;
    if (wire_given(request, WIRE_FIELD_thread)) {
        return true;
    }
    if (wire_given(request, WIRE_FIELD_response_id)) {
        *kind = RECORD_RESPONSE_ID;
        *id = request->response_id;
    } else if (wire_given(request, WIRE_FIELD_tool_call)) {
        *kind = RECORD_TOOL_CALL;
        *id = request->tool_call;
    } else if (wire_given(request, WIRE_FIELD_prefix)) {
        *kind = RECORD_PREFIX;
        *id = request->prefix;
    } else {
        return false;
    }
    return true;
}

void thread_prefetch_directory(struct lane *lane, struct wire_request *request,
                               struct thread_hint *hint)
{
    enum record_kind kind;
    struct bytes id;
    hint->has_name = first_name(request, &kind, &id);
    if (hint->has_name) {
        hint->hash = lookup_key(lane, kind, id).hash;
        lookup_note(request, kind, id, hint->hash);
        index_prefetch_directory(lane->threads->index, hint->hash);
    }
}

void thread_prefetch_bucket(struct lane *lane, const struct thread_hint *hint)
{
    if (hint->has_name) {
        index_prefetch_bucket(lane->threads->index, hint->hash);
    }
}

/* So that the requests of one turn wait for the disk together and not one by one. */
static void ask_disk(struct lane *lane, const struct wire_request *request)
{
    enum record_kind kind;
    struct bytes id;
    if (first_name(request, &kind, &id)) {
        struct lookup_key key = lookup_key_of(lane, request, kind, id);
        if (!index_find(lane->threads->index, key.hash, lookup_match, &key)) {
            cold_ask(lane, &key);
        }
    }
}

void thread_prefetch_record(struct lane *lane, struct wire_request *request,
                            struct thread_hint *hint)
{
    if (!hint->has_name) {
        return;
    }
    hint->turn = lane->turn;
    hint->likely = index_prefetch_record(lane->threads->index, hint->hash, RECORD_PREFETCH_BYTES);
    lookup_note_likely(lane, request, hint->likely);
    if (lane->tier && !hint->likely) {
        /* What is likely there is not waited for here, where it has only just been asked for. */
        ask_disk(lane, request);
    }
}

void thread_prefetch_steps(const struct lane *lane, const struct wire_request *request,
                           const struct thread_hint *hint)
{
    if (!hint->has_name || !hint->likely || hint->turn != lane->turn ||
        request->method != WIRE_METHOD_REPLAY || hint->likely->kind != RECORD_THREAD) {
        return;
    }
    /* Whoever retired it since, it stays for this turn, and what is read here was
     * fixed when it was published. */
    const struct thread *thread = (const struct thread *)hint->likely;
    if (!thread_is_compact(thread)) {
        return;
    }
    const uint8_t *at = (const uint8_t *)thread;
    const uint8_t *end =
        (const uint8_t *)(thread + 1) + thread->id_size + thread->step.payload_bytes;
    /* Not in a function of its own: the compiler takes one that only prefetches for one that does
     * nothing, and leaves out calls of it. The first lines came with the record. */
    for (at += 2 * PREFETCH_LINE_BYTES; at < end; at += PREFETCH_LINE_BYTES) {
        __builtin_prefetch(at, 0, 3);
    }
}

bool thread_awaits_room(const struct lane *lane)
{
    return lane->want == WANT_ROOM;
}

enum status thread_give_up(struct lane *lane, const struct wire_request *request,
                           struct wire_error *error)
{
    (void)request;
    if (lane->want == WANT_MEMORY) {
        return wire_fail(error, STATUS_OVER_BUDGET, "",
                         "no memory within the budget, even after eviction; send less, or give "
                         "--memory more");
    }
    if (lane->want == WANT_DISK || lane->want == WANT_ROOM) {
        return wire_fail(error, STATUS_BUSY, "",
                         "the disk did not keep up for too long; nothing was done, try again");
    }
    return wire_fail(error, STATUS_BUSY, "",
                     "the thread stayed occupied by others; nothing was done, try again");
}
