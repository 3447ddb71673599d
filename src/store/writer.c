/*
 * The writer: takes changes from the lanes, writes them to the log in batches, says what is
 * durable.
 *
 * It never waits for the tree. A batch is one write and one fdatasync; what arrives meanwhile is
 * the next batch. It is the only one that adds to the log, so a change that it finds of the current
 * generation follows upon everything that was written before it.
 */
#include "store/store_private.h"

#include "base/background.h"
#include "store/guard.h"

#include <sched.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { TURN_NS = 100 * 1000 };

struct writer {
    struct store *store;
    size_t batch_bytes; /* of the last one: the next may be as large */
    struct store_delivery delivery;
    struct tier_change *first; /* taken and not yet looked at, oldest first */
    struct tier_change **last;
    uint64_t probe_ms; /* when the log was last asked whether there is space again */
};

static_assert(sizeof(struct tier_change *) == sizeof(struct inbox_node), "next is an inbox node");

void store_batch_free(struct store_batch *batch)
{
    if (batch) {
        record_buffer_free(&batch->buffer);
        free(batch->groups);
        free(batch);
    }
}

static struct tier_change *change_of(struct inbox_node *node)
{
    return STORE_HOLDER(node, struct tier_change, next);
}

/* Moves what lies in the inbox behind what waits. */
static void take(struct writer *writer)
{
    struct store *store = writer->store;
    struct inbox_node *node = inbox_take(&store->changes);
    if (node) {
        atomic_store_explicit(
            &store->numbers.batch_since_ms,
            atomic_load_explicit(&store->numbers.inbox_since_ms, memory_order_relaxed),
            memory_order_relaxed);
    }
    while (node) {
        struct inbox_node *next = node->next;
        struct tier_change *change = change_of(node);
        change->next = NULL;
        *writer->last = change;
        writer->last = &change->next;
        node = next;
    }
}

static struct tier_change *pop(struct writer *writer)
{
    struct tier_change *change = writer->first;
    writer->first = change->next;
    if (!writer->first) {
        writer->last = &writer->first;
    }
    change->next = NULL;
    return change;
}

static void unpin(const struct tier_change *change)
{
    for (uint32_t i = 0; i < change->step_count; i++) {
        if (change->steps[i]) {
            step_unpin(change->steps[i]);
        }
    }
}

/* Both events, after its steps were unpinned. */
static void refuse(struct writer *writer, struct tier_change *change, uint64_t charge)
{
    change->status = STATUS_READ_ONLY;
    store_release_lag(writer->store, charge);
    if (change->wants_durable) {
        store_deliver(&writer->delivery, change->port, &change->durable);
    }
    store_deliver_applied(&writer->delivery, change, false);
}

struct store_group *store_batch_next(struct store_batch *batch)
{
    if (batch->count == batch->capacity) {
        unsigned capacity = batch->capacity ? batch->capacity * 4 : 4;
        struct store_group *groups = realloc(batch->groups, capacity * sizeof *groups);
        if (!groups) {
            return NULL;
        }
        batch->groups = groups;
        batch->capacity = capacity;
    }
    return &batch->groups[batch->count];
}

/* Whether somebody may wait for it to be in the tree, and not only for its place in the lag. */
static bool is_hasty(const struct tier_change *change)
{
    return change->kind == TIER_ERASE || change->reason != REASON_NONE;
}

/* Encodes the change into the batch and hands it to the log. False: no memory; it is as before. */
static bool add(struct writer *writer, struct store_batch *batch, struct tier_change *change)
{
    struct store *store = writer->store;
    struct store_group *group = store_batch_next(batch);
    size_t at = batch->buffer.size;
    /* The filler compresses: nobody waits for it. */
    if (!group ||
        !record_put_group(&batch->buffer, change, tree_secret(store->tree), RECORD_PLAIN)) {
        goto no_memory;
    }
    *group = (struct store_group){.change = change,
                                  .at = at,
                                  .size = batch->buffer.size - at,
                                  .charge = store_charge(change)};
    group->sequence = wal_add(store->wal, bytes_of(batch->buffer.data + at, group->size));
    if (group->sequence == 0) {
        goto no_memory;
    }
    batch->count++;
    batch->hasty |= is_hasty(change);
    return true;
no_memory:
    batch->buffer.size = at;
    batch->buffer.failed = false;
    return false;
}

