/* The life of a connection: receive and send; group.c serves. patience.c tells when to give up on a
 * peer. */
#include "net/connection.h"

#include "net/group.h"
#include "net/input.h"
#include "net/later.h"
#include "net/oversize.h"
#include "wire/parse.h"

#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    RETRY_TURNS = 32, /* a deferred request is tried so often without a pause */
    DROPS_LOGGED_PER_SECOND = 10,
};

/* ---- Places and watching ------------------------------------------------------------------ */

static struct net_queue *queue_of(struct net_loop *loop, enum net_place place)
{
    switch (place) {
    case NET_READY:
        return &loop->ready;
    case NET_BULK:
        return &loop->bulk;
    case NET_RETRY:
        return &loop->retry;
    case NET_PATIENT:
        return &loop->patient;
    case NET_STOPPED:
        return &loop->stopped;
    case NET_NOWHERE:
        break;
    }
    return NULL;
}

void net_connection_place(struct net_connection *connection, enum net_place place)
{
    struct net_loop *loop = connection->loop;
    struct net_queue *from = queue_of(loop, connection->place);
    struct net_queue *to = queue_of(loop, place);
    if (from) {
        TAILQ_REMOVE(from, connection, link);
        loop->ready_count -= connection->place == NET_READY;
        loop->bulk_count -= connection->place == NET_BULK;
    }
    connection->place = (uint8_t)place;
    if (to) {
        TAILQ_INSERT_TAIL(to, connection, link);
        loop->ready_count += place == NET_READY;
        loop->bulk_count += place == NET_BULK;
    }
}

void net_connection_ready(struct net_connection *connection)
{
    bool moves_part = connection->output || connection->skip_bytes > 0 || connection->lingering ||
                      net_input_size(&connection->input) > NET_INPUT_COPIED_BYTES;
    net_connection_place(connection, moves_part ? NET_BULK : NET_READY);
}

static void on_socket(evutil_socket_t fd, short what, void *context)
{
    struct net_connection *connection = context;
    (void)fd;
    (void)what;
    net_loop_enter(connection->loop);
    /* It has its turn later in this iteration, as all do who are queued. */
    if (connection->place == NET_NOWHERE) {
        net_connection_ready(connection);
    }
}

static void watch(struct net_connection *connection, enum net_watch what)
{
    if (connection->watch == what) {
        return;
    }
    if (connection->watch != NET_WATCH_NOTHING) {
        event_del(&connection->event);
    }
    connection->watch = NET_WATCH_NOTHING;
    if (what == NET_WATCH_NOTHING) {
        return;
    }
    short events = EV_PERSIST | (what == NET_WATCH_READ ? EV_READ : EV_WRITE);
    if (event_assign(&connection->event, connection->loop->base, connection->fd, events, on_socket,
                     connection) == 0 &&
        event_add(&connection->event, NULL) == 0) {
        connection->watch = (uint8_t)what;
    } else {
        /* The kernel has no memory for it just now: look again without being told. */
        net_connection_place(connection, NET_RETRY);
    }
}

static void wait_for(struct net_connection *connection, enum net_watch what)
{
    net_connection_place(connection, NET_NOWHERE);
    watch(connection, what);
}

/* ---- Opening and closing ------------------------------------------------------------------ */

static bool add_to_loop(struct net_loop *loop, struct net_connection *connection)
{
    if (loop->connection_count == loop->connection_capacity) {
        size_t capacity = loop->connection_capacity ? loop->connection_capacity * 2 : 64;
        struct net_connection **more = realloc(loop->connections, capacity * sizeof *more);
        if (!more) {
            return false;
        }
        net_account_charge(&loop->account,
                           (int64_t)((capacity - loop->connection_capacity) * sizeof *more));
        loop->connections = more;
        loop->connection_capacity = capacity;
    }
    connection->number = loop->connection_count;
    loop->connections[loop->connection_count++] = connection;
    return true;
}

void net_connection_open(struct net_loop *loop, int fd, uint64_t id)
{
    struct net_connection *connection = calloc(1, sizeof *connection);
    if (!connection || !add_to_loop(loop, connection)) {
        free(connection);
        close(fd);
        /* Pairs with the front's increment: a count and nothing else. */
        atomic_fetch_sub_explicit(&loop->shared->connections, 1, memory_order_relaxed);
        return;
    }
    net_account_charge(&loop->account, sizeof *connection);
    connection->loop = loop;
    connection->id = id;
    connection->fd = fd;
    connection->request_ms = loop->now_ms;
    connection->progress_ms = loop->now_ms;
    connection->pace_ms = loop->now_ms;
    TAILQ_INIT(&connection->waiting);
    TAILQ_INIT(&connection->answered);
    loop->accepted++;
    int on = 1;
    /* Fails on a unix socket, which needs none. */
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    watch(connection, NET_WATCH_READ);
}

