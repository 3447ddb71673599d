/*
 * An inbox: many operating-system threads put nodes in, one takes all of them out, in order.
 *
 * Ordering. Nodes come out in the order in which their puts took effect; what was written to a node
 * before its put is seen by the taker. Progress. Put is lock-free (one compare-and-swap loop); take
 * is wait-free (one exchange, then its own work). Waiting sleeps on a futex, not on a lock.
 */
#ifndef RETHREAD_STORE_INBOX_H
#define RETHREAD_STORE_INBOX_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct inbox_node {
    struct inbox_node *next;
};

struct inbox {
    _Atomic(struct inbox_node *) newest;
    _Atomic uint32_t signal; /* futex word: moves whenever somebody should look */
};

void inbox_init(struct inbox *inbox);

/* True: it was empty, so that a taker may want to be woken. */
bool inbox_put(struct inbox *inbox, struct inbox_node *node);

/* All nodes, oldest first; NULL: none. */
struct inbox_node *inbox_take(struct inbox *inbox);

/* For a taker that sleeps: read the signal, take, find nothing, wait. Wakes after wake, after a
 * time, or for no reason. */
uint32_t inbox_signal(struct inbox *inbox);
void inbox_wait(struct inbox *inbox, uint32_t signal, uint64_t time_ms);
void inbox_wake(struct inbox *inbox);

#endif
