/*
 * The store's front: opening and closing a data directory, and the face towards the domain.
 *
 * store_open and store_close mirror each other. Until the threads are started everything is the
 * caller's; submit and may_have are the only calls on the path of requests.
 */
#include "store/store_private.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- Towards the domain -------------------------------------------------------------------- */

static struct store *store_of(const struct tier *tier)
{
    return (struct store *)(uintptr_t)tier;
}

static uint64_t take_uid(struct tier *tier)
{
    return atomic_fetch_add_explicit(&store_of(tier)->next_uid, 1, memory_order_relaxed);
}

static uint32_t generation(const struct tier *tier)
{
    return store_generation_of(store_state(store_of(tier)));
}

static bool is_read_only(const struct tier *tier)
{
    return store_has(store_of(tier), STORE_TROUBLES);
}

static bool is_full(const struct tier *tier)
{
    const struct store *store = store_of(tier);
    return atomic_load_explicit(&store->lag_bytes, memory_order_relaxed) >=
           store->settings.lag_max_bytes;
}

/* Lock-free: a retry means that another lane or the filler got through. */
static bool claim_lag(struct store *store, uint64_t bytes, bool must)
{
    /* Relaxed, as is store_release_lag: nothing is read on the strength of it. */
    uint64_t lag = atomic_load_explicit(&store->lag_bytes, memory_order_relaxed);
    do {
        if (!must && lag != 0 && lag + bytes > store->settings.lag_max_bytes) {
            return false;
        }
    } while (!atomic_compare_exchange_weak_explicit(&store->lag_bytes, &lag, lag + bytes,
                                                    memory_order_relaxed, memory_order_relaxed));
    return true;
}

static enum status submit(struct tier *tier, struct tier_change *change)
{
    struct store *store = store_of(tier);
    uint64_t state = store_state(store);
    if ((state & STORE_TROUBLES) != 0 || change->generation != store_generation_of(state)) {
        return STATUS_READ_ONLY;
    }
    if (!claim_lag(store, store_charge(change), change->must)) {
        return STATUS_AGAIN;
    }
    change->durable.kind = TIER_DURABLE;
    change->applied.kind = TIER_APPLIED;
    if (inbox_put(&store->changes, (struct inbox_node *)(void *)&change->next)) {
        /* It was empty, so the writer may sleep. */
        atomic_store_explicit(&store->numbers.inbox_since_ms, store_now_ms(), memory_order_relaxed);
        inbox_wake(&store->changes);
    }
    return STATUS_OK;
}

static uint64_t vouch_since_ms(const struct tier *tier)
{
    return tree_numbers(store_of(tier)->tree).vouch_since_ms;
}

static const struct tier_calls store_calls = {
    .port_open = store_port_open,
    .port_close = store_port_close,
    .take_uid = take_uid,
    .generation = generation,
    .is_read_only = is_read_only,
    .is_full = is_full,
    .may_have = store_may_have,
    .submit = submit,
    .load = store_load,
    .collect = store_collect,
    .metrics = store_metrics,
    .vouch_since_ms = vouch_since_ms,
};

struct tier *store_tier(struct store *store)
{
    return &store->tier;
}

const uint8_t *store_secret(const struct store *store)
{
    return tree_secret(store->tree);
}

void store_settle(struct store *store)
{
    pthread_mutex_lock(&store->settle_lock);
    /* Release pairs with the acquire in the writer: it takes what this caller submitted. */
    uint64_t mine = atomic_fetch_add_explicit(&store->settle_asked, 1, memory_order_release) + 1;
    inbox_wake(&store->changes);
    while (store->settled < mine) {
        pthread_cond_wait(&store->settled_some, &store->settle_lock);
    }
    pthread_mutex_unlock(&store->settle_lock);
}

/* ---- The directory ------------------------------------------------------------------------- */

__attribute__((format(printf, 2, 3))) static void refuse(struct store_refusal *refusal,
                                                         const char *format, ...)
{
    va_list list;
    va_start(list, format);
    (void)vsnprintf(refusal->text, sizeof refusal->text, format, list);
    va_end(list);
}

/* As much of a path as a refusal has room for. */
enum { PATH_SHOWN = 96 };

static const char *why(int error)
{
    switch (error) {
    case EACCES:
    case EPERM:
        return "no permission";
    case EROFS:
        return "the file system is read-only";
    case ENOSPC:
    case EDQUOT:
        return "no space";
    case ENOENT:
        return "its parent directory does not exist";
    case ENOTDIR:
        return "it is not a directory";
    default:
        return strerrordesc_np(error) ? strerrordesc_np(error) : "unknown error";
    }
}

