/*
 * The filter's building, at start and whenever too much in it is stale.
 *
 * The filler makes a fresh filter and from then on adds every new name to it as well; then an
 * operating-system thread of low priority walks the tree and adds all names that were there. A name
 * comes into the tree either after the filler began to add to both, or before the walk began.
 *
 * The swap. store->filter is stored, then every port's count of collects is read; may_have and
 * collect are calls of one lane, so a lane that collects once more has done with what it loaded
 * before, and loads the fresh one from then on. All four are sequentially consistent: of a lane's
 * count and the filler's store one comes first, for everybody. Then the old filter is freed.
 */
#include "store/store_private.h"

#include "base/background.h"
#include "store/guard.h"

#include <stdlib.h>

enum {
    PIECE = 1024,
    SPARE_NAMES = 1 << 19, /* 768 KiB */
    RETRY_MS = 300 * 1000,
    /* One is made for three times the names that there are, and the next is begun when it is full
     * by two thirds: names go on coming in by bites while it is built, and a filter that holds more
     * than it was made for sends whoever brings a new name to the tree. */
    ROOM_PARTS = 3,
    STALE_PARTS = 2,
};

static struct filter *in_use(const struct store *store)
{
    /* Only the filler changes it, and only the filler asks here. */
    return atomic_load_explicit(&store->filter, memory_order_relaxed);
}

void store_add_name(void *context, struct index_hash name)
{
    struct store *store = context;
    struct filter *filter = in_use(store);
    if (filter) {
        filter_add(filter, name);
    }
    if (store->refill.building) {
        filter_add(store->refill.building, name);
    }
}

bool store_asks_for_name(void *context, struct index_hash name)
{
    const struct filter *filter = in_use(context);
    return !filter || filter_may_have(filter, name);
}

bool store_may_have(const struct tier *tier, struct index_hash name)
{
    const struct store *store = (const struct store *)tier;
    /* Pairs with the store in swap; see above. */
    const struct filter *filter = atomic_load_explicit(&store->filter, memory_order_seq_cst);
    return !filter || filter_may_have(filter, name);
}

static bool is_stopped(struct store_refill *refill)
{
    pthread_mutex_lock(&refill->lock);
    bool stop = refill->stop;
    pthread_mutex_unlock(&refill->lock);
    return stop;
}

/*
 * False: not all names could be read, or the store is being closed. Damage on the way counts too:
 * whose name it was nobody knows, and a look-up that goes to the tree says so.
 */
static bool fill(struct store *store, struct filter *filter)
{
    struct index_hash names[PIECE];
    uint8_t after[24] = {0};
    bool more = true;
    uint64_t damaged = tree_numbers(store->tree).damaged;
    while (more) {
        unsigned count = 0;
        more = tree_names(store->tree, names, PIECE, &count, after);
        for (unsigned i = 0; i < count; i++) {
            filter_add(filter, names[i]);
        }
        if (is_stopped(&store->refill)) {
            return false;
        }
    }
    struct tree_numbers tree = tree_numbers(store->tree);
    return after[0] == TREE_NAMES_END && !tree.broken && tree.damaged == damaged;
}

static void *run(void *context)
{
    struct store *store = context;
    struct store_refill *refill = &store->refill;
    guard_thread_begin();
    background_be_nice(); /* as the filler: it is waited for just so */
    pthread_mutex_lock(&refill->lock);
    while (!refill->stop) {
        struct filter *job = refill->job;
        if (!job) {
            pthread_cond_wait(&refill->some, &refill->lock);
            continue;
        }
        refill->job = NULL;
        pthread_mutex_unlock(&refill->lock);
        bool whole = fill(store, job);
        pthread_mutex_lock(&refill->lock);
        refill->done = true;
        refill->whole = whole;
        inbox_wake(&store->batches);
    }
    pthread_mutex_unlock(&refill->lock);
    guard_thread_end();
    return NULL;
}

static void note_bytes(struct store *store)
{
    uint64_t bytes = 0;
    const struct filter *filters[] = {in_use(store), store->refill.building, store->refill.retired};
    for (size_t i = 0; i < sizeof filters / sizeof *filters; i++) {
        bytes += filters[i] ? filter_bytes(filters[i]) : 0;
    }
    atomic_store_explicit(&store->numbers.filter_bytes, bytes, memory_order_relaxed);
}

