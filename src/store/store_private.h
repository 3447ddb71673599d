/*
 * The store seen from inside: what its operating-system threads share. Private to src/store/.
 *
 * Who owns what. The inbox of changes is filled by lanes and emptied by the writer; batches go from
 * there through the inbox of batches to the filler; loads go through the pool's queue. The writer
 * alone adds to the log and syncs it, the filler alone writes the tree, trims the log and swaps
 * filters. A port is its lane's; deliveries to it are announced (`delivering`), so that it is not
 * freed under one.
 *
 * Locks: `ports_lock` (the list of ports), `settle_lock`, the pool's and the refill's. None is held
 * across I/O, none is taken on the path of submit, may_have or collect.
 */
#ifndef RETHREAD_STORE_STORE_PRIVATE_H
#define RETHREAD_STORE_STORE_PRIVATE_H

#include "base/log.h"
#include "store/filter.h"
#include "store/inbox.h"
#include "store/record.h"
#include "store/store.h"
#include "store/tree.h"
#include "store/wal.h"

#include <assert.h>
#include <pthread.h>
#include <stddef.h>

#define STORE_HOLDER(pointer, type, member) ((type *)((char *)(pointer)-offsetof(type, member)))

enum {
    STORE_BATCH_BYTES = 4 << 20, /* about: of a batch in the log */
    STORE_BATCH_CHANGES = 4096,
    /* Of a bite into the tree. The larger, the more of its keys share a page of the tree. */
    STORE_BITE_BYTES = 32 << 20,
    STORE_BITE_CHANGES = 32768,
    STORE_FILL_MS = 100,         /* the filler collects for so long before it goes to the tree, */
    STORE_FILL_MOST_MS = 2000,   /* or so long, while there is much and nobody is in a hurry */
    STORE_FILL_BYTES = 64 << 10, /* from here on it is much; see store_fill_most_bytes */
    STORE_TICK_MS = 1000,        /* between two looks at what is due, two probes of a full disk */
    STORE_LOADS_MAX = 1024,
    STORE_POOL_MAX = 64,
};

/* ---- State -------------------------------------------------------------------------------- */

/* What is wrong, as bits; the generation lies above them in the same word. */
enum {
    STORE_LOG_FULL = 1,
    STORE_TREE_FULL = 2,
    STORE_LOG_FAILED = 4,
    STORE_TREE_FAILED = 8,
    STORE_TROUBLES = 15,
    STORE_GENERATION_SHIFT = 8,
};

/* ---- Ports -------------------------------------------------------------------------------- */

/* Who gathers wakes over a batch; the pool wakes at once. */
enum store_deliverer { STORE_WRITER, STORE_FILLER, STORE_DELIVERERS };

struct tier_port {
    struct inbox inbox; /* of events */
    void (*wake)(void *context);
    void *context;
    struct tier_port *next;      /* in the store's list; under ports_lock */
    _Atomic uint32_t delivering; /* deliveries that may still touch the port */
    _Atomic uint64_t collects;   /* calls of collect */
    uint64_t collects_at_swap;   /* the filler's */
    struct store_touch {         /* each its deliverer's */
        bool touched;
        bool wake;
        struct tier_port *next;
    } by[STORE_DELIVERERS];
};

struct store_delivery {
    enum store_deliverer who;
    struct tier_port *first; /* touched since the last flush */
};

/* Puts an event; its port is woken by store_flush, which comes before any I/O. */
void store_deliver(struct store_delivery *delivery, struct tier_port *port,
                   struct tier_event *event);
void store_flush(struct store_delivery *delivery);
/* Both at once, from any operating-system thread. */
void store_deliver_now(struct tier_port *port, struct tier_event *event);

/* The last event of a change. A failed one is marked in the event: its status is written by the
 * lane's own operating-system thread, in collect, since the lane may be reading it. */
void store_deliver_applied(struct store_delivery *delivery, struct tier_change *change, bool ok);

/* Gives the due threads, round-robin, to the open ports. False: none is open, nothing was taken. */
bool store_deliver_due(struct store *store, struct store_delivery *delivery, struct tier_due **due,
                       unsigned count);

struct tier_port *store_port_open(struct tier *tier, void (*wake)(void *context), void *context);
void store_port_close(struct tier *tier, struct tier_port *port);
struct tier_event *store_collect(struct tier *tier, struct tier_port *port);

/* ---- Batches: from the writer to the filler ------------------------------------------------ */

struct store_group {
    struct tier_change *change; /* NULL: its last event was delivered */
    uint64_t sequence;
    size_t at; /* in the batch's buffer */
    size_t size;
    uint64_t charge; /* of the lag */
};

struct store_batch {
    struct inbox_node node;
    struct store_batch *next; /* the filler's */
    struct record_buffer buffer;
    struct store_group *groups;
    unsigned count;
    unsigned capacity;
    unsigned taken; /* groups that are in the tree */
    bool hasty;     /* see batches_hasty */
};

