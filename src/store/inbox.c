/*
 * The inbox: a stack that is pushed on one by one, taken whole and turned round by its taker.
 *
 * Nobody ever pops a single node, so that a node that comes back to the same address while a put is
 * on its way does no harm (no ABA). Nodes belong to the putter until the put, to the taker after.
 *
 * No wake is lost: who took nothing had read the signal before. Had it read the value that a wake
 * left, it would have seen what was put before that wake (release on the signal, acquire by the
 * taker); so it holds an older value, and the futex does not let it sleep on that.
 */
#include "store/inbox.h"

#include <linux/futex.h>
#include <limits.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { WAIT_MAX_MS = 24 * 3600 * 1000 };

void inbox_init(struct inbox *inbox)
{
    atomic_init(&inbox->newest, NULL);
    atomic_init(&inbox->signal, 0);
}

bool inbox_put(struct inbox *inbox, struct inbox_node *node)
{
    struct inbox_node *newest = atomic_load_explicit(&inbox->newest, memory_order_relaxed);
    do {
        node->next = newest;
        /* The release pairs with the acquire of the exchange in inbox_take; puts in between carry
         * it on, as read-modify-writes do. */
    } while (!atomic_compare_exchange_weak_explicit(&inbox->newest, &newest, node,
                                                    memory_order_release, memory_order_relaxed));
    return newest == NULL;
}

struct inbox_node *inbox_take(struct inbox *inbox)
{
    /* Pairs with the release in inbox_put. */
    struct inbox_node *node = atomic_exchange_explicit(&inbox->newest, NULL, memory_order_acquire);
    struct inbox_node *oldest = NULL;
    while (node != NULL) {
        struct inbox_node *next = node->next;
        node->next = oldest;
        oldest = node;
        node = next;
    }
    return oldest;
}

uint32_t inbox_signal(struct inbox *inbox)
{
    /* Pairs with the release in inbox_wake. */
    return atomic_load_explicit(&inbox->signal, memory_order_acquire);
}

void inbox_wait(struct inbox *inbox, uint32_t signal, uint64_t time_ms)
{
    if (time_ms > WAIT_MAX_MS) {
        time_ms = WAIT_MAX_MS;
    }
    struct timespec time = {.tv_sec = (time_t)(time_ms / 1000),
                            .tv_nsec = (long)(time_ms % 1000) * 1000000};
    /* Whatever it returns (woken, signal moved, time up, a handler ran), the caller looks again. */
    (void)syscall(SYS_futex, &inbox->signal, FUTEX_WAIT_PRIVATE, signal, &time, NULL, 0);
}

void inbox_wake(struct inbox *inbox)
{
    /* Pairs with the acquire in inbox_signal. */
    atomic_fetch_add_explicit(&inbox->signal, 1, memory_order_release);
    (void)syscall(SYS_futex, &inbox->signal, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}