void net_connection_close(struct net_connection *connection)
{
    struct net_loop *loop = connection->loop;
    watch(connection, NET_WATCH_NOTHING);
    net_connection_place(connection, NET_NOWHERE);
    net_later_abandon(connection);
    if (connection->output) {
        net_output_free(connection->output, loop->handler, &loop->account);
    }
    net_input_clear(&connection->input, &loop->account);
    close(connection->fd);
    struct net_connection *last = loop->connections[--loop->connection_count];
    loop->connections[connection->number] = last;
    last->number = connection->number;
    net_account_charge(&loop->account, -(int64_t)sizeof *connection);
    /* Pairs with the front's increment: a count and nothing else. */
    atomic_fetch_sub_explicit(&loop->shared->connections, 1, memory_order_relaxed);
    free(connection);
}

static void report_drop(struct net_connection *connection, const char *reason)
{
    struct net_loop *loop = connection->loop;
    uint64_t suppressed;
    loop->dropped++;
    if (!log_allowed(&loop->shared->dropped_limit, DROPS_LOGGED_PER_SECOND, loop->now_ms,
                     &suppressed)) {
        return;
    }
    struct net_address peer = {.size = sizeof peer.storage};
    char text[NET_ADDRESS_TEXT_BYTES] = "unknown";
    if (getpeername(connection->fd, (struct sockaddr *)&peer.storage, &peer.size) == 0) {
        net_address_format(&peer, text);
    }
    log_write(LOG_WARN, "connection_dropped", LOG_U64("connection", connection->id),
              LOG_TEXT("peer", text), LOG_TEXT("reason", reason), LOG_U64("suppressed", suppressed),
              LOG_END);
}

void net_connection_drop(struct net_connection *connection, const char *reason)
{
    report_drop(connection, reason);
    net_connection_close(connection);
}

/* After the last answer: a close with input unread would reset the connection and lose it. */
static void linger(struct net_connection *connection)
{
    if (shutdown(connection->fd, SHUT_WR) < 0) {
        net_connection_close(connection);
        return;
    }
    net_input_clear(&connection->input, &connection->loop->account);
    connection->lingering = true;
    connection->linger_ms = connection->loop->now_ms;
    wait_for(connection, NET_WATCH_READ);
}

static void discard(struct net_connection *connection)
{
    ssize_t got = recv(connection->fd, net_group_scratch(connection->loop), NET_QUOTA_BYTES, 0);
    if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR)) {
        net_connection_close(connection);
    } else {
        wait_for(connection, NET_WATCH_READ);
    }
}

/* ---- Pace --------------------------------------------------------------------------------- */

static bool holds_something(const struct net_connection *connection)
{
    return connection->output || connection->input.capacity > 0;
}

static void start_pace(struct net_connection *connection)
{
    connection->pace_ms = connection->loop->now_ms;
    connection->progress_ms = connection->loop->now_ms;
    connection->moved_bytes = 0;
}

static void note_moved(struct net_connection *connection, uint64_t size_bytes)
{
    if (size_bytes > 0) {
        connection->progress_ms = connection->loop->now_ms;
        connection->moved_bytes += size_bytes;
    }
}

/* ---- Sending ------------------------------------------------------------------------------ */

/* What one call may move of something large. */
static size_t share_of(const struct net_loop *loop)
{
    bool alone = loop->now_ms - loop->answered_ms > NET_ALONE_MS;
    return alone ? NET_QUOTA_BYTES : NET_SHARE_BYTES;
}

static void note_sent(struct net_connection *connection, uint64_t sent_bytes)
{
    connection->loop->sent_bytes += sent_bytes;
    connection->takes_more = sent_bytes >= share_of(connection->loop);
    note_moved(connection, sent_bytes);
}

