/* Expiry, eviction, burial and reclamation, in bounded shares. */
#include "thread/sweep.h"

#include "thread/cold.h"
#include "thread/journal.h"
#include "thread/lookup.h"
#include "thread/stream.h"
#include "thread/thread.h"

#include <time.h>

enum {
    PASS_MS_MIN = 64, /* a whole look at the share takes about this long, more if it is large */
    PASS_MS_MAX = 500,
    PASS_SLOTS_A_MS = 2500,  /* a look at so many takes 15 us, or 50 where others use the caches */
    SLOTS_AT_ONCE_MIN = 448, /* of one share: the hints of some 28 segments */
    SLOTS_AT_ONCE_MAX = 1 << 14,
    LOOKS_AT_ONCE = 256, /* what is due is looked at, and mostly ends: some 100 us */
    HAND_SLOTS_AT_ONCE = 8,
    HAND_LOOKS_MAX = 1 << 14,
    HAND_REST_MS = 20,
    BURIALS_AT_ONCE = 1024, /* keys and steps */
    RECLAIMS_AT_ONCE = 1024,
    RECLAIMS_WORTH = 256,   /* so much is not left for the next tick */
    RECLAIMS_TURNS_MAX = 8, /* unless nothing comes free: somebody may be holding it */
    LOADED_MS = 1000,       /* who asked for a thread from disk gets to see it in memory */
    AGAIN_MS = 250,         /* until a thread that cannot be demoted yet is looked at again */
    AGAIN_READ_ONLY_MS = 2000,
    SETTLE_TURNS_MAX = 10 * 1000, /* milliseconds that a lane at its end waits for the disk */
    BUDGET_PARTS = 16,            /* eviction begins when live memory passes 15/16 of the budget */
};

uint16_t sweep_tick(uint64_t now_ms, uint64_t deadline_ms)
{
    uint64_t now = now_ms / SWEEP_TICK_MS;
    /* Rounded up: when the tick has come the deadline has passed. */
    uint64_t tick = deadline_ms / SWEEP_TICK_MS + 1;
    if (tick >= now + INDEX_TICKS_AHEAD_MAX) {
        tick = now + INDEX_TICKS_AHEAD_MAX - 1;
    }
    /* 0 means never; one tick later is in time as well. */
    return (uint16_t)tick ? (uint16_t)tick : 1;
}

/* When it has been idle for its ttl, or is to be given a little time after it was loaded. */
static uint64_t idle_at_ms(const struct thread *thread, uint64_t word)
{
    /* Relaxed: a number by itself. */
    uint64_t ttl_ms = atomic_load_explicit(&thread->ttl_ms, memory_order_relaxed);
    uint64_t idle_ms = life_used_ms(thread, word) + ttl_ms;
    uint64_t loaded_ms = rest_of(thread)->loaded_ms ? rest_of(thread)->loaded_ms + LOADED_MS : 0;
    return idle_ms > loaded_ms ? idle_ms : loaded_ms;
}

/* Of a kept thread: when there may be something to tell the disk, or it may be left to it. */
static uint64_t kept_tick_ms(const struct lane *lane, const struct thread *thread, uint64_t word)
{
    uint64_t again_ms = lane->tier->calls->is_read_only(lane->tier) ? AGAIN_READ_ONLY_MS : AGAIN_MS;
    /* Relaxed: who sets it has the thread looked at again. */
    if (atomic_load_explicit(&rest_of(thread)->unsaved, memory_order_relaxed)) {
        return lane->now_ms + again_ms;
    }
    uint64_t idle_ms = idle_at_ms(thread, word);
    uint64_t tell_ms = journal_tell_ms(thread);
    tell_ms = lane->now_ms + (tell_ms > again_ms ? tell_ms : again_ms);
    /* What is idle and still here could not go. */
    return idle_ms > lane->now_ms && idle_ms < tell_ms ? idle_ms
           : idle_ms > lane->now_ms                    ? tell_ms
                                                       : lane->now_ms + again_ms;
}

