/* The front: accepts connections, hands them to the loops, takes signals, leads the drain. */
#include "net/net.h"

#include "net/listener.h"
#include "net/loop.h"

#include <assert.h>
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum {
    ACCEPTS_PER_TURN = 64,
    ACCEPT_PAUSE_MS = 100,
    ACCEPT_LINES_PER_SECOND = 2,
    SIGNALS = 2,
};

struct net {
    struct net_shared shared;
    struct net_address listen[NET_LISTENERS_MAX]; /* what shared.settings points to */

    struct event_base *base;
    struct net_listener listeners[NET_LISTENERS_MAX];
    struct event *accept_events[NET_LISTENERS_MAX];
    unsigned listener_count;
    struct event *resume_event; /* accepting again after a pause */
    struct event *stop_event;
    struct event *drained_event;
    struct event *signal_events[SIGNALS];
    int stop_fd;    /* an eventfd: net_stop */
    int reserve_fd; /* given up for a moment to turn a connection away when descriptors run out */

    struct net_loop *loops;
    unsigned loop_count;
    unsigned next_loop;
    unsigned drained_count;
    uint64_t next_id;
};

/* ---- Accepting ---------------------------------------------------------------------------- */

static void refuse(struct net *net, int fd)
{
    close(fd);
    /* Pairs with the exchange in on_tick of the loops. */
    atomic_fetch_add_explicit(&net->shared.refused, 1, memory_order_relaxed);
}

static void log_accept(struct net *net, const char *event, const char *reason, int error)
{
    uint64_t suppressed;
    if (log_allowed(&net->shared.accept_limit, ACCEPT_LINES_PER_SECOND,
                    clock_read_ms(net->shared.settings.clock), &suppressed)) {
        log_write(LOG_WARN, event, LOG_TEXT("reason", reason), LOG_ERRNO("error", error),
                  LOG_U64("suppressed", suppressed), LOG_END);
    }
}

static void hand_over(struct net *net, int fd)
{
    struct net_shared *shared = &net->shared;
    /* Only the front adds; what loops subtract meanwhile makes it smaller. */
    uint64_t open = atomic_load_explicit(&shared->connections, memory_order_relaxed);
    if (open >= shared->settings.connections_max) {
        log_accept(net, "connection_refused", "max_connections", 0);
        refuse(net, fd);
        return;
    }
    atomic_fetch_add_explicit(&shared->connections, 1, memory_order_relaxed);
    struct net_message message = {.id = ++net->next_id, .fd = fd};
    for (unsigned tried = 0; tried < net->loop_count; tried++) {
        struct net_loop *loop = &net->loops[net->next_loop];
        net->next_loop = (net->next_loop + 1) % net->loop_count;
        if (net_loop_send(loop, &message)) {
            return;
        }
    }
    atomic_fetch_sub_explicit(&shared->connections, 1, memory_order_relaxed);
    log_accept(net, "connection_refused", "loops_busy", EAGAIN);
    refuse(net, fd);
}

static void pause_accepting(struct net *net)
{
    struct timeval pause = {.tv_usec = ACCEPT_PAUSE_MS * 1000};
    if (event_add(net->resume_event, &pause) != 0) {
        return;
    }
    for (unsigned i = 0; i < net->listener_count; i++) {
        event_del(net->accept_events[i]);
    }
}

static void on_resume(evutil_socket_t fd, short what, void *context)
{
    struct net *net = context;
    (void)fd;
    (void)what;
    for (unsigned i = 0; i < net->listener_count; i++) {
        if (event_add(net->accept_events[i], NULL) != 0) {
            pause_accepting(net);
            return;
        }
    }
}

static int open_reserve(void)
{
    return open("/dev/null", O_RDONLY | O_CLOEXEC);
}

/* No descriptor is left: turns one peer away, so that it learns and the queue moves. */
static void shed(struct net *net, int listener_fd)
{
    if (net->reserve_fd >= 0) {
        close(net->reserve_fd);
    }
    int fd = accept4(listener_fd, NULL, NULL, SOCK_CLOEXEC);
    if (fd >= 0) {
        refuse(net, fd);
    }
    net->reserve_fd = open_reserve();
}

