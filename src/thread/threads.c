/*
 * The domain's set-up and teardown, its lanes, and what happens to memory at the end of its grace.
 */
#include "base/random.h"
#include "thread/compact.h"
#include "thread/graveyard.h"
#include "thread/inspect.h"
#include "thread/journal.h"
#include "thread/steps.h"
#include "thread/thread.h"

#include <stdlib.h>

enum {
    WALL_JUMP_MS = 5 * 1000,   /* ahead of the domain's time, between two readings */
    WALL_DOUBT_MS = 60 * 1000, /* whoever set the clock wrong has so long to set it right */
    CLAIM_TIMEOUT_MS = 60 * 1000,
};

/* NULL: the member is about to leave, or took over what others left. */
static struct lane *lane_of(struct threads *threads, const struct epoch_member *member)
{
    for (unsigned i = 0; i < threads->settings.lanes_max; i++) {
        /* Pairs with the release in claim_slot; lanes stay allocated until the end. */
        struct lane *lane = atomic_load_explicit(&threads->lanes[i], memory_order_acquire);
        /* Pairs with the release in lane_open: a member is only ever looked up by itself. */
        if (lane && atomic_load_explicit(&lane->identity, memory_order_acquire) == member) {
            return lane;
        }
    }
    return NULL;
}

static bool reclaim_plain(void *context, struct epoch_member *member, void *object)
{
    (void)context;
    arena_free(epoch_member_cache(member), object);
    return true;
}

/* To a lane's own counter, or to the one that all share who have no lane. */
static void count_reclaimed(_Atomic int64_t *own, _Atomic int64_t *shared, int64_t bytes)
{
    if (own) {
        lane_add(own, -bytes);
    } else {
        /* Relaxed: only summed. */
        atomic_fetch_sub_explicit(shared, bytes, memory_order_relaxed);
    }
}

/* In the holds of a step that nobody holds: it no longer counts as leaving. All else of it stays,
 * since the tier may still be reading it. */
#define STEP_COUNTED_OUT UINT32_MAX

void threads_reclaimed(struct threads *threads, const struct epoch_member *member,
                       int64_t leaving_bytes, int64_t payload_bytes)
{
    struct lane *lane = lane_of(threads, member);
    count_reclaimed(lane ? &lane->leaving_bytes : NULL, &threads->leaving_bytes, leaving_bytes);
    count_reclaimed(lane ? &lane->payload_bytes : NULL, &threads->payload_bytes, payload_bytes);
}

bool step_reclaim(void *context, struct epoch_member *member, void *object)
{
    struct threads *threads = context;
    struct step *step = object;
    struct lane *lane = lane_of(threads, member);
    /* Pairs with the release in step_unpin. Nobody can pin anew: the step is out of reach. */
    bool pinned = atomic_load_explicit(&step->pins, memory_order_acquire) > 0;
    /* Relaxed, both: the last hold is gone, and who holds a pin does not look at the holds. */
    if (atomic_load_explicit(&step_rest(step)->holds, memory_order_relaxed) != STEP_COUNTED_OUT) {
        /* A pinned step is not leaving: eviction must not wait for it. */
        count_reclaimed(lane ? &lane->leaving_bytes : NULL, &threads->leaving_bytes,
                        (int64_t)arena_size(threads->arena, step));
        atomic_store_explicit(&step_rest(step)->holds, STEP_COUNTED_OUT, memory_order_relaxed);
    }
    if (pinned) {
        return false;
    }
    count_reclaimed(lane ? &lane->payload_bytes : NULL, &threads->payload_bytes,
                    step->payload_bytes);
    thread_let_go(member, arena_at(threads->base, step_rest(step)->owner));
    arena_free(epoch_member_cache(member), step);
    return true;
}

static bool reclaim_spine(void *context, struct epoch_member *member, void *object)
{
    struct threads *threads = context;
    struct lane *lane = lane_of(threads, member);
    count_reclaimed(lane ? &lane->leaving_bytes : NULL, &threads->leaving_bytes,
                    (int64_t)arena_size(threads->arena, object));
    arena_free(epoch_member_cache(member), object);
    return true;
}

static void define_kinds(struct threads *threads)
{
    struct epoch_kind plain = {.reclaim = reclaim_plain};
    size_t record_link = offsetof(struct index_record, word);
    plain.link_offset = offsetof(struct thread, record) + record_link;
    epoch_define(threads->epoch, RETIRE_THREAD, plain);
    epoch_define(threads->epoch, RETIRE_SPINE,
                 (struct epoch_kind){.link_offset = offsetof(struct spine, link),
                                     .reclaim = reclaim_spine,
                                     .context = threads});
    epoch_define(threads->epoch, RETIRE_COMPACT,
                 (struct epoch_kind){.link_offset = plain.link_offset,
                                     .reclaim = compact_reclaim,
                                     .context = threads});
    plain.link_offset = offsetof(struct tombstone, record) + record_link;
    epoch_define(threads->epoch, RETIRE_TOMBSTONE, plain);
    plain.link_offset = offsetof(struct cold, record) + record_link;
    epoch_define(threads->epoch, RETIRE_COLD, plain);
    epoch_define(
        threads->epoch, RETIRE_STEP,
        (struct epoch_kind){.link_offset = sizeof(struct step) + offsetof(struct step_rest, link),
                            .reclaim = step_reclaim,
                            .context = threads});
}