static void fill(struct writer *writer, struct store_batch *batch)
{
    struct store *store = writer->store;
    (void)record_buffer_reserve(&batch->buffer, writer->batch_bytes); /* else it grows */
    batch->buffer.failed = false;
    while (writer->first && batch->buffer.size < STORE_BATCH_BYTES &&
           batch->count < STORE_BATCH_CHANGES) {
        struct tier_change *change = pop(writer);
        change->status = STATUS_OK;
        bool current = change->generation == store_generation_of(store_state(store));
        bool added = current && add(writer, batch, change);
        unpin(change);
        if (!added) {
            if (current) {
                /* What follows upon it may not be written without it. */
                store_change_state(store, 0, 0, true);
                log_write(LOG_ERROR, "change_not_written", LOG_TEXT("reason", "no memory"),
                          LOG_END);
            }
            refuse(writer, change, store_charge(change));
        }
    }
    writer->batch_bytes = batch->buffer.size;
}

static void count_flush(struct store *store, uint64_t bytes, uint64_t time_us)
{
    struct store_numbers *numbers = &store->numbers;
    uint64_t old_us = atomic_load_explicit(&numbers->flush_us, memory_order_relaxed);
    uint64_t old_bytes = atomic_load_explicit(&numbers->batch_bytes, memory_order_relaxed);
    uint64_t mean_us = old_us ? (old_us * 7 + time_us) / 8 : time_us;
    uint64_t mean_bytes = old_bytes ? (old_bytes * 7 + bytes) / 8 : bytes;
    atomic_store_explicit(&numbers->flush_us, mean_us, memory_order_relaxed);
    atomic_store_explicit(&numbers->batch_bytes, mean_bytes, memory_order_relaxed);
    if (time_us > atomic_load_explicit(&numbers->flush_max_us, memory_order_relaxed)) {
        atomic_store_explicit(&numbers->flush_max_us, time_us, memory_order_relaxed);
    }
}

static bool sync_log(struct writer *writer, uint64_t bytes)
{
    struct store *store = writer->store;
    struct wal_trouble trouble = {0};
    uint64_t begun = store_now_us();
    if (wal_sync(store->wal, &trouble) != STATUS_OK) {
        store_trouble(store, false, &trouble);
        writer->probe_ms = store_now_ms();
        return false;
    }
    count_flush(store, bytes, store_now_us() - begun);
    return true;
}

/* The bytes are counted before the put, so that who finds the batch finds them. The filler sleeps
 * on the first one for a while; it wants to be woken for that, and again when there is plenty, or
 * haste. */
static void hand_over(struct store *store, struct store_batch *batch)
{
    uint64_t enough = store_fill_most_bytes(store);
    uint64_t bytes = batch->buffer.size;
    uint64_t before = atomic_fetch_add_explicit(&store->batches_bytes, bytes, memory_order_relaxed);
    /* Relaxed: who misses it finds it a moment later. */
    bool hasty = batch->hasty &&
                 !atomic_exchange_explicit(&store->batches_hasty, true, memory_order_relaxed);
    bool first = inbox_put(&store->batches, &batch->node);
    if (first || hasty || (before < enough && before + bytes >= enough)) {
        inbox_wake(&store->batches);
    }
}