void store_batch_free(struct store_batch *batch);
/* Room for one more group; NULL: no memory. It counts when `count` does. */
struct store_group *store_batch_next(struct store_batch *batch);

/* What a change counts towards the limit on what waits. */
static inline uint64_t store_charge(const struct tier_change *change)
{
    uint64_t least = sizeof *change;
    return change->size_bytes > least ? change->size_bytes : least;
}

/* ---- The parts ---------------------------------------------------------------------------- */

struct store_pool {
    pthread_mutex_t lock;
    pthread_cond_t some;
    struct tier_load *first; /* under the lock, as is `stop` */
    struct tier_load **last;
    bool stop;
    unsigned count;
    pthread_t threads[STORE_POOL_MAX];
    _Atomic uint32_t under_way; /* claimed by load, given back with the event; relaxed: a limit */
};

/* What of the log is not yet in the tree at start; see tail.c. */
enum store_tail_state {
    STORE_TAIL_IN_TREE,
    STORE_TAIL_WAITED_FOR, /* the filler is at it */
    STORE_TAIL_LOST,       /* the tree does not take it: it stays in the log for the next start */
};

struct store_tail {
    _Atomic int state;
    uint64_t *names; /* marks of all names that it bears upon; under the pool's lock */
    size_t count;
    size_t capacity;          /* a power of two, or 0 */
    struct tier_load *parked; /* under the pool's lock */
    /* Of who opens the store. */
    struct store_batch *first;
    struct store_batch *last;
    /* Fixed when the threads are started. */
    uint64_t bytes;
    uint64_t groups;
    uint64_t sequence; /* of its last group */
};

/* Builds a filter beside the one in use; driven by the filler, filled by a thread of its own. */
struct store_refill {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t some;
    struct filter *job; /* under the lock, as are `done`, `whole` and `stop` */
    bool done;
    bool whole; /* every name was read */
    bool stop;
    /* The filler's. */
    struct filter *building; /* gets every new name meanwhile */
    struct filter *retired;  /* until no lane can look at it */
    uint64_t retry_ms;
    uint64_t begun_ms;
};

struct store_numbers { /* each alone, relaxed: read for `info` only */
    _Atomic uint64_t batch_bytes;
    _Atomic uint64_t flush_us;
    _Atomic uint64_t flush_max_us;
    _Atomic uint64_t inbox_since_ms; /* when the oldest change in the inbox was put */
    _Atomic uint64_t batch_since_ms; /* the same of what the writer has; 0: nothing */
    _Atomic uint64_t erasures;
    _Atomic uint64_t loads;
    _Atomic uint64_t damaged;
    _Atomic uint64_t filter_bytes;
    uint64_t recovered; /* fixed at open */
    uint64_t recovery_ms;
};

struct store {
    struct tier tier;
    struct store_settings settings;
    int directory_fd;
    int lock_fd;
    struct tree *tree;
    struct wal *wal;
    _Atomic uint64_t state;          /* troubles and generation, see store_trouble */
    _Atomic uint64_t next_uid;       /* relaxed: only has to be unique */
    _Atomic uint64_t lag_bytes;      /* submitted and not yet in the tree; relaxed: a limit */
    _Atomic(struct filter *) filter; /* NULL: not ready. See store_may_have */

    struct inbox changes;
    struct inbox batches;
    _Atomic uint64_t batches_bytes; /* in that inbox; see hand_over in writer.c */
    _Atomic bool batches_hasty;     /* something in there is waited for: an erasure, a rewind */
    /* Set by store_close with release, read with acquire by who then comes to its end. */
    _Atomic bool writer_stop;
    _Atomic bool filler_stop;
    pthread_t writer_thread;
    pthread_t filler_thread;
    struct filler *filler;

    pthread_mutex_t ports_lock;
    struct tier_port *ports;
    unsigned port_count;
    unsigned port_turn;

    /* store_settle: asked -> written (the writer is through) -> settled (the filler is). */
    pthread_mutex_t settle_lock;
    pthread_cond_t settled_some;
    _Atomic uint64_t settle_asked;
    _Atomic uint64_t settle_written;
    uint64_t settled; /* under the lock */

    struct store_pool pool;
    struct store_tail tail;
    struct store_refill refill;
    struct store_numbers numbers;
};

uint64_t store_now_us(void); /* monotonic */
static inline uint64_t store_now_ms(void)
{
    return store_now_us() / 1000;
}

/*
 * With how many bytes in the inbox of batches the filler has enough for a bite: half of what may
 * wait, so that as much can come in while it is at work.
 */