uint16_t thread_tick(const struct lane *lane, const struct thread *thread)
{
    uint64_t word = life_load(thread);
    uint64_t end_ms = life_end_ms(thread, word);
    if (journal_keeps(lane, thread)) {
        uint64_t tick_ms = kept_tick_ms(lane, thread, word);
        end_ms = end_ms > lane->now_ms && end_ms < tick_ms ? end_ms : tick_ms;
    }
    uint64_t until_ms = life_streams_until_ms(thread);
    end_ms = until_ms > 0 && until_ms < end_ms ? until_ms : end_ms;
    return sweep_tick(lane->now_ms, end_ms > lane->now_ms ? end_ms : lane->now_ms + AGAIN_MS);
}

/* Leaves the thread to the disk, if that has all of it; else tells it what it lacks. */
static bool demote(struct lane *lane, struct thread *thread)
{
    if (!journal_settle(lane, thread, true) || !journal_is_saved(thread) ||
        life_claim_for_upkeep(thread, lane->now_ms) != LIFE_ALIVE) {
        return false;
    }
    uint64_t word = life_load(thread);
    /* Under the claim nothing is submitted, so what is saved stays saved. Relaxed: set long ago. */
    if (!stream_lives(lane, thread) && journal_keeps(lane, thread) && journal_is_saved(thread) &&
        !journal_has_news(lane, thread, true) &&
        atomic_load_explicit(&rest_of(thread)->on_disk, memory_order_relaxed) &&
        life_end(thread, word, REASON_NONE)) {
        lane_count(lane, METRIC_DEMOTIONS, 1);
        thread_bury(lane, thread, REASON_NONE);
        return true;
    }
    life_release(thread, lane->now_ms, LIFE_KEEP);
    return false;
}

/* A stream that nobody goes on with: what it brought is dropped. */
static void drop_stale_draft(struct lane *lane, struct thread *thread)
{
    uint64_t until_ms = life_streams_until_ms(thread);
    if (until_ms > 0 && until_ms <= lane->now_ms &&
        life_claim_for_upkeep(thread, lane->now_ms) == LIFE_ALIVE) {
        (void)stream_draft(lane, thread);
        life_release(thread, lane->now_ms, LIFE_KEEP);
    }
}

static void forget_answer(struct lane *lane, struct cold *cold)
{
    if (cold_state(cold) != COLD_LOADING &&
        index_remove(lane->threads->index, lane->member, &cold->record)) {
        cold_retire(lane, cold);
    }
}

static uint16_t visit_due(void *context, struct index_record *record)
{
    struct lane *lane = context;
    lane->looks++;
    if (record_is_cold(record)) {
        forget_answer(lane, (struct cold *)record);
        return 0;
    }
    if (record->kind != RECORD_THREAD) {
        return 0;
    }
    struct thread *thread = (struct thread *)record;
    if (thread_expire(lane, thread)) {
        return 0;
    }
    drop_stale_draft(lane, thread);
    uint64_t word = life_load(thread);
    if (!journal_keeps(lane, thread) || (word & LIFE_DEAD)) {
        return thread_tick(lane, thread);
    }
    if (idle_at_ms(thread, word) > lane->now_ms || stream_lives(lane, thread)) {
        journal_settle(lane, thread, false);
    } else if (demote(lane, thread)) {
        return 0;
    }
    return thread_tick(lane, thread);
}

static bool sweep(struct lane *lane, unsigned slots, bool all)
{
    lane->pass_slots += slots;
    bool whole =
        index_sweep(lane->threads->index, lane->member, &lane->sweep, lane->share, lane->shares,
                    slots, all, lane->now_ms / SWEEP_TICK_MS, visit_due, lane);
    if (whole) {
        lane->pass_slots_last = lane->pass_slots;
        lane->pass_slots = 0;
    }
    return whole;
}

/* Of a pass: what the last one had, or, after growth, what this one has had so far. */
static uint64_t slots_of_pass(const struct lane *lane)
{
    return lane->pass_slots > lane->pass_slots_last ? lane->pass_slots : lane->pass_slots_last;
}