static void on_accept(evutil_socket_t listener_fd, short what, void *context)
{
    struct net *net = context;
    (void)what;
    for (int i = 0; i < ACCEPTS_PER_TURN; i++) {
        int fd = accept4(listener_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) {
            hand_over(net, fd);
            continue;
        }
        int error = errno;
        switch (error) {
        case EAGAIN:
            return;
        case EINTR:
        case ECONNABORTED:
            continue;
        case EMFILE:
        case ENFILE:
            shed(net, listener_fd);
            break;
        default:
            break;
        }
        log_accept(net, "accept_failed", "pausing", error);
        pause_accepting(net);
        return;
    }
}

/* ---- Stopping ----------------------------------------------------------------------------- */

static void close_listeners(struct net *net)
{
    for (unsigned i = 0; i < net->listener_count; i++) {
        if (net->accept_events[i]) {
            event_free(net->accept_events[i]);
            net->accept_events[i] = NULL;
        }
        net_listener_close(&net->listeners[i]);
    }
    net->listener_count = 0;
}

static void wake_loops(struct net *net)
{
    struct net_message wake = {.fd = -1};
    for (unsigned i = 0; i < net->loop_count; i++) {
        /* A full inbox wakes the loop as well. */
        (void)net_loop_send(&net->loops[i], &wake);
    }
}

static void begin_drain(struct net *net)
{
    event_del(net->resume_event);
    close_listeners(net);
    /* Pairs with the acquire in drained of the loops: every connection is in its inbox by now. */
    atomic_store_explicit(&net->shared.draining, true, memory_order_release);
    wake_loops(net);
}

static void break_off_drain(struct net *net)
{
    /* Pairs with the load in drained of the loops. */
    atomic_store_explicit(&net->shared.broken_off, true, memory_order_relaxed);
    wake_loops(net);
}

static bool is_draining(const struct net *net)
{
    return atomic_load_explicit(&net->shared.draining, memory_order_relaxed);
}

static void on_stop(evutil_socket_t fd, short what, void *context)
{
    struct net *net = context;
    uint64_t times;
    (void)what;
    if (read(fd, &times, sizeof times) > 0 && !is_draining(net)) {
        log_write(LOG_INFO, "draining", LOG_U64("connections", net_connections(net)), LOG_END);
        begin_drain(net);
    }
}

static void on_signal(evutil_socket_t signal_number, short what, void *context)
{
    struct net *net = context;
    (void)what;
    if (is_draining(net)) {
        log_write(LOG_WARN, "drain_broken_off", LOG_I64("signal", signal_number), LOG_END);
        break_off_drain(net);
        return;
    }
    log_write(LOG_INFO, "draining", LOG_I64("signal", signal_number),
              LOG_U64("connections", net_connections(net)), LOG_END);
    begin_drain(net);
}

static void on_drained(evutil_socket_t fd, short what, void *context)
{
    struct net *net = context;
    uint64_t drained;
    (void)what;
    if (read(fd, &drained, sizeof drained) == (ssize_t)sizeof drained) {
        net->drained_count += (unsigned)drained;
    }
    if (net->drained_count == net->loop_count) {
        /* Pairs with the load in is_over of the loops. */
        atomic_store_explicit(&net->shared.all_drained, true, memory_order_relaxed);
        wake_loops(net);
        event_base_loopbreak(net->base);
    }
}

void net_stop(struct net *net)
{
    uint64_t one = 1;
    /* Can only fail when the counter is full, and then the front knows already. */
    ssize_t written = write(net->stop_fd, &one, sizeof one);
    (void)written;
}

void net_wake(struct net *net, unsigned loop)
{
    assert(loop < net->loop_count);
    net_loop_wake(&net->loops[loop]);
}

/* ---- Life --------------------------------------------------------------------------------- */

static bool open_listeners(struct net *net)
{
    const struct net_settings *settings = &net->shared.settings;
    for (unsigned i = 0; i < settings->listen_count; i++) {
        if (!net_listener_open(&net->listeners[net->listener_count], &settings->listen[i])) {
            return false;
        }
        net->listener_count++;
    }
    if (settings->unix_path && settings->unix_path[0]) {
        if (!net_listener_open_unix(&net->listeners[net->listener_count], settings->unix_path)) {
            return false;
        }
        net->listener_count++;
    }
    return true;
}

