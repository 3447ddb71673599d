/* When to give up on a peer: for its silence, its slowness, or what it keeps from others. */
#include "net/connection.h"

#include "wire/parse.h"

enum { FAIR_PACE_BYTES = 16 * 1024 }; /* in NET_HOARD_MS, by who holds what others want */

static bool passed(const struct net_connection *connection, uint64_t since_ms, uint64_t span_ms)
{
    uint64_t now_ms = connection->loop->now_ms;
    return now_ms >= since_ms && now_ms - since_ms >= span_ms;
}

/* It is slow with memory that others were refused. */
static bool hoards(const struct net_connection *connection, size_t held_bytes)
{
    return held_bytes > NET_SMALL_BYTES && passed(connection, connection->pace_ms, NET_HOARD_MS) &&
           net_buffers_pressed(&connection->loop->shared->buffers, connection->loop->now_ms);
}

static void sweep_output(struct net_connection *connection)
{
    if (passed(connection, connection->progress_ms, NET_STALL_MS)) {
        net_connection_drop(connection, "unsent_reply_stalled");
    } else if (hoards(connection, net_output_bytes(connection->output))) {
        net_connection_drop(connection, "unsent_reply_hoarded");
    }
}

static void sweep_input(struct net_connection *connection)
{
    uint64_t idle_ms = connection->loop->shared->settings.idle_timeout_ms;
    uint64_t stall_ms = idle_ms > 0 && idle_ms < NET_STALL_MS ? idle_ms : NET_STALL_MS;
    if (hoards(connection, connection->input.capacity)) {
        net_connection_refuse(connection, bytes_of(NULL, 0), STATUS_BUSY,
                              "unfinished_request_hoarded");
    } else if (passed(connection, connection->progress_ms, stall_ms)) {
        net_connection_drop(connection, "unfinished_request_stalled");
    }
}

void net_connection_sweep(struct net_connection *connection)
{
    uint64_t idle_ms = connection->loop->shared->settings.idle_timeout_ms;
    if (connection->moved_bytes >= FAIR_PACE_BYTES) {
        connection->pace_ms = connection->loop->now_ms;
        connection->moved_bytes = 0;
    }
    if (connection->lingering) {
        if (passed(connection, connection->linger_ms, NET_LINGER_MS)) {
            net_connection_close(connection);
        }
    } else if (connection->output) {
        sweep_output(connection);
    } else if (connection->later_count > 0) {
        return; /* the server owes it answers */
    } else if (connection->place != NET_NOWHERE) {
        return; /* it has work to do, or waits for room, and will have its turn */
    } else if (connection->input.capacity > 0 || connection->skip_bytes > 0) {
        sweep_input(connection);
    } else if (idle_ms > 0 && passed(connection, connection->request_ms, idle_ms)) {
        log_write(LOG_DEBUG, "connection_idle", LOG_U64("connection", connection->id), LOG_END);
        net_connection_close(connection);
    }
}

bool net_connection_is_patient(struct net_connection *connection)
{
    struct bytes body;
    struct bytes input = net_input_view(&connection->input);
    uint64_t need;
    uint64_t frame_max = connection->loop->shared->settings.frame_max_bytes;
    if (connection->stopped_ms == 0 ||
        !passed(connection, connection->stopped_ms, NET_NO_ROOM_MS)) {
        return true;
    }
    if (input.size == 0 || wire_frame_next(input, frame_max, &body, &need) != WIRE_FRAME_WHOLE) {
        body = bytes_of(NULL, 0); /* not even its msgid is known */
    }
    net_connection_refuse(connection, body, STATUS_BUSY, "no_room");
    return false;
}

void net_connection_end(struct net_connection *connection)
{
    if (connection->later_count > 0) {
        connection->closing = true; /* it may read on */
        net_connection_settle(connection);
    } else {
        net_connection_close(connection);
    }
}
