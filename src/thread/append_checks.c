/* What is checked before an append takes effect: each of these does nothing but say no. */
#include "thread/append_private.h"

#include "thread/operations.h"
#include "thread/replay.h"
#include "thread/steps.h"
#include "wire/compose.h"

/* ---- conflicts ---- */

enum status append_conflict(struct wire_error *error, const char *cause, uint64_t version)
{
    wire_fail(error, STATUS_CONFLICT, "",
              strcmp(cause, "claimed") == 0
                  ? "another is at work on the thread's next step; wait for it, then replay and "
                    "decide again"
                  : "the thread is not as expected; replay it and decide again");
    error->version = (int64_t)version;
    error->cause = cause;
    return STATUS_CONFLICT;
}

enum status append_stale(struct wire_error *error, uint64_t version)
{
    wire_fail(
        error, STATUS_CONFLICT, "",
        "the claim is over, or not of this thread; unless it was committed, what was streamed "
        "under it is gone: replay, then begin again");
    error->version = (int64_t)version;
    error->cause = "claimed";
    return STATUS_CONFLICT;
}

/* ---- of the request ---- */

/* Most steps: their ids and tool calls together are less than the rest of the limit. */
enum { SMALL_PAYLOAD = 16384, SMALL_TOOL_CALLS = 16, SMALL_LIMIT = 65536 };

static bool is_small(const struct lane *lane, const struct wire_request *request)
{
    static_assert(SMALL_PAYLOAD + WIRE_REPLAY_BYTES_MAX + WIRE_STEP_BYTES_MAX +
                          WIRE_VISIBLE_BYTES_MAX + WIRE_SEGMENT_BYTES_MAX +
                          SMALL_TOOL_CALLS * (2 * WIRE_ID_BYTES_MAX + WIRE_TOOL_CALL_BYTES_MAX) +
                          8 * WIRE_ID_BYTES_MAX + 1024 <
                      SMALL_LIMIT,
                  "what is small fits");
    return request->payload_count == 1 && request->payload_bytes <= SMALL_PAYLOAD &&
           request->tool_calls.count <= SMALL_TOOL_CALLS &&
           lane->threads->step_bytes_max >= SMALL_LIMIT &&
           lane->threads->settings.frame_max_bytes >= SMALL_LIMIT;
}

enum status append_check_size(const struct lane *lane, const struct wire_request *request,
                              struct wire_error *error)
{
    if (is_small(lane, request)) {
        return STATUS_OK;
    }
    if (step_size_bytes(request) > lane->threads->step_bytes_max) {
        return wire_fail(error, STATUS_OVER_BUDGET, "",
                         "the step needs more than half of the memory budget; send less, or give "
                         "--memory more");
    }
    if (thread_replay_bytes(request) > lane->threads->settings.frame_max_bytes) {
        return wire_fail(error, STATUS_TOO_LARGE, "",
                         "a frame could not take the step back out; split it into several");
    }
    return STATUS_OK;
}

enum status append_check_disk(const struct append *append)
{
    const struct lane *lane = append->lane;
    bool waits = append->wait != JOURNAL_NO_WAIT;
    if (waits && !lane->tier) {
        return wire_fail(append->error, STATUS_BAD_REQUEST, "ack",
                         "ack: disk needs a disk tier; give the server --data DIR");
    }
    if (waits && lane->tier->calls->is_read_only(lane->tier)) {
        return wire_fail(append->error, STATUS_READ_ONLY, "ack",
                         "the disk takes no writes at the moment; nothing was done, info tells "
                         "more");
    }
    return journal_is_full(lane) ? lane_put_back(append->lane, WANT_ROOM) : STATUS_OK;
}

/* ---- of the thread that is there ---- */

enum status append_check_expect(struct append *append, uint32_t version)
{
    if (!append->has_expect) {
        return STATUS_OK;
    }
    if (append->request->expect == 0) {
        return append_conflict(append->error, "exists", version);
    }
    return append->request->expect == version ? STATUS_OK
                                              : append_conflict(append->error, "version", version);
}

enum status append_check_turn(struct append *append, uint32_t previous_turn)
{
    if (wire_given(append->request, WIRE_FIELD_turn) && append->request->turn < previous_turn) {
        return wire_fail(append->error, STATUS_BAD_REQUEST, "turn",
                         "turn is lower than the previous step's (%u); after a compaction start a "
                         "new thread, or rewind to -1",
                         previous_turn);
    }
    return STATUS_OK;
}

enum status append_never_on_disk(const struct append *append)
{
    return wire_fail(append->error, STATUS_BAD_REQUEST, "ack",
                     "a thread with retention 0 never touches the disk; leave out ack: disk");
}

enum status append_check_lifetimes(const struct append *append, const struct thread *thread,
                                   bool memory_only)
{
    const struct wire_request *request = append->request;
    if (!append->lane->tier) {
        return STATUS_OK;
    }
    bool given = wire_given(request, WIRE_FIELD_retention_ms);
    bool keeps =
        !memory_only && (thread || given || append->lane->threads->settings.retention_ms > 0);
    if (memory_only && given && request->retention_ms > 0) {
        return wire_fail(append->error, STATUS_BAD_REQUEST, "retention_ms",
                         "the thread has retention 0, which cannot be undone; start a new thread");
    }
    if (append->wait != JOURNAL_NO_WAIT && (!keeps || (given && request->retention_ms == 0))) {
        return append_never_on_disk(append);
    }
    return STATUS_OK;
}

enum status append_check_room(const struct snapshot *now, struct wire_error *error)
{
    if (now->length >= THREAD_STEPS_MAX || now->version == UINT32_MAX) {
        return wire_fail(error, STATUS_OVER_BUDGET, "",
                         "the thread has all the %d steps a thread may have; start a new one",
                         THREAD_STEPS_MAX);
    }
    return STATUS_OK;
}

enum status append_check_claim(struct append *append, const struct draft *draft, uint64_t version)
{
    if (append->commits) {
        return draft && draft->claim == append->request->claim
                   ? STATUS_OK
                   : append_stale(append->error, version);
    }
    return draft ? append_conflict(append->error, "claimed", version) : STATUS_OK;
}

/* ---- of one that is not ---- */

enum status append_judge_gone(struct append *append, const struct lookup *gone,
                              const struct draft *draft, bool *continued)
{
    bool none_expected = append->has_expect && append->request->expect == 0;
    bool afresh = none_expected || (draft && draft->afresh);
    if (gone->reason == REASON_CORRUPT && !afresh) {
        /* Its version is not known, and a tail must not pass for the whole. */
        return append_conflict(append->error, "version", 0);
    }
    *continued = !afresh && lookup_continues(gone);
    uint32_t version = *continued ? gone->version : 0;
    return !append->has_expect || append->request->expect == version
               ? STATUS_OK
               : append_conflict(append->error, "version", version);
}
