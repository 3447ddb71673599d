/* Fork, rewind, forget and touch: what changes a thread without adding a step. */
#include "thread/append.h"
#include "thread/cold.h"
#include "thread/compact.h"
#include "thread/journal.h"
#include "thread/lookup.h"
#include "thread/operations.h"
#include "thread/steps.h"
#include "thread/stream.h"
#include "thread/thread.h"

#include <inttypes.h>

enum {
    LOOKS_MAX = 16,
    /* Steps that wait for burial, beyond which nothing is done that would add many: a fork and a
     * forget cost a client next to nothing, and burying the fork's holds a lot. */
    BURIAL_BACKLOG_MAX = 4 * THREAD_STEPS_MAX,
};

static enum status not_found(struct wire_error *error, const char *option, enum reason reason)
{
    wire_fail(error, STATUS_NOT_FOUND, option, "the thread is not there: %s", reason_name(reason));
    error->reason = reason;
    return STATUS_NOT_FOUND;
}

/*
 * Finds a thread and takes its claim. STATUS_OK: *thread is claimed. The caller gives it back with
 * life_release.
 */
static enum status claim_thread(struct lane *lane, struct bytes id, const char *option,
                                struct thread **thread, struct wire_error *error)
{
    for (int looks = 0; looks < LOOKS_MAX; looks++) {
        struct lookup found = lookup_thread(lane, id);
        enum status status = compact_unfold(lane, &found);
        if (status || found.loading) {
            return status ? status : lane_put_back(lane, WANT_DISK);
        }
        if (!found.thread) {
            return not_found(error, option, found.reason);
        }
        *thread = found.thread;
        switch (life_claim(found.thread, lane->now_ms)) {
        case LIFE_ALIVE:
            return STATUS_OK;
        case LIFE_CLAIMED:
            return lane_put_back(lane, WANT_CLAIM);
        case LIFE_OVERDUE:
        case LIFE_GONE:
            break;
        }
    }
    return lane_put_back(lane, WANT_CLAIM);
}

/* ---- fork ---- */

/* Under the claim of `from`: its steps cannot be let go while their holds are counted. */
static struct spine *share_steps(struct lane *lane, const struct snapshot *now, uint32_t keep)
{
    struct spine *spine = spine_copy(lane, now, keep, keep, 1);
    if (!spine) {
        return NULL;
    }
    /* A fork's version starts with what it shares: its lost steps are as old as that. */
    spine->lost_base = keep - spine->lost;
    for (uint32_t at = spine->lost; at < keep; at++) {
        /* Relaxed: `from` holds each of them, so none can reach zero meanwhile. */
        atomic_fetch_add_explicit(&step_rest(spine_step(lane, spine, at))->holds, 1,
                                  memory_order_relaxed);
    }
    lane->work += keep - spine->lost;
    return spine;
}

static enum status fork_claimed(struct lane *lane, const struct wire_request *request,
                                const struct lookup *found, const struct thread *from,
                                struct thread_fork_result *result, struct wire_error *error)
{
    struct snapshot now = spine_snapshot(lane, from);
    uint32_t keep = now.length;
    if (wire_given(request, WIRE_FIELD_at)) {
        if (request->at >= now.length) {
            return wire_fail(error, STATUS_BAD_REQUEST, "at",
                             "at is beyond the last step, which is %" PRId64,
                             (int64_t)now.length - 1);
        }
        keep = (uint32_t)request->at + 1;
    }
    /* Relaxed: a number by itself. */
    uint64_t ttl_ms = atomic_load_explicit(&from->ttl_ms, memory_order_relaxed);
    struct thread *thread = thread_create(lane, &found->key, ttl_ms);
    struct spine *spine = thread ? share_steps(lane, &now, keep) : NULL;
    if (!spine) {
        thread_discard(lane, thread);
        return lane_put_back(lane, WANT_MEMORY);
    }
    rest_of(thread)->shared = keep;
    rest_of(thread)->floor = rest_of(from)->floor < keep ? rest_of(from)->floor : keep;
    /* A fork inherits its origin's age. */
    thread_set_age(lane, thread, thread_created_ms(lane, from));
    /* Relaxed: a number by itself. */
    uint64_t retention_ms =
        atomic_load_explicit(&rest_of(from)->retention_ms, memory_order_relaxed);
    atomic_store_explicit(&rest_of(thread)->retention_ms, retention_ms, memory_order_relaxed);
    life_refresh(thread, lane->now_ms, LIFE_RESET);
    /* Relaxed: not shared yet; the index publishes it. */
    atomic_store_explicit(&thread_full(thread)->spine, lane_ref(lane, spine), memory_order_relaxed);
    if (!thread_publish(lane, found, thread)) {
        /* `from` still holds every step, so this only counts down. */
        for (uint32_t at = spine->lost; at < keep; at++) {
            step_let_go(lane, spine_step(lane, spine, at), REASON_FORGOTTEN);
        }
        arena_free(lane->cache, spine);
        thread_discard(lane, thread);
        return lane_put_back(lane, WANT_CLAIM);
    }
    journal_put(lane, thread, 0, REASON_NONE, NULL, JOURNAL_NO_WAIT);
    *result = (struct thread_fork_result){
        .version = keep,
        .expires_in_ms = life_remaining_ms(thread, life_load(thread), lane->now_ms)};
    life_release(thread, lane->now_ms, LIFE_KEEP);
    lane_count(lane, METRIC_THREADS_CREATED, 1);
    lane_count(lane, METRIC_FORKS, 1);
    return STATUS_OK;
}

