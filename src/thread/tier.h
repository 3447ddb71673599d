/*
 * What the domain asks of a disk tier: keep changes of threads in order, give threads back.
 *
 * Declared here, implemented by store/ (a log and an LMDB tree) and by the tests' reference model.
 * Everything is asynchronous: a lane opens a *port*, submits changes and loads through it, and
 * collects what became of them as *events*, each exactly once, on the lane's own operating-system
 * thread. Nothing here blocks, so that a tier could as well be at the other end of a network.
 *
 * Order. Changes of one thread take effect in the order in which they were submitted (a lane
 * submits under the thread's claim, so that order is the thread's own). A load sees at least every
 * change whose TIER_APPLIED event was delivered before the load was submitted.
 *
 * Names. A thread and a step key are known by the keyed 128-bit hash of tenant, kind and id
 * (index_hash); the tier compares the whole id as well. The hash's secret is the tier's, so that it
 * outlives the process. A *uid* names one incarnation of a thread: it is taken anew when a thread
 * is created, and never used again.
 *
 * Times are wall-clock milliseconds.
 *
 * Ownership. A change or load belongs to the tier from submit until its last event is collected,
 * and to the lane before and after. Bytes that a change refers to must stay valid until then: its
 * steps are pinned by the lane (step_pin); the tier unpins each as soon as it has its bytes.
 */
#ifndef RETHREAD_THREAD_TIER_H
#define RETHREAD_THREAD_TIER_H

#include "base/status.h"
#include "index/index.h"
#include "thread/step.h"
#include "thread/threads.h"

struct tier;
struct tier_port;

/* ---- Events ------------------------------------------------------------------------------- */

enum tier_event_kind {
    TIER_DURABLE, /* of a change that asked for it: it survives a crash from now on */
    TIER_APPLIED, /* of every change, and its last: loads see it from now on */
    TIER_LOADED,  /* of a load */
    TIER_DUE,     /* the tier asks: this thread's time is up, see struct tier_due */
};

struct tier_event {
    struct tier_event *next; /* in the chain that collect returns, oldest first */
    enum tier_event_kind kind;
};

/* ---- Changes ------------------------------------------------------------------------------ */

/* What an append with an idempotency key came to. */
struct recall_entry {
    struct index_hash key;
    uint64_t digest[2]; /* XXH3-128 of kinds and payloads */
    uint32_t ordinal;   /* of the append in its thread, from 1 */
    uint32_t step;
    uint32_t version;
    uint32_t lost;
    bool created;
};

enum {
    TIER_RECALL_MAX = 64,
    TIER_ID_BYTES_MAX = 255,
};

/* A thread but for its steps. */
struct tier_head {
    uint64_t uid;
    struct index_hash name; /* of `id`, kind RECORD_THREAD */
    struct bytes id;
    uint16_t tenant;
    uint8_t lost_reason; /* enum reason */
    uint32_t length;     /* positions, lost ones included */
    uint32_t version;
    uint32_t lost;      /* positions below it are missing */
    uint32_t lost_base; /* see struct spine */
    uint32_t shared;    /* see struct rest */
    uint32_t appends;
    uint32_t floor;      /* see struct rest */
    uint64_t created_ms; /* a fork inherits its origin's */
    uint64_t used_ms;    /* last use that is known here */
    uint64_t ttl_ms;
    uint64_t retention_ms;  /* > 0 */
    uint64_t payload_bytes; /* of all steps held, and their tokens */
    uint64_t tokens;
};

enum tier_change_kind {
    /* The thread is as `head` says. Positions from drop_from on are removed first; then the steps
     * given, which are the last step_count positions, are put in place. Steps below stay. */
    TIER_PUT,
    /* All of head.uid is removed: steps, keys, head, and its name if it still leads there. When a
     * younger thread took the name, that one or its tombstone stays. */
    TIER_ERASE,
};

