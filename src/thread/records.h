/*
 * The shared records of the room: what lies in the arena and is found through the index.
 *
 * Private to src/thread/. Ownership, in one place:
 * - a thread record is owned by the index while it is there; *holds* counts its own standing (1),
 *   every step it committed that still exists, so that a step can always name its origin, and every
 *   change of it that is on its way to the disk;
 * - a spine is owned by the thread that points to it; a replaced one by the lane that replaced it,
 *   until it is buried or retired;
 * - a step is owned by the spines that hold it (`holds`), a pin only delays its reclamation;
 * - a tombstone is owned by the ring;
 * - a cold record is owned by the index; while it says loading, by the load it stands for.
 * All are retired through the epoch, so that who found one while online may read it until offline.
 */
#ifndef RETHREAD_THREAD_RECORDS_H
#define RETHREAD_THREAD_RECORDS_H

#include "base/bytes.h"
#include "base/status.h"
#include "index/index.h"
#include "thread/step.h"
#include "thread/tier.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    THREAD_RECALL_MAX = 64, /* appends whose idempotency keys are remembered */
};

/* What the room retires through the epoch; RETIRE_INDEX is the index's own. */
enum retire_kind {
    RETIRE_INDEX,
    RETIRE_THREAD, /* ordinary ones */
    RETIRE_SPINE,
    RETIRE_STEP,
    RETIRE_TOMBSTONE,
    RETIRE_COLD,
    RETIRE_COMPACT,
};

/* What all steps begin with, those of compact threads too, which have nothing else. */
struct step {
    _Atomic uint32_t pins; /* replies that still send it */
    uint32_t turn;
    uint32_t payload_bytes;
    uint8_t flags;
    uint8_t segment_count : 7;
    uint8_t is_text : 1; /* its only segment is text, and takes no place in a table */
    uint8_t key_count;
    uint8_t response_id_size;
};
static_assert(WIRE_PAYLOADS_MAX < 1 << 7, "segments are counted in seven bits");

/*
 * A thread. Most of those that there are hold one plain step and nothing else: they are *compact*,
 * one object of the arena, in which this is followed by the id and the payload. Their step is
 * version 1, position 0, a single text, without keys or names, see compact.h; it is never shared.
 * Whatever changes such a thread beyond its lifetimes first makes an ordinary one of it, in which
 * this is followed by a struct rest. With a disk tier there are none.
 *
 * `word` of the index record is the epoch's link, `flags` below, `small` the tenant. What is plain
 * is written under the claim of `life` only, or before publication.
 */
struct thread {
    struct index_record record;
    _Atomic uint64_t life; /* see life.h */
    _Atomic uint64_t ttl_ms;
    union {
        struct step step; /* of a compact one */
        struct thread_full {
            uint64_t hash_high;
            _Atomic uint32_t spine; /* arena ref; never 0 once published */
            _Atomic uint32_t holds;
        } full;
    };
    uint32_t
        age_low; /* when it dies by its age, whatever its use, in 48 bits; of an ageless one, */
    uint16_t age_high; /* when it was created. Fixed before publication. */
    uint8_t id_size;
    _Atomic uint8_t replayed; /* use bit of eviction */
};

/*
 * record.flags, fixed before publication. UNBORN: the thread holds nothing but its draft, nobody
 * has committed a step to it, and for all but its streamer it is not there; its spine says why. The
 * commit makes another record, see stream.h. UNFOLDED: it took the place of a compact one.
 * MEMORY_ONLY: of an unborn one and of tombstones: what was there had retention 0.
 */
enum {
    THREAD_COMPACT = 1,
    THREAD_UNBORN = 2,
    THREAD_AGELESS = 4,
    THREAD_UNFOLDED = 8,
    THREAD_MEMORY_ONLY = 16,
};

