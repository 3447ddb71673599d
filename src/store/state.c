/*
 * What is wrong with the store, if anything, and since which generation; its numbers.
 *
 * One atomic word holds both, so that submit judges by one load. A bit of FULL goes away when the
 * writer's or filler's probe finds room; one of FAILED stays until restart.
 */
#include "store/store_private.h"

#include <errno.h>
#include <sys/stat.h>
#include <time.h>

uint64_t store_now_us(void)
{
    struct timespec now;
    int failed = clock_gettime(CLOCK_MONOTONIC, &now);
    assert(!failed);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000 + 1;
}

unsigned store_change_state(struct store *store, unsigned set, unsigned clear, bool anew)
{
    uint64_t old = atomic_load_explicit(&store->state, memory_order_acquire);
    uint64_t fresh;
    do {
        uint64_t troubles = ((old & STORE_TROUBLES) | set) & ~(uint64_t)clear;
        if (troubles == (old & STORE_TROUBLES) && !anew) {
            break;
        }
        uint64_t generation = store_generation_of(old) + UINT32_C(1);
        fresh = (generation & UINT32_MAX) << STORE_GENERATION_SHIFT | troubles;
        /* Release pairs with the acquire in store_state. */
    } while (!atomic_compare_exchange_weak_explicit(&store->state, &old, fresh,
                                                    memory_order_acq_rel, memory_order_acquire));
    return (unsigned)(old & STORE_TROUBLES);
}

bool store_is_lack_of_space(int error)
{
    return error == ENOSPC || error == EDQUOT;
}

/* Lack of memory is as lack of space: nothing was written wrong, and it can go away. */
static bool may_go_away(int error)
{
    return store_is_lack_of_space(error) || error == ENOMEM;
}

void store_trouble(struct store *store, bool of_tree, const struct wal_trouble *trouble)
{
    bool full = may_go_away(trouble->error);
    unsigned bit = of_tree ? (full ? STORE_TREE_FULL : STORE_TREE_FAILED)
                           : (full ? STORE_LOG_FULL : STORE_LOG_FAILED);
    unsigned before = store_change_state(store, bit, 0, false);
    if (before & bit) {
        return;
    }
    log_write(LOG_ERROR, full ? "store_full" : "store_failed",
              LOG_TEXT("part", of_tree ? "tree" : "log"),
              LOG_TEXT("call", trouble->call ? trouble->call : "none"),
              LOG_ERRNO("error", trouble->error), LOG_TEXT("reason", trouble->text),
              LOG_TEXT("effect", full ? "read-only until there is room again"
                                      : "read-only until the server is started again"),
              LOG_END);
}

void store_relieve(struct store *store, unsigned trouble)
{
    unsigned before = store_change_state(store, 0, trouble, false);
    if (before == trouble) {
        log_write(LOG_INFO, "store_writable", LOG_END);
    }
}

void store_check_tree(struct store *store)
{
    if (!store_has(store, STORE_TREE_FAILED) && tree_numbers(store->tree).broken) {
        struct wal_trouble trouble = {
            .error = EIO, .call = "read", .text = "a fault inside the tree's file"};
        store_trouble(store, true, &trouble);
    }
}

void store_check_directory(struct store *store)
{
    struct stat lock;
    if (!store_has(store, STORE_LOG_FAILED) && fstat(store->lock_fd, &lock) == 0 &&
        lock.st_nlink == 0) {
        struct wal_trouble trouble = {.error = ENOENT,
                                      .call = "stat",
                                      .text = "the data directory, or its lock, was removed"};
        store_trouble(store, false, &trouble);
    }
}

void store_release_lag(struct store *store, uint64_t bytes)
{
    /* Relaxed, as is the claim in submit: nothing is read on the strength of it. */
    uint64_t before = atomic_fetch_sub_explicit(&store->lag_bytes, bytes, memory_order_relaxed);
    assert(before >= bytes);
}

void store_count_damage(struct store *store, unsigned damaged)
{
    static struct log_limit limit;
    uint64_t suppressed;
    if (damaged == 0) {
        return;
    }
    uint64_t total =
        atomic_fetch_add_explicit(&store->numbers.damaged, damaged, memory_order_relaxed) + damaged;
    if (log_allowed(&limit, 1, store_now_ms(), &suppressed)) {
        log_write(LOG_WARN, "damaged_records", LOG_U64("records", damaged),
                  LOG_U64("records_in_all", total), LOG_U64("suppressed", suppressed), LOG_END);
    }
}

static uint64_t number(const _Atomic uint64_t *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}

static uint64_t lag_ms(const struct store *store)
{
    uint64_t now = store_now_ms();
    uint64_t since = number(&store->numbers.batch_since_ms);
    if (since == 0 && atomic_load_explicit(&store->changes.newest, memory_order_relaxed) != NULL) {
        since = number(&store->numbers.inbox_since_ms);
    }
    return since != 0 && now > since ? now - since : 0;
}

void store_metrics(const struct tier *tier, uint64_t values[METRIC_COUNT])
{
    const struct store *store = (const struct store *)tier;
    const struct store_numbers *numbers = &store->numbers;
    struct tree_numbers tree = tree_numbers(store->tree);
    struct wal_numbers wal = wal_numbers(store->wal);
    values[METRIC_DISK_READ_ONLY] = store_has(store, STORE_TROUBLES);
    values[METRIC_DISK_BYTES] = tree.file_bytes + wal.bytes;
    values[METRIC_DISK_LIVE_BYTES] = tree.live_bytes;
    values[METRIC_DISK_BUDGET_BYTES] = store->settings.disk_bytes;
    values[METRIC_DISK_RECORDS] = tree.records;
    values[METRIC_DISK_THREADS] = tree.threads;
    values[METRIC_DISK_BATCHES] = wal.batches;
    values[METRIC_DISK_CHANGES] = wal.groups;
    values[METRIC_DISK_BATCH_BYTES] = number(&numbers->batch_bytes);
    values[METRIC_DISK_FLUSH_US] = number(&numbers->flush_us);
    values[METRIC_DISK_FLUSH_MAX_US] = number(&numbers->flush_max_us);
    values[METRIC_DISK_LAG_BYTES] = number(&store->lag_bytes);
    values[METRIC_DISK_LAG_MS] = lag_ms(store);
    values[METRIC_DISK_ERASURES] = number(&numbers->erasures);
    values[METRIC_DISK_LOADS] = number(&numbers->loads);
    values[METRIC_DISK_DAMAGED] = number(&numbers->damaged) + tree.damaged;
    values[METRIC_DISK_FILTER_BYTES] = number(&numbers->filter_bytes);
    values[METRIC_DISK_TOMBSTONES] = tree.tombstones;
    values[METRIC_DISK_RECOVERY_MS] = numbers->recovery_ms;
    values[METRIC_DISK_RECOVERED] = numbers->recovered;
}