static bool create_events(struct net *net)
{
    static const int signals[SIGNALS] = {SIGTERM, SIGINT};
    net->base = event_base_new();
    if (!net->base) {
        return false;
    }
    net->resume_event = event_new(net->base, -1, 0, on_resume, net);
    net->stop_event = event_new(net->base, net->stop_fd, EV_READ | EV_PERSIST, on_stop, net);
    net->drained_event =
        event_new(net->base, net->shared.drained_fd, EV_READ | EV_PERSIST, on_drained, net);
    if (!net->resume_event || !net->stop_event || !net->drained_event ||
        event_add(net->stop_event, NULL) != 0 || event_add(net->drained_event, NULL) != 0) {
        return false;
    }
    for (unsigned i = 0; i < net->listener_count; i++) {
        net->accept_events[i] =
            event_new(net->base, net->listeners[i].fd, EV_READ | EV_PERSIST, on_accept, net);
        if (!net->accept_events[i] || event_add(net->accept_events[i], NULL) != 0) {
            return false;
        }
    }
    for (unsigned i = 0; net->shared.settings.catch_signals && i < SIGNALS; i++) {
        net->signal_events[i] = evsignal_new(net->base, signals[i], on_signal, net);
        if (!net->signal_events[i] || event_add(net->signal_events[i], NULL) != 0) {
            return false;
        }
    }
    return true;
}

static bool create_loops(struct net *net, const struct net_handler *handlers)
{
    unsigned count = net->shared.settings.loops;
    net->loops = calloc(count, sizeof *net->loops);
    if (!net->loops) {
        return false;
    }
    for (; net->loop_count < count; net->loop_count++) {
        unsigned i = net->loop_count;
        if (!net_loop_create(&net->loops[i], &net->shared, i, &handlers[i])) {
            return false;
        }
    }
    return true;
}

struct net *net_create(const struct net_settings *settings, const struct net_handler *handlers)
{
    assert(settings->loops >= 1 && settings->loops <= NET_LOOPS_MAX);
    assert(settings->listen_count < NET_LISTENERS_MAX);
    assert(settings->buffers_max_bytes > NET_SPARE_BYTES);
    struct net *net = calloc(1, sizeof *net);
    if (!net) {
        return NULL;
    }
    net->shared.settings = *settings;
    for (unsigned i = 0; i < settings->listen_count; i++) {
        net->listen[i] = settings->listen[i];
    }
    net->shared.settings.listen = net->listen;
    net_buffers_init(&net->shared.buffers, settings->buffers_max_bytes);
    net->stop_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    net->shared.drained_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    net->reserve_fd = open_reserve();
    if (net->stop_fd >= 0 && net->shared.drained_fd >= 0 && net->reserve_fd >= 0 &&
        create_loops(net, handlers) && open_listeners(net) && create_events(net)) {
        return net;
    }
    log_write(LOG_ERROR, "net_failed", LOG_END);
    net_destroy(net);
    return NULL;
}

static void join_loops(struct net *net)
{
    for (unsigned i = 0; i < net->loop_count; i++) {
        net_loop_join(&net->loops[i]);
    }
}

bool net_start(struct net *net)
{
    for (unsigned i = 0; i < net->loop_count; i++) {
        if (!net_loop_start(&net->loops[i])) {
            begin_drain(net);
            break_off_drain(net); /* nobody counts who is done */
            join_loops(net);
            return false;
        }
    }
    return true;
}

void net_run(struct net *net)
{
    int failed = event_base_dispatch(net->base);
    assert(failed == 0);
    (void)failed;
    join_loops(net);
}

static void free_event(struct event *event)
{
    if (event) {
        event_free(event);
    }
}

void net_destroy(struct net *net)
{
    for (unsigned i = 0; i < SIGNALS; i++) {
        free_event(net->signal_events[i]);
    }
    close_listeners(net);
    free_event(net->drained_event);
    free_event(net->stop_event);
    free_event(net->resume_event);
    if (net->base) {
        event_base_free(net->base);
    }
    for (unsigned i = net->loop_count; i > 0; i--) {
        net_loop_destroy(&net->loops[i - 1]);
    }
    free(net->loops);
    int fds[] = {net->reserve_fd, net->shared.drained_fd, net->stop_fd};
    for (unsigned i = 0; i < sizeof fds / sizeof *fds; i++) {
        if (fds[i] >= 0) {
            close(fds[i]);
        }
    }
    free(net);
}

bool net_listening(const struct net *net, unsigned number, struct net_address *address)
{
    if (number >= net->listener_count) {
        return false;
    }
    *address = net->listeners[number].address;
    return true;
}

uint64_t net_connections(const struct net *net)
{
    return atomic_load_explicit(&net->shared.connections, memory_order_relaxed);
}

uint64_t net_buffer_bytes(const struct net *net)
{
    return net_buffers_used(&net->shared.buffers);
}
