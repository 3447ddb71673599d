/*
 * What is due: once a second the tree is asked whose time is up, or who must go for the disk
 * budget, and a lane is asked to end them. Nothing is erased here.
 *
 * The wall clock decides, so it is watched: when it moved by more than it can have, nothing is due
 * for a minute, and whoever set it wrong has that long to set it right.
 */
#include "store/store_private.h"

#include <stdlib.h>

enum {
    DUE_LIMIT = 256, /* in one pass */
    SETTLE_PASSES = 4096,
    ASKED_SLOTS = 4096,
    ASKED_MS = 10 * 1000,
    JUMP_MS = 5 * 1000,
    QUIET_MS = 60 * 1000,
};

static uint64_t due_now_ms(const struct store *store)
{
    return clock_read_ms(store->settings.clock ? store->settings.clock : clock_monotonic());
}

bool store_due_open(struct store_due *due, struct store *store)
{
    *due = (struct store_due){.wall_ms = clock_read_ms(store->settings.wall),
                              .monotonic_ms = due_now_ms(store)};
    due->asked = calloc(ASKED_SLOTS, sizeof *due->asked);
    return due->asked != NULL;
}

void store_due_close(struct store_due *due)
{
    free(due->asked);
    due->asked = NULL;
}

static uint64_t distance(uint64_t a, uint64_t b)
{
    return a > b ? a - b : b - a;
}

/* By how much the wall clock left the monotonic one since the last look; 0: it did not. */
static uint64_t jump_ms(struct store_due *due, uint64_t wall_ms, uint64_t monotonic_ms)
{
    uint64_t expected = due->wall_ms + (monotonic_ms - due->monotonic_ms);
    uint64_t off_ms = distance(wall_ms, expected);
    due->wall_ms = wall_ms;
    due->monotonic_ms = monotonic_ms;
    return off_ms > JUMP_MS ? off_ms : 0;
}

static void note_jump(struct store_due *due, uint64_t off_ms)
{
    static struct log_limit limit;
    uint64_t suppressed;
    due->quiet_until_ms = due->monotonic_ms + QUIET_MS;
    if (log_allowed(&limit, 1, due->monotonic_ms, &suppressed)) {
        log_write(LOG_WARN, "wall_clock_jumped", LOG_U64("by_ms", off_ms),
                  LOG_U64("nothing_due_for_ms", QUIET_MS), LOG_END);
    }
}

/* Two that share a slot push each other out, and are asked for more often than they need be. */
static struct store_asked *slot_of(struct store_due *due, uint64_t uid)
{
    return &due->asked[(uid * UINT64_C(0x9e3779b97f4a7c15)) >> 32 & (ASKED_SLOTS - 1)];
}

/* Drops those who were asked for a moment ago; the rest is from now on. */
static unsigned drop_asked(struct store_due *due, struct tier_due **found, unsigned count)
{
    unsigned fresh = 0;
    for (unsigned i = 0; i < count; i++) {
        struct store_asked *slot = slot_of(due, found[i]->uid);
        if (slot->uid == found[i]->uid && distance(slot->wall_ms, due->wall_ms) < ASKED_MS) {
            free(found[i]);
            continue;
        }
        *slot = (struct store_asked){.uid = found[i]->uid, .wall_ms = due->wall_ms};
        found[fresh++] = found[i];
    }
    return fresh;
}

static void take_back(struct store_due *due, struct tier_due **found, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        *slot_of(due, found[i]->uid) = (struct store_asked){0};
        free(found[i]);
    }
}

/* Lack of space or memory is no trouble here: what is due can wait, and the next change will tell.
 */
static void note_trouble(struct store *store, const struct wal_trouble *trouble)
{
    static struct log_limit limit;
    uint64_t suppressed;
    if (tree_numbers(store->tree).broken) {
        store_trouble(store, true, trouble);
    } else if (log_allowed(&limit, 1, store_now_ms(), &suppressed)) {
        log_write(LOG_WARN, "due_not_looked_for", LOG_ERRNO("error", trouble->error), LOG_END);
    }
}

/* Asks for up to `limit`. Returns how many the tree named. */
static unsigned ask(struct store_due *due, struct store *store, struct store_delivery *delivery,
                    bool victims, unsigned limit)
{
    struct tier_due *found[DUE_LIMIT];
    struct wal_trouble trouble = {0};
    unsigned count = 0;
    assert(limit <= DUE_LIMIT);
    if (tree_due(store->tree, due->wall_ms, victims, found, limit, &count, &trouble) != STATUS_OK) {
        note_trouble(store, &trouble);
    }
    unsigned fresh = drop_asked(due, found, count);
    if (store_deliver_due(store, delivery, found, fresh)) {
        store_flush(delivery);
    } else {
        take_back(due, found, fresh);
    }
    return count;
}

/* How many threads of the usual size must go for the budget. */
static unsigned count_victims(const struct store *store)
{
    struct tree_numbers tree = tree_numbers(store->tree);
    if (tree.used_bytes <= store->settings.disk_bytes || tree.threads == 0) {
        return 0;
    }
    uint64_t size = tree.used_bytes / tree.threads + 1;
    uint64_t count = (tree.used_bytes - store->settings.disk_bytes) / size + 1;
    return count < DUE_LIMIT ? (unsigned)count : DUE_LIMIT;
}

static uint64_t count_erasures(const struct store *store)
{
    return atomic_load_explicit(&store->numbers.erasures, memory_order_relaxed);
}

/* Those asked for last count as room to come, for a while: or a slow disk would make each look ask
 * for as many again, and more would go than must. */
static bool are_victims_gone(const struct store_due *due, const struct store *store)
{
    return count_erasures(store) - due->erasures >= due->victims ||
           distance(due->wall_ms, due->victims_ms) >= ASKED_MS;
}

static bool is_lag_small(const struct store *store)
{
    return atomic_load_explicit(&store->lag_bytes, memory_order_relaxed) <
           store->settings.lag_max_bytes / 4;
}

static bool has_port(struct store *store)
{
    pthread_mutex_lock(&store->ports_lock);
    bool open = store->port_count > 0;
    pthread_mutex_unlock(&store->ports_lock);
    return open;
}

void store_due_pass(struct store_due *due, struct store *store, struct store_delivery *delivery,
                    bool settle)
{
    uint64_t now = due_now_ms(store);
    uint64_t off_ms = jump_ms(due, clock_read_ms(store->settings.wall), now);
    due->more = false;
    if (!settle) {
        if (off_ms > 0) {
            note_jump(due, off_ms);
        }
        if (now < due->quiet_until_ms) {
            return;
        }
    }
    if (!has_port(store)) {
        return;
    }
    unsigned count = ask(due, store, delivery, false, DUE_LIMIT);
    for (unsigned i = 0; settle && count == DUE_LIMIT && i < SETTLE_PASSES; i++) {
        count = ask(due, store, delivery, false, DUE_LIMIT);
    }
    unsigned victims = are_victims_gone(due, store) ? count_victims(store) : 0;
    if (victims > 0 && !store_has(store, STORE_TROUBLES)) {
        due->victims = ask(due, store, delivery, true, victims);
        due->victims_ms = due->wall_ms;
        due->erasures = count_erasures(store);
    }
    due->more = (count == DUE_LIMIT || victims == DUE_LIMIT) && is_lag_small(store);
}
