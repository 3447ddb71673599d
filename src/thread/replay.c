/*
 * Replay: finding the thread, by its id or by what one of its steps left, or saying why it is not
 * there. Which of its steps are returned is decided in select.c.
 */
#include "thread/replay.h"

#include "thread/cold.h"
#include "thread/compact.h"
#include "thread/graveyard.h"
#include "thread/lookup.h"
#include "thread/select.h"
#include "thread/steps.h"
#include "thread/thread.h"
#include "wire/parse.h"

#include <stdlib.h>

enum status replay_miss(struct replay *replay, enum reason reason, uint64_t version)
{
    replay->result->state = THREAD_MISS;
    replay->result->reason = reason;
    replay->result->version = version;
    if (reason == REASON_NEVER_SEEN) {
        replay->result->vouch_ms = graveyard_vouch_ms(replay->lane);
    }
    return STATUS_OK;
}

enum { PREFIXES_MAX = 1024 /* of a list, see schema/options.def */ };

/* A step key that was asked for. */
struct step_key_asked {
    bool asked;
    enum record_kind kind;
    struct bytes id;
};

/*
 * Uses the thread: refreshes its deadline unless told not to. LIFE_CLAIMED: overdue, but an append
 * may yet save it.
 */
static enum life use_thread(struct replay *replay, struct thread *thread)
{
    struct lane *lane = replay->lane;
    replay->result->from_disk = thread_is_from_disk(thread);
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

static struct snapshot snapshot_of(struct replay *replay, const struct thread *thread)
{
    return compact_snapshot(replay->lane, thread, &replay->result->alone);
}

/* ---- finding the thread ---- */

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

/* The step that the key leads to, if it is in this spine; it is the newest that carries it. */
static const struct step *led_to(const struct lane *lane, const struct snapshot *now,
                                 const struct index_record *record)
{
    if (!record || record_is_tombstone(record) || record_is_cold(record)) {
        return NULL;
    }
    const struct step *step = step_of_key(record);
    bool here = step_number(step) >= now->spine->lost && step_number(step) < now->length &&
                spine_step(lane, now->spine, step_number(step)) == step;
    return here ? step : NULL;
}

/* Whether `owner` is an earlier life of the thread, whose steps are not buried yet. */
static bool ended_before(const struct lane *lane, const struct thread *owner,
                         const struct thread *thread)
{
    uint64_t word = life_load(owner);
    return owner != thread && (word & LIFE_DEAD) && !life_is_demoted(word) &&
           owner->record.hash_low == thread->record.hash_low &&
           thread_full(owner)->hash_high == thread_hash_high(lane, thread);
}

/* Why no step of the thread carries the key. */
static enum reason why_none(const struct lane *lane, const struct thread *thread,
                            const struct snapshot *now, const struct index_record *record)
{
    bool gone = record && record_is_tombstone(record);
    const struct cold *cold = record && record_is_cold(record) ? (struct cold *)record : NULL;
    const struct step *step = record && !gone && !cold ? step_of_key(record) : NULL;
    if (gone &&
        ((const struct tombstone *)record)->version == (uint32_t)thread_hash_high(lane, thread)) {
        return (enum reason)record->flags;
    }
    if (cold && cold_state(cold) == COLD_GONE && cold->version == thread_fingerprint(thread)) {
        return (enum reason)cold->reason;
    }
    if (cold && cold_state(cold) == COLD_KEY && cold->owner_low == thread->record.hash_low &&
        cold->owner_high == thread_full(thread)->hash_high) {
        return REASON_REWOUND; /* and the disk does not know yet */
    }
    if (step && step_rest(step)->owner == lane_ref(lane, thread) &&
        step_version(step) <= now->version) {
        return REASON_REWOUND; /* and not buried yet; what came after `now` has later versions */
    }
    if (step && ended_before(lane, lane_at(lane, step_rest(step)->owner), thread)) {
        const struct thread *owner = lane_at(lane, step_rest(step)->owner);
        return step_end_reason(step, life_reason(life_load(owner)));
    }
    return now->spine->lost > 0 ? (enum reason)now->spine->lost_reason : REASON_NEVER_SEEN;
}

/*
 * The position behind the newest step of the thread's spine that carries the key; 0: there is none.
 * Where the newest of all is in this spine, the index leads straight to it.
 */
static uint32_t find_in_thread(struct lane *lane, const struct snapshot *now,
                               const struct step_key_asked *asked,
                               const struct index_record *record)
{
    const struct step *step = led_to(lane, now, record);
    if (step) {
        return step_number(step) + 1;
    }
    for (uint32_t at = now->length; at > now->spine->lost; at--) {
        lane->work++;
        if (step_has_key(spine_step(lane, now->spine, at - 1), asked->kind, asked->id)) {
            return at;
        }
    }
    return 0;
}

/* The thread, used; STATUS_AGAIN: later. found->thread is NULL when there is none. */
static enum status use_named(struct replay *replay, struct bytes id, struct lookup *found)
{
    struct lane *lane = replay->lane;
    for (;;) {
        if (id.data == replay->request->thread.data) {
            *found = lookup_request(lane, replay->request);
        } else {
            struct lookup_key key = lookup_key(lane, RECORD_THREAD, id);
            *found = lookup_by(lane, &key);
        }
        /* Its floor may have to move. */
        enum status status = replay->request->pin ? compact_unfold(lane, found) : STATUS_OK;
        if (status) {
            return status;
        }
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

static enum status miss_named(struct replay *replay, const struct lookup *found)
{
    replay->result->in_flight = found->unborn != NULL;
    return replay_miss(replay, found->reason, lookup_snapshot(replay->lane, found).version);
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
        return miss_named(replay, &found);
    }
    replay->result->in_flight = select_in_flight(lane, found.thread);
    struct snapshot now = snapshot_of(replay, found.thread);
    if (!asked->asked) {
        return select_steps(replay, found.thread, &now, UINT32_MAX);
    }
    uint32_t end = find_in_thread(lane, &now, asked, record);
    if (end > 0) {
        return select_steps(replay, found.thread, &now, end);
    }
    replay->result->thread = thread_id(found.thread);
    return replay_miss(replay, why_none(lane, found.thread, &now, record), now.version);
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
        return replay_miss(replay, found.reason, 0);
    }
    struct snapshot now = snapshot_of(replay, found.thread);
    const struct step *step =
        number < now.length ? spine_step(replay->lane, now.spine, number) : NULL;
    /* The key is compared as well: an earlier life of the thread had the same versions. */
    bool same = step && step_version(step) == version && step_has_key(step, asked->kind, asked->id);
    if (same || (step && (step->flags & STEP_CORRUPT))) {
        return select_steps(replay, found.thread, &now, number + 1);
    }
    replay->result->thread = thread_id(found.thread);
    enum reason lost = (enum reason)now.spine->lost_reason;
    return replay_miss(replay, number < now.spine->lost ? lost : REASON_REWOUND, now.version);
}

static enum status replay_cold(struct replay *replay, const struct step_key_asked *asked,
                               const struct cold *cold)
{
    enum cold_state state = cold_state(cold);
    if (state == COLD_CORRUPT) {
        return replay_miss(replay, REASON_CORRUPT, 0);
    }
    if (state == COLD_ABSENT) {
        return replay_miss(replay, REASON_NEVER_SEEN, 0);
    }
    if (cold->shared && asked->kind != RECORD_PREFIX) {
        return replay_miss(replay, REASON_AMBIGUOUS, 0);
    }
    replay->result->ambiguous = cold->shared;
    return state == COLD_GONE ? replay_miss(replay, (enum reason)cold->reason, 0)
                              : replay_cold_key(replay, asked, bytes_of(cold->id, cold->id_size),
                                                cold->number, cold->version);
}

/* The key leads to the newest step that carried it, and by it to the thread that wrote it. */
static enum status replay_key(struct replay *replay, const struct step_key_asked *asked)
{
    struct lane *lane = replay->lane;
    struct lookup_key key = lookup_key_of(lane, replay->request, asked->kind, asked->id);
    bool loading;
    const struct index_record *record = cold_find_key(lane, &key, &loading);
    if (loading) {
        return lane_put_back(lane, WANT_DISK);
    }
    if (!record) {
        return replay_miss(replay, REASON_NEVER_SEEN, 0);
    }
    if (record_is_cold(record)) {
        return replay_cold(replay, asked, (const struct cold *)record);
    }
    bool gone = record_is_tombstone(record);
    bool shared = gone ? record->small != 0 : (record->flags & STEP_KEY_SHARED) != 0;
    if (shared && asked->kind != RECORD_PREFIX) {
        return replay_miss(replay, REASON_AMBIGUOUS, 0);
    }
    replay->result->ambiguous = shared;
    if (gone) {
        return replay_miss(replay, (enum reason)record->flags, 0);
    }
    const struct step *step = step_of_key(record);
    struct thread *thread = lane_at(lane, step_rest(step)->owner);
    if (life_is_demoted(life_load(thread))) {
        return replay_cold_key(replay, asked, thread_id(thread), step_number(step),
                               step_version(step));
    }
    switch (use_thread(replay, thread)) {
    case LIFE_CLAIMED:
        return lane_put_back(lane, WANT_CLAIM);
    case LIFE_OVERDUE:
        return replay_miss(replay, step_end_reason(step, life_end_reason(thread, lane->now_ms)), 0);
    case LIFE_GONE:
        if (life_is_demoted(life_load(thread))) {
            return replay_cold_key(replay, asked, thread_id(thread), step_number(step),
                                   step_version(step));
        }
        return replay_miss(replay, step_end_reason(step, life_reason(life_load(thread))), 0);
    case LIFE_ALIVE:
        break;
    }
    struct snapshot now = spine_snapshot(lane, thread);
    if (step_number(step) >= now.length || spine_step(lane, now.spine, step_number(step)) != step) {
        replay->result->thread = thread_id(thread);
        return replay_miss(replay, REASON_REWOUND, now.version);
    }
    return select_steps(replay, thread, &now, step_number(step) + 1);
}

/* Has the disk be asked for all of them at once. False: there was nothing to ask for. */
static bool ask_for_prefixes(struct lane *lane, struct wire_list prefixes)
{
    bool any = false;
    struct bytes id;
    lane->work += prefixes.count;
    while (wire_list_next(&prefixes, &id)) {
        struct lookup_key key = lookup_key(lane, RECORD_PREFIX, id);
        bool loading;
        (void)cold_find_key(lane, &key, &loading);
        any = any || loading;
    }
    return any;
}

/* Of a list: one prefix, and its place there. */
struct prefix_asked {
    const uint8_t *bytes;
    uint32_t at;
};

static int by_bytes(const void *a, const void *b)
{
    const struct prefix_asked *left = a, *right = b;
    int order = memcmp(left->bytes, right->bytes, WIRE_PREFIX_BYTES);
    return order ? order : (left->at > right->at) - (left->at < right->at);
}

/* The place of a prefix among those asked for, in the order of their bytes; `count`: it is not
 * there. */
static uint32_t place_of(const struct prefix_asked *asked, uint32_t count, const uint8_t *bytes)
{
    uint32_t low = 0;
    for (uint32_t high = count; low < high;) {
        uint32_t middle = low + (high - low) / 2;
        if (memcmp(asked[middle].bytes, bytes, WIRE_PREFIX_BYTES) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < count && memcmp(asked[low].bytes, bytes, WIRE_PREFIX_BYTES) == 0 ? asked[low].at
                                                                                  : count;
}

/*
 * The first prefix of the list that a step of the thread carries, in *found, and the position
 * behind the newest such step; 0: none does. The index leads to some; for those before the first of
 * them the steps are gone through, once for all.
 */
static uint32_t find_prefix(struct lane *lane, const struct snapshot *now, struct wire_list list,
                            uint32_t *found)
{
    struct prefix_asked asked[PREFIXES_MAX] = {{0}};
    const struct step *led = NULL;
    uint32_t count = 0;
    struct bytes id;
    assert(list.count <= PREFIXES_MAX);
    while (!led && wire_list_next(&list, &id)) {
        struct lookup_key key = lookup_key(lane, RECORD_PREFIX, id);
        led = led_to(lane, now, index_find(lane->threads->index, key.hash, lookup_match, &key));
        if (!led) {
            asked[count] = (struct prefix_asked){.bytes = id.data, .at = count};
            count++;
        }
    }
    uint32_t end = led ? step_number(led) + 1 : 0;
    *found = count;
    qsort(asked, count, sizeof *asked, by_bytes);
    for (uint32_t at = now->length; at > now->spine->lost && *found > 0; at--) {
        struct bytes prefix = step_prefix(spine_step(lane, now->spine, at - 1));
        uint32_t place = prefix.size > 0 ? place_of(asked, count, prefix.data) : count;
        lane->work++;
        if (place < *found) {
            *found = place;
            end = at;
        }
    }
    return end;
}

/* What is known of those that the thread does not carry: of the first of which it is anything. */
static enum reason why_no_prefix(const struct lane *lane, const struct thread *thread,
                                 const struct snapshot *now, struct wire_list list)
{
    enum reason why = REASON_NEVER_SEEN;
    struct bytes id;
    while (why == REASON_NEVER_SEEN && wire_list_next(&list, &id)) {
        struct lookup_key key = lookup_key(lane, RECORD_PREFIX, id);
        why = why_none(lane, thread, now,
                       index_find(lane->threads->index, key.hash, lookup_match, &key));
    }
    return why;
}

static enum status replay_prefixes_of(struct replay *replay)
{
    struct lookup found;
    struct wire_list list = replay->request->prefix_list;
    enum status status = use_named(replay, replay->request->thread, &found);
    if (status) {
        return status;
    }
    if (!found.thread) {
        return miss_named(replay, &found);
    }
    replay->result->in_flight = select_in_flight(replay->lane, found.thread);
    struct snapshot now = snapshot_of(replay, found.thread);
    uint32_t at;
    uint32_t end = find_prefix(replay->lane, &now, list, &at);
    if (end == 0) {
        replay->result->thread = thread_id(found.thread);
        return replay_miss(replay, why_no_prefix(replay->lane, found.thread, &now, list),
                           now.version);
    }
    status = select_steps(replay, found.thread, &now, end);
    replay->result->has_found = status == STATUS_OK;
    replay->result->found = at;
    return status;
}

/*
 * The first that leads to a thread that is there. Where none does, the answer is that of the first
 * of which something is known.
 */
static enum status replay_prefixes(struct replay *replay)
{
    struct wire_list prefixes = replay->request->prefix_list;
    struct step_key_asked asked = {.asked = true, .kind = RECORD_PREFIX};
    struct thread_replay_result blank = *replay->result;
    struct thread_replay_result answer = blank;
    if (ask_for_prefixes(replay->lane, prefixes)) {
        return lane_put_back(replay->lane, WANT_DISK);
    }
    if (wire_given(replay->request, WIRE_FIELD_thread)) {
        return replay_prefixes_of(replay);
    }
    for (uint32_t at = 0; wire_list_next(&prefixes, &asked.id); at++) {
        *replay->result = blank;
        enum status status = replay_key(replay, &asked);
        if (status != STATUS_OK) {
            return status;
        }
        if (replay->known) {
            replay->result->has_found = true;
            replay->result->found = at;
            return STATUS_OK;
        }
        if (at == 0 ||
            (answer.reason == REASON_NEVER_SEEN && replay->result->reason != REASON_NEVER_SEEN)) {
            answer = *replay->result;
        }
    }
    *replay->result = answer;
    return STATUS_OK;
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
    memset(result, 0, offsetof(struct thread_replay_result, judged));
    result->head = -1;
    if (request->prefix_is_list) {
        return replay_prefixes(&replay);
    }
    struct step_key_asked asked = asked_key(request);
    return wire_given(request, WIRE_FIELD_thread) ? replay_thread(&replay, &asked)
                                                  : replay_key(&replay, &asked);
}
