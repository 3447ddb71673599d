/* Runs one loop: iterations, timers, inbox, drain. */
#include "net/loop.h"

#include "base/background.h"
#include "net/connection.h"
#include "net/later.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum {
    INBOX_READ_MAX = 64,
    RETRY_MS = 1,
    SWEEP_PARTS = 20, /* ticks until every connection was looked at: about a second */
};

/* ---- Iteration ---------------------------------------------------------------------------- */

void net_loop_enter(struct net_loop *loop)
{
    if (!loop->online) {
        loop->handler->online(loop->handler->context);
        loop->online = true;
        loop->now_ms = clock_read_ms(loop->shared->settings.clock);
        loop->reply.now_ms = loop->now_ms;
    }
}

static void count(struct net_loop *loop, enum metric metric, uint64_t *pending)
{
    if (*pending > 0) {
        loop->handler->count(loop->handler->context, metric, *pending);
        *pending = 0;
    }
}

static void leave(struct net_loop *loop)
{
    const struct net_handler *handler = loop->handler;
    assert(loop->online);
    count(loop, METRIC_BYTES_RECEIVED, &loop->received_bytes);
    count(loop, METRIC_BYTES_SENT, &loop->sent_bytes);
    count(loop, METRIC_CONNECTIONS_ACCEPTED, &loop->accepted);
    count(loop, METRIC_CONNECTIONS_DROPPED, &loop->dropped);
    if (loop->account.uncharged_bytes != 0) {
        handler->charge(handler->context, loop->account.uncharged_bytes);
        loop->account.uncharged_bytes = 0;
    }
    loop->tend_again = handler->tend(handler->context);
    net_later_flush(loop);
    handler->offline(handler->context);
    loop->online = false;
}

static void give_turn(struct net_connection *connection)
{
    net_connection_place(connection, NET_NOWHERE);
    net_connection_turn(connection);
}

static uint64_t moved_bytes(const struct net_loop *loop)
{
    return loop->received_bytes + loop->sent_bytes;
}

static void make_ready(struct net_queue *queue)
{
    struct net_connection *connection;
    while ((connection = TAILQ_FIRST(queue)) != NULL) {
        net_connection_ready(connection);
    }
}

/* Whoever becomes ready meanwhile waits for the next iteration: nobody is served twice in one. */
static void run_ready(struct net_loop *loop)
{
    for (size_t left = loop->ready_count; left > 0 && loop->ready_count > 0; left--) {
        give_turn(TAILQ_FIRST(&loop->ready));
        net_group_hasten(loop);
    }
    net_group_run(loop);
    uint64_t before_bytes = moved_bytes(loop);
    for (size_t left = loop->bulk_count;
         left > 0 && loop->bulk_count > 0 && moved_bytes(loop) - before_bytes < NET_SHARE_BYTES;
         left--) {
        give_turn(TAILQ_FIRST(&loop->bulk));
        net_group_run(loop);
    }
    if (loop->patience_over) {
        loop->patience_over = false;
        make_ready(&loop->patient);
    }
    if ((!TAILQ_EMPTY(&loop->retry) || !TAILQ_EMPTY(&loop->patient)) && !loop->retry_armed) {
        struct timeval wait = {.tv_usec = RETRY_MS * 1000};
        loop->retry_armed = event_add(loop->retry_event, &wait) == 0;
    }
}

/* Those who were deferred; of those who wait for long one, which finds out for all. */
static void retry(struct net_loop *loop)
{
    struct net_connection *first = TAILQ_FIRST(&loop->patient);
    make_ready(&loop->retry);
    if (first) {
        net_connection_ready(first);
    }
}

static void on_retry(evutil_socket_t fd, short what, void *context)
{
    struct net_loop *loop = context;
    (void)fd;
    (void)what;
    net_loop_enter(loop);
    loop->retry_armed = false;
    retry(loop);
}

static void sweep(struct net_loop *loop)
{
    size_t part = loop->connection_count / SWEEP_PARTS + 1;
    for (; part > 0 && loop->connection_count > 0; part--) {
        if (loop->sweep_at >= loop->connection_count) {
            loop->sweep_at = 0;
        }
        struct net_connection *connection = loop->connections[loop->sweep_at];
        net_connection_sweep(connection);
        /* One that was closed has left its place to the last. */
        if (loop->sweep_at < loop->connection_count &&
            loop->connections[loop->sweep_at] == connection) {
            loop->sweep_at++;
        }
    }
}