bool net_connection_send_part(struct net_connection *connection, struct net_part *part)
{
    struct net_loop *loop = connection->loop;
    uint64_t sent_bytes = 0;
    bool held = holds_something(connection);
    enum net_sent outcome =
        net_reply_send(&loop->reply, part, connection->fd, share_of(loop), &sent_bytes);
    note_sent(connection, sent_bytes);
    if (outcome == NET_SENT_ALL) {
        loop->answered_ms = loop->now_ms;
    }
    if (outcome == NET_SENT_PART) {
        connection->output = net_reply_keep(&loop->reply, part);
        if (!connection->output) {
            outcome = NET_SENT_FAILED;
            errno = ENOMEM;
        } else if (!held) {
            start_pace(connection);
        }
    }
    if (outcome != NET_SENT_FAILED) {
        return true;
    }
    if (errno == ENOMEM) {
        net_connection_drop(connection, "out_of_memory");
    } else {
        net_connection_close(connection);
    }
    return false;
}

bool net_connection_send(struct net_connection *connection)
{
    struct net_reply *reply = &connection->loop->reply;
    struct net_part part = net_reply_part(reply);
    bool open = net_connection_send_part(connection, &part);
    net_reply_reset(reply);
    return open;
}

static void send_output(struct net_connection *connection)
{
    struct net_loop *loop = connection->loop;
    uint64_t sent_bytes = 0;
    enum net_sent outcome = net_output_send(connection->output, loop->handler, &loop->account,
                                            connection->fd, share_of(loop), &sent_bytes);
    note_sent(connection, sent_bytes);
    if (outcome == NET_SENT_FAILED) {
        net_connection_close(connection);
        return;
    }
    if (outcome == NET_SENT_ALL) {
        net_output_free(connection->output, loop->handler, &loop->account);
        connection->output = NULL;
    }
    net_later_give(connection);
}

void net_connection_answer(struct net_connection *connection, struct bytes body, enum status status)
{
    struct net_loop *loop = connection->loop;
    assert(!connection->output && loop->reply.piece_count == 0);
    connection->late = false;
    /* The loop's own chunk is empty at this point: there is room, or the peer learns nothing. */
    (void)loop->handler->refuse(loop->handler->context, &loop->reply, body, status);
    net_connection_place(connection, NET_NOWHERE);
    if (net_connection_send(connection)) {
        net_input_clear(&connection->input, &loop->account);
        net_connection_settle(connection);
    }
}

void net_connection_refuse(struct net_connection *connection, struct bytes body, enum status status,
                           const char *reason)
{
    report_drop(connection, reason);
    connection->closing = true;
    net_connection_answer(connection, body, status);
}

/* ---- Waiting ------------------------------------------------------------------------------ */

static enum wire_frame next_frame(const struct net_connection *connection, struct bytes input,
                                  struct bytes *body, uint64_t *need)
{
    return wire_frame_next(input, connection->loop->shared->settings.frame_max_bytes, body, need);
}

static bool has_frame(const struct net_connection *connection)
{
    struct bytes body;
    uint64_t need;
    struct bytes input = net_input_view(&connection->input);
    return input.size > 0 && next_frame(connection, input, &body, &need) != WIRE_FRAME_PARTIAL;
}

/* No room in the buffers: looks again at each tick, and is answered busy when that lasts. */
static void stop(struct net_connection *connection)
{
    struct net_loop *loop = connection->loop;
    net_account_press(&loop->account, loop->now_ms);
    if (connection->stopped_ms == 0) {
        connection->stopped_ms = loop->now_ms;
    }
    watch(connection, NET_WATCH_NOTHING);
    net_connection_place(connection, NET_STOPPED);
}

void net_connection_stall(struct net_connection *connection)
{
    if (net_later_is_full(connection)) {
        wait_for(connection, NET_WATCH_NOTHING); /* for net_later_give */
    } else {
        stop(connection); /* no room for a reply */
    }
}

void net_connection_settle(struct net_connection *connection)
{
    struct net_loop *loop = connection->loop;
    connection->stopped_ms = 0;
    if (connection->output && connection->takes_more) {
        net_connection_ready(connection); /* not asked first: it says when it takes no more */
    } else if (connection->output) {
        wait_for(connection, NET_WATCH_WRITE);
    } else if (connection->closing && connection->later_count > 0) {
        wait_for(connection, NET_WATCH_NOTHING);
    } else if (connection->closing) {
        linger(connection);
    } else if (connection->patient || connection->attempts > RETRY_TURNS) {
        watch(connection, NET_WATCH_NOTHING);
        net_connection_place(connection, connection->patient ? NET_PATIENT : NET_RETRY);
    } else if (has_frame(connection) ||
               (loop->draining && connection->due_bytes > net_input_size(&connection->input))) {
        net_connection_ready(connection);
    } else {
        wait_for(connection, NET_WATCH_READ);
    }
}

