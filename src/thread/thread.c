/* How a thread record comes into the index, and how it leaves. */
#include "thread/thread.h"

#include "thread/cold.h"
#include "thread/compact.h"
#include "thread/graveyard.h"
#include "thread/stream.h"
#include "thread/sweep.h"

/* Of times that a thread has room for. */
static const uint64_t age_mask = (UINT64_C(1) << 48) - 1;

struct thread *thread_create(struct lane *lane, const struct lookup_key *key, uint64_t ttl_ms)
{
    assert(key->kind == RECORD_THREAD && key->id.size <= WIRE_ID_BYTES_MAX);
    struct thread *thread = lane_alloc(lane, THREAD_FULL_BYTES + key->id.size);
    if (!thread) {
        return NULL;
    }
    struct rest *rest = (struct rest *)(thread + 1);
    *thread = (struct thread){
        .record = {.hash_low = key->hash.low, .kind = RECORD_THREAD, .small = key->tenant},
        .full = {.hash_high = key->hash.high},
        .id_size = (uint8_t)key->id.size,
    };
    *rest = (struct rest){0};
    memcpy(rest->id, key->id.data, key->id.size);
    thread_set_age(lane, thread, lane->now_ms);
    atomic_init(&rest->retention_ms, lane->tier ? lane->threads->settings.retention_ms : 0);
    atomic_init(&thread->ttl_ms, ttl_ms);
    atomic_init(&thread->life, LIFE_CLAIM | (lane->now_ms + life_keep_ms(thread)));
    atomic_init(&thread->full.holds, 1);
    return thread;
}

struct thread *thread_create_unborn(struct lane *lane, const struct lookup *gone)
{
    struct thread *thread = thread_create(lane, &gone->key, lane->threads->settings.ttl_ms);
    struct spine *spine = thread ? spine_create(lane, 0, gone->steps, gone->version) : NULL;
    if (!spine) {
        thread_discard(lane, thread);
        return NULL;
    }
    spine->lost_reason = (uint8_t)gone->reason;
    rest_of(thread)->uid = gone->reason == REASON_CORRUPT ? cold_corrupt_uid(gone) : 0;
    /* The disk never hears of it; it has no deadline but its streamer's, and no age. */
    thread->record.flags |= THREAD_AGELESS | THREAD_UNBORN;
    thread->record.flags |= gone->memory_only ? THREAD_MEMORY_ONLY : 0;
    atomic_init(&rest_of(thread)->retention_ms, 0);
    atomic_init(&thread->life, LIFE_CLAIM | lane->now_ms);
    atomic_init(&thread_full(thread)->spine, lane_ref(lane, spine));
    return thread;
}

uint64_t thread_unborn_bytes(struct bytes id)
{
    return THREAD_FULL_BYTES + id.size + sizeof(struct spine);
}

void thread_set_age(const struct lane *lane, struct thread *thread, uint64_t created_ms)
{
    uint64_t max_age_ms = lane->threads->settings.max_age_ms;
    uint64_t age_ms = created_ms + max_age_ms;
    assert(age_ms <= age_mask);
    if (max_age_ms == 0) {
        thread->record.flags |= THREAD_AGELESS;
    }
    thread->age_low = (uint32_t)age_ms;
    thread->age_high = (uint16_t)(age_ms >> 32);
}

uint64_t thread_created_ms(const struct lane *lane, const struct thread *thread)
{
    uint64_t age_ms = (uint64_t)thread->age_high << 32 | thread->age_low;
    return thread->record.flags & THREAD_AGELESS ? age_ms
                                                 : age_ms - lane->threads->settings.max_age_ms;
}

uint64_t thread_hash_high(const struct lane *lane, const struct thread *thread)
{
    return thread_is_compact(thread) ? lookup_key(lane, RECORD_THREAD, thread_id(thread)).hash.high
                                     : thread->full.hash_high;
}

void thread_abandon(struct lane *lane, struct thread *thread)
{
    if (rest_of(thread)->recall) {
        arena_free(lane->cache, lane_at(lane, rest_of(thread)->recall));
        rest_of(thread)->recall = 0;
    }
    thread_let_go(lane->member, thread);
}

void thread_discard(struct lane *lane, struct thread *thread)
{
    if (!thread) {
        return;
    }
    if (thread_is_compact(thread)) {
        lane_add(&lane->payload_bytes, thread->step.payload_bytes);
        compact_retire(lane, thread);
        return;
    }
    if (rest_of(thread)->recall) {
        arena_free(lane->cache, lane_at(lane, rest_of(thread)->recall));
    }
    assert(!rest_of(thread)->draft);
    if (thread_is_unborn(thread)) {
        arena_free(lane->cache, spine_of(lane, thread));
    }
    /* Through the epoch: a racing insertion may have compared keys with it. */
    epoch_retire(lane->member, RETIRE_THREAD, thread);
}