static void write_batch(struct writer *writer)
{
    struct store *store = writer->store;
    struct store_batch none = {0};
    struct store_batch *batch = calloc(1, sizeof *batch);
    if (batch) {
        fill(writer, batch);
    } else {
        batch = &none; /* one change is failed in place of an endless wait for memory */
        struct tier_change *change = pop(writer);
        unpin(change);
        store_change_state(store, 0, 0, true);
        refuse(writer, change, store_charge(change));
    }
    store_flush(&writer->delivery);
    bool durable = batch->count > 0 && sync_log(writer, batch->buffer.size);
    for (unsigned i = 0; i < batch->count; i++) {
        struct store_group *group = &batch->groups[i];
        if (!durable) {
            refuse(writer, group->change, group->charge);
        } else if (group->change->wants_durable) {
            store_deliver(&writer->delivery, group->change->port, &group->change->durable);
        }
    }
    store_flush(&writer->delivery);
    if (durable) {
        hand_over(store, batch);
    } else if (batch != &none) {
        store_batch_free(batch);
    }
}

/* Is there space again? */
static void probe(struct writer *writer)
{
    struct store *store = writer->store;
    uint64_t now = store_now_ms();
    if (!store_has(store, STORE_LOG_FULL) || store_has(store, STORE_LOG_FAILED) ||
        now < writer->probe_ms + STORE_TICK_MS) {
        return;
    }
    writer->probe_ms = now;
    struct wal_trouble trouble = {0};
    if (wal_revive(store->wal, &trouble) == STATUS_OK) {
        store_relieve(store, STORE_LOG_FULL);
    } else {
        store_trouble(store, false, &trouble);
    }
}

/*
 * Asks for short turns on the core, in return for being let on it soon when there is something to
 * do: everybody waits for the end of a flush, and others may have much to do on the same core.
 * Linux has it from 6.12 on, for anybody; before that it changes nothing, and nothing depends on
 * it. Its own declaration (sched(7), size 48) does not go together with the C library's.
 */
static void take_short_turns(void)
{
    struct {
        uint32_t size;
        uint32_t policy; /* 0: the usual one */
        uint64_t flags;
        int32_t nice;
        uint32_t priority;
        uint64_t runtime_ns;
        uint64_t deadline_ns;
        uint64_t period_ns;
    } wanted = {.size = sizeof wanted, .nice = getpriority(PRIO_PROCESS, 0), .runtime_ns = TURN_NS};
    if (sched_getscheduler(0) != SCHED_OTHER) {
        return; /* whoever started the server wanted something else */
    }
    static_assert(sizeof wanted == 48, "the first version of the kernel's struct");
    (void)syscall(SYS_sched_setattr, 0, &wanted, 0);
}

static void *run(void *context)
{
    struct store *store = context;
    struct writer writer = {.store = store, .delivery = {.who = STORE_WRITER}};
    writer.last = &writer.first;
    take_short_turns();
    guard_thread_begin();
    for (;;) {
        uint32_t signal = inbox_signal(&store->changes);
        /* Both before the take: what was submitted before they were set is taken then. Acquire
         * pairs with the release in store_settle and in store_close. */
        uint64_t settle = atomic_load_explicit(&store->settle_asked, memory_order_acquire);
        bool stop = atomic_load_explicit(&store->writer_stop, memory_order_acquire);
        take(&writer);
        bool worked = writer.first != NULL;
        while (writer.first) {
            write_batch(&writer);
        }
        atomic_store_explicit(&store->numbers.batch_since_ms, 0, memory_order_relaxed);
        if (settle != atomic_load_explicit(&store->settle_written, memory_order_relaxed)) {
            /* Release pairs with the acquire in the filler: it finds the batches. */
            atomic_store_explicit(&store->settle_written, settle, memory_order_release);
            inbox_wake(&store->batches);
        }
        probe(&writer);
        if (stop) {
            break;
        }
        if (!worked) {
            inbox_wait(&store->changes, signal, STORE_TICK_MS);
        }
    }
    guard_thread_end();
    return NULL;
}

bool store_writer_open(struct store *store)
{
    return background_start(&store->writer_thread, "writer", run, store);
}

void store_writer_close(struct store *store)
{
    /* Release pairs with the acquire in run. */
    atomic_store_explicit(&store->writer_stop, true, memory_order_release);
    inbox_wake(&store->changes);
    pthread_join(store->writer_thread, NULL);
}