struct tier_change {
    struct tier_event durable; /* the tier's while it has the change */
    struct tier_event applied;
    struct tier_change *next;
    struct tier_port *port; /* the events go here */
    enum tier_change_kind kind;
    bool wants_durable; /* a TIER_DURABLE event as well */
    bool must;          /* taken beyond the limit too: the lane asked is_full before it began */
    /*
     * Of the tier's history of failures (calls->generation) when the lane judged what it must
     * submit. The tier fails a change of another generation: since a failure nobody knows what the
     * disk has, the next put of a thread must be whole (drop_from 0, all steps).
     */
    uint32_t generation;
    struct tier_head head; /* of an ERASE only uid, name, id, tenant, version and length count */
    /*
     * Of an ERASE that the tier asked for (struct tier_due) and memory knows nothing of: the last
     * use that the tier knew of then; else 0. If it knows of another by now the thread stays. It
     * is remembered with the version and length that the tier has of it, and not at all when the
     * tier has it no more: by now a later life may have left its tombstone.
     */
    uint64_t asked_used_ms;
    /*
     * Why what is removed is gone: a tombstone with this reason is kept for the thread (ERASE) and
     * for each key that led to a removed step. REASON_NONE: without tombstones.
     */
    enum reason reason;
    uint32_t drop_from;
    /*
     * Of a fork: positions below it are steps that its origin committed. They enter no keys, and
     * their version is head.shared. Not the same as head.shared once a fork was rewound.
     */
    uint32_t inherited;
    uint32_t recall_count; /* entries of recalls that are new (all of them in a whole put) */
    const struct recall_entry *recalls;
    uint32_t step_count;
    const struct step *const *steps; /* pinned; a slot is NULL for a position that is corrupt */
    uint64_t size_bytes;             /* roughly, for the tier's limit on what waits */
    /* When its last event comes: STATUS_OK, or STATUS_READ_ONLY when it did not take effect (or
     * nobody can tell). A TIER_DURABLE event is delivered either way. */
    enum status status;
};

/* What a name is of: index_record.kind, and kept on disk as it is; a tombstone, or what stands for
 * something on disk, carries the kind marked. */
enum record_kind {
    RECORD_THREAD = 1,
    RECORD_RESPONSE_ID,
    RECORD_TOOL_CALL,
    RECORD_PREFIX,
    RECORD_COLD = 0x40,
    RECORD_TOMBSTONE = 0x80,
};

/* ---- Loads -------------------------------------------------------------------------------- */

enum tier_load_kind {
    TIER_LOAD_THREAD, /* by name and id: head and all steps */
    TIER_LOAD_KEY,    /* by name and id of a step key: where it leads */
    TIER_LOAD_PAGE,   /* heads for list: uids above `after_uid`, ids that start with `id` */
};

enum tier_found {
    TIER_ABSENT, /* neither it nor a tombstone */
    TIER_FOUND,
    TIER_TOMBSTONE, /* gone, for `reason` */
    TIER_CORRUPT,   /* it is there and damaged beyond use: the head of a thread, a key's entry */
    TIER_FAILED,    /* not now: no memory, or no reading; may be asked again */
};

/* A thread as loaded: one block of malloc, with all bytes that it refers to. free() it. */
struct tier_image {
    struct tier_head head;
    uint32_t recall_count;
    struct recall_entry recalls[TIER_RECALL_MAX];
    uint32_t step_count;      /* head.length - head.lost; position head.lost + i is steps[i] */
    struct step_parts *steps; /* `corrupt` marks what failed its checksum or is missing */
};

/* The newest step that carried a key. */
struct tier_key {
    struct index_hash owner; /* name of its thread */
    uint8_t id_size;         /* and its id */
    uint8_t id[TIER_ID_BYTES_MAX];
    uint64_t uid;
    uint32_t number;
    uint32_t version;
    bool shared; /* a second thread has written the key */
};

struct tier_tombstone {
    enum reason reason;
    bool shared;      /* of a key */
    uint32_t version; /* of a thread; of a key: the low 32 bits of its writer's name.high */
    uint32_t steps;   /* positions the thread had */
};

/* One thread of a page. */
struct tier_listed {
    uint64_t uid;
    struct index_hash name;
    uint64_t payload_bytes;
    uint64_t used_ms;
    uint32_t version;
    uint8_t id_size;
    uint8_t id[TIER_ID_BYTES_MAX];
};