enum status thread_fork(struct lane *lane, const struct wire_request *request,
                        struct thread_fork_result *result, struct wire_error *error)
{
    if (lane->burial_steps > BURIAL_BACKLOG_MAX) {
        return lane_put_back(lane, WANT_CLAIM);
    }
    if (journal_is_full(lane)) {
        return lane_put_back(lane, WANT_ROOM);
    }
    struct thread *from;
    enum status status = claim_thread(lane, request->from, "from", &from, error);
    if (status) {
        return status;
    }
    struct lookup found = lookup_request(lane, request);
    if (found.loading) {
        status = lane_put_back(lane, WANT_DISK);
    } else if (found.thread) {
        status = wire_fail(error, STATUS_CONFLICT, "thread", "the new thread exists already");
        error->version = spine_snapshot(lane, found.thread).version;
        error->cause = "exists";
    } else if (found.unborn) {
        status = stream_lives(lane, found.unborn)
                     ? append_conflict(error, "claimed", lookup_snapshot(lane, &found).version)
                     : lane_put_back(lane, WANT_CLAIM);
    } else {
        status = fork_claimed(lane, request, &found, from, result, error);
    }
    life_release(from, lane->now_ms, LIFE_KEEP);
    return status;
}

/* ---- rewind ---- */

enum status thread_rewind(struct lane *lane, const struct wire_request *request,
                          struct thread_rewind_result *result, struct wire_error *error)
{
    struct thread *thread;
    if (journal_is_full(lane)) {
        return lane_put_back(lane, WANT_ROOM);
    }
    enum status status = claim_thread(lane, request->thread, "thread", &thread, error);
    if (status) {
        return status;
    }
    struct snapshot now = spine_snapshot(lane, thread);
    if (stream_draft(lane, thread)) {
        status = append_conflict(error, "claimed", now.version);
        goto out;
    }
    if (request->to >= (int64_t)now.length) {
        status =
            wire_fail(error, STATUS_BAD_REQUEST, "to",
                      "to is beyond the last step, which is %" PRId64, (int64_t)now.length - 1);
        goto out;
    }
    if (now.version == UINT32_MAX) {
        status = wire_fail(error, STATUS_OVER_BUDGET, "", "the thread has used up its versions");
        goto out;
    }
    if (lane->burial_steps > BURIAL_BACKLOG_MAX) {
        status = lane_put_back(lane, WANT_CLAIM);
        goto out;
    }
    uint32_t keep = (uint32_t)(request->to + 1);
    struct spine *old = spine_of(lane, thread);
    uint32_t drop_at = keep > old->lost ? keep : old->lost;
    struct spine *spine = spine_copy(lane, &now, keep, now.version + 1, 1);
    if (!spine) {
        status = lane_put_back(lane, WANT_MEMORY);
        goto out;
    }
    for (uint32_t at = drop_at; at < now.length; at++) {
        step_rewind(lane, thread, spine_step(lane, old, at));
    }
    /* Pairs with the acquire in spine_of. */
    atomic_store_explicit(&thread_full(thread)->spine, lane_ref(lane, spine), memory_order_release);
    rest_of(thread)->floor = rest_of(thread)->floor < keep ? rest_of(thread)->floor : keep;
    journal_put(lane, thread, keep, REASON_REWOUND, NULL, JOURNAL_NO_WAIT);
    spine_bury(lane, thread, old, drop_at, now.length, REASON_REWOUND);
    lane_count(lane, METRIC_REWINDS, 1);
    *result =
        (struct thread_rewind_result){.version = now.version + 1, .dropped = now.length - keep};
out:
    life_release(thread, lane->now_ms, LIFE_KEEP);
    return status;
}

