/*
 * The pool: operating-system threads that read from the tree for the lanes.
 *
 * A queue under a lock; the lock is held for a few instructions and by nobody who reads. How many
 * loads may be under way is bounded, so that a flood of cold look-ups is put off where it arises.
 */
#include "store/store_private.h"

#include "base/background.h"
#include "store/guard.h"

static struct tier_load *next_load(struct store_pool *pool)
{
    pthread_mutex_lock(&pool->lock);
    while (!pool->first && !pool->stop) {
        pthread_cond_wait(&pool->some, &pool->lock);
    }
    struct tier_load *load = pool->first;
    if (load) {
        pool->first = load->next;
        if (!pool->first) {
            pool->last = &pool->first;
        }
    }
    pthread_mutex_unlock(&pool->lock);
    return load;
}

static void look(struct store *store, struct tier_load *load)
{
    unsigned damaged = 0;
    tree_load(store->tree, load, &damaged);
    store_count_damage(store, damaged);
    if (load->found == TIER_FAILED || load->found == TIER_CORRUPT || damaged > 0) {
        store_check_tree(store);
    }
}

/* As look, while the log's tail may not be in the tree. False: the load is parked. */
static bool look_past_tail(struct store *store, struct tier_load *load)
{
    enum store_tail_verdict verdict = store_tail_judge(store, load, true);
    if (verdict == STORE_TAIL_GO) {
        look(store, load);
        if (load->kind == TIER_LOAD_KEY) { /* so it owns nothing if it is parked now */
            verdict = store_tail_judge(store, load, false);
        }
    }
    if (verdict == STORE_TAIL_AGAIN) {
        look(store, load);
    } else if (verdict == STORE_TAIL_FAIL) {
        load->found = TIER_FAILED;
    }
    return verdict != STORE_TAIL_PARKED;
}

static void *run(void *context)
{
    struct store *store = context;
    struct tier_load *load;
    guard_thread_begin();
    while ((load = next_load(&store->pool))) {
        load->next = NULL;
        if (store_tail_state(store) == STORE_TAIL_IN_TREE) {
            look(store, load);
        } else if (!look_past_tail(store, load)) {
            continue;
        }
        atomic_fetch_sub_explicit(&store->pool.under_way, 1, memory_order_relaxed);
        store_deliver_now(load->port, &load->event);
    }
    guard_thread_end();
    return NULL;
}

void store_pool_put(struct store_pool *pool, struct tier_load *load)
{
    load->next = NULL;
    *pool->last = load;
    pool->last = &load->next;
    pthread_cond_signal(&pool->some);
}

enum status store_load(struct tier *tier, struct tier_load *load)
{
    struct store *store = (struct store *)tier;
    struct store_pool *pool = &store->pool;
    if (atomic_fetch_add_explicit(&pool->under_way, 1, memory_order_relaxed) >= STORE_LOADS_MAX) {
        atomic_fetch_sub_explicit(&pool->under_way, 1, memory_order_relaxed);
        return STATUS_AGAIN;
    }
    atomic_fetch_add_explicit(&store->numbers.loads, 1, memory_order_relaxed);
    load->event.kind = TIER_LOADED;
    load->next = NULL;
    pthread_mutex_lock(&pool->lock);
    store_pool_put(pool, load);
    pthread_mutex_unlock(&pool->lock);
    return STATUS_OK;
}

void store_pool_init(struct store_pool *pool)
{
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->some, NULL);
    pool->last = &pool->first;
}

void store_pool_destroy(struct store_pool *pool)
{
    pthread_cond_destroy(&pool->some);
    pthread_mutex_destroy(&pool->lock);
}

bool store_pool_open(struct store *store)
{
    struct store_pool *pool = &store->pool;
    unsigned wanted = store->settings.pool;
    wanted = wanted == 0 ? 1 : wanted > STORE_POOL_MAX ? STORE_POOL_MAX : wanted;
    while (pool->count < wanted &&
           background_start(&pool->threads[pool->count], "reader", run, store)) {
        pool->count++;
    }
    if (pool->count < wanted) {
        store_pool_close(store);
        return false;
    }
    return true;
}

void store_pool_close(struct store *store)
{
    struct store_pool *pool = &store->pool;
    pthread_mutex_lock(&pool->lock);
    pool->stop = true;
    pthread_cond_broadcast(&pool->some);
    pthread_mutex_unlock(&pool->lock);
    for (unsigned i = 0; i < pool->count; i++) {
        pthread_join(pool->threads[i], NULL);
    }
    pool->count = 0;
}