struct tier_page {
    bool more;
    uint64_t last_uid; /* of the last thread looked at */
    uint32_t count;
    struct tier_listed listed[];
};

struct tier_load {
    struct tier_event event; /* the tier's while it has the load, as is the next */
    struct tier_load *next;
    struct tier_port *port;
    enum tier_load_kind kind;
    uint16_t tenant;
    uint8_t record_kind; /* enum record_kind of the name */
    struct index_hash name;
    uint8_t id_size;
    uint8_t id[TIER_ID_BYTES_MAX];
    uint64_t after_uid;
    uint32_t limit;
    /* Results. */
    enum tier_found found;
    uint64_t uid; /* of a thread that is TIER_CORRUPT, so that it can be erased; 0: not known */
    struct tier_image *image; /* TIER_LOAD_THREAD, TIER_FOUND: the lane's to free() */
    struct tier_page *page;   /* TIER_LOAD_PAGE, TIER_FOUND: likewise */
    /* TIER_LOAD_KEY, TIER_FOUND; of TIER_ABSENT `uid`: 0, or of a thread on its way in or out. */
    struct tier_key key;
    struct tier_tombstone tombstone; /* TIER_TOMBSTONE */
};

/* ---- Erasure ------------------------------------------------------------------------------ */

/*
 * The tier asks a lane to end a thread: its retention or max age is over by what the disk knows, or
 * the disk budget wants it gone (evicted). The lane decides, since the thread may be in memory and
 * in use: it submits an ERASE, or a PUT with a later used_ms, or nothing (it is asked again later).
 * Allocated with malloc by the tier; the lane's to free().
 */
struct tier_due {
    struct tier_event event;
    enum reason reason; /* EXPIRED, MAX_AGE or EVICTED */
    uint64_t uid;
    uint16_t tenant;
    struct index_hash name;
    uint32_t version;
    uint32_t length;
    uint64_t used_ms; /* the last use that the tier knew of when it asked */
    uint8_t id_size;
    uint8_t id[TIER_ID_BYTES_MAX];
};

/*
 * How far the use that the disk knows may lie behind the last one: not each is written down. So
 * much later than it would seem a thread is due.
 */
static inline uint64_t tier_slack_ms(uint64_t retention_ms)
{
    enum { PARTS = 64, MOST_MS = 40 * 1000 };
    return retention_ms / PARTS < MOST_MS ? retention_ms / PARTS : MOST_MS;
}

/* ---- The calls ---------------------------------------------------------------------------- */

/* All may be called from any lane; those with a port only by the port's lane. */
struct tier_calls {
    /* `wake(context)` is called from any operating-system thread when events wait; it must only
     * make the lane collect soon. NULL: no memory. */
    struct tier_port *(*port_open)(struct tier *tier, void (*wake)(void *context), void *context);
    void (*port_close)(struct tier *tier, struct tier_port *port); /* nothing of it is under way */

    uint64_t (*take_uid)(struct tier *tier);
    uint32_t (*generation)(const struct tier *tier);
    bool (*is_read_only)(const struct tier *tier);
    bool (*is_full)(const struct tier *tier); /* as much waits as may: submit would say AGAIN */

    /* Whether the disk may know the name; false is certain (for what was applied). Lock-free. */
    bool (*may_have)(const struct tier *tier, struct index_hash name);

    /*
     * STATUS_OK: taken, events will follow. STATUS_AGAIN: too much waits. STATUS_READ_ONLY: no
     * writes at the moment, or the change is of a past generation. Only OK takes ownership.
     */
    enum status (*submit)(struct tier *tier, struct tier_change *change);
    enum status (*load)(struct tier *tier, struct tier_load *load); /* OK, or AGAIN: too many */

    /* All events that wait on the port, oldest first; NULL: none. */
    struct tier_event *(*collect)(struct tier *tier, struct tier_port *port);

    /* Fills in the gauges and counters of the DISK section. */
    void (*metrics)(const struct tier *tier, uint64_t values[METRIC_COUNT]);

    /* Since when the tier remembers every gone thread (wall clock). */
    uint64_t (*vouch_since_ms)(const struct tier *tier);
};

/* An implementation begins with this. */
struct tier {
    const struct tier_calls *calls;
};

#endif
