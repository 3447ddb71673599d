/*
 * The filler: brings groups from the log's batches into the tree, says what is applied, trims the
 * log; in between it looks for what is due and tends the filter.
 *
 * It collects for a while, so that the tree is written in large transactions: nobody reads from the
 * tree what is still in memory, the log holds it already, and a page of the tree costs the same for
 * one record as for ten. While there is room for what comes in meanwhile it works in short turns
 * with pauses between, so that whoever shares its core with it, the writer above all, gets that
 * core when he needs it; the less room is left, the shorter the pauses. Its priority is only a
 * little lower, since it cannot be raised again when requests wait for room.
 *
 * When the tree has no room it keeps what it has and tries again: the log still holds it, so what
 * was acknowledged stays so. Who waits for an APPLIED is told after a while that nobody can tell.
 */
#include "store/store_private.h"

#include "base/background.h"
#include "store/guard.h"

#include <stdlib.h>
#include <time.h>

enum {
    FULL_PATIENCE_MS = 3000,
    /* A segment of the log is left behind after so long, that what was erased leaves the disk. */
    SEGMENT_AGE_MS = 20 * 1000,
    /* Turns of work and pauses: at least a quarter of a core while half of the lag's limit or less
     * is in use, all of it in the last quarter. */
    TURN_US = 250,
    PAUSE_US_MAX = 750,
    PAUSE_FROM_PARTS = 2,
    PAUSE_TO_PARTS = 4,
};

struct filler {
    struct store *store;
    struct store_delivery delivery;
    struct store_due due;
    struct store_batch *first; /* taken from the inbox, not yet wholly in the tree; oldest first */
    struct store_batch **last;
    uint64_t since_ms; /* when the first of what waits was seen; 0: nothing waits */
    uint64_t retry_ms; /* a full tree is not asked before */
    uint64_t full_ms;  /* since when it is full; 0: it is not */
    uint64_t tick_ms;
    uint64_t turn_us; /* when this turn of work began */
    uint64_t settled; /* up to where store_settle was answered */
    bool hasty;       /* somebody waits for what is on its way into the tree */
    struct tree_group groups[STORE_BITE_CHANGES];
};

/* The log's tail of the last run is not yet in the tree: it comes before anything else. */
static bool is_at_tail(const struct store *store)
{
    return store_tail_state(store) == STORE_TAIL_WAITED_FOR;
}

static void take(struct filler *filler)
{
    /* Before the take: what is put from now on may be in a hurry again. Relaxed, as in hand_over.
     */
    atomic_store_explicit(&filler->store->batches_hasty, false, memory_order_relaxed);
    struct inbox_node *node = inbox_take(&filler->store->batches);
    while (node) {
        struct inbox_node *next = node->next;
        struct store_batch *batch = STORE_HOLDER(node, struct store_batch, node);
        atomic_fetch_sub_explicit(&filler->store->batches_bytes, batch->buffer.size,
                                  memory_order_relaxed);
        filler->hasty |= batch->hasty;
        batch->next = NULL;
        *filler->last = batch;
        filler->last = &batch->next;
        node = next;
    }
}

/* The oldest groups that wait, a bite of them. */
static size_t gather(struct filler *filler)
{
    size_t count = 0;
    size_t bytes = 0;
    for (struct store_batch *batch = filler->first; batch; batch = batch->next) {
        for (unsigned i = batch->taken; i < batch->count; i++) {
            const struct store_group *group = &batch->groups[i];
            if (count == STORE_BITE_CHANGES || (count > 0 && bytes >= STORE_BITE_BYTES)) {
                return count;
            }
            filler->groups[count++] =
                (struct tree_group){.bytes = bytes_of(batch->buffer.data + group->at, group->size),
                                    .sequence = group->sequence};
            bytes += group->size;
        }
    }
    return count;
}

static void tell(struct filler *filler, struct store_group *group, bool ok)
{
    struct tier_change *change = group->change;
    if (change) {
        if (ok && change->kind == TIER_ERASE) {
            atomic_fetch_add_explicit(&filler->store->numbers.erasures, 1, memory_order_relaxed);
        }
        group->change = NULL;
        store_deliver_applied(&filler->delivery, change, ok);
    }
}

/* The oldest `count` groups are done with. */
static void finish(struct filler *filler, size_t count, bool ok)
{
    while (count > 0) {
        struct store_batch *batch = filler->first;
        struct store_group *group = &batch->groups[batch->taken++];
        store_release_lag(filler->store, group->charge);
        tell(filler, group, ok);
        count--;
        if (batch->taken == batch->count) {
            filler->first = batch->next;
            if (!filler->first) {
                filler->last = &filler->first;
            }
            store_batch_free(batch);
        }
    }
    store_flush(&filler->delivery);
}

/* The groups stay in the log, for the next start. */
static void drop_all(struct filler *filler)
{
    size_t count;
    if (is_at_tail(filler->store)) {
        store_tail_end(filler->store, false);
    }
    while ((count = gather(filler)) > 0) {
        finish(filler, count, false);
    }
}

