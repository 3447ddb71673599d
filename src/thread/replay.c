/*
 * Replay: which steps of a thread to return, or why not. It changes nothing but the deadline.
 */
#include "thread/cold.h"
#include "thread/graveyard.h"
#include "thread/lookup.h"
#include "thread/operations.h"
#include "thread/replay.h"
#include "thread/steps.h"
#include "thread/thread.h"
#include "wire/compose.h"

/* What a missing step takes in a reply, at the most. */
enum { MISSING_BYTES = 48 };

struct replay {
    struct lane *lane;
    const struct wire_request *request;
    struct thread_replay_result *result;
    struct wire_error *error;
    bool touch;
};

static enum status miss(struct replay *replay, enum reason reason, uint64_t version)
{
    replay->result->state = THREAD_MISS;
    replay->result->reason = reason;
    replay->result->version = version;
    if (reason == REASON_NEVER_SEEN) {
        replay->result->vouch_ms = graveyard_vouch_ms(replay->lane);
    }
    return STATUS_OK;
}

/*
 * Uses the thread: refreshes its deadline unless told not to. LIFE_CLAIMED: overdue, but an append
 * may yet save it.
 */
static enum life use_thread(struct replay *replay, struct thread *thread)
{
    struct lane *lane = replay->lane;
    /* Relaxed: a hint for who asks where it came from. */
    replay->result->from_disk = atomic_load_explicit(&thread->from_disk, memory_order_relaxed);
    if (!replay->touch) {
        return life_judge(thread, life_load(thread), lane->now_ms);
    }
    thread_used(thread);
    /* Relaxed: a hint for eviction. */
    if (!atomic_load_explicit(&thread->replayed, memory_order_relaxed)) {
        atomic_store_explicit(&thread->replayed, 1, memory_order_relaxed);
    }
    return life_refresh(thread, lane->now_ms, LIFE_EXTEND);
}

/* ---- the selection ---- */

/* What the caller holds already need not be sent: `have`. */
static void skip_held(struct replay *replay, const struct thread *thread,
                      const struct snapshot *now)
{
    struct thread_replay_result *result = replay->result;
    const struct wire_have *have = &replay->request->have;
    if (!wire_given(replay->request, WIRE_FIELD_have) || have->step < 0) {
        return;
    }
    /* A version the thread has not reached, or a fork never had, vouches for nothing. */
    uint64_t changed = 0;
    if (have->version <= now->version && have->version >= thread->shared) {
        uint64_t vouched =
            have->version > now->spine->lost_base ? have->version - now->spine->lost_base : 0;
        changed = vouched < now->spine->lost
                      ? vouched
                      : spine_first_after(replay->lane, thread, now, have->version);
    }
    uint64_t beyond = (uint64_t)have->step + 1;
    if (changed < beyond) {
        result->has_first_changed = true;
        result->first_changed = (uint32_t)changed;
    }
    uint64_t begin = changed < beyond ? changed : beyond;
    result->begin = begin < result->end ? (uint32_t)begin : result->end;
}

static bool model_fits(const struct thread_replay_result *result, const struct step *step)
{
    struct bytes model = step_model(step);
    return result->model.size == 0 || model.size == 0 || bytes_equal(model, result->model);
}

static uint64_t step_reply_bytes(const struct step *step)
{
    return (uint64_t)WIRE_STEP_BYTES_MAX + step->model_size + step->response_id_size +
           step->tool_calls_bytes + (uint64_t)step->tool_call_count * WIRE_TOOL_CALL_BYTES_MAX +
           (uint64_t)step->segment_count * WIRE_SEGMENT_BYTES_MAX + step->payload_bytes;
}

uint64_t thread_replay_bytes(const struct wire_request *append)
{
    return (uint64_t)WIRE_REPLAY_BYTES_MAX + MISSING_BYTES + WIRE_STEP_BYTES_MAX +
           append->thread.size + append->model.size + append->response_id.size +
           append->tool_calls.encoded.size +
           (uint64_t)append->tool_calls.count * WIRE_TOOL_CALL_BYTES_MAX +
           (uint64_t)append->payload_count * WIRE_SEGMENT_BYTES_MAX + append->payload_bytes;
}