/* ---- Receiving ---------------------------------------------------------------------------- */

enum received { RECEIVED_SOME, RECEIVED_NOTHING, RECEIVED_NO_ROOM, RECEIVED_END };

/* What one recv may bring into the scratch behind the `used_bytes` that wait already. */
static size_t scratch_allowance(const struct net_connection *connection, size_t used_bytes)
{
    if (net_buffers_have_room(&connection->loop->shared->buffers)) {
        return NET_QUOTA_BYTES - used_bytes;
    }
    /* Without room nothing may come in that the connection could not store. */
    size_t capacity = connection->input.capacity;
    size_t allowed = capacity > NET_FLOOR_BYTES ? capacity : NET_FLOOR_BYTES;
    return allowed > used_bytes ? allowed - used_bytes : 0;
}

/* One recv; *view is then all input there is. It lies in the scratch or in the stored input. */
static enum received receive(struct net_connection *connection, uint64_t need, struct bytes *view)
{
    struct net_loop *loop = connection->loop;
    struct net_input *input = &connection->input;
    struct bytes kept = net_input_view(input);
    uint8_t *at;
    size_t room;
    bool direct = kept.size > NET_INPUT_COPIED_BYTES;
    if (direct) {
        room = net_input_grow(input, &loop->account, need, loop->now_ms, &at);
        size_t share = 2 * NET_SHARE_BYTES; /* it costs half of what sending does */
        room = room < share ? room : share;
        kept = net_input_view(input);
    } else {
        room = scratch_allowance(connection, kept.size);
        at = net_group_scratch(loop);
        if (kept.size > 0) {
            memcpy(at, kept.data, kept.size);
        }
        at += kept.size;
    }
    if (room == 0) {
        return RECEIVED_NO_ROOM;
    }
    /* Where the cap leaves no room: what is kept is little, so its buffer is not large either. */
    assert(direct || kept.size + room <= NET_QUOTA_BYTES);
    ssize_t got = recv(connection->fd, at, room, 0);
    if (got <= 0) {
        bool nothing = got < 0 && (errno == EAGAIN || errno == EINTR);
        return nothing ? RECEIVED_NOTHING : RECEIVED_END;
    }
    loop->received_bytes += (uint64_t)got;
    note_moved(connection, (uint64_t)got);
    if (direct) {
        net_input_received(input, (size_t)got);
        *view = net_input_view(input);
    } else {
        *view = bytes_of(at - kept.size, kept.size + (size_t)got);
    }
    return RECEIVED_SOME;
}

bool net_connection_keep(struct net_connection *connection, struct bytes view, size_t used)
{
    bool held = holds_something(connection);
    if (!net_input_keep(&connection->input, &connection->loop->account, view, used)) {
        net_connection_drop(connection, "out_of_memory");
        return false;
    }
    if (!held && holds_something(connection)) {
        start_pace(connection);
    }
    return true;
}

/* Finds input to work on. False: there is none, and the connection is settled or closed. */
static bool find_input(struct net_connection *connection, struct bytes *view)
{
    struct bytes body;
    uint64_t need = 0;
    *view = net_input_view(&connection->input);
    if (view->size > 0 && next_frame(connection, *view, &body, &need) != WIRE_FRAME_PARTIAL) {
        return true;
    }
    switch (receive(connection, need, view)) {
    case RECEIVED_SOME:
        return true;
    case RECEIVED_NO_ROOM:
        stop(connection);
        return false;
    case RECEIVED_NOTHING:
        /* The kernel's count of what was there is void: nothing more is due. */
        connection->due_bytes = 0;
        net_connection_settle(connection);
        return false;
    case RECEIVED_END:
        break;
    }
    net_connection_end(connection);
    return false;
}

/* ---- Turns -------------------------------------------------------------------------------- */

void net_connection_turn(struct net_connection *connection)
{
    struct bytes view;
    if (connection->output) {
        send_output(connection);
        return;
    }
    if (connection->lingering) {
        discard(connection);
        return;
    }
    if (connection->skip_bytes > 0) {
        net_oversize_skip(connection);
        return;
    }
    if (net_connection_is_patient(connection) && find_input(connection, &view)) {
        net_group_add(connection, view);
    }
}

/* ---- Draining ----------------------------------------------------------------------------- */

void net_connection_finish(struct net_connection *connection)
{
    if (connection->output || connection->later_count > 0) {
        connection->closing = true; /* flushed first, since it may have begun in mid-frame */
    } else if (!connection->lingering) {
        linger(connection);
    }
}
