/*
 * The shared records of the room: what lies in the arena and is found through the index.
 *
 * Private to src/thread/. Ownership, in one place:
 * - a thread record is owned by the index while it is there; *holds* counts its own standing (1)
 *   plus every step it committed that still exists, so that a step can always name its origin;
 * - a spine is owned by the thread that points to it; a replaced one by the lane that replaced it,
 *   until it is buried or retired;
 * - a step is owned by the spines that hold it (`holds`), a pin only delays its reclamation;
 * - a tombstone is owned by the ring.
 * All are retired through the epoch, so that who found one while online may read it until offline.
 */
#ifndef RETHREAD_THREAD_RECORDS_H
#define RETHREAD_THREAD_RECORDS_H

#include "base/bytes.h"
#include "base/status.h"
#include "index/index.h"
#include "thread/step.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum {
    THREAD_STEPS_MAX = 1 << 20,
    THREAD_RECALL_MAX = 64, /* appends whose idempotency keys are remembered */
};

/* index_record.kind; a tombstone carries the kind of what is gone, marked. */
enum record_kind {
    RECORD_THREAD = 1,
    RECORD_RESPONSE_ID,
    RECORD_TOOL_CALL,
    RECORD_PREFIX,
    RECORD_TOMBSTONE = 0x80,
};

/* What the room retires through the epoch; RETIRE_INDEX is the index's own. */
enum retire_kind {
    RETIRE_INDEX,
    RETIRE_THREAD,
    RETIRE_SPINE,
    RETIRE_STEP,
    RETIRE_TOMBSTONE,
};

/*
 * A thread. `word` of the index record is the epoch's link. Plain fields after `life` are written
 * under the claim only (or before publication).
 */
struct thread {
    struct index_record record;
    uint64_t hash_high;
    _Atomic uint64_t life; /* see life.h */
    _Atomic uint64_t ttl_ms;
    uint64_t created_ms;
    _Atomic uint32_t spine; /* arena ref; never 0 once published */
    _Atomic uint32_t holds;
    uint32_t shared;  /* a fork's first version: steps it did not commit itself count as that old */
    uint32_t recall;  /* arena ref of its struct recall; 0: no append had a key. Under the claim. */
    uint32_t appends; /* ordinal of the next append, for recall. Under the claim. */
    _Atomic uint8_t replayed; /* use bit of eviction */
    uint8_t id_size;
    uint16_t tenant;
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
enum { STEP_FINAL = 1, STEP_HAS_TOKENS = 2, STEP_HAS_PREFIX = 4 };

struct step {
    uint32_t link;
    _Atomic uint32_t holds; /* spines that hold it */
    _Atomic uint32_t pins;  /* replies that still send it */
    uint32_t owner;         /* arena ref of the thread that committed it; counted in its holds */
    uint32_t version;       /* that committed it */
    uint32_t number;        /* its position */
    uint32_t turn;
    uint32_t tokens;
    uint32_t payload_bytes;
    uint32_t payload_offset;
    uint16_t tool_calls_bytes; /* MessagePack items */
    uint8_t tool_call_count;
    uint8_t key_count;
    uint8_t segment_count;
    uint8_t model_size;
    uint8_t response_id_size;
    uint8_t flags;
    /*
     * Then: segment table (u32 each: kind in the top two bits, bytes below), response_id, prefix,
     * model, tool calls, payloads. The key records come first, being aligned.
     */
    struct step_key keys[];
};

/*
 * What stays of something gone. `record.flags`: the reason; `record.small`: STEP_KEY_SHARED of a
 * step key; `record.word`: the epoch's link.
 */
struct tombstone {
    struct index_record record;
    uint64_t hash_high;
    uint32_t version; /* a thread's; of a step key: the writer's fingerprint */
    uint32_t steps;   /* positions the thread had */
};

static inline bool record_is_tombstone(const struct index_record *record)
{
    return (record->kind & RECORD_TOMBSTONE) != 0;
}

static inline struct bytes thread_id(const struct thread *thread)
{
    return bytes_of(thread->id, thread->id_size);
}

/* Tells threads apart in tombstones: enough of the keyed hash, nothing of the id. */
static inline uint32_t thread_fingerprint(const struct thread *thread)
{
    return (uint32_t)thread->hash_high;
}

#endif