/*
 * Keeps the newest whole steps that fit max_bytes and the frame, and judges the state. Every
 * position costs at least its entry as a missing step, so that the older ones always fit as such.
 */
static enum status fit(struct replay *replay)
{
    struct thread_replay_result *result = replay->result;
    uint64_t frame_max = replay->lane->threads->settings.frame_max_bytes;
    uint64_t frame =
        WIRE_REPLAY_BYTES_MAX + (uint64_t)(result->end - result->begin) * MISSING_BYTES;
    uint64_t bytes_max =
        wire_given(replay->request, WIRE_FIELD_max_bytes) ? replay->request->max_bytes : UINT64_MAX;
    if (frame > frame_max) {
        return wire_fail(replay->error, STATUS_TOO_LARGE, "",
                         "the list of steps alone is larger than a frame; ask with last or have");
    }
    bool whole = true;
    for (uint32_t at = result->end; at > result->begin; at--) {
        const struct step *step = spine_step(replay->lane, result->spine, at - 1);
        if (!step || (step->flags & STEP_CORRUPT) || !model_fits(result, step)) {
            whole = false;
            continue;
        }
        frame += step_reply_bytes(step);
        if (frame > frame_max || result->payload_bytes + step->payload_bytes > bytes_max) {
            result->budget_end = at;
            whole = false;
            break;
        }
        result->payload_bytes += step->payload_bytes;
        result->segment_count += step->segment_count;
    }
    result->state = whole ? THREAD_COMPLETE : THREAD_PARTIAL;
    return STATUS_OK;
}

static void prefetch_steps(const struct replay *replay)
{
    /* The steps are independent of each other: their cache misses overlap. */
    const struct thread_replay_result *result = replay->result;
    for (uint32_t at = result->begin; at < result->end; at++) {
        __builtin_prefetch(spine_step(replay->lane, result->spine, at));
    }
}

/* `end`: positions below it are asked for; UINT32_MAX means all. */
static enum status select_steps(struct replay *replay, const struct thread *thread,
                                const struct snapshot *now, uint32_t end)
{
    struct thread_replay_result *result = replay->result;
    const struct wire_request *request = replay->request;
    result->thread = thread_id(thread);
    result->spine = now->spine;
    result->version = now->version;
    result->head = (int64_t)now->length - 1;
    result->end = end < now->length ? end : now->length;
    result->model = request->model;
    result->expires_in_ms = life_remaining_ms(thread, life_load(thread), replay->lane->now_ms);
    skip_held(replay, thread, now);
    if (wire_given(request, WIRE_FIELD_last) && result->end - result->begin > request->last) {
        result->begin = result->end - (uint32_t)request->last;
    }
    if (wire_given(request, WIRE_FIELD_policy) && request->policy == WIRE_POLICY_NONE) {
        result->begin = result->end;
    }
    prefetch_steps(replay);
    replay->lane->work += result->end - result->begin;
    return fit(replay);
}

const struct step *thread_replay_step(const struct lane *lane,
                                      const struct thread_replay_result *result, uint32_t position,
                                      enum reason *missing)
{
    assert(position >= result->begin && position < result->end);
    const struct step *step = spine_step(lane, result->spine, position);
    *missing = REASON_NONE;
    if (!step) {
        *missing = (enum reason)result->spine->lost_reason;
    } else if (position < result->budget_end) {
        *missing = REASON_BUDGET;
    } else if (step->flags & STEP_CORRUPT) {
        *missing = REASON_CORRUPT;
    } else if (!model_fits(result, step)) {
        *missing = REASON_MODEL_MISMATCH;
    }
    return *missing == REASON_NONE ? step : NULL;
}

/* ---- finding the thread ---- */

struct step_key_asked {
    bool asked;
    enum record_kind kind;
    struct bytes id;
};

static struct step_key_asked asked_key(const struct wire_request *request)
{
    if (wire_given(request, WIRE_FIELD_response_id)) {
        return (struct step_key_asked){true, RECORD_RESPONSE_ID, request->response_id};
    }
    if (wire_given(request, WIRE_FIELD_tool_call)) {
        return (struct step_key_asked){true, RECORD_TOOL_CALL, request->tool_call};
    }
    if (wire_given(request, WIRE_FIELD_prefix)) {
        return (struct step_key_asked){true, RECORD_PREFIX, request->prefix};
    }
    return (struct step_key_asked){0};
}

