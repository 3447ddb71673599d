/*
 * What the reference tier keeps: threads, names, step keys, tombstones, and what changes and loads
 * do to them. Single-threaded and without any schedule: those are tier_model's, which has the
 * mutex.
 */
#ifndef RETHREAD_TESTS_LIB_TIER_KEPT_H
#define RETHREAD_TESTS_LIB_TIER_KEPT_H

#include "thread/tier.h"

#include <stdlib.h>

/* A step as stored: its parts lead into `bytes`. */
struct kept_step {
    struct step_parts parts;
    uint8_t *bytes; /* NULL: it came as corrupt */
    bool damaged;   /* since */
};

struct kept_thread {
    struct tier_head head; /* head.id leads to `id` */
    uint8_t id[TIER_ID_BYTES_MAX];
    bool damaged;                                 /* its head */
    struct recall_entry recalls[TIER_RECALL_MAX]; /* by ordinal; 0: none */
    uint32_t step_count;                          /* slots of steps: head.length */
    struct kept_step *steps;
};

struct kept_entry;
struct kept_place;

enum { KEPT_BUCKETS = 1 << 14 };

struct tier_kept {
    struct clock *wall;
    uint32_t tombstones_max;
    uint8_t secret[INDEX_SECRET_BYTES];
    uint64_t next_uid;
    struct kept_thread **threads; /* by uid, ascending */
    size_t thread_count;
    size_t thread_capacity;
    struct kept_entry *entries[KEPT_BUCKETS];
    struct kept_place *ring; /* of tombstones, the oldest are overwritten */
    uint64_t ring_next;
    uint64_t vouch_since_ms;
    struct index_hash *leaving; /* names of keys, during a change */
    size_t leaving_count;
    size_t leaving_capacity;
    uint64_t tombstones, erasures, damaged; /* counted */
};

void tier_kept_init(struct tier_kept *kept, struct clock *wall, uint32_t tombstones);
void tier_kept_free(struct tier_kept *kept);

/* Copies of the change's steps, malloc'ed: tier_kept_apply takes over what they refer to. */
struct kept_step *tier_kept_copy(const struct tier_change *change);
void tier_kept_apply(struct tier_kept *kept, const struct tier_change *change,
                     const struct kept_step *steps);

void tier_kept_read(struct tier_kept *kept, struct tier_load *load);

bool tier_kept_has(struct tier_kept *kept, struct index_hash name);
struct kept_thread *tier_kept_named(struct tier_kept *kept, struct bytes id); /* NULL: not there */
bool tier_kept_damage_key(struct tier_kept *kept, struct index_hash name);

static inline bool tier_kept_same_name(struct index_hash a, struct index_hash b)
{
    return a.low == b.low && a.high == b.high;
}

static inline void *tier_kept_have(void *block) /* or the process ends */
{
    if (!block) {
        abort();
    }
    return block;
}

#endif