/* How long a pass takes, at most half a second. */
static uint64_t pass_ms(const struct lane *lane)
{
    uint64_t ms = slots_of_pass(lane) / PASS_SLOTS_A_MS;
    return ms < PASS_MS_MIN ? PASS_MS_MIN : ms > PASS_MS_MAX ? PASS_MS_MAX : ms;
}

/*
 * Goes over as many slots as the time since the last call asks for; where that is too much for one
 * turn, or much is due, the rest is owed, so that requests come in between. True: some is.
 */
static bool sweep_by_time(struct lane *lane)
{
    uint64_t elapsed_ms = lane->now_ms - lane->sweep_ms;
    lane->sweep_ms = lane->now_ms;
    if (elapsed_ms > 0) {
        lane->sweep_owed += slots_of_pass(lane) * elapsed_ms / pass_ms(lane) + SLOTS_AT_ONCE_MIN;
    }
    /* Never more than a whole pass: who comes late has nothing to catch up with. */
    uint64_t most = slots_of_pass(lane) + SLOTS_AT_ONCE_MIN;
    lane->sweep_owed = lane->sweep_owed < most ? lane->sweep_owed : most;
    uint64_t looks = lane->looks;
    for (uint64_t slots = 0; lane->sweep_owed > 0 && slots < SLOTS_AT_ONCE_MAX &&
                             lane->looks - looks < LOOKS_AT_ONCE;) {
        uint64_t now = lane->sweep_owed < SLOTS_AT_ONCE_MIN ? lane->sweep_owed : SLOTS_AT_ONCE_MIN;
        sweep(lane, (unsigned)now, false);
        lane->sweep_owed -= now;
        slots += now;
    }
    return lane->sweep_owed > 0;
}

/* Frees what nobody can hold any more. True: there is so much left that it cannot wait. */
static bool reclaim(struct lane *lane)
{
    size_t waiting = epoch_reclaim(lane->member, RECLAIMS_AT_ONCE);
    if (waiting != lane->waiting_last) {
        lane->waiting_last = waiting;
        lane->waiting_turns = 0;
    } else if (lane->waiting_turns < RECLAIMS_TURNS_MAX) {
        lane->waiting_turns++;
    }
    return waiting >= RECLAIMS_WORTH && lane->waiting_turns < RECLAIMS_TURNS_MAX;
}

/* ---- eviction ---- */

static uint64_t thread_bytes(const struct lane *lane, const struct thread *thread)
{
    if (thread_is_compact(thread)) {
        return sizeof *thread + thread->id_size + thread->step.payload_bytes;
    }
    const struct spine *spine = spine_of(lane, thread);
    return THREAD_FULL_BYTES + sizeof *spine +
           (uint64_t)spine->capacity * (sizeof(uint32_t) + STEP_FULL_BYTES) +
           atomic_load_explicit(&spine->payload_bytes, memory_order_relaxed);
}

struct hand {
    struct lane *lane;
    uint64_t bytes; /* to evict */
    uint64_t done_bytes;
    uint64_t asked_bytes; /* of threads that may go as soon as the disk has them */
};

/*
 * Whether eviction may drop the thread for good: it is not for the disk, or the disk has nothing of
 * it and takes nothing. One of which the disk has an older state stays: that would come back as if
 * it were the whole.
 */
static bool may_lose(const struct lane *lane, const struct thread *thread)
{
    return !journal_keeps(lane, thread) ||
           (lane->tier->calls->is_read_only(lane->tier) &&
            /* Relaxed: what was applied long ago was seen by whoever used the thread since. */
            !atomic_load_explicit(&rest_of(thread)->on_disk, memory_order_relaxed) &&
            atomic_load_explicit(&rest_of(thread)->changes, memory_order_relaxed) == 0);
}

static bool lose(struct lane *lane, struct thread *thread)
{
    if (!journal_keeps(lane, thread)) {
        return life_evict(thread, lane->now_ms);
    }
    if (life_claim_for_upkeep(thread, lane->now_ms) != LIFE_ALIVE) {
        return false; /* in use, or the sweep's */
    }
    uint64_t word = life_load(thread);
    /* Again, since nobody else can submit it now. */
    if (!stream_lives(lane, thread) && may_lose(lane, thread) &&
        life_end(thread, word, REASON_EVICTED)) {
        return true;
    }
    life_release(thread, lane->now_ms, LIFE_KEEP);
    return false;
}

