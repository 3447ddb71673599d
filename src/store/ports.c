/*
 * Ports: where a lane's events wait for it, and how they get there.
 *
 * An event is its own inbox node. Whoever delivers counts itself into port->delivering before the
 * put and out after the wake, so that a lane that has collected its last event and closes the port
 * waits for the deliverer's last look at it.
 */
#include "store/store_private.h"

#include <sched.h>
#include <stdlib.h>

static_assert(offsetof(struct tier_event, next) == 0 &&
                  sizeof(struct tier_event *) == sizeof(struct inbox_node),
              "an event begins with its node");
static_assert(offsetof(struct tier_due, event) == 0, "an event of a due thread begins it");

/* A kind that no lane sees: TIER_APPLIED of a change that did not take effect. */
enum { APPLIED_FAILED = TIER_DUE + 1 };

static struct inbox_node *node_of(struct tier_event *event)
{
    return (struct inbox_node *)(void *)event;
}

static void enter(struct tier_port *port)
{
    atomic_fetch_add_explicit(&port->delivering, 1, memory_order_relaxed);
}

static void leave(struct tier_port *port)
{
    /* Pairs with the acquire in store_port_close: our use of the port comes before its end. */
    atomic_fetch_sub_explicit(&port->delivering, 1, memory_order_release);
}

void store_deliver(struct store_delivery *delivery, struct tier_port *port,
                   struct tier_event *event)
{
    struct store_touch *touch = &port->by[delivery->who];
    if (!touch->touched) {
        enter(port);
        touch->touched = true;
        touch->next = delivery->first;
        delivery->first = port;
    }
    /* Not empty: who put the first one wakes, and then all is collected. */
    touch->wake |= inbox_put(&port->inbox, node_of(event));
}

void store_flush(struct store_delivery *delivery)
{
    while (delivery->first) {
        struct tier_port *port = delivery->first;
        struct store_touch touch = port->by[delivery->who];
        delivery->first = touch.next;
        port->by[delivery->who] = (struct store_touch){0};
        if (touch.wake) {
            port->wake(port->context);
        }
        leave(port);
    }
}

void store_deliver_now(struct tier_port *port, struct tier_event *event)
{
    enter(port);
    if (inbox_put(&port->inbox, node_of(event))) {
        port->wake(port->context);
    }
    leave(port);
}

void store_deliver_applied(struct store_delivery *delivery, struct tier_change *change, bool ok)
{
    change->applied.kind = ok ? TIER_APPLIED : (enum tier_event_kind)APPLIED_FAILED;
    store_deliver(delivery, change->port, &change->applied);
}

bool store_deliver_due(struct store *store, struct store_delivery *delivery, struct tier_due **due,
                       unsigned count)
{
    pthread_mutex_lock(&store->ports_lock);
    bool open = store->port_count > 0;
    for (unsigned i = 0; open && i < count; i++) {
        struct tier_port *port = store->ports;
        for (unsigned turn = store->port_turn++ % store->port_count; turn > 0; turn--) {
            port = port->next;
        }
        due[i]->event.kind = TIER_DUE;
        store_deliver(delivery, port, &due[i]->event);
    }
    pthread_mutex_unlock(&store->ports_lock);
    return open;
}

struct tier_port *store_port_open(struct tier *tier, void (*wake)(void *context), void *context)
{
    struct store *store = (struct store *)tier;
    struct tier_port *port = calloc(1, sizeof *port);
    if (!port) {
        return NULL;
    }
    inbox_init(&port->inbox);
    port->wake = wake;
    port->context = context;
    port->collects_at_swap = UINT64_MAX; /* it sees the filter of now; see refill.c */
    atomic_init(&port->delivering, 0);
    atomic_init(&port->collects, 0);
    pthread_mutex_lock(&store->ports_lock);
    port->next = store->ports;
    store->ports = port;
    store->port_count++;
    pthread_mutex_unlock(&store->ports_lock);
    return port;
}

void store_port_close(struct tier *tier, struct tier_port *port)
{
    struct store *store = (struct store *)tier;
    pthread_mutex_lock(&store->ports_lock);
    struct tier_port **at = &store->ports;
    while (*at != port) {
        assert(*at);
        at = &(*at)->next;
    }
    *at = port->next;
    store->port_count--;
    pthread_mutex_unlock(&store->ports_lock);
    /* Acquire pairs with the release in leave. Short: what is delivered was put already. */
    while (atomic_load_explicit(&port->delivering, memory_order_acquire) > 0) {
        sched_yield();
    }
    struct tier_event *event = store_collect(tier, port);
    while (event) {
        struct tier_event *next = event->next;
        assert(event->kind == TIER_DUE); /* nothing else is under way */
        free(STORE_HOLDER(event, struct tier_due, event));
        event = next;
    }
    free(port);
}

struct tier_event *store_collect(struct tier *tier, struct tier_port *port)
{
    (void)tier;
    /* Sequentially consistent, as are the store of a fresh filter and the look at this count after
     * it (refill.c): after a collect that was not yet counted there, the lane sees the fresh one.
     */
    atomic_fetch_add_explicit(&port->collects, 1, memory_order_seq_cst);
    struct inbox_node *node = inbox_take(&port->inbox);
    struct tier_event *first = (struct tier_event *)(void *)node;
    while (node) {
        struct inbox_node *next = node->next;
        struct tier_event *event = (struct tier_event *)(void *)node;
        event->next = (struct tier_event *)(void *)next;
        if ((int)event->kind == APPLIED_FAILED) {
            event->kind = TIER_APPLIED;
            STORE_HOLDER(event, struct tier_change, applied)->status = STATUS_READ_ONLY;
        }
        node = next;
    }
    return first;
}
