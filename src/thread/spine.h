/*
 * Spines: making, reading and growing them. Private to src/thread/.
 *
 * A snapshot is a spine and a length: everything below the length stays as it was for as long as
 * the lane is online, whatever is appended or rewound meanwhile.
 */
#ifndef RETHREAD_THREAD_SPINE_H
#define RETHREAD_THREAD_SPINE_H

#include "thread/lane.h"
#include "thread/operations.h"

/* The spine of one step that a compact thread seems to have. */
static inline struct spine *spine_of_alone(struct alone *alone)
{
    static_assert(sizeof *alone >= sizeof(struct spine) + sizeof(uint32_t), "one step");
    return (struct spine *)alone;
}

struct snapshot {
    const struct spine *spine; /* NULL: of a compact thread, see compact_snapshot */
    uint32_t length;           /* positions */
    uint32_t version;
};

static inline struct spine *spine_of(const struct lane *lane, const struct thread *thread)
{
    /* Pairs with the release that published the spine (append, rewind, or the index). */
    return lane_at(lane, atomic_load_explicit(&thread_full(thread)->spine, memory_order_acquire));
}

static inline struct snapshot spine_snapshot(const struct lane *lane, const struct thread *thread)
{
    if (thread_is_compact(thread)) {
        return (struct snapshot){.length = 1, .version = 1};
    }
    const struct spine *spine = spine_of(lane, thread);
    /* Pairs with the release in spine_commit: the slots below are filled, the steps complete. */
    uint32_t length = atomic_load_explicit(&spine->length, memory_order_acquire);
    return (struct snapshot){spine, length, spine->version_base + length};
}

/* The step at a position, which is below the snapshot's length; NULL when it is lost. */
static inline struct step *spine_step(const struct lane *lane, const struct spine *spine,
                                      uint32_t position)
{
    return position < spine->lost ? NULL : lane_at(lane, spine->steps[position - spine->lost]);
}

/* A spine without held steps: `length` positions, all lost. NULL: no memory (want is noted). */
struct spine *spine_create(struct lane *lane, uint32_t held_capacity, uint32_t length,
                           uint32_t version);

/*
 * A copy of the first `keep` positions, at the given version, with room for `more`. Holds are not
 * counted here.
 */
struct spine *spine_copy(struct lane *lane, const struct snapshot *snapshot, uint32_t keep,
                         uint32_t version, uint32_t more);

static inline bool spine_is_full(const struct spine *spine, uint32_t length)
{
    return length - spine->lost == spine->capacity;
}

/* Fills the next slot and publishes the length. Under the claim, or before publication. */
void spine_commit(struct lane *lane, struct spine *spine, struct step *step);

/* Position of the first step at or after `from` that was committed after `version`; else length. */
uint32_t spine_first_after(const struct lane *lane, const struct thread *thread,
                           const struct snapshot *snapshot, uint64_t version);

/*
 * Queues a spine that `thread` no longer uses: its hold on positions drop_at..drop_end-1 is let go
 * bit by bit, then it is retired. Until then what will come free counts as leaving, so that
 * eviction does not look for it elsewhere: of a fork only the steps it committed itself.
 */
void spine_bury(struct lane *lane, const struct thread *thread, struct spine *spine,
                uint32_t drop_at, uint32_t drop_end, enum reason reason);

/* Lets go of holds of queued spines, about as many as keys and steps; true when some are left. */
bool spine_tend_burials(struct lane *lane, uint64_t keys_and_steps_max);

/* Retires a spine whose holds were taken over. */
void spine_retire(struct lane *lane, struct spine *spine);

#endif