/* ---- forget ---- */

static enum status not_now(struct wire_error *error)
{
    return wire_fail(
        error, STATUS_READ_ONLY, "",
        "the disk takes no writes at the moment and would keep the thread; nothing was "
        "forgotten, try again");
}

/* What is damaged beyond reading can still be erased. */
static enum status forget_corrupt(struct lane *lane, const struct lookup *found,
                                  struct thread_forget_result *result, struct wire_error *error)
{
    if (lane->tier->calls->is_read_only(lane->tier)) {
        return not_now(error);
    }
    result->pending = cold_forget(lane, found);
    if (result->pending) {
        result->forgotten = true;
        lane_count(lane, METRIC_FORGOTTEN, 1);
    }
    return STATUS_OK;
}

enum status thread_forget(struct lane *lane, const struct wire_request *request,
                          struct thread_forget_result *result, struct wire_error *error)
{
    *result = (struct thread_forget_result){0};
    for (int looks = 0; looks < LOOKS_MAX; looks++) {
        struct lookup found = lookup_request(lane, request);
        if (found.loading) {
            return lane_put_back(lane, WANT_DISK);
        }
        if (found.unborn) {
            /* Its draft goes; there was no thread, or one that the disk cannot read: look again. */
            if (life_kill(found.unborn, UINT64_MAX, REASON_FORGOTTEN)) {
                thread_bury(lane, found.unborn, REASON_FORGOTTEN);
                if (found.reason != REASON_CORRUPT) {
                    return STATUS_OK;
                }
            }
            continue;
        }
        if (!found.thread) {
            return found.reason == REASON_CORRUPT ? forget_corrupt(lane, &found, result, error)
                                                  : STATUS_OK;
        }
        if (journal_keeps(lane, found.thread) && lane->tier->calls->is_read_only(lane->tier)) {
            return not_now(error);
        }
        if (life_kill(found.thread, UINT64_MAX, REASON_FORGOTTEN)) {
            lane_count(lane, METRIC_FORGOTTEN, 1);
            result->pending =
                thread_end(lane, found.thread, REASON_FORGOTTEN, JOURNAL_WAIT_DURABLE);
            result->forgotten = true;
            return STATUS_OK;
        }
    }
    return lane_put_back(lane, WANT_CLAIM);
}

/* ---- touch ---- */

enum status thread_touch(struct lane *lane, struct bytes id, bool has_ttl, uint64_t ttl_ms,
                         enum reason *missing)
{
    for (;;) {
        struct lookup found = lookup_thread(lane, id);
        if (found.loading) {
            return lane_put_back(lane, WANT_DISK);
        }
        if (!found.thread) {
            *missing = found.reason;
            return STATUS_OK;
        }
        if (has_ttl) {
            /* Relaxed: before the reset, which publishes it. The latest value wins. */
            atomic_store_explicit(&found.thread->ttl_ms, ttl_ms, memory_order_relaxed);
            if (!thread_is_compact(found.thread)) {
                /* Release publishes the ttl to who takes note of it, in journal_put. */
                atomic_store_explicit(&rest_of(found.thread)->retuned, 1, memory_order_release);
            }
        }
        enum life life =
            life_refresh(found.thread, lane->now_ms, has_ttl ? LIFE_RESET : LIFE_EXTEND);
        if (life == LIFE_ALIVE) {
            if (has_ttl) {
                thread_retick(lane, found.thread);
            }
            thread_used(found.thread);
            *missing = REASON_NONE;
            return STATUS_OK;
        }
        if (life == LIFE_CLAIMED) {
            /* Overdue while an append is at work on it: its outcome decides. */
            return lane_put_back(lane, WANT_CLAIM);
        }
    }
}
