/*
 * The log's tail at start: what is in the log and not yet in the tree.
 *
 * A short one is brought into the tree before anything is served. A long one becomes batches, as if
 * the writer had just handed them over, and the filler brings it in while the store serves. Until
 * then a look-up that the tail may bear upon is *parked*: it is answered when the tail is in the
 * tree, or told that nobody knows. So no answer ever comes from before what was acknowledged.
 *
 * The log keeps its segments until the tree says that it has them, as it does for the writer's
 * batches: an end at any moment finds the tail in the log again.
 *
 * Threading: everything is of who opens the store until its threads are started. Then the filler
 * ends the tail, the pool asks; the names, the parked and `state` are under the pool's lock, and
 * `state` may be read without it.
 */
#include "store/store_private.h"

#include <errno.h>
#include <stdlib.h>

enum {
    AT_ONCE_BYTES = 1 << 20,
    NAMES_LEAST = 1 << 10,
};

/* ---- Names that the tail bears upon ---------------------------------------------------------- */

static uint64_t mark_of(struct index_hash name)
{
    return name.low != 0 ? name.low : 1; /* 0 is a free place; two of one mark only wait */
}

static uint64_t *place_of(uint64_t *names, size_t capacity, uint64_t mark)
{
    size_t at = (size_t)(mark * UINT64_C(0x9e3779b97f4a7c15) >> 20) & (capacity - 1);
    while (names[at] != 0 && names[at] != mark) {
        at = (at + 1) & (capacity - 1);
    }
    return &names[at];
}

static bool grow_names(struct store_tail *tail)
{
    size_t capacity = tail->capacity > 0 ? tail->capacity * 4 : NAMES_LEAST;
    uint64_t *names = calloc(capacity, sizeof *names);
    if (!names) {
        return false;
    }
    for (size_t i = 0; i < tail->capacity; i++) {
        if (tail->names[i] != 0) {
            *place_of(names, capacity, tail->names[i]) = tail->names[i];
        }
    }
    free(tail->names);
    tail->names = names;
    tail->capacity = capacity;
    return true;
}

static bool add_name(struct store_tail *tail, struct index_hash name)
{
    if (2 * tail->count >= tail->capacity && !grow_names(tail)) {
        return false;
    }
    uint64_t *place = place_of(tail->names, tail->capacity, mark_of(name));
    tail->count += *place == 0;
    *place = mark_of(name);
    return true;
}

static bool has_name(const struct store_tail *tail, struct index_hash name)
{
    return tail->count > 0 && *place_of(tail->names, tail->capacity, mark_of(name)) != 0;
}

static bool add_names(struct store_tail *tail, struct record_group group)
{
    bool good = add_name(tail, group.head.name);
    for (struct record_step step; good && record_next_step(&group, &step);) {
        for (struct record_key key; good && record_next_key(&step, &key);) {
            good = add_name(tail, key.name);
        }
    }
    return good;
}

/* ---- Start ----------------------------------------------------------------------------------- */

static struct store_batch *batch_for(struct store_tail *tail, size_t size)
{
    struct store_batch *batch = tail->last;
    if (!batch || batch->count == STORE_BATCH_CHANGES ||
        batch->buffer.size + size > batch->buffer.capacity) {
        size_t room = size > STORE_BATCH_BYTES ? size : STORE_BATCH_BYTES;
        batch = calloc(1, sizeof *batch);
        if (!batch || !record_buffer_reserve(&batch->buffer, room)) {
            store_batch_free(batch);
            return NULL;
        }
        *(tail->last ? &tail->last->next : &tail->first) = batch;
        tail->last = batch;
    }
    return batch;
}

bool store_tail_add(struct store *store, uint64_t sequence, struct bytes bytes,
                    const struct record_group *group)
{
    struct store_tail *tail = &store->tail;
    struct store_batch *batch = batch_for(tail, bytes.size);
    struct store_group *entry = batch ? store_batch_next(batch) : NULL;
    if (!entry || !add_names(tail, *group)) {
        return false;
    }
    memcpy(batch->buffer.data + batch->buffer.size, bytes.data, bytes.size);
    *entry = (struct store_group){
        .sequence = sequence, .at = batch->buffer.size, .size = bytes.size, .charge = bytes.size};
    batch->buffer.size += bytes.size;
    batch->count++;
    tail->bytes += bytes.size;
    tail->groups++;
    tail->sequence = sequence;
    return true;
}

static struct store_batch *pop(struct store_tail *tail)
{
    struct store_batch *batch = tail->first;
    if (batch) {
        tail->first = batch->next;
        tail->last = tail->first ? tail->last : NULL;
        batch->next = NULL;
    }
    return batch;
}

void store_tail_drop(struct store *store)
{
    struct store_tail *tail = &store->tail;
    for (struct store_batch *batch; (batch = pop(tail));) {
        store_batch_free(batch);
    }
    free(tail->names);
    tail->names = NULL;
    tail->count = tail->capacity = 0;
}