static inline uint64_t store_fill_most_bytes(const struct store *store)
{
    uint64_t part = store->settings.lag_max_bytes / 2;
    return part < STORE_BITE_BYTES ? part : STORE_BITE_BYTES;
}

/* ---- state.c ------------------------------------------------------------------------------- */

static inline uint64_t store_state(const struct store *store)
{
    /* Pairs with the exchange in store_trouble: who sees a generation sees what led to it. */
    return atomic_load_explicit(&store->state, memory_order_acquire);
}

static inline uint32_t store_generation_of(uint64_t state)
{
    return (uint32_t)(state >> STORE_GENERATION_SHIFT);
}

/* Sets and clears bits; when that changes anything, or `anew`, a generation begins. Returns the
 * bits before. */
unsigned store_change_state(struct store *store, unsigned set, unsigned clear, bool anew);
/* A write to log or tree failed: sorts it into full or failed, and logs it. */
void store_trouble(struct store *store, bool of_tree, const struct wal_trouble *trouble);
bool store_is_lack_of_space(int error);
/* A reader may have met a fault that broke the tree. */
void store_check_tree(struct store *store);
/* Without its lock the directory is anybody's; what is acknowledged may be in a file without name.
 */
void store_check_directory(struct store *store);
/* The cause is gone. */
void store_relieve(struct store *store, unsigned trouble);

static inline bool store_has(const struct store *store, unsigned troubles)
{
    return (store_state(store) & troubles) != 0;
}

void store_release_lag(struct store *store, uint64_t bytes);
/* Damage is counted and logged, at most once a second. */
void store_count_damage(struct store *store, unsigned damaged);

void store_metrics(const struct tier *tier, uint64_t values[METRIC_COUNT]);

/* ---- tail.c -------------------------------------------------------------------------------- */

/* At start: takes a copy of the group that is not in the tree. False: no memory. */
bool store_tail_add(struct store *store, uint64_t sequence, struct bytes bytes,
                    const struct record_group *group);
/* Brings what was added into the tree, or leaves it to the filler. False: the tree refused. */
bool store_tail_begin(struct store *store, struct wal_trouble *trouble);
void store_tail_drop(struct store *store);

enum store_tail_state store_tail_state(const struct store *store);

enum store_tail_verdict {
    STORE_TAIL_GO,
    STORE_TAIL_AGAIN,  /* look again: the tail is in the tree by now */
    STORE_TAIL_PARKED, /* it is the tail's now */
    STORE_TAIL_FAIL,
};

/* For the pool, `before` it looks into the tree and, if there was a tail then, behind that. */
enum store_tail_verdict store_tail_judge(struct store *store, struct tier_load *load, bool before);
/* The filler's: all that are parked hear that nobody knows; and the end. */
void store_tail_fail_parked(struct store *store);
void store_tail_end(struct store *store, bool in_tree);

/* ---- writer.c, filler.c, due.c, pool.c, refill.c ------------------------------------------- */

bool store_writer_open(struct store *store);
void store_writer_close(struct store *store); /* everything submitted is written first */
bool store_filler_open(struct store *store);
void store_filler_close(struct store *store); /* likewise; after the writer */

/* Asks for what is due; the filler's. */
struct store_due {
    struct store_asked {
        uint64_t uid;
        uint64_t wall_ms;
    } * asked;                      /* a small table: who was asked lately is not asked again */
    bool more;                      /* the last pass did not reach the end */
    uint64_t wall_ms, monotonic_ms; /* of the last look at both clocks */
    uint64_t quiet_until_ms;        /* after the wall clock jumped */
    /* For the disk budget: how many were asked for last, when, and the erasures until then. */
    uint64_t victims, victims_ms, erasures;
};

bool store_due_open(struct store_due *due, struct store *store); /* false: no memory */
void store_due_close(struct store_due *due);
/* `settle`: the clock is driven by a test, so it does not jump, and all is to be asked. */
void store_due_pass(struct store_due *due, struct store *store, struct store_delivery *delivery,
                    bool settle);

void store_pool_init(struct store_pool *pool); /* the lock: the filler uses it as well */
void store_pool_destroy(struct store_pool *pool);
bool store_pool_open(struct store *store);
void store_pool_close(struct store *store);
enum status store_load(struct tier *tier, struct tier_load *load);
/* The lock is held. */
void store_pool_put(struct store_pool *pool, struct tier_load *load);

bool store_refill_open(struct store *store); /* begins at once */
void store_refill_close(struct store *store);
/* The filler's: takes over what is built, frees what nobody sees, begins anew when it is time. */
void store_refill_tend(struct store *store);
/* A tree_name_fn; the context is the store. */
void store_add_name(void *context, struct index_hash name);
/* The filler's as well: a tree_ask_fn. */
bool store_asks_for_name(void *context, struct index_hash name);
bool store_may_have(const struct tier *tier, struct index_hash name);

#endif