static void on_tick(evutil_socket_t fd, short what, void *context)
{
    struct net_loop *loop = context;
    (void)fd;
    (void)what;
    net_loop_enter(loop);
    /* Pairs with the front's increments: a count and nothing else. */
    uint64_t refused = atomic_exchange_explicit(&loop->shared->refused, 0, memory_order_relaxed);
    count(loop, METRIC_CONNECTIONS_REFUSED, &refused);
    sweep(loop);
    make_ready(&loop->stopped);
    make_ready(&loop->retry);
    make_ready(&loop->patient);
}

/* ---- Inbox -------------------------------------------------------------------------------- */

/* True while there may be more. */
static bool read_inbox(struct net_loop *loop)
{
    struct net_message messages[INBOX_READ_MAX];
    ssize_t got = read(loop->inbox[0], messages, sizeof messages);
    if (got <= 0) {
        return got < 0 && errno == EINTR;
    }
    /* The front writes whole messages, and a pipe keeps writes of this size together. */
    assert((size_t)got % sizeof *messages == 0);
    for (size_t i = 0; i < (size_t)got / sizeof *messages; i++) {
        if (messages[i].fd >= 0) {
            net_connection_open(loop, messages[i].fd, messages[i].id);
        }
    }
    return true;
}

static void on_inbox(evutil_socket_t fd, short what, void *context)
{
    struct net_loop *loop = context;
    (void)fd;
    (void)what;
    net_loop_enter(loop);
    read_inbox(loop);
}

bool net_loop_send(struct net_loop *loop, const struct net_message *message)
{
    ssize_t written;
    do {
        written = write(loop->inbox[1], message, sizeof *message);
    } while (written < 0 && errno == EINTR);
    return written == (ssize_t)sizeof *message;
}

/* ---- Waking ------------------------------------------------------------------------------- */

/* What it was woken for comes by tending; requests that waited for it have their turn after that,
 * in this iteration. */
static void on_wake(evutil_socket_t fd, short what, void *context)
{
    struct net_loop *loop = context;
    uint64_t times;
    (void)what;
    net_loop_enter(loop);
    ssize_t got = read(fd, &times, sizeof times);
    (void)got;
    /* Pairs with the exchange in net_loop_wake: what came before that is seen from here on. */
    (void)atomic_exchange_explicit(&loop->woken, false, memory_order_acq_rel);
    (void)loop->handler->tend(loop->handler->context);
    net_later_flush(loop);
    retry(loop);
}

void net_loop_wake(struct net_loop *loop)
{
    uint64_t one = 1;
    /* Pairs with the exchange in on_wake. */
    if (!atomic_exchange_explicit(&loop->woken, true, memory_order_acq_rel)) {
        ssize_t written = write(loop->wake_fd, &one, sizeof one);
        assert(written == (ssize_t)sizeof one);
        (void)written;
    }
}

/* ---- Drain -------------------------------------------------------------------------------- */

enum due { DUE_NOTHING, DUE_REFUSALS, DUE_ANSWERS };

/* What has arrived by now is still served. */
static void grant(struct net_connection *connection)
{
    int waiting = 0;
    if (connection->lingering || connection->closing) {
        return;
    }
    if (ioctl(connection->fd, FIONREAD, &waiting) < 0 || waiting < 0) {
        waiting = 0;
    }
    connection->due_bytes = net_input_size(&connection->input) + (size_t)waiting;
    if (waiting > 0 && connection->place == NET_NOWHERE && !connection->output) {
        net_connection_ready(connection);
    }
}

/* What is still to be flushed or given. To refusals there may be no end. */
static enum due due_of(const struct net_connection *connection)
{
    if (connection->lingering) {
        return DUE_NOTHING;
    }
    if (connection->later_count > 0) {
        return DUE_ANSWERS;
    }
    if (connection->output) {
        return connection->late ? DUE_REFUSALS : DUE_ANSWERS;
    }
    if (connection->place != NET_NOWHERE) {
        return connection->due_bytes > 0 ? DUE_ANSWERS : DUE_REFUSALS;
    }
    bool more = connection->due_bytes > net_input_size(&connection->input);
    return more ? DUE_ANSWERS : DUE_NOTHING;
}

