/*
 * struct threads and struct lane, for the files of this room only.
 *
 * struct threads is set up once and read by all; its only words that change are the tombstone
 * ring's. A struct lane belongs to its loop; other lanes read its counters (relaxed atomics).
 */
#ifndef RETHREAD_THREAD_LANE_H
#define RETHREAD_THREAD_LANE_H

#include "index/epoch.h"
#include "index/index.h"
#include "thread/records.h"
#include "thread/threads.h"
#include "thread/tier.h"

#include <assert.h>

enum {
    VOUCH_STAMPS = 64, /* the ring's history is stamped in this many parts */
    LANES_MAX = EPOCH_MEMBERS_MAX,
    ERASING_SLOTS = 4096,
};

/*
 * The domain's time begins long before the clock's, which may have started with the machine a
 * moment ago: what the disk has was used and created before that. Some 70 years.
 */
#define HISTORY_MS (UINT64_C(1) << 41)

/* Who is gone and why: a bounded ring of tombstones, the oldest overwritten first. */
struct graveyard {
    _Atomic uint32_t *ring; /* arena refs, `size` of them */
    uint32_t size;          /* a multiple of VOUCH_STAMPS */
    _Atomic uint64_t next;
    _Atomic uint64_t stamps[VOUCH_STAMPS];
    uint64_t started_ms;
};

struct threads {
    struct threads_settings settings;
    struct arena *arena;
    uint8_t *base; /* of the arena */
    struct epoch *epoch;
    struct index *index;
    struct graveyard graveyard;
    uint64_t step_bytes_max;
    uint8_t cursor_secret[192];    /* of list's cursors; XXH3 wants this many */
    _Atomic uint64_t hand;         /* of eviction: an index_cursor, packed */
    _Atomic int64_t leaving_bytes; /* as in the lanes, of members without one */
    _Atomic int64_t payload_bytes;
    _Atomic uint64_t streaming_bytes;        /* of all drafts, and what exists for their sake */
    _Atomic uint64_t erasing[ERASING_SLOTS]; /* see cold_erasing_begins */
    struct lane *_Atomic lanes[LANES_MAX];
};

/* WANT_ROOM: the disk has to take in what it has first. */
enum want { WANT_CLAIM, WANT_MEMORY, WANT_DISK, WANT_ROOM };

struct lane {
    struct threads *threads;
    struct epoch_member *member;
    struct arena_cache *cache;
    _Atomic(struct epoch_member *) identity; /* `member`, for who looks the lane up by it */
    _Atomic bool open;                       /* a closed lane keeps its books and its slot */
    struct tier *tier;                       /* NULL: none */
    struct tier_port *port;
    uint64_t waits;                 /* changes and loads of ours that the tier has */
    struct journal_change *refused; /* erasures to be submitted again */
    struct tier_event *late_dues;   /* of names that another erasure is at work on */
    struct tier_page *page;         /* of the disk's threads, for list; NULL: none */
    struct tier_load *page_load;    /* being asked for, or what `page` answers */
    uint64_t now_ms;
    uint64_t wall_ms;        /* with a tier: the wall clock at now_ms */
    uint64_t doubt_until_ms; /* the wall clock has jumped: nothing is erased by it so long */
    unsigned share;
    unsigned shares;

    uint64_t turn;             /* that pointers are good for: until it goes offline, or is tended */
    enum want want;            /* why the last operation was put back */
    uint64_t want_bytes;       /* memory an operation could not get; 0: none */
    struct index_cursor sweep; /* looks for the overdue */
    uint64_t sweep_ms;         /* when it last moved */
    uint64_t sweep_owed;       /* slots it should have gone over by then */
    uint64_t looks;            /* at what was due, ever */
    size_t waiting_last;       /* for reclamation, after the last tending */
    unsigned waiting_turns;    /* tendings since that changed */
    uint64_t pass_slots;       /* slots seen in the pass under way, and in the last whole one */
    uint64_t pass_slots_last;
    uint32_t burial_first; /* spines whose steps are still to be let go */
    uint32_t burial_last;
    uint64_t burial_steps; /* their number */
    uint64_t hand_rests_until_ms;
    uint64_t work; /* steps gone through by operations since the last tending */

    _Atomic int64_t leaving_bytes; /* of steps, retired less reclaimed by this lane */
    _Atomic int64_t payload_bytes; /* committed less reclaimed by this lane; summed over lanes */
    _Atomic int64_t live;          /* threads published less buried */
    _Atomic uint64_t counters[METRIC_COUNT];
};

/* Counts what is reclaimed out of what was leaving, and of the payloads. `member`: who does it. */
void threads_reclaimed(struct threads *threads, const struct epoch_member *member,
                       int64_t leaving_bytes, int64_t payload_bytes);

static inline uint64_t threads_now_ms(const struct threads *threads)
{
    return HISTORY_MS + clock_read_ms(threads->settings.clock);
}

static inline void *lane_at(const struct lane *lane, uint32_t ref)
{
    assert(ref != 0);
    return arena_at(lane->threads->base, ref);
}

static inline uint32_t lane_ref(const struct lane *lane, const void *object)
{
    return arena_ref(lane->threads->base, object);
}

/* Between the domain's time and the wall clock. What was before time began began with it. */
static inline uint64_t lane_to_wall(const struct lane *lane, uint64_t at_ms)
{
    uint64_t ahead_ms = at_ms > lane->now_ms ? at_ms - lane->now_ms : 0;
    uint64_t since_ms = at_ms < lane->now_ms ? lane->now_ms - at_ms : 0;
    return ahead_ms + (lane->wall_ms > since_ms ? lane->wall_ms - since_ms : 0);
}

static inline uint64_t lane_from_wall(const struct lane *lane, uint64_t wall_ms)
{
    uint64_t since_ms = lane->wall_ms > wall_ms ? lane->wall_ms - wall_ms : 0;
    return lane->now_ms > since_ms ? lane->now_ms - since_ms : 0;
}

/* Ordinary allocation; on failure remembers the want, so that the lane makes room. */
static inline void *lane_alloc(struct lane *lane, size_t size_bytes)
{
    void *object = arena_alloc(lane->cache, size_bytes, ARENA_ORDINARY);
    if (!object && size_bytes > lane->want_bytes) {
        lane->want_bytes = size_bytes;
    }
    return object;
}

/* Adds to one of the lane's own counters. */
static inline void lane_add(_Atomic int64_t *counter, int64_t bytes)
{
    /* Only this lane writes; relaxed, since readers want a sum and no order. */
    int64_t now = atomic_load_explicit(counter, memory_order_relaxed);
    atomic_store_explicit(counter, now + bytes, memory_order_relaxed);
}

/* Nothing was done; the operation is to be asked for again, and thread_give_up will know why. */
static inline enum status lane_put_back(struct lane *lane, enum want want)
{
    lane->want = want;
    return STATUS_AGAIN;
}

#endif
