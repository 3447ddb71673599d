/*
 * Step keys: how a step is found by response id, tool call or prefix, and how it leaves.
 *
 * The index holds the newest step that carried a key. A key is *shared* once a second thread has
 * written it; that sticks, through tombstones as well.
 */
#include "thread/cold.h"
#include "thread/graveyard.h"
#include "thread/lookup.h"
#include "thread/steps.h"

/* Whether the key, as it stood in `existing`, was written by another thread or is shared already.
 */
static bool is_shared(const struct lane *lane, const struct index_record *existing,
                      const struct thread *writer)
{
    struct index_hash name = {.low = writer->record.hash_low,
                              .high = thread_full(writer)->hash_high};
    if (record_is_tombstone(existing)) {
        const struct tombstone *tombstone = (const struct tombstone *)existing;
        return existing->small || tombstone->version != thread_fingerprint(writer);
    }
    if (record_is_cold(existing)) {
        return cold_is_shared((const struct cold *)existing, name);
    }
    const struct thread *owner = lane_at(lane, step_rest(step_of_key(existing))->owner);
    /* By name, not by record: a thread that came back is the same one. */
    return (existing->flags & STEP_KEY_SHARED) || owner->record.hash_low != name.low ||
           thread_full(owner)->hash_high != name.high;
}

static void publish_key(struct lane *lane, struct thread *thread, struct step *step,
                        struct index_record *record)
{
    struct index *index = lane->threads->index;
    struct lookup_key key =
        lookup_key(lane, (enum record_kind)record->kind, step_key_id(step, record));
    record->hash_low = key.hash.low;
    uint8_t known = record->flags;        /* shared by what the disk said, see cold_know_keys */
    struct index_record *existing = NULL; /* a fresh key, mostly: the insertion finds out */
    for (;;) {
        if (!existing) {
            record->flags = known;
            if (index_insert(index, lane->member, key.hash, record, 0, lookup_match, &key,
                             &existing) == INDEX_DONE) {
                return;
            }
        }
        if (!record_is_tombstone(existing) && !record_is_cold(existing) &&
            step_of_key(existing) == step) {
            return; /* the step names one tool call twice */
        }
        record->flags = is_shared(lane, existing, thread) ? STEP_KEY_SHARED : known;
        if (index_replace(index, lane->member, existing, record, 0)) {
            if (record_is_cold(existing) &&
                cold_state((const struct cold *)existing) != COLD_LOADING) {
                cold_retire(lane, (struct cold *)existing);
            }
            return;
        }
        existing = index_find(index, key.hash, lookup_match, &key);
    }
}

void step_publish_keys(struct lane *lane, struct thread *thread, struct step *step)
{
    for (unsigned i = 0; i < step->key_count; i++) {
        publish_key(lane, thread, step, &step_keys(step)[i].record);
    }
}

static void bury_key(struct lane *lane, const struct step *step, const struct index_record *record,
                     enum reason reason)
{
    struct lookup_key key =
        lookup_key(lane, (enum record_kind)record->kind, step_key_id(step, record));
    /* A newer step may have taken the key over; then there is nothing to explain. */
    if (index_find(lane->threads->index, key.hash, lookup_match, &key) == record) {
        const struct thread *owner = lane_at(lane, step_rest(step)->owner);
        if (reason == REASON_NONE) {
            /* The disk has the step still, and knows its keys. */
            index_remove(lane->threads->index, lane->member, record);
            return;
        }
        graveyard_bury(lane, record, key.hash.high, reason, record->flags & STEP_KEY_SHARED,
                       thread_fingerprint(owner), 0);
    }
}

void step_rewind(const struct lane *lane, const struct thread *thread, struct step *step)
{
    if (step_rest(step)->owner == lane_ref(lane, thread)) {
        /* Relaxed: the release of the claim comes after. */
        atomic_fetch_or_explicit(&step_rest(step)->holds, STEP_REWOUND, memory_order_relaxed);
    }
}

/* The last hold may be a fork's, `reason` what ended the fork: the keys are the owner's, which was
 * rewound or ended before. */
static enum reason end_reason(const struct lane *lane, const struct step *step, enum reason reason)
{
    uint64_t word = life_load(lane_at(lane, step_rest(step)->owner));
    if (reason == REASON_NONE || life_is_demoted(word)) {
        return REASON_NONE;
    }
    return step_end_reason(step, word & LIFE_DEAD ? life_reason(word) : reason);
}

void step_let_go(struct lane *lane, struct step *step, enum reason reason)
{
    /* Release: this holder's use comes before the last one's retirement; pairs with itself. */
    uint32_t held =
        atomic_fetch_sub_explicit(&step_rest(step)->holds, 1, memory_order_acq_rel) & ~STEP_REWOUND;
    assert(held > 0);
    if (held > 1) {
        return;
    }
    for (unsigned i = 0; i < step->key_count; i++) {
        bury_key(lane, step, &step_keys(step)[i].record, end_reason(lane, step, reason));
    }
    lane_add(&lane->leaving_bytes, (int64_t)arena_size(lane->threads->arena, step));
    epoch_retire(lane->member, RETIRE_STEP, step);
}
