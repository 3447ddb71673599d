/*
 * Tombstones: a ring of the recently gone, so that a miss can be explained.
 *
 * A tombstone is in the index under the key of what is gone and in the ring, which owns it: the one
 * that overwrites a ring slot takes the old tombstone out of the index and retires it. A tombstone
 * whose key came back to life is no longer in the index and just waits for its turn in the ring.
 */
#include "thread/graveyard.h"

#include <stdlib.h>

bool graveyard_open(struct threads *threads)
{
    struct graveyard *graveyard = &threads->graveyard;
    uint32_t part = (threads->settings.tombstones + VOUCH_STAMPS - 1) / VOUCH_STAMPS;
    graveyard->size = (part ? part : 1) * VOUCH_STAMPS;
    graveyard->ring = calloc(graveyard->size, sizeof *graveyard->ring);
    if (!graveyard->ring) {
        return false;
    }
    graveyard->started_ms = threads_now_ms(threads);
    arena_charge(threads->arena, (int64_t)(graveyard->size * sizeof *graveyard->ring));
    return true;
}

void graveyard_close(struct threads *threads)
{
    free(threads->graveyard.ring);
    threads->graveyard.ring = NULL;
}

uint64_t graveyard_count(const struct threads *threads)
{
    /* A gauge: relaxed. */
    uint64_t next = atomic_load_explicit(&threads->graveyard.next, memory_order_relaxed);
    return next < threads->graveyard.size ? next : threads->graveyard.size;
}

/* The tier forgets too, what was gone before it had to be in memory as well. */
static uint64_t disk_vouch_ms(const struct lane *lane)
{
    if (!lane->tier) {
        return UINT64_MAX;
    }
    uint64_t since_ms = lane->tier->calls->vouch_since_ms(lane->tier);
    return lane->wall_ms > since_ms ? lane->wall_ms - since_ms : 0;
}

uint64_t graveyard_vouch_ms(const struct lane *lane)
{
    const struct graveyard *graveyard = &lane->threads->graveyard;
    uint64_t since_ms = graveyard->started_ms;
    /* Pairs with the fetch_add in enter: a stamp below `next` was begun before. */
    uint64_t next = atomic_load_explicit(&graveyard->next, memory_order_acquire);
    if (next > graveyard->size) {
        /* The part being overwritten is half gone: vouch from where the next one starts. */
        uint64_t part = graveyard->size / VOUCH_STAMPS;
        uint64_t oldest = (next - graveyard->size) / part + 1;
        /* Pairs with the release in enter. */
        since_ms =
            atomic_load_explicit(&graveyard->stamps[oldest % VOUCH_STAMPS], memory_order_acquire);
    }
    uint64_t memory_ms = lane->now_ms > since_ms ? lane->now_ms - since_ms : 0;
    uint64_t disk_ms = disk_vouch_ms(lane);
    return memory_ms < disk_ms ? memory_ms : disk_ms;
}

static void enter(struct lane *lane, struct tombstone *tombstone)
{
    struct graveyard *graveyard = &lane->threads->graveyard;
    /* Release pairs with the acquire in graveyard_vouch_ms. */
    uint64_t place = atomic_fetch_add_explicit(&graveyard->next, 1, memory_order_acq_rel);
    uint64_t part = graveyard->size / VOUCH_STAMPS;
    if (place % part == 0) {
        /* Pairs with the acquire in graveyard_vouch_ms. */
        atomic_store_explicit(&graveyard->stamps[place / part % VOUCH_STAMPS], lane->now_ms,
                              memory_order_release);
    }
    /* Release publishes ours to the one that overwrites it, whose acquire this pairs with. */
    uint32_t old = atomic_exchange_explicit(&graveyard->ring[place % graveyard->size],
                                            lane_ref(lane, tombstone), memory_order_acq_rel);
    if (old) {
        struct tombstone *gone = lane_at(lane, old);
        index_remove(lane->threads->index, lane->member, &gone->record);
        epoch_retire(lane->member, RETIRE_TOMBSTONE, gone);
    }
}

void graveyard_bury(struct lane *lane, const struct index_record *record, uint64_t hash_high,
                    enum reason reason, uint16_t small, uint32_t version, uint32_t steps)
{
    struct index *index = lane->threads->index;
    /* Structural: the ring bounds them, and eviction must be able to explain itself. */
    struct tombstone *tombstone = arena_alloc(lane->cache, sizeof *tombstone, ARENA_STRUCTURAL);
    if (!tombstone) {
        index_remove(index, lane->member, record);
        return;
    }
    *tombstone = (struct tombstone){
        .record = {.hash_low = record->hash_low,
                   .kind = (uint8_t)((record->kind & ~RECORD_COLD) | RECORD_TOMBSTONE),
                   .flags = (uint8_t)reason,
                   .small = small},
        .hash_high = hash_high,
        .version = version,
        .steps = steps,
    };
    if (index_replace(index, lane->member, record, &tombstone->record, 0)) {
        enter(lane, tombstone);
    } else {
        arena_free(lane->cache, tombstone);
    }
}