static bool play(struct store *store, const struct store_batch *batch, struct wal_trouble *trouble)
{
    struct tree_group *groups = malloc(batch->count * sizeof *groups);
    size_t taken = 0;
    if (!groups) {
        *trouble = (struct wal_trouble){.error = ENOMEM, .text = "no memory"};
        return false;
    }
    for (unsigned i = 0; i < batch->count; i++) {
        const struct store_group *group = &batch->groups[i];
        groups[i] =
            (struct tree_group){.bytes = bytes_of(batch->buffer.data + group->at, group->size),
                                .sequence = group->sequence};
    }
    enum status status =
        tree_apply(store->tree, groups, batch->count, &taken, store_add_name, store, trouble);
    free(groups);
    return status == STATUS_OK;
}

static void hand_over(struct store *store)
{
    struct store_tail *tail = &store->tail;
    /* Relaxed, all of them: nobody else is there yet. */
    atomic_store_explicit(&store->lag_bytes, tail->bytes, memory_order_relaxed);
    atomic_store_explicit(&store->batches_bytes, tail->bytes, memory_order_relaxed);
    atomic_store_explicit(&tail->state, STORE_TAIL_WAITED_FOR, memory_order_relaxed);
    for (struct store_batch *batch; (batch = pop(tail));) {
        (void)inbox_put(&store->batches, &batch->node);
    }
}

bool store_tail_begin(struct store *store, struct wal_trouble *trouble)
{
    struct store_tail *tail = &store->tail;
    uint64_t at_once = store->settings.tail_at_once_bytes;
    if (tail->bytes > (at_once > 0 ? at_once : AT_ONCE_BYTES)) {
        hand_over(store);
        return true;
    }
    bool good = true;
    for (const struct store_batch *batch = tail->first; good && batch; batch = batch->next) {
        good = play(store, batch, trouble);
    }
    store_tail_drop(store);
    return good;
}

/* ---- While it is on its way ------------------------------------------------------------------ */

enum store_tail_state store_tail_state(const struct store *store)
{
    /* Pairs with the release in store_tail_end: who finds it in the tree reads it there. */
    return (enum store_tail_state)atomic_load_explicit(&store->tail.state, memory_order_acquire);
}

/* Whether what the load found, or `before` it has looked would find, is as the tail leaves it. */
static bool is_settled(const struct store_tail *tail, const struct tier_load *load, bool before)
{
    switch (load->kind) {
    case TIER_LOAD_THREAD:
        return !has_name(tail, load->name);
    case TIER_LOAD_KEY:
        if (has_name(tail, load->name)) {
            return false;
        }
        /* The tail adds no such key, so one that is not in the tree stays away, as does its
         * tombstone. A step that it led to may have gone, or may still go. */
        return before || load->found == TIER_TOMBSTONE ||
               (load->found == TIER_ABSENT && load->key.uid == 0) ||
               (load->found == TIER_FOUND && !has_name(tail, load->key.owner));
    case TIER_LOAD_PAGE:
        break;
    }
    return false;
}

enum store_tail_verdict store_tail_judge(struct store *store, struct tier_load *load, bool before)
{
    struct store_tail *tail = &store->tail;
    if (store_tail_state(store) == STORE_TAIL_IN_TREE) {
        return before ? STORE_TAIL_GO : STORE_TAIL_AGAIN;
    }
    enum store_tail_verdict verdict = STORE_TAIL_GO;
    pthread_mutex_lock(&store->pool.lock);
    enum store_tail_state state = store_tail_state(store);
    if (state == STORE_TAIL_IN_TREE) {
        verdict = before ? STORE_TAIL_GO : STORE_TAIL_AGAIN;
    } else if (is_settled(tail, load, before)) {
        verdict = STORE_TAIL_GO;
    } else if (state == STORE_TAIL_LOST) {
        verdict = STORE_TAIL_FAIL;
    } else {
        load->next = tail->parked;
        tail->parked = load;
        verdict = STORE_TAIL_PARKED;
    }
    pthread_mutex_unlock(&store->pool.lock);
    return verdict;
}

static void answer(struct store *store, struct tier_load *load)
{
    load->found = TIER_FAILED;
    atomic_fetch_sub_explicit(&store->pool.under_way, 1, memory_order_relaxed); /* a limit */
    store_deliver_now(load->port, &load->event);
}

void store_tail_fail_parked(struct store *store)
{
    pthread_mutex_lock(&store->pool.lock);
    struct tier_load *load = store->tail.parked;
    store->tail.parked = NULL;
    pthread_mutex_unlock(&store->pool.lock);
    while (load) {
        struct tier_load *next = load->next;
        answer(store, load);
        load = next;
    }
}

void store_tail_end(struct store *store, bool in_tree)
{
    struct store_tail *tail = &store->tail;
    pthread_mutex_lock(&store->pool.lock);
    /* Release pairs with the acquire in store_tail_state. */
    atomic_store_explicit(&tail->state, in_tree ? STORE_TAIL_IN_TREE : STORE_TAIL_LOST,
                          memory_order_release);
    if (in_tree) {
        free(tail->names);
        tail->names = NULL;
        tail->count = tail->capacity = 0;
        while (tail->parked) {
            struct tier_load *load = tail->parked;
            tail->parked = load->next;
            store_pool_put(&store->pool, load);
        }
    }
    pthread_mutex_unlock(&store->pool.lock);
    store_tail_fail_parked(store);
    log_write(in_tree ? LOG_INFO : LOG_ERROR, in_tree ? "log_in_tree" : "log_not_in_tree",
              LOG_U64("groups", tail->groups), LOG_U64("bytes", tail->bytes), LOG_END);
}
