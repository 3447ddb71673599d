/* Keeps answers that come later, from their reservation until they are sent. */
#include "net/later.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

struct net_later {
    TAILQ_ENTRY(net_later) link;       /* in the list that the header names */
    struct net_loop *loop;             /* NULL: it has ended */
    struct net_connection *connection; /* NULL: it has closed */
    size_t capacity;
    size_t frame_bytes; /* of the answer, once there is one; it lies in the room */
    _Alignas(max_align_t) uint8_t room[];
};

static size_t footprint(const struct net_later *later)
{
    return sizeof *later + later->capacity;
}

struct net_later *net_reply_later(struct net_reply *reply, size_t size_bytes)
{
    struct net_connection *connection = reply->connection;
    assert(connection && size_bytes <= NET_REPLY_SMALL_BYTES);
    if (net_later_is_full(connection)) {
        return NULL;
    }
    size_t bytes = sizeof(struct net_later) + size_bytes;
    if (!net_account_take(reply->account, bytes, reply->now_ms)) {
        if (connection->later_count > 0) {
            return NULL;
        }
        /* Where requests that wait for the same thing fill the cap, none could go on otherwise: one
         * each may pass it by what its answer needs. */
        net_account_force(reply->account, bytes);
    }
    struct net_later *later = malloc(bytes);
    if (!later) {
        net_account_give(reply->account, bytes);
        return NULL;
    }
    *later = (struct net_later){
        .loop = connection->loop, .connection = connection, .capacity = size_bytes};
    TAILQ_INSERT_TAIL(&connection->waiting, later, link);
    connection->later_count++;
    return later;
}

void *net_later_room(struct net_later *later)
{
    return later->room;
}

static void let_go(struct net_later *later)
{
    if (later->loop) {
        net_account_give(&later->loop->account, footprint(later));
    }
    free(later);
}

void net_later_cancel(struct net_later *later)
{
    assert(later->frame_bytes == 0);
    if (later->connection) {
        TAILQ_REMOVE(&later->connection->waiting, later, link);
        later->connection->later_count--;
    } else if (later->loop) {
        TAILQ_REMOVE(&later->loop->orphans, later, link);
    }
    let_go(later);
}

void net_later_send(struct net_later *later, const void *frame, size_t size_bytes)
{
    struct net_connection *connection = later->connection;
    assert(later->frame_bytes == 0 && size_bytes > 0 && size_bytes <= later->capacity);
    if (!connection) {
        net_later_cancel(later);
        return;
    }
    memmove(later->room, frame, size_bytes);
    later->frame_bytes = size_bytes;
    TAILQ_REMOVE(&connection->waiting, later, link);
    TAILQ_INSERT_TAIL(&connection->answered, later, link);
    if (!connection->answering) {
        TAILQ_INSERT_TAIL(&connection->loop->answering, connection, answering_link);
        connection->answering = true;
    }
}

static void leave_answering(struct net_connection *connection)
{
    if (connection->answering) {
        TAILQ_REMOVE(&connection->loop->answering, connection, answering_link);
        connection->answering = false;
    }
}

/* One send's worth of answers. */
static void fill_reply(struct net_connection *connection)
{
    struct net_reply *reply = &connection->loop->reply;
    struct net_later *later;
    assert(reply->size_bytes == 0);
    while ((later = TAILQ_FIRST(&connection->answered)) != NULL && !net_reply_is_full(reply)) {
        uint8_t *room = net_reply_room(reply, later->frame_bytes);
        if (!room) {
            break;
        }
        memcpy(room, later->room, later->frame_bytes);
        net_reply_commit(reply, later->frame_bytes);
        TAILQ_REMOVE(&connection->answered, later, link);
        connection->later_count--;
        let_go(later);
    }
    assert(reply->size_bytes > 0); /* the loop's own chunk has room for the first */
}

void net_later_give(struct net_connection *connection)
{
    while (!connection->output && !TAILQ_EMPTY(&connection->answered)) {
        connection->late = false;
        connection->request_ms = connection->loop->now_ms;
        fill_reply(connection);
        if (!net_connection_send(connection)) {
            return;
        }
    }
    net_connection_settle(connection);
}

void net_later_flush(struct net_loop *loop)
{
    struct net_connection *connection;
    while ((connection = TAILQ_FIRST(&loop->answering)) != NULL) {
        leave_answering(connection);
        net_later_give(connection); /* or, while it has output, after that */
    }
}

void net_later_abandon(struct net_connection *connection)
{
    struct net_later *later;
    leave_answering(connection);
    while ((later = TAILQ_FIRST(&connection->answered)) != NULL) {
        TAILQ_REMOVE(&connection->answered, later, link);
        let_go(later);
    }
    while ((later = TAILQ_FIRST(&connection->waiting)) != NULL) {
        TAILQ_REMOVE(&connection->waiting, later, link);
        TAILQ_INSERT_TAIL(&connection->loop->orphans, later, link);
        later->connection = NULL;
    }
    connection->later_count = 0;
}

void net_later_detach(struct net_loop *loop)
{
    struct net_later *later;
    assert(loop->connection_count == 0 && TAILQ_EMPTY(&loop->answering));
    while ((later = TAILQ_FIRST(&loop->orphans)) != NULL) {
        TAILQ_REMOVE(&loop->orphans, later, link);
        net_account_give(&loop->account, footprint(later));
        later->loop = NULL;
    }
}