static void begin_drain(struct net_loop *loop)
{
    while (read_inbox(loop)) {
    }
    loop->draining = true;
    loop->drain_until_ms = loop->now_ms + loop->shared->settings.drain_ms;
    for (size_t i = 0; i < loop->connection_count; i++) {
        grant(loop->connections[i]);
    }
}

static void begin_finish(struct net_loop *loop)
{
    loop->finishing = true;
    loop->finish_until_ms = loop->now_ms + NET_FINISH_MS;
    /* From the end, since a closed connection's place is taken by the last. */
    for (size_t i = loop->connection_count; i > 0; i--) {
        net_connection_finish(loop->connections[i - 1]);
    }
}

static enum due most_due(const struct net_loop *loop)
{
    enum due most = DUE_NOTHING;
    for (size_t i = 0; i < loop->connection_count && most < DUE_ANSWERS; i++) {
        enum due due = due_of(loop->connections[i]);
        most = due > most ? due : most;
    }
    return most;
}

/* All answers are given, and whoever goes on sending was refused for a while. */
static bool nothing_due(struct net_loop *loop)
{
    enum due due = most_due(loop);
    if (due == DUE_REFUSALS && loop->late_until_ms == 0) {
        loop->late_until_ms = loop->now_ms + NET_LATE_MS;
    }
    return due == DUE_NOTHING || (due == DUE_REFUSALS && loop->now_ms >= loop->late_until_ms);
}

/* Online, at the end of an iteration. True: no connection is to be waited for any more. */
static bool drained(struct net_loop *loop)
{
    /* Pairs with the release in begin_drain of the front. */
    if (!loop->draining && atomic_load_explicit(&loop->shared->draining, memory_order_acquire)) {
        begin_drain(loop);
    }
    if (!loop->draining) {
        return false;
    }
    /* Pairs with the store in break_off_drain of the front. */
    if (atomic_load_explicit(&loop->shared->broken_off, memory_order_relaxed)) {
        return true;
    }
    if (!loop->finishing && loop->now_ms < loop->drain_until_ms && nothing_due(loop)) {
        begin_finish(loop);
    }
    if (loop->finishing) {
        return loop->connection_count == 0 || loop->now_ms >= loop->finish_until_ms;
    }
    return loop->now_ms >= loop->drain_until_ms;
}

static void close_all(struct net_loop *loop)
{
    uint64_t unfinished = 0;
    while (loop->connection_count > 0) {
        struct net_connection *last = loop->connections[loop->connection_count - 1];
        unfinished += due_of(last) == DUE_ANSWERS;
        net_connection_close(last);
    }
    if (unfinished > 0) {
        log_write(LOG_WARN, "drain_incomplete", LOG_U64("loop", loop->number),
                  LOG_U64("connections", unfinished), LOG_END);
    }
}

/* Online, at the end of an iteration. True: the loop has nothing more to do. */
static bool is_over(struct net_loop *loop)
{
    struct net_shared *shared = loop->shared;
    if (!drained(loop)) {
        return false;
    }
    if (!loop->drained) {
        uint64_t one = 1;
        close_all(loop);
        loop->drained = true;
        ssize_t written = write(shared->drained_fd, &one, sizeof one);
        assert(written == (ssize_t)sizeof one);
        (void)written;
    }
    /* Pair with the stores in on_drained and break_off_drain of the front: flags and no more. */
    return atomic_load_explicit(&shared->all_drained, memory_order_relaxed) ||
           atomic_load_explicit(&shared->broken_off, memory_order_relaxed);
}

/* ---- Life --------------------------------------------------------------------------------- */

static void *run(void *context)
{
    struct net_loop *loop = context;
    size_t fixed_bytes = net_reply_fixed_bytes() + NET_SCRATCH_BYTES;
    net_account_charge(&loop->account, (int64_t)fixed_bytes);
    for (bool over = false; !over;) {
        bool hurry = loop->ready_count > 0 || loop->bulk_count > 0 || loop->tend_again;
        /* Without EVLOOP_ONCE it would go on for as long as the socket of a queued connection,
         * which has its turn only afterwards, is readable. */
        int flags = EVLOOP_ONCE | (hurry ? EVLOOP_NONBLOCK : 0);
        int failed = event_base_loop(loop->base, flags);
        assert(failed >= 0);
        (void)failed;
        net_loop_enter(loop);
        run_ready(loop);
        over = is_over(loop);
        leave(loop);
    }
    net_loop_enter(loop);
    net_later_detach(loop);
    net_account_charge(&loop->account, -(int64_t)fixed_bytes);
    net_account_charge(&loop->account,
                       -(int64_t)(loop->connection_capacity * sizeof *loop->connections));
    leave(loop);
    return NULL;
}