/*
 * The position behind the newest step of the thread's spine that carries the key; 0, and *why, when
 * there is none. Where the newest of all is in this spine, the index leads straight to it.
 */
static uint32_t find_in_thread(struct replay *replay, const struct thread *thread,
                               const struct snapshot *now, const struct step_key_asked *asked,
                               const struct index_record *record, enum reason *why)
{
    struct lane *lane = replay->lane;
    bool gone = record && record_is_tombstone(record);
    const struct cold *cold = record && record_is_cold(record) ? (struct cold *)record : NULL;
    const struct step *step = record && !gone && !cold ? step_of_key(record) : NULL;
    if (step && step->number >= now->spine->lost && step->number < now->length &&
        spine_step(lane, now->spine, step->number) == step) {
        return step->number + 1;
    }
    for (uint32_t at = now->length; at > now->spine->lost; at--) {
        lane->work++;
        if (step_has_key(spine_step(lane, now->spine, at - 1), asked->kind, asked->id)) {
            return at;
        }
    }
    *why = now->spine->lost > 0 ? (enum reason)now->spine->lost_reason : REASON_NEVER_SEEN;
    if (gone && ((const struct tombstone *)record)->version == thread_fingerprint(thread)) {
        *why = (enum reason)record->flags;
    } else if (cold && cold_state(cold) == COLD_GONE &&
               cold->version == thread_fingerprint(thread)) {
        *why = (enum reason)cold->reason;
    } else if (cold && cold_state(cold) == COLD_KEY && cold->owner_low == thread->record.hash_low &&
               cold->owner_high == thread->hash_high) {
        *why = REASON_REWOUND; /* and the disk does not know yet */
    } else if (step && step->owner == lane_ref(lane, thread) && step->version <= now->version) {
        *why = REASON_REWOUND; /* and not buried yet; what came after `now` has later versions */
    }
    return 0;
}

/* The thread, used; STATUS_AGAIN: later. found->thread is NULL when there is none. */
static enum status use_named(struct replay *replay, struct bytes id, struct lookup *found)
{
    struct lane *lane = replay->lane;
    for (;;) {
        *found = lookup_thread(lane, id);
        if (found->loading) {
            return lane_put_back(lane, WANT_DISK);
        }
        enum life life = found->thread ? use_thread(replay, found->thread) : LIFE_ALIVE;
        if (life == LIFE_CLAIMED) {
            return lane_put_back(lane, WANT_CLAIM);
        }
        if (life == LIFE_ALIVE) {
            return STATUS_OK;
        }
    }
}

static enum status replay_thread(struct replay *replay, const struct step_key_asked *asked)
{
    struct lane *lane = replay->lane;
    struct lookup_key key = {0};
    const struct index_record *record = NULL;
    if (asked->asked) {
        bool loading;
        key = lookup_key(lane, asked->kind, asked->id);
        record = cold_find_key(lane, &key, &loading);
        if (loading) {
            return lane_put_back(lane, WANT_DISK);
        }
    }
    struct lookup found;
    enum status status = use_named(replay, replay->request->thread, &found);
    if (status) {
        return status;
    }
    if (!found.thread) {
        return miss(replay, found.reason, found.version);
    }
    struct snapshot now = spine_snapshot(lane, found.thread);
    if (!asked->asked) {
        return select_steps(replay, found.thread, &now, UINT32_MAX);
    }
    enum reason why = REASON_NONE;
    uint32_t end = find_in_thread(replay, found.thread, &now, asked, record, &why);
    if (end > 0) {
        return select_steps(replay, found.thread, &now, end);
    }
    replay->result->thread = thread_id(found.thread);
    return miss(replay, why, now.version);
}

/*
 * The key leads to step `number`, committed at `version`, of a thread that is not, or not as it
 * was, in memory: whatever is under its name now must still have that step.
 */