/* What ordinary threads have besides. Plain fields: under the claim. */
struct rest {
    _Atomic uint64_t retention_ms; /* 0: no byte of it goes to a disk; then the ttl is its life */
    /*
     * What the tier has of it. Under the claim: uid (0: nothing was submitted; of an unborn one,
     * that of the damaged thread in whose place it is) and the generation of the last change.
     * `changes` are on their way; `unsaved`: one of them failed, so that the next must be whole.
     * used_ms: the last use that was submitted.
     */
    uint64_t uid;
    uint64_t loaded_ms; /* when it was brought back; 0: it was made here */
    _Atomic uint64_t used_ms;
    /*
     * A step being streamed: when the claim of who streams it ends (0: none), which anybody may
     * read, and the arena ref of its struct draft (under the claim of the life word; 0: none).
     */
    _Atomic uint64_t streams_until_ms;
    uint32_t draft;
    _Atomic uint32_t changes;
    uint32_t generation;
    _Atomic uint32_t floor; /* replays with pin drop what is below it. Set under the claim. */
    uint32_t shared;  /* a fork's first version: steps it did not commit itself count as that old */
    uint32_t recall;  /* arena ref of its struct recall; 0: no append had a key. Under the claim. */
    uint32_t appends; /* ordinal of the next append, for recall. Under the claim. */
    _Atomic uint8_t unsaved;
    _Atomic uint8_t on_disk;   /* a change was applied */
    _Atomic uint8_t from_disk; /* loaded, and not used since */
    _Atomic uint8_t retuned;   /* its ttl changed since the last change was submitted */
    uint8_t id[];
};

/*
 * The ordered steps of a thread. Positions below `lost` are missing; position p >= lost is
 * steps[p - lost]. The thread's version is version_base + length. Fixed once published, but for
 * the slots beyond `length` and the totals: one acquire load of `length` is a snapshot of both.
 */
struct spine {
    uint32_t link;
    _Atomic uint32_t length; /* positions, lost ones included */
    uint32_t capacity;       /* of steps[] */
    uint32_t lost;
    uint32_t version_base;
    uint32_t lost_base; /* lost position p was committed at version lost_base + p + 1 or before */
    uint8_t lost_reason;
    uint8_t drop_reason; /* burial: positions drop_at..drop_end-1 lose this spine's hold */
    uint32_t drop_at;
    uint32_t drop_end;
    uint32_t weighed_at; /* positions from here on were counted as leaving, see spine_bury */
    bool weighs_payload;
    _Atomic uint64_t payload_bytes;
    _Atomic uint64_t tokens;
    uint32_t steps[];
};

/*
 * A key that leads to a step; embedded in it and indexed. `record.flags`: STEP_KEY_SHARED;
 * `record.small`: units back to the step; `record.word`: offset of the id in the step, and its
 * size.
 */
struct step_key {
    struct index_record record;
};

enum { STEP_KEY_SHARED = 1 };
/* CORRUPT: a place in the spine whose step the disk could not give back; it holds nothing.
 * INHERITED: loaded with a fork, whose origin committed it. IN_TOOL_TURN: it, or an earlier step of
 * its turn, is not final (or not known to be). COMPACT: of a compact thread. */
enum {
    STEP_FINAL = 1,
    STEP_HAS_TOKENS = 2,
    STEP_HAS_PREFIX = 4,
    STEP_CORRUPT = 8,
    STEP_INHERITED = 16,
    STEP_HAS_VISIBLE = 32,
    STEP_IN_TOOL_TURN = 64,
    STEP_COMPACT = 128
};

/* In the holds of a step that its owner was rewound beyond: the reason that came first, whatever
 * ends the owner later. Set under the owner's claim. */
#define STEP_REWOUND (UINT32_C(1) << 31)

/* What follows of the step of an ordinary thread. */
struct step_rest {
    uint32_t link;
    _Atomic uint32_t holds;    /* spines that hold it, and STEP_REWOUND */
    uint32_t owner;            /* arena ref of the thread that committed it; counted in its holds */
    uint32_t version;          /* that committed it */
    uint32_t number;           /* its position */
    uint16_t tool_calls_bytes; /* MessagePack items */
    uint8_t tool_call_count;
    uint8_t model_size;
    /*
     * Then, each if there are any: key records, which are aligned to units of the arena; tokens
     * (u32); segment table (u32 each: kind in the top two bits, bytes below), unless the only
     * segment is text; response_id, prefix, visible, model, tool calls, payloads.
     */
};

/*
 * What stays of something gone. `record.flags`: the reason; `record.small`: STEP_KEY_SHARED of a
 * step key, THREAD_MEMORY_ONLY of a thread; `record.word`: the epoch's link.
 */