static bool open_directory(struct store *store, struct store_refusal *refusal)
{
    const char *path = store->settings.directory;
    if (mkdir(path, 0700) != 0 && errno != EEXIST) {
        int error = errno;
        struct stat there;
        if (stat(path, &there) != 0) { /* a read-only file system says so even of what is there */
            refuse(refusal, "cannot make the data directory %.*s: %s", PATH_SHOWN, path,
                   why(error));
            return false;
        }
    }
    store->directory_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (store->directory_fd < 0) {
        refuse(refusal, "cannot open the data directory %.*s: %s", PATH_SHOWN, path, why(errno));
        return false;
    }
    return true;
}

/*
 * The directory's own name must outlive a power cut as well. Every time, since the start that made
 * it may have ended before; who may not read its parent flushes the file system.
 */
static bool flush_name(struct store *store, struct store_refusal *refusal)
{
    int parent = openat(store->directory_fd, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int failed = parent < 0 ? syncfs(store->directory_fd) : fsync(parent);
    int error = errno;
    if (parent >= 0) {
        close(parent);
    }
    if (failed) {
        refuse(refusal, "cannot flush the data directory's parent: %s", why(error));
    }
    return !failed;
}

static bool take_lock(struct store *store, struct store_refusal *refusal)
{
    const char *path = store->settings.directory;
    store->lock_fd =
        openat(store->directory_fd, "lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (store->lock_fd < 0) {
        refuse(refusal, "cannot write to the data directory %.*s: %s", PATH_SHOWN, path,
               why(errno));
        return false;
    }
    if (flock(store->lock_fd, LOCK_EX | LOCK_NB) != 0) {
        int error = errno;
        if (error == EWOULDBLOCK) {
            refuse(refusal, "another server holds the data directory %.*s", PATH_SHOWN, path);
        } else {
            refuse(refusal, "cannot lock the data directory %.*s: %s", PATH_SHOWN, path,
                   why(error));
        }
        close(store->lock_fd);
        return false;
    }
    return true;
}

/* ---- Recovery ------------------------------------------------------------------------------ */

/* Groups of the log on their way into the tree. */
struct recovery {
    struct store *store;
    uint64_t next_uid; /* above every uid in the log */
    bool failed;       /* for `trouble` */
    struct wal_trouble trouble;
};

/* Names are hashed with the tree's secret, so a log beside another tree gives itself away. */
static bool is_of_tree(const struct store *store, const struct tier_head *head)
{
    struct index_hash name =
        index_hash_with(tree_secret(store->tree), head->tenant, RECORD_THREAD, head->id);
    return name.low == head->name.low && name.high == head->name.high;
}

static bool fail(struct recovery *recovery, int error, const char *text)
{
    recovery->failed = true;
    recovery->trouble = (struct wal_trouble){.error = error};
    (void)snprintf(recovery->trouble.text, sizeof recovery->trouble.text, "%s", text);
    return false;
}

static bool play(void *context, uint64_t sequence, struct bytes bytes)
{
    struct recovery *recovery = context;
    struct record_group group;
    if (!record_open_group(bytes, &group) || group.head.length == UINT32_MAX ||
        group.head.uid == 0) {
        return fail(recovery, EINVAL, "A group of the log is damaged.");
    }
    if (!is_of_tree(recovery->store, &group.head)) {
        return fail(recovery, EINVAL,
                    "it belongs to another tree.mdb; bring that one back, or move the log-* files "
                    "away");
    }
    if (group.head.uid >= recovery->next_uid) {
        recovery->next_uid = group.head.uid + 1;
    }
    return store_tail_add(recovery->store, sequence, bytes, &group) ||
           fail(recovery, ENOMEM, "no memory");
}

/* Opens the log, and brings what the tree lacks into it or on its way. */
static bool recover(struct store *store, struct store_refusal *refusal)
{
    struct recovery recovery = {.store = store};
    struct wal_trouble trouble = {0};
    bool damaged = false;
    enum status status = wal_open(store->directory_fd, tree_applied(store->tree), play, &recovery,
                                  &store->wal, &damaged, &trouble);
    if (!recovery.failed && status != STATUS_OK) {
        refuse(refusal, "the log: %s", trouble.text);
        goto failed;
    }
    if (recovery.failed || !store_tail_begin(store, &recovery.trouble)) {
        refuse(refusal, "the log cannot be brought into the tree: %s",
               store_is_lack_of_space(recovery.trouble.error)
                   ? "no space; make room and start again"
                   : recovery.trouble.text);
        if (status == STATUS_OK) {
            wal_close(store->wal);
        }
        goto failed;
    }
    if (damaged) {
        log_write(LOG_ERROR, "log_damaged", LOG_TEXT("reason", trouble.text),
                  LOG_TEXT("effect", "the damaged part was set aside; what came before it holds"),
                  LOG_END);
    }
    uint64_t next_uid = tree_next_uid(store->tree);
    next_uid = recovery.next_uid > next_uid ? recovery.next_uid : next_uid;
    atomic_init(&store->next_uid, next_uid > 0 ? next_uid : 1);
    store->numbers.recovered = store->tail.groups;
    return true;
failed:
    store_tail_drop(store);
    return false;
}

/* ---- Opening and closing ------------------------------------------------------------------- */

static struct store *store_create(const struct store_settings *settings)
{
    struct store *store = calloc(1, sizeof *store);
    if (!store) {
        return NULL;
    }
    store->tier.calls = &store_calls;
    store->settings = *settings;
    atomic_init(&store->state, UINT64_C(1) << STORE_GENERATION_SHIFT);
    inbox_init(&store->changes);
    inbox_init(&store->batches);
    pthread_mutex_init(&store->ports_lock, NULL);
    pthread_mutex_init(&store->settle_lock, NULL);
    pthread_cond_init(&store->settled_some, NULL);
    store_pool_init(&store->pool);
    return store;
}

static void store_destroy(struct store *store)
{
    for (struct inbox_node *node = inbox_take(&store->batches); node;) {
        struct inbox_node *next = node->next; /* of the log's tail, when no filler came up */
        store_batch_free(STORE_HOLDER(node, struct store_batch, node));
        node = next;
    }
    store_tail_drop(store);
    store_pool_destroy(&store->pool);
    pthread_cond_destroy(&store->settled_some);
    pthread_mutex_destroy(&store->settle_lock);
    pthread_mutex_destroy(&store->ports_lock);
    free(store);
}

static bool start_threads(struct store *store)
{
    if (!store_refill_open(store)) {
        goto no_refill;
    }
    if (!store_filler_open(store)) {
        goto no_filler;
    }
    if (!store_writer_open(store)) {
        goto no_writer;
    }
    if (!store_pool_open(store)) {
        goto no_pool;
    }
    return true;
no_pool:
    store_writer_close(store);
no_writer:
    store_filler_close(store);
no_filler:
    store_refill_close(store);
no_refill:
    return false;
}

static bool open_tree(struct store *store, struct store_refusal *refusal)
{
    const struct store_settings *settings = &store->settings;
    struct wal_trouble trouble = {0};
    /* Readers: the pool, the refill, and whoever verifies. */
    struct tree_settings tree = {.disk_bytes = settings->disk_bytes,
                                 .max_age_ms = settings->max_age_ms,
                                 .tombstones = settings->tombstones,
                                 .readers = STORE_POOL_MAX + 8,
                                 .wall = settings->wall};
    if (tree_open(settings->directory, &tree, &store->tree, &trouble) != STATUS_OK) {
        refuse(refusal, "%s", trouble.text);
        return false;
    }
    if (tree_renew(store->tree, &trouble) != STATUS_OK) {
        refuse(refusal, "tree.mdb is of an older format and cannot be renewed: %s", trouble.text);
        tree_close(store->tree);
        return false;
    }
    return true;
}

struct store *store_open(const struct store_settings *settings, struct store_refusal *refusal)
{
    uint64_t begun = store_now_ms();
    struct store *store = store_create(settings);
    refusal->text[0] = '\0';
    if (!store) {
        refuse(refusal, "no memory");
        return NULL;
    }
    if (!open_directory(store, refusal)) {
        goto no_directory;
    }
    if (!take_lock(store, refusal)) {
        goto no_lock;
    }
    if (!flush_name(store, refusal)) {
        goto no_tree;
    }
    if (!open_tree(store, refusal)) {
        goto no_tree;
    }
    if (!recover(store, refusal)) {
        goto no_log;
    }
    store->numbers.recovery_ms = store_now_ms() - begun;
    if (!start_threads(store)) {
        refuse(refusal, "cannot start operating-system threads for the data directory");
        goto no_threads;
    }
    struct tree_numbers tree = tree_numbers(store->tree);
    log_write(LOG_INFO, "store_open", LOG_U64("recovered", store->numbers.recovered),
              LOG_U64("ms", store->numbers.recovery_ms), LOG_U64("threads", tree.threads),
              LOG_U64("live_bytes", tree.live_bytes), LOG_END);
    return store;
no_threads:
    wal_close(store->wal);
no_log:
    tree_close(store->tree);
no_tree:
    close(store->lock_fd);
no_lock:
    close(store->directory_fd);
no_directory:
    store_destroy(store);
    return NULL;
}

void store_close(struct store *store)
{
    assert(!store->ports);
    store_pool_close(store);
    store_writer_close(store);
    store_filler_close(store);
    store_refill_close(store);
    wal_close(store->wal);
    tree_close(store->tree);
    close(store->lock_fd);
    close(store->directory_fd);
    log_write(LOG_INFO, "store_closed", LOG_END);
    store_destroy(store);
}
