/* Expiry, eviction, burial and reclamation, in bounded shares. */
#include "thread/sweep.h"

#include "thread/lookup.h"
#include "thread/thread.h"

enum {
    PASS_MS = 500,           /* a whole look at the share takes about this long */
    SLOTS_AT_ONCE_MIN = 448, /* a segment's worth */
    SLOTS_AT_ONCE_MAX = 1 << 16,
    HAND_SLOTS_AT_ONCE = 4096,
    BURIALS_AT_ONCE = 1024,
    RECLAIMS_AT_ONCE = 4096,
    HAND_LOOKS = 64,
    GRACE_TURNS = 5,   /* turns until what was buried may be reclaimed */
    BUDGET_PARTS = 16, /* eviction begins when live memory passes 15/16 of the budget */
};

uint16_t sweep_tick(uint64_t now_ms, uint64_t deadline_ms)
{
    uint64_t now = now_ms / SWEEP_TICK_MS;
    /* Rounded up: when the tick has come the deadline has passed. */
    uint64_t tick = deadline_ms / SWEEP_TICK_MS + 1;
    if (tick > now + SWEEP_TICKS_AHEAD) {
        tick = now + SWEEP_TICKS_AHEAD;
    }
    /* 0 means never; one tick later is in time as well. */
    return (uint16_t)tick ? (uint16_t)tick : 1;
}

static uint16_t visit_due(void *context, struct index_record *record)
{
    struct lane *lane = context;
    if (record->kind != RECORD_THREAD) {
        return 0;
    }
    struct thread *thread = (struct thread *)record;
    if (life_kill(thread, lane->now_ms, REASON_EXPIRED)) {
        lane_count(lane, METRIC_EXPIRED, 1);
        thread_bury(lane, thread, REASON_EXPIRED);
        return 0;
    }
    return sweep_tick(lane->now_ms, life_load(thread) & LIFE_DEADLINE);
}

static bool sweep(struct lane *lane, unsigned slots)
{
    uint16_t now_tick = (uint16_t)(lane->now_ms / SWEEP_TICK_MS);
    lane->pass_slots += slots;
    bool whole = index_sweep(lane->threads->index, lane->member, &lane->sweep, lane->share,
                             lane->shares, slots, false, now_tick, visit_due, lane);
    if (whole) {
        lane->pass_slots_last = lane->pass_slots;
        lane->pass_slots = 0;
    }
    return whole;
}

static void sweep_by_time(struct lane *lane)
{
    uint64_t elapsed_ms = lane->now_ms - lane->sweep_ms;
    if (elapsed_ms == 0) {
        return;
    }
    lane->sweep_ms = lane->now_ms;
    uint64_t slots = lane->pass_slots_last * elapsed_ms / PASS_MS + SLOTS_AT_ONCE_MIN;
    sweep(lane, slots < SLOTS_AT_ONCE_MAX ? (unsigned)slots : SLOTS_AT_ONCE_MAX);
}

/* ---- eviction ---- */

static uint64_t thread_bytes(const struct lane *lane, const struct thread *thread)
{
    const struct spine *spine = spine_of(lane, thread);
    return sizeof *thread + sizeof *spine +
           (uint64_t)spine->capacity * (sizeof(uint32_t) + sizeof(struct step)) +
           atomic_load_explicit(&spine->payload_bytes, memory_order_relaxed);
}

static uint16_t visit_hand(void *context, struct index_record *record)
{
    struct lane *lane = context;
    if (record->kind != RECORD_THREAD) {
        return 0;
    }
    struct thread *thread = (struct thread *)record;
    /* Relaxed: the use bit is a hint, a lost set costs one thread its second chance. */
    bool used = atomic_load_explicit(&thread->replayed, memory_order_relaxed);
    if (used) {
        atomic_store_explicit(&thread->replayed, 0, memory_order_relaxed);
    } else {
        uint64_t bytes = thread_bytes(lane, thread);
        if (lane->evicted_bytes < lane->evict_bytes &&
            life_kill(thread, UINT64_MAX, REASON_EVICTED)) {
            lane->evicted_bytes += bytes;
            lane_count(lane, METRIC_EVICTED, 1);
            thread_bury(lane, thread, REASON_EVICTED);
            return 0;
        }
    }
    return sweep_tick(lane->now_ms, life_load(thread) & LIFE_DEADLINE);
}

/* How much this lane should free now. */
static uint64_t excess_bytes(const struct lane *lane)
{
    const struct arena *arena = lane->threads->arena;
    uint64_t budget = arena_budget_bytes(arena);
    uint64_t mark = budget - budget / BUDGET_PARTS;
    uint64_t live = arena_live_bytes(arena);
    uint64_t excess = live > mark ? (live - mark) / lane->shares + 1 : 0;
    /* Somebody could not get this much: more than that, since it has to come free together. */
    uint64_t want = lane->want_bytes * 2;
    return excess > want ? excess : want;
}

/*
 * One round evicts what is in excess now, at most a sixteenth of the budget; the next begins when
 * the memory of this one had time to come free, since until then nobody knows whether it was
 * enough. Returns whether the loop should come back at once.
 */
static bool evict(struct lane *lane)
{
    if (lane->burial_first) {
        return true;
    }
    if (lane->grace_turns > 0) {
        return --lane->grace_turns > 0;
    }
    uint64_t excess = excess_bytes(lane);
    if (excess == 0) {
        return false;
    }
    uint64_t most = arena_budget_bytes(lane->threads->arena) / BUDGET_PARTS;
    lane->evict_bytes = excess < most ? excess : most;
    lane->evicted_bytes = 0;
    lane->want_bytes = 0;
    for (int look = 0; look < HAND_LOOKS && lane->evicted_bytes < lane->evict_bytes; look++) {
        /* The whole index: what this lane needs may be held in another's share. */
        index_sweep(lane->threads->index, lane->member, &lane->hand, 0, 1, HAND_SLOTS_AT_ONCE, true,
                    0, visit_hand, lane);
    }
    lane->grace_turns = GRACE_TURNS;
    return lane->evicted_bytes > 0;
}

/* ---- all together ---- */

bool lane_tend(struct lane *lane)
{
    assert(epoch_is_online(lane->member));
    lane_read_clock(lane);
    sweep_by_time(lane);
    bool more = evict(lane);
    more |= spine_tend_burials(lane, BURIALS_AT_ONCE);
    arena_cache_drain(lane->cache);
    /* Our own pointers of this turn are no longer used: announce it, so that the epoch can move. */
    epoch_online(lane->member);
    epoch_reclaim(lane->member, RECLAIMS_AT_ONCE);
    return more;
}

void lane_tend_fully(struct lane *lane)
{
    lane_read_clock(lane);
    lane->sweep = (struct index_cursor){0};
    while (!sweep(lane, SLOTS_AT_ONCE_MAX)) {
    }
    lane->sweep_ms = lane->now_ms;
    while (spine_tend_burials(lane, BURIALS_AT_ONCE)) {
    }
    for (int epochs = 0; epochs < 4; epochs++) {
        epoch_online(lane->member);
        epoch_reclaim(lane->member, SIZE_MAX);
    }
}