/* Just loaded: who asked for it has yet to see it, or it would be loaded for ever. */
static bool is_awaited(const struct lane *lane, const struct thread *thread)
{
    /* Relaxed: a hint. */
    return !thread_is_compact(thread) && rest_of(thread)->loaded_ms + LOADED_MS > lane->now_ms &&
           atomic_load_explicit(&rest_of(thread)->from_disk, memory_order_relaxed);
}

static uint16_t visit_hand(void *context, struct index_record *record)
{
    struct hand *hand = context;
    struct lane *lane = hand->lane;
    if (record_is_cold(record)) {
        return cold_state((struct cold *)record) == COLD_LOADING
                   ? 0
                   : sweep_tick(lane->now_ms, lane->now_ms);
    }
    if (record->kind != RECORD_THREAD) {
        return 0;
    }
    struct thread *thread = (struct thread *)record;
    uint64_t bytes = thread_bytes(lane, thread);
    if (hand->done_bytes + hand->asked_bytes >= hand->bytes || is_awaited(lane, thread) ||
        stream_lives(lane, thread)) {
        /* Passed by: its use bit is for the next round to judge. */
    } else if (atomic_load_explicit(&thread->replayed, memory_order_relaxed)) {
        /* Relaxed, both: the use bit is a hint, a lost set costs one thread its second chance. */
        atomic_store_explicit(&thread->replayed, 0, memory_order_relaxed);
    } else if (thread_is_unborn(thread)) {
        (void)thread_expire(lane, thread);
    } else if (may_lose(lane, thread)) {
        if (lose(lane, thread)) {
            hand->done_bytes += bytes;
            lane_count(lane, METRIC_EVICTED, 1);
            thread_bury(lane, thread, REASON_EVICTED);
            return 0;
        }
    } else if (demote(lane, thread)) {
        hand->done_bytes += bytes;
        return 0;
    } else if (!lane->tier->calls->is_read_only(lane->tier)) {
        hand->asked_bytes += bytes;
    }
    return thread_tick(lane, thread);
}

/* What retired steps of all lanes still occupy: it comes free by itself. */
uint64_t sweep_leaving_bytes(const struct threads *threads)
{
    /* Relaxed, here and below: a sum without order. */
    int64_t leaving = atomic_load_explicit(&threads->leaving_bytes, memory_order_relaxed);
    for (unsigned i = 0; i < threads->settings.lanes_max; i++) {
        /* Pairs with the release in claim_slot. */
        const struct lane *lane = atomic_load_explicit(&threads->lanes[i], memory_order_acquire);
        leaving += lane ? atomic_load_explicit(&lane->leaving_bytes, memory_order_relaxed) : 0;
    }
    return leaving > 0 ? (uint64_t)leaving : 0;
}

/* How much is to be evicted beyond what is leaving already. */
static uint64_t excess_bytes(const struct lane *lane)
{
    const struct arena *arena = lane->threads->arena;
    uint64_t budget = arena_budget_bytes(arena);
    uint64_t leaving = sweep_leaving_bytes(lane->threads);
    uint64_t stays = arena_live_bytes(arena);
    stays = stays > leaving ? stays - leaving : 0;
    uint64_t mark = budget - budget / BUDGET_PARTS;
    uint64_t excess = stays > mark ? stays - mark : 0;
    /* What an operation of this lane could not get. */
    uint64_t want = lane->want_bytes > leaving ? lane->want_bytes - leaving : 0;
    return excess > want ? excess : want;
}

/*
 * Kills and demotes until the excess is covered, or the disk has been asked to take as much, at
 * most a sixteenth of the budget at once. One hand for all lanes goes round the whole index: what
 * this lane needs may be held in another's share.
 */