bool thread_publish(struct lane *lane, const struct lookup *found, struct thread *thread)
{
    struct index *index = lane->threads->index;
    struct index_record *existing;
    uint16_t tick = thread_tick(lane, thread);
    bool done;
    if (found->record) {
        /* A tombstone, a cold answer, or a dead thread whose killer finds its place taken. */
        done = index_replace(index, lane->member, found->record, &thread->record, tick);
        if (done && record_is_cold(found->record)) {
            cold_retire(lane, (struct cold *)found->record);
        }
    } else {
        done = index_insert(index, lane->member, found->key.hash, &thread->record, tick,
                            lookup_match, &found->key, &existing) == INDEX_DONE;
    }
    if (done && !thread_is_unborn(thread)) {
        lane_add(&lane->live, 1);
    }
    return done;
}

void thread_retick(struct lane *lane, struct thread *thread)
{
    if (!(life_load(thread) & LIFE_DEAD)) {
        index_retick(lane->threads->index, lane->member, &thread->record,
                     thread_tick(lane, thread));
    }
}

void thread_let_go(struct epoch_member *member, struct thread *thread)
{
    /*
     * Release: what this holder did to the thread comes before the last one's retirement; acquire
     * for that last one. Pairs with itself.
     */
    uint32_t held = atomic_fetch_sub_explicit(&thread_full(thread)->holds, 1, memory_order_acq_rel);
    assert(held > 0);
    if (held == 1) {
        epoch_retire(member, RETIRE_THREAD, thread);
    }
}

bool thread_expire(struct lane *lane, struct thread *thread)
{
    enum reason reason = life_end_reason(thread, lane->now_ms);
    if (!life_kill(thread, lane->now_ms, reason)) {
        return false;
    }
    if (thread_is_unborn(thread)) {
        thread_bury(lane, thread, reason);
        return true;
    }
    lane_count(lane, METRIC_EXPIRED, 1);
    thread_end(lane, thread, reason, JOURNAL_NO_WAIT);
    return true;
}

void thread_born(struct lane *lane, struct thread *unborn)
{
    assert(thread_is_unborn(unborn));
    stream_end(lane, unborn);
    bool ended = life_end(unborn, life_load(unborn), REASON_NONE);
    assert(ended); /* claimed, and nobody refreshes an unborn thread */
    spine_retire(lane, spine_of(lane, unborn));
    thread_let_go(lane->member, unborn);
}

/* As a tombstone has it. */
static uint16_t lasting_flags(const struct lane *lane, const struct thread *thread)
{
    return journal_memory_only(lane, thread) ? THREAD_MEMORY_ONLY : 0;
}

/* What was there before: a tombstone says more of it than it did, or nothing. */
static void bury_unborn(struct lane *lane, struct thread *thread)
{
    struct snapshot before = spine_snapshot(lane, thread);
    enum reason reason = (enum reason)before.spine->lost_reason;
    if (reason == REASON_NEVER_SEEN || reason == REASON_CORRUPT) {
        /* What is damaged is on disk still, and is found there again. */
        index_remove(lane->threads->index, lane->member, &thread->record);
    } else {
        graveyard_bury(lane, &thread->record, thread_full(thread)->hash_high, reason,
                       lasting_flags(lane, thread), before.version, before.length);
    }
    stream_bury(lane, thread);
    spine_retire(lane, (struct spine *)(uintptr_t)before.spine);
    thread_let_go(lane->member, thread);
}

struct tier_change *thread_end(struct lane *lane, struct thread *thread, enum reason reason,
                               enum journal_wait wait)
{
    struct tier_change *pending = journal_erase(lane, thread, reason, wait);
    thread_bury(lane, thread, reason);
    return pending;
}

void thread_bury(struct lane *lane, struct thread *thread, enum reason reason)
{
    if (thread_is_unborn(thread)) {
        bury_unborn(lane, thread);
        return;
    }
    struct snapshot last = spine_snapshot(lane, thread);
    lane_add(&lane->live, -1);
    if (!thread_is_compact(thread)) {
        stream_bury(lane, thread);
    }
    if (reason == REASON_NONE) {
        index_remove(lane->threads->index, lane->member, &thread->record);
    } else {
        graveyard_bury(lane, &thread->record, thread_hash_high(lane, thread), reason,
                       lasting_flags(lane, thread), last.version, last.length);
    }
    if (thread_is_compact(thread)) {
        compact_retire(lane, thread);
        return;
    }
    if (rest_of(thread)->recall) {
        /* Only a holder of the claim reads it, and nobody claims the dead. */
        arena_free(lane->cache, lane_at(lane, rest_of(thread)->recall));
        rest_of(thread)->recall = 0;
    }
    spine_bury(lane, thread, (struct spine *)(uintptr_t)last.spine, last.spine->lost, last.length,
               reason);
    thread_let_go(lane->member, thread);
}