struct threads *threads_create(const struct threads_settings *settings)
{
    assert(settings->lanes_max > 0 && settings->lanes_max <= LANES_MAX);
    struct threads *threads = calloc(1, sizeof *threads);
    if (!threads) {
        return NULL;
    }
    threads->settings = *settings;
    if (threads->settings.claim_timeout_ms == 0) {
        threads->settings.claim_timeout_ms = CLAIM_TIMEOUT_MS;
    }
    random_fill(threads->cursor_secret, sizeof threads->cursor_secret);
    /* A step may take half the budget at most: what is larger could only be kept by itself. */
    threads->step_bytes_max = settings->memory_bytes / 2;
    threads->arena = arena_create(settings->memory_bytes, settings->lanes_max);
    if (!threads->arena || !arena_ahead_start(threads->arena)) {
        goto fail;
    }
    threads->base = arena_base(threads->arena);
    threads->epoch = epoch_create(threads->arena);
    if (!threads->epoch) {
        goto fail;
    }
    define_kinds(threads);
    threads->index =
        index_create(threads->arena, threads->epoch, RETIRE_INDEX, settings->hash_secret);
    if (!threads->index || !graveyard_open(threads)) {
        goto fail;
    }
    return threads;
fail:
    threads_destroy(threads);
    return NULL;
}

void threads_destroy(struct threads *threads)
{
    if (!threads) {
        return;
    }
    graveyard_close(threads);
    if (threads->index) {
        index_destroy(threads->index);
    }
    if (threads->epoch) {
        epoch_destroy(threads->epoch);
    }
    if (threads->arena) {
        arena_ahead_stop(threads->arena);
        arena_destroy(threads->arena);
    }
    for (unsigned i = 0; i < LANES_MAX; i++) {
        /* The lanes are closed and their users gone: relaxed. */
        free(atomic_load_explicit(&threads->lanes[i], memory_order_relaxed));
    }
    free(threads);
}

/* A lane that was closed is opened anew, with its books; else a free slot gets a fresh one. */
static struct lane *claim_slot(struct threads *threads)
{
    for (unsigned i = 0; i < threads->settings.lanes_max; i++) {
        /* Pairs with the release below. */
        struct lane *lane = atomic_load_explicit(&threads->lanes[i], memory_order_acquire);
        bool closed = false;
        if (!lane) {
            /* Alone on its lines, and on the neighbour that is prefetched with them. */
            lane = aligned_alloc(128, (sizeof *lane + 127) / 128 * 128);
            if (!lane) {
                return NULL;
            }
            memset(lane, 0, sizeof *lane);
            atomic_init(&lane->open, true);
            struct lane *nobody = NULL;
            /* Release publishes the zeroed books to the acquire loads of the slot. */
            if (atomic_compare_exchange_strong_explicit(&threads->lanes[i], &nobody, lane,
                                                        memory_order_acq_rel,
                                                        memory_order_relaxed)) {
                return lane;
            }
            free(lane);
        } else if (atomic_compare_exchange_strong_explicit(
                       &lane->open, &closed, true, memory_order_acq_rel, memory_order_relaxed)) {
            /* Acquire pairs with the release in lane_close: its last user is done with it. */
            return lane;
        }
    }
    return NULL;
}

/* From any operating-system thread, while the port is open. */
static void wake(void *context)
{
    const struct lane *lane = context;
    const struct threads_settings *settings = &lane->threads->settings;
    if (settings->wake) {
        settings->wake(settings->wake_context, lane->share);
    }
}

struct lane *lane_open(struct threads *threads, unsigned share, unsigned shares)
{
    assert(share < shares);
    struct lane *lane = claim_slot(threads);
    if (!lane) {
        return NULL;
    }
    lane->threads = threads;
    lane->tier = threads->settings.tier;
    lane->share = share;
    lane->shares = shares;
    lane->member = epoch_join(threads->epoch);
    if (!lane->member) {
        goto fail;
    }
    if (lane->tier && !(lane->port = lane->tier->calls->port_open(lane->tier, wake, lane))) {
        epoch_leave(lane->member);
        goto fail;
    }
    lane->cache = epoch_member_cache(lane->member);
    /* Pairs with the acquire in lane_of. */
    atomic_store_explicit(&lane->identity, lane->member, memory_order_release);
    lane->sweep = (struct index_cursor){0};
    lane->pass_slots = lane->pass_slots_last = 0;
    lane->want_bytes = 0;
    lane->sweep_owed = 0;
    lane_read_clock(lane);
    lane->sweep_ms = lane->now_ms;
    return lane;
fail:
    /* Pairs with the acquire in claim_slot. */
    atomic_store_explicit(&lane->open, false, memory_order_release);
    return NULL;
}