static void begin(struct store *store)
{
    struct store_refill *refill = &store->refill;
    uint64_t names = tree_numbers(store->tree).names;
    refill->begun_ms = store_now_ms();
    refill->building = filter_create(ROOM_PARTS * names + SPARE_NAMES);
    if (!refill->building) {
        refill->retry_ms = refill->begun_ms + RETRY_MS;
        log_write(LOG_WARN, "filter_not_built", LOG_TEXT("reason", "no memory"), LOG_END);
        return;
    }
    note_bytes(store);
    pthread_mutex_lock(&refill->lock);
    refill->job = refill->building;
    refill->done = false;
    pthread_cond_signal(&refill->some);
    pthread_mutex_unlock(&refill->lock);
}

static void swap(struct store *store)
{
    struct store_refill *refill = &store->refill;
    refill->retired = in_use(store);
    /* Pairs with the load in store_may_have; see above. */
    atomic_store_explicit(&store->filter, refill->building, memory_order_seq_cst);
    refill->building = NULL;
    pthread_mutex_lock(&store->ports_lock);
    for (struct tier_port *port = store->ports; port; port = port->next) {
        /* Pairs with the addition in store_collect; see above. */
        port->collects_at_swap = atomic_load_explicit(&port->collects, memory_order_seq_cst);
    }
    pthread_mutex_unlock(&store->ports_lock);
    log_write(LOG_INFO, "filter_ready", LOG_U64("names", filter_count(in_use(store))),
              LOG_U64("bytes", filter_bytes(in_use(store))),
              LOG_U64("ms", store_now_ms() - refill->begun_ms), LOG_END);
    note_bytes(store);
}

/* A port that was opened after the swap has collected or not; either way it never saw the old one,
 * and its collects_at_swap was set when it was opened. */
static bool nobody_looks(struct store *store)
{
    bool free_to_go = true;
    pthread_mutex_lock(&store->ports_lock);
    for (struct tier_port *port = store->ports; port && free_to_go; port = port->next) {
        uint64_t collects = atomic_load_explicit(&port->collects, memory_order_seq_cst);
        free_to_go = collects != port->collects_at_swap;
    }
    pthread_mutex_unlock(&store->ports_lock);
    return free_to_go;
}

static bool is_stale(const struct store *store)
{
    const struct filter *filter = in_use(store);
    if (!filter) {
        return true;
    }
    uint64_t count = filter_count(filter);
    return count > filter_capacity(filter) / ROOM_PARTS * STALE_PARTS ||
           count > 2 * tree_numbers(store->tree).names + SPARE_NAMES / ROOM_PARTS * STALE_PARTS;
}

static void take_over(struct store *store)
{
    struct store_refill *refill = &store->refill;
    pthread_mutex_lock(&refill->lock);
    bool done = refill->done;
    bool whole = refill->whole;
    refill->done = false;
    pthread_mutex_unlock(&refill->lock);
    if (!done) {
        return;
    }
    if (whole) {
        swap(store);
        return;
    }
    filter_destroy(refill->building);
    refill->building = NULL;
    refill->retry_ms = store_now_ms() + RETRY_MS;
    log_write(LOG_WARN, "filter_not_built", LOG_TEXT("reason", "not all names could be read"),
              LOG_END);
    note_bytes(store);
}

void store_refill_tend(struct store *store)
{
    struct store_refill *refill = &store->refill;
    if (refill->building) {
        take_over(store);
    } else if (refill->retired) {
        if (nobody_looks(store)) {
            filter_destroy(refill->retired);
            refill->retired = NULL;
            note_bytes(store);
        }
    } else if (store_now_ms() >= refill->retry_ms && is_stale(store) &&
               !store_has(store, STORE_TREE_FAILED)) {
        begin(store);
    }
}

bool store_refill_open(struct store *store)
{
    struct store_refill *refill = &store->refill;
    pthread_mutex_init(&refill->lock, NULL);
    pthread_cond_init(&refill->some, NULL);
    if (!background_start(&refill->thread, "refill", run, store)) {
        pthread_cond_destroy(&refill->some);
        pthread_mutex_destroy(&refill->lock);
        return false;
    }
    begin(store); /* before there is a filler: its part is played here */
    return true;
}

void store_refill_close(struct store *store)
{
    struct store_refill *refill = &store->refill;
    pthread_mutex_lock(&refill->lock);
    refill->stop = true;
    pthread_cond_broadcast(&refill->some);
    pthread_mutex_unlock(&refill->lock);
    pthread_join(refill->thread, NULL);
    pthread_cond_destroy(&refill->some);
    pthread_mutex_destroy(&refill->lock);
    filter_destroy(in_use(store));
    filter_destroy(refill->building);
    filter_destroy(refill->retired);
}