static void lose_patience(struct filler *filler)
{
    for (struct store_batch *batch = filler->first; batch; batch = batch->next) {
        for (unsigned i = batch->taken; i < batch->count; i++) {
            tell(filler, &batch->groups[i], false);
        }
    }
    store_flush(&filler->delivery);
    store_tail_fail_parked(filler->store);
}

/* What could not be trimmed is trimmed a little later, and costs nothing but room. */
static void trim(struct filler *filler)
{
    static struct log_limit limit;
    struct store *store = filler->store;
    struct wal_trouble trouble = {0};
    uint64_t suppressed;
    if (wal_trim(store->wal, tree_applied(store->tree), SEGMENT_AGE_MS, &trouble) != STATUS_OK &&
        log_allowed(&limit, 1, store_now_ms(), &suppressed)) {
        log_write(LOG_WARN, "log_not_trimmed",
                  LOG_TEXT("call", trouble.call ? trouble.call : "none"),
                  LOG_ERRNO("error", trouble.error), LOG_END);
    }
}

/* ---- Turns ---------------------------------------------------------------------------------- */

static bool is_waited_for(const struct filler *filler)
{
    const struct store *store = filler->store;
    /* Relaxed, all: who misses one finds it at the next turn. */
    return filler->hasty || is_at_tail(store) ||
           atomic_load_explicit(&store->batches_hasty, memory_order_relaxed) ||
           atomic_load_explicit(&store->filler_stop, memory_order_relaxed) ||
           atomic_load_explicit(&store->settle_asked, memory_order_relaxed) != filler->settled;
}

/* For how long others have the core, by how much may still come in. */
static uint64_t pause_us(uint64_t lag, uint64_t most)
{
    uint64_t from = most / PAUSE_FROM_PARTS;
    uint64_t to = most - most / PAUSE_TO_PARTS;
    if (lag <= from) {
        return PAUSE_US_MAX;
    }
    return lag >= to ? 0 : PAUSE_US_MAX * (to - lag) / (to - from);
}

/* A tree_turn_fn. */
static void take_turn(void *context)
{
    struct filler *filler = context;
    struct store *store = filler->store;
    uint64_t now = store_now_us();
    if (now < filler->turn_us + TURN_US || is_waited_for(filler)) {
        return;
    }
    uint64_t lag = atomic_load_explicit(&store->lag_bytes, memory_order_relaxed);
    uint64_t us = pause_us(lag, store->settings.lag_max_bytes);
    if (us > 0) {
        struct timespec pause = {.tv_nsec = (long)us * 1000};
        (void)nanosleep(&pause, NULL);
        now = store_now_us();
    }
    filler->turn_us = now;
}

/* ---- Bites ---------------------------------------------------------------------------------- */

/* Compressing a step costs more than all the rest of its way: it is left out while so much waits
 * that the lanes may soon have to. */
static bool has_time_to_compress(const struct store *store)
{
    return store_tail_state(store) == STORE_TAIL_IN_TREE &&
           store->settings.compression == STORE_COMPRESSION_ZSTD &&
           atomic_load_explicit(&store->lag_bytes, memory_order_relaxed) <
               store->settings.lag_max_bytes / 2;
}

/* One bite. False: the tree does not take it now. */
static bool apply(struct filler *filler, size_t count)
{
    struct store *store = filler->store;
    struct wal_trouble trouble = {0};
    size_t taken = 0;
    tree_compress(store->tree, has_time_to_compress(store));
    filler->turn_us = store_now_us();
    enum status status =
        tree_apply(store->tree, filler->groups, count, &taken, store_add_name, store, &trouble);
    assert(taken <= count && (status != STATUS_OK || taken == count));
    finish(filler, taken, true);
    if (is_at_tail(store) && tree_applied(store->tree) >= store->tail.sequence) {
        store_tail_end(store, true);
    }
    if (status == STATUS_OK) {
        filler->full_ms = 0;
        return true;
    }
    store_trouble(store, true, &trouble);
    uint64_t now = store_now_ms();
    filler->full_ms = filler->full_ms ? filler->full_ms : now;
    filler->retry_ms = now + STORE_TICK_MS;
    return false;
}

/* All that waits, as far as the tree takes it. */
static void drain(struct filler *filler)
{
    struct store *store = filler->store;
    bool some = false;
    size_t count;
    while ((count = gather(filler)) > 0 && !store_has(store, STORE_TREE_FAILED) &&
           apply(filler, count)) {
        some = true;
    }
    if (store_has(store, STORE_TREE_FAILED)) {
        drop_all(filler);
    } else if (!filler->first && store_has(store, STORE_TREE_FULL)) {
        store_relieve(store, STORE_TREE_FULL);
    } else if (filler->first && store_now_ms() > filler->full_ms + FULL_PATIENCE_MS) {
        lose_patience(filler);
    }
    if (some) {
        trim(filler);
    }
}