static enum status replay_cold_key(struct replay *replay, const struct step_key_asked *asked,
                                   struct bytes id, uint32_t number, uint32_t version)
{
    struct lookup found;
    enum status status = use_named(replay, id, &found);
    if (status) {
        return status;
    }
    if (!found.thread) {
        return miss(replay, found.reason, 0);
    }
    struct snapshot now = spine_snapshot(replay->lane, found.thread);
    const struct step *step =
        number < now.length ? spine_step(replay->lane, now.spine, number) : NULL;
    /* The key is compared as well: an earlier life of the thread had the same versions. */
    bool same = step && step->version == version && step_has_key(step, asked->kind, asked->id);
    if (same || (step && (step->flags & STEP_CORRUPT))) {
        return select_steps(replay, found.thread, &now, number + 1);
    }
    replay->result->thread = thread_id(found.thread);
    enum reason lost = (enum reason)now.spine->lost_reason;
    return miss(replay, number < now.spine->lost ? lost : REASON_REWOUND, now.version);
}

static enum status replay_cold(struct replay *replay, const struct step_key_asked *asked,
                               const struct cold *cold)
{
    enum cold_state state = cold_state(cold);
    if (state == COLD_CORRUPT) {
        return miss(replay, REASON_CORRUPT, 0);
    }
    if (state == COLD_ABSENT) {
        return miss(replay, REASON_NEVER_SEEN, 0);
    }
    if (cold->shared && asked->kind != RECORD_PREFIX) {
        return miss(replay, REASON_AMBIGUOUS, 0);
    }
    replay->result->ambiguous = cold->shared;
    return state == COLD_GONE ? miss(replay, (enum reason)cold->reason, 0)
                              : replay_cold_key(replay, asked, bytes_of(cold->id, cold->id_size),
                                                cold->number, cold->version);
}

/* The key leads to the newest step that carried it, and by it to the thread that wrote it. */
static enum status replay_key(struct replay *replay, const struct step_key_asked *asked)
{
    struct lane *lane = replay->lane;
    struct lookup_key key = lookup_key(lane, asked->kind, asked->id);
    bool loading;
    const struct index_record *record = cold_find_key(lane, &key, &loading);
    if (loading) {
        return lane_put_back(lane, WANT_DISK);
    }
    if (!record) {
        return miss(replay, REASON_NEVER_SEEN, 0);
    }
    if (record_is_cold(record)) {
        return replay_cold(replay, asked, (const struct cold *)record);
    }
    bool gone = record_is_tombstone(record);
    bool shared = gone ? record->small != 0 : (record->flags & STEP_KEY_SHARED) != 0;
    if (shared && asked->kind != RECORD_PREFIX) {
        return miss(replay, REASON_AMBIGUOUS, 0);
    }
    replay->result->ambiguous = shared;
    if (gone) {
        return miss(replay, (enum reason)record->flags, 0);
    }
    const struct step *step = step_of_key(record);
    struct thread *thread = lane_at(lane, step->owner);
    if (life_is_demoted(life_load(thread))) {
        return replay_cold_key(replay, asked, thread_id(thread), step->number, step->version);
    }
    switch (use_thread(replay, thread)) {
    case LIFE_CLAIMED:
        return lane_put_back(lane, WANT_CLAIM);
    case LIFE_OVERDUE:
        return miss(replay, life_end_reason(thread, lane->now_ms), 0);
    case LIFE_GONE:
        if (life_is_demoted(life_load(thread))) {
            return replay_cold_key(replay, asked, thread_id(thread), step->number, step->version);
        }
        return miss(replay, life_reason(life_load(thread)), 0);
    case LIFE_ALIVE:
        break;
    }
    struct snapshot now = spine_snapshot(lane, thread);
    if (step->number >= now.length || spine_step(lane, now.spine, step->number) != step) {
        replay->result->thread = thread_id(thread);
        return miss(replay, REASON_REWOUND, now.version);
    }
    return select_steps(replay, thread, &now, step->number + 1);
}

enum status thread_replay(struct lane *lane, const struct wire_request *request,
                          struct thread_replay_result *result, struct wire_error *error)
{
    struct replay replay = {
        .lane = lane,
        .request = request,
        .result = result,
        .error = error,
        .touch = !wire_given(request, WIRE_FIELD_touch) || request->touch,
    };
    *result = (struct thread_replay_result){.head = -1};
    struct step_key_asked asked = asked_key(request);
    return wire_given(request, WIRE_FIELD_thread) ? replay_thread(&replay, &asked)
                                                  : replay_key(&replay, &asked);
}
