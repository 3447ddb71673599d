/* Refuses what cannot be stored and lets it pass. */
#include "net/oversize.h"

#include "wire/parse.h"

#include <errno.h>
#include <sys/socket.h>

/* Of a request's body: array, type and msgid in their longest encodings fit. */
enum { MSGID_WITHIN_BYTES = 16 };

bool net_oversize_refuse(struct net_connection *connection, struct bytes view)
{
    struct net_loop *loop = connection->loop;
    struct bytes body;
    uint64_t need = 0;
    if (view.size < WIRE_HEADER_BYTES + MSGID_WITHIN_BYTES ||
        wire_frame_next(view, loop->shared->settings.frame_max_bytes, &body, &need) !=
            WIRE_FRAME_PARTIAL ||
        net_buffers_could_hold(&loop->shared->buffers, need)) {
        return false;
    }
    body = bytes_of(view.data + WIRE_HEADER_BYTES, view.size - WIRE_HEADER_BYTES);
    connection->skip_bytes = need - view.size;
    connection->request_ms = loop->now_ms;
    connection->progress_ms = loop->now_ms;
    net_connection_answer(connection, body, STATUS_OVER_BUDGET);
    return true;
}

void net_oversize_skip(struct net_connection *connection)
{
    struct net_loop *loop = connection->loop;
    size_t want = NET_QUOTA_BYTES;
    if (connection->skip_bytes < want) {
        want = (size_t)connection->skip_bytes;
    }
    ssize_t got = recv(connection->fd, net_group_scratch(loop), want, 0);
    if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR)) {
        net_connection_end(connection);
        return;
    }
    size_t skipped = got > 0 ? (size_t)got : 0;
    if (skipped > 0) {
        connection->progress_ms = loop->now_ms;
    }
    loop->received_bytes += skipped;
    connection->skip_bytes -= skipped;
    /* Draining: nothing of it is due, and when nothing came, nothing more will. */
    connection->due_bytes -=
        skipped > 0 && skipped < connection->due_bytes ? skipped : connection->due_bytes;
    net_connection_settle(connection);
}