/* For how long what waits is collected. */
static uint64_t patience(const struct filler *filler)
{
    const struct store *store = filler->store;
    uint64_t bytes = atomic_load_explicit(&store->batches_bytes, memory_order_relaxed);
    bool hasty = atomic_load_explicit(&store->batches_hasty, memory_order_relaxed);
    return bytes < STORE_FILL_BYTES || hasty ? STORE_FILL_MS : STORE_FILL_MOST_MS;
}

static bool is_due_to_drain(struct filler *filler, uint64_t now)
{
    uint64_t bytes = atomic_load_explicit(&filler->store->batches_bytes, memory_order_relaxed);
    if (filler->first) { /* the tree was full */
        return now >= filler->retry_ms;
    }
    if (bytes == 0) {
        filler->since_ms = 0;
        return false;
    }
    if (is_at_tail(filler->store)) {
        return true;
    }
    filler->since_ms = filler->since_ms ? filler->since_ms : now;
    return bytes >= store_fill_most_bytes(filler->store) ||
           now >= filler->since_ms + patience(filler);
}

static void tick(struct filler *filler, bool settle)
{
    struct store *store = filler->store;
    store_check_tree(store);
    store_check_directory(store);
    if (!store_has(store, STORE_TROUBLES) && !is_at_tail(store)) {
        store_due_pass(&filler->due, store, &filler->delivery, settle);
    }
    trim(filler);
    filler->tick_ms = store_now_ms();
}

static void answer_settle(struct filler *filler, uint64_t settled)
{
    struct store *store = filler->store;
    pthread_mutex_lock(&store->settle_lock);
    if (store->settled < settled) {
        store->settled = settled;
        pthread_cond_broadcast(&store->settled_some);
    }
    pthread_mutex_unlock(&store->settle_lock);
}

static uint64_t time_to_wait(const struct filler *filler, uint64_t now)
{
    uint64_t until = filler->tick_ms + STORE_TICK_MS;
    if (filler->since_ms && filler->since_ms + patience(filler) < until) {
        until = filler->since_ms + patience(filler);
    }
    return until > now ? until - now : 0;
}

static void run(struct filler *filler)
{
    struct store *store = filler->store;
    tree_take_turns(store->tree, take_turn, filler);
    tree_ask_for_names(store->tree, store_asks_for_name, store);
    for (;;) {
        uint32_t signal = inbox_signal(&store->batches);
        /* Before the take, as in the writer. Acquire pairs with the release in the writer, and in
         * store_close: who stops the filler has joined the writer. */
        uint64_t settle = atomic_load_explicit(&store->settle_written, memory_order_acquire);
        bool stop = atomic_load_explicit(&store->filler_stop, memory_order_acquire);
        uint64_t now = store_now_ms();
        if (settle != filler->settled || stop || is_due_to_drain(filler, now)) {
            take(filler);
            filler->since_ms = 0;
            drain(filler);
            filler->hasty = false;
            if (filler->due.more) {
                tick(filler, false);
            }
        }
        if (settle != filler->settled) {
            tick(filler, true);
            filler->settled = settle;
            answer_settle(filler, settle);
        }
        if (stop) {
            break;
        }
        /* A filter knows all names that were acknowledged; of a tail that is lost it never will. */
        if (store_tail_state(store) == STORE_TAIL_IN_TREE) {
            store_refill_tend(store);
        }
        now = store_now_ms();
        if (now >= filler->tick_ms + STORE_TICK_MS) {
            tick(filler, false);
        }
        inbox_wait(&store->batches, signal, time_to_wait(filler, now));
    }
}

static void *start(void *context)
{
    struct filler *filler = context;
    background_be_nice();
    guard_thread_begin();
    run(filler);
    tree_take_turns(filler->store->tree, NULL, NULL);
    tree_ask_for_names(filler->store->tree, NULL, NULL);
    if (filler->first) { /* no room in the tree: what is in the log waits for the next start */
        drop_all(filler);
    }
    trim(filler);
    guard_thread_end();
    return NULL;
}

bool store_filler_open(struct store *store)
{
    struct filler *filler = calloc(1, sizeof *filler);
    if (!filler) {
        return false;
    }
    filler->store = store;
    filler->delivery.who = STORE_FILLER;
    filler->last = &filler->first;
    filler->tick_ms = store_now_ms();
    if (!store_due_open(&filler->due, store)) {
        goto no_due;
    }
    if (!background_start(&store->filler_thread, "filler", start, filler)) {
        goto no_thread;
    }
    store->filler = filler;
    return true;
no_thread:
    store_due_close(&filler->due);
no_due:
    free(filler);
    return false;
}

void store_filler_close(struct store *store)
{
    struct filler *filler = store->filler;
    /* Release pairs with the acquire in run. */
    atomic_store_explicit(&store->filler_stop, true, memory_order_release);
    inbox_wake(&store->batches);
    pthread_join(store->filler_thread, NULL);
    assert(!filler->first);
    store_due_close(&filler->due);
    free(filler);
    store->filler = NULL;
}