static bool create_events(struct net_loop *loop)
{
    struct event_config *config = event_config_new();
    struct timeval tick = {.tv_usec = NET_TICK_MS * 1000};
    if (!config) {
        return false;
    }
    event_config_set_flag(config, EVENT_BASE_FLAG_NOLOCK);
    loop->base = event_base_new_with_config(config);
    event_config_free(config);
    if (!loop->base) {
        return false;
    }
    loop->inbox_event = event_new(loop->base, loop->inbox[0], EV_READ | EV_PERSIST, on_inbox, loop);
    loop->wake_event = event_new(loop->base, loop->wake_fd, EV_READ | EV_PERSIST, on_wake, loop);
    loop->tick_event = event_new(loop->base, -1, EV_PERSIST, on_tick, loop);
    loop->retry_event = event_new(loop->base, -1, 0, on_retry, loop);
    return loop->inbox_event && loop->wake_event && loop->tick_event && loop->retry_event &&
           event_add(loop->inbox_event, NULL) == 0 && event_add(loop->wake_event, NULL) == 0 &&
           event_add(loop->tick_event, &tick) == 0;
}

bool net_loop_create(struct net_loop *loop, struct net_shared *shared, unsigned number,
                     const struct net_handler *handler)
{
    *loop = (struct net_loop){.shared = shared,
                              .handler = handler,
                              .number = number,
                              .inbox = {-1, -1},
                              .wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC),
                              .account.buffers = &shared->buffers};
    TAILQ_INIT(&loop->ready);
    TAILQ_INIT(&loop->bulk);
    TAILQ_INIT(&loop->retry);
    TAILQ_INIT(&loop->patient);
    TAILQ_INIT(&loop->stopped);
    TAILQ_INIT(&loop->answering);
    TAILQ_INIT(&loop->orphans);
    loop->scratch = malloc(NET_SCRATCH_BYTES);
    if (loop->scratch && loop->wake_fd >= 0 && pipe2(loop->inbox, O_NONBLOCK | O_CLOEXEC) == 0 &&
        net_reply_create(&loop->reply, handler, &loop->account) && create_events(loop)) {
        return true;
    }
    log_write(LOG_ERROR, "loop_failed", LOG_U64("loop", number), LOG_ERRNO("error", errno),
              LOG_END);
    net_loop_destroy(loop);
    return false;
}

bool net_loop_start(struct net_loop *loop)
{
    char name[16];
    snprintf(name, sizeof name, "loop-%u", loop->number);
    if (!background_start(&loop->thread, name, run, loop)) {
        log_write(LOG_ERROR, "loop_failed", LOG_U64("loop", loop->number),
                  LOG_ERRNO("error", errno), LOG_END);
        return false;
    }
    loop->started = true;
    return true;
}

void net_loop_join(struct net_loop *loop)
{
    if (loop->started) {
        pthread_join(loop->thread, NULL);
        loop->started = false;
    }
}

static void free_event(struct event *event)
{
    if (event) {
        event_free(event);
    }
}

void net_loop_destroy(struct net_loop *loop)
{
    assert(!loop->started && loop->connection_count == 0);
    struct net_message message;
    while (loop->inbox[0] >= 0 &&
           read(loop->inbox[0], &message, sizeof message) == (ssize_t)sizeof message) {
        if (message.fd >= 0) {
            close(message.fd);
        }
    }
    free_event(loop->retry_event);
    free_event(loop->tick_event);
    free_event(loop->wake_event);
    free_event(loop->inbox_event);
    if (loop->base) {
        event_base_free(loop->base);
    }
    net_reply_destroy(&loop->reply);
    for (int i = 0; i < 2; i++) {
        if (loop->inbox[i] >= 0) {
            close(loop->inbox[i]);
        }
    }
    if (loop->wake_fd >= 0) {
        close(loop->wake_fd);
    }
    free(loop->scratch);
    free(loop->connections);
    loop->scratch = NULL;
    loop->connections = NULL;
}