static void evict(struct lane *lane)
{
    struct threads *threads = lane->threads;
    struct hand hand = {.lane = lane, .bytes = excess_bytes(lane)};
    if (hand.bytes == 0 || lane->now_ms < lane->hand_rests_until_ms) {
        return;
    }
    uint64_t most = arena_budget_bytes(threads->arena) / BUDGET_PARTS;
    hand.bytes = hand.bytes < most ? hand.bytes : most;
    /* Relaxed, both: where two lanes move the hand at once, one of the moves is lost. */
    uint64_t at = atomic_load_explicit(&threads->hand, memory_order_relaxed);
    struct index_cursor cursor = {.segment = (uint32_t)(at >> 32), .bucket = (uint32_t)at};
    for (int look = 0; look < HAND_LOOKS_MAX && hand.done_bytes + hand.asked_bytes < hand.bytes;
         look++) {
        index_sweep(threads->index, lane->member, &cursor, 0, 1, HAND_SLOTS_AT_ONCE, true,
                    lane->now_ms / SWEEP_TICK_MS, visit_hand, &hand);
    }
    if (hand.done_bytes == 0) {
        /* Nothing can be evicted just now; looking everywhere again at once would not help. */
        lane->hand_rests_until_ms = lane->now_ms + HAND_REST_MS;
    }
    at = (uint64_t)cursor.segment << 32 | cursor.bucket;
    atomic_store_explicit(&threads->hand, at, memory_order_relaxed);
}

/* ---- all together ---- */

bool lane_tend(struct lane *lane)
{
    assert(epoch_is_online(lane->member));
    lane_read_clock(lane);
    journal_tend(lane);
    bool more = sweep_by_time(lane);
    evict(lane);
    bool wanting = lane->want_bytes > 0;
    lane->want_bytes = 0;
    lane->work = 0;
    more = spine_tend_burials(lane, BURIALS_AT_ONCE) || more;
    arena_cache_drain(lane->cache);
    arena_stock_decay(lane->threads->arena, lane->now_ms);
    /* Our own pointers of this turn are no longer used: announce it, so that the epoch can move. */
    lane->turn++;
    epoch_online(lane->member);
    more = reclaim(lane) || more;
    /* Who wants memory needs the epoch to move on, and it moves once a turn. */
    return more || wanting;
}

void lane_tend_fully(struct lane *lane)
{
    lane_read_clock(lane);
    journal_tend(lane);
    lane->sweep = (struct index_cursor){0};
    while (!sweep(lane, SLOTS_AT_ONCE_MAX, true)) {
    }
    lane->sweep_ms = lane->now_ms;
    lane->sweep_owed = 0;
    while (spine_tend_burials(lane, BURIALS_AT_ONCE)) {
    }
    for (int epochs = 0; epochs < 4; epochs++) {
        lane->turn++;
        epoch_online(lane->member);
        epoch_reclaim(lane->member, SIZE_MAX);
    }
}

/* ---- the end ---- */

static uint16_t visit_last(void *context, struct index_record *record)
{
    struct lane *lane = context;
    if (record_is_cold(record)) {
        forget_answer(lane, (struct cold *)record);
        return 0;
    }
    if (record->kind != RECORD_THREAD) {
        return 0;
    }
    journal_settle(lane, (struct thread *)record, true);
    return thread_tick(lane, (struct thread *)record);
}

void lane_settle(struct lane *lane)
{
    const struct timespec moment = {.tv_nsec = 1000000};
    struct index_cursor cursor = {0};
    bool whole = !lane->tier;
    for (unsigned turns = 0; !whole && turns < SETTLE_TURNS_MAX;) {
        lane_online(lane);
        lane_read_clock(lane);
        journal_tend(lane);
        if (lane->tier->calls->is_read_only(lane->tier)) {
            whole = true;
        } else if (!journal_is_full(lane)) {
            whole = index_sweep(lane->threads->index, lane->member, &cursor, lane->share,
                                lane->shares, SLOTS_AT_ONCE_MIN, true, lane->now_ms / SWEEP_TICK_MS,
                                visit_last, lane);
        } else {
            turns++;
            nanosleep(&moment, NULL);
        }
        lane_offline(lane);
    }
}