struct tombstone {
    struct index_record record;
    uint64_t hash_high;
    uint32_t version; /* a thread's; of a step key: the writer's fingerprint */
    uint32_t steps;   /* positions the thread had */
};

/*
 * What the disk has under a name, or that it is being asked. Fixed once in the index: an answer is
 * another cold record, or a thread, in the place of the one that says LOADING. An answer is
 * forgotten after a few seconds. `record.flags`: enum cold_state; `record.word`: the epoch's link.
 */
enum cold_state {
    COLD_LOADING, /* also: being erased */
    COLD_ABSENT,
    COLD_GONE, /* `reason`, and of a thread version and steps, of a key the writer in `version` */
    COLD_KEY,  /* the newest step with the key is `number` of thread `id`, committed at `version` */
    COLD_CORRUPT,
};

struct cold {
    struct index_record record;
    uint64_t hash_high;
    uint64_t uid;       /* COLD_CORRUPT, of a thread: to erase it by; 0: not known */
    uint64_t owner_low; /* name of the thread that wrote the key */
    uint64_t owner_high;
    uint32_t version;
    uint32_t steps;
    uint32_t number;
    uint8_t reason;
    bool shared;
    uint8_t id_size;
    uint8_t id[];
};

static inline bool record_is_cold(const struct index_record *record)
{
    return (record->kind & RECORD_COLD) != 0;
}

static inline bool record_is_tombstone(const struct index_record *record)
{
    return (record->kind & RECORD_TOMBSTONE) != 0;
}

static inline bool thread_is_compact(const struct thread *thread)
{
    return (thread->record.flags & THREAD_COMPACT) != 0;
}

static inline bool thread_is_unborn(const struct thread *thread)
{
    return (thread->record.flags & THREAD_UNBORN) != 0;
}

static inline struct thread_full *thread_full(const struct thread *thread)
{
    assert(!thread_is_compact(thread));
    return &((struct thread *)(uintptr_t)thread)->full;
}

static inline struct rest *rest_of(const struct thread *thread)
{
    assert(!thread_is_compact(thread));
    return (struct rest *)(uintptr_t)(thread + 1);
}

/* Of an ordinary thread and of its steps, but for the id, and for keys and bytes. */
#define THREAD_FULL_BYTES (sizeof(struct thread) + sizeof(struct rest))
#define STEP_FULL_BYTES   (sizeof(struct step) + sizeof(struct step_rest))
#define STEP_KEYS_OFFSET                                                                           \
    ((STEP_FULL_BYTES + ARENA_UNIT_BYTES - 1) / ARENA_UNIT_BYTES * ARENA_UNIT_BYTES)

static inline struct bytes thread_id(const struct thread *thread)
{
    const uint8_t *after = (const uint8_t *)(thread + 1);
    return bytes_of(thread_is_compact(thread) ? after : after + offsetof(struct rest, id),
                    thread->id_size);
}

/* When it dies by its age. */
static inline uint64_t thread_dies_ms(const struct thread *thread)
{
    return thread->record.flags & THREAD_AGELESS
               ? UINT64_MAX
               : (uint64_t)thread->age_high << 32 | thread->age_low;
}

/* Tells ordinary threads apart in tombstones: enough of the keyed hash, nothing of the id. */
static inline uint32_t thread_fingerprint(const struct thread *thread)
{
    return (uint32_t)thread_full(thread)->hash_high;
}

static inline bool step_is_compact(const struct step *step)
{
    return (step->flags & STEP_COMPACT) != 0;
}

static inline struct step_rest *step_rest(const struct step *step)
{
    assert(!step_is_compact(step));
    return (struct step_rest *)(uintptr_t)(step + 1);
}

static inline struct step_key *step_keys(const struct step *step)
{
    assert(!step_is_compact(step));
    return (struct step_key *)((uintptr_t)step + STEP_KEYS_OFFSET);
}

static inline const struct thread *thread_of_compact(const struct step *step)
{
    assert(step_is_compact(step));
    return (const struct thread *)((const uint8_t *)step - offsetof(struct thread, step));
}

static inline uint32_t step_number(const struct step *step)
{
    return step_is_compact(step) ? 0 : step_rest(step)->number;
}

static inline uint32_t step_version(const struct step *step)
{
    return step_is_compact(step) ? 1 : step_rest(step)->version;
}

#endif