bool lane_close(struct lane *lane)
{
    lane_online(lane);
    lane_read_clock(lane);
    if (!journal_drain(lane)) {
        lane_offline(lane);
        return false;
    }
    inspect_close(lane);
    while (spine_tend_burials(lane, UINT32_MAX)) {
    }
    lane_offline(lane);
    if (lane->tier) {
        lane->tier->calls->port_close(lane->tier, lane->port);
        lane->port = NULL;
    }
    /* Before the member's slot may be joined by another lane. Pairs with the acquire in lane_of. */
    atomic_store_explicit(&lane->identity, NULL, memory_order_release);
    /* Reclaims, or hands over what others may still read. */
    epoch_leave(lane->member);
    /* Pairs with the acquire in claim_slot. */
    atomic_store_explicit(&lane->open, false, memory_order_release);
    return true;
}

void lane_online(struct lane *lane)
{
    lane->turn++;
    epoch_online(lane->member);
}

void lane_offline(struct lane *lane)
{
    epoch_offline(lane->member);
}

uint64_t lane_read_clock(struct lane *lane)
{
    uint64_t before_ms = lane->now_ms;
    lane->now_ms = threads_now_ms(lane->threads);
    if (lane->tier) {
        uint64_t expected_ms = lane->wall_ms + (lane->now_ms - before_ms);
        lane->wall_ms = clock_read_ms(lane->threads->settings.wall);
        uint64_t ahead_ms = lane->wall_ms > expected_ms ? lane->wall_ms - expected_ms : 0;
        if (before_ms > 0 && ahead_ms > WALL_JUMP_MS) {
            lane->doubt_until_ms = lane->now_ms + WALL_DOUBT_MS;
        }
    }
    return lane->now_ms - HISTORY_MS;
}

uint64_t lane_work(const struct lane *lane)
{
    return lane->work;
}

void lane_charge(struct lane *lane, int64_t bytes)
{
    arena_charge(lane->threads->arena, bytes);
}

void lane_count(struct lane *lane, enum metric metric, uint64_t by)
{
    /* Only this lane writes; relaxed, since readers want a sum and no order. */
    uint64_t now = atomic_load_explicit(&lane->counters[metric], memory_order_relaxed);
    atomic_store_explicit(&lane->counters[metric], now + by, memory_order_relaxed);
}

static int64_t sum_lanes(struct threads *threads, uint64_t values[METRIC_COUNT], int64_t *live)
{
    /* Relaxed: a sum without order, like the lanes' own. */
    int64_t payload_bytes = atomic_load_explicit(&threads->payload_bytes, memory_order_relaxed);
    for (unsigned i = 0; i < threads->settings.lanes_max; i++) {
        /* Pairs with the release in claim_slot. */
        struct lane *lane = atomic_load_explicit(&threads->lanes[i], memory_order_acquire);
        if (!lane) {
            continue;
        }
        payload_bytes += atomic_load_explicit(&lane->payload_bytes, memory_order_relaxed);
        *live += atomic_load_explicit(&lane->live, memory_order_relaxed);
        for (unsigned m = 0; m < METRIC_COUNT; m++) {
            values[m] += atomic_load_explicit(&lane->counters[m], memory_order_relaxed);
        }
    }
    return payload_bytes;
}

void threads_metrics(struct lane *asking, uint64_t values[METRIC_COUNT])
{
    struct threads *threads = asking->threads;
    memset(values, 0, METRIC_COUNT * sizeof *values);
    int64_t live = 0;
    int64_t payload_bytes = sum_lanes(threads, values, &live);
    struct index_stats index = index_stats(threads->index);
    uint64_t used = arena_committed_bytes(threads->arena);
    values[METRIC_THREADS_LIVE] = live > 0 ? (uint64_t)live : 0;
    values[METRIC_TOMBSTONES] = graveyard_count(threads);
    values[METRIC_VOUCH_MS] = graveyard_vouch_ms(asking);
    values[METRIC_BUDGET_BYTES] = threads->settings.memory_bytes;
    values[METRIC_PAYLOAD_BYTES] = payload_bytes > 0 ? (uint64_t)payload_bytes : 0;
    values[METRIC_STOCK_BYTES] =
        arena_stock_bytes(threads->arena) + arena_ready_bytes(threads->arena);
    /* The sums are taken one after the other, while others free. */
    used = used > values[METRIC_PAYLOAD_BYTES] ? used : values[METRIC_PAYLOAD_BYTES];
    values[METRIC_USED_BYTES] = used;
    values[METRIC_OVERHEAD_BYTES] = used - values[METRIC_PAYLOAD_BYTES];
    /* Relaxed: a sum by itself. */
    values[METRIC_STREAMING_BYTES] =
        atomic_load_explicit(&threads->streaming_bytes, memory_order_relaxed);
    values[METRIC_RECORDS] = index.records;
    values[METRIC_SEGMENTS] = index.segments;
    values[METRIC_SPLITS] = index.splits;
    if (threads->settings.tier) {
        threads->settings.tier->calls->metrics(threads->settings.tier, values);
    }
}
